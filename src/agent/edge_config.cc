// SPDX-License-Identifier: Apache-2.0
#include "agent/edge_config.h"

#include <format>

#include "base/text.h"

namespace skerry::agent {
namespace {

// A wrong value's sentence goes into an Event: what is shown of it is bounded.
std::string shown(std::string_view value) { return value.size() <= 64 ? std::string(value) : std::string(value.substr(0, 61)) + "..."; }

std::optional<bool> read_flag(std::string_view key, std::string_view text, std::vector<std::string>& problems) {
  const std::string_view value = trim(text);
  if (value == "true") return true;
  if (value == "false") return false;
  problems.push_back(std::format("{}: \"{}\" is neither \"true\" nor \"false\"; the former value stays", key, shown(text)));
  return std::nullopt;
}

}  // namespace

EdgeConfigRead read_edge_config(const kube::Object* map, const EdgeConfig& former) {
  EdgeConfigRead out;
  if (map == nullptr) return out;
  const kube::JsonDoc doc = map->parse();
  const kube::Json data = doc.root()["data"];
  for (const auto [key, value] : data.members()) {
    const std::string_view text = value.str();
    if (key == "offline_mode") {
      const auto flag = read_flag(key, text, out.problems);
      out.config.offline_mode = flag ? flag : former.offline_mode;
    } else if (key == "local_storage") {
      out.config.local_storage = read_flag(key, text, out.problems).value_or(former.local_storage);
    } else if (key == "sync_interval") {
      const auto duration = parse_duration(trim(text));
      const bool good = duration && *duration >= EdgeConfig::kSyncMin && *duration <= EdgeConfig::kSyncMax;
      out.config.sync_interval = good ? *duration : former.sync_interval;
      if (!good) out.problems.push_back(std::format("{}: \"{}\" is no duration from 5s to 1h, such as 60s or 5m; the former value stays", key, shown(text)));
    } else {
      out.problems.push_back(std::format("{}: there is no such key, and nothing follows from it; known are offline_mode, local_storage and sync_interval", shown(key)));
    }
  }
  return out;
}

}  // namespace skerry::agent
