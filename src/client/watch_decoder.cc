// SPDX-License-Identifier: Apache-2.0
#include "client/watch_decoder.h"

#include <format>

#include "base/text.h"
#include "client/client.h"
#include "kube/json.h"

namespace skerry::client {
namespace {

std::string_view without_space(std::string_view line) { return trim(line); }

}  // namespace

void WatchDecoder::push(std::string_view bytes) {
  if (at_ > 0) {
    buffer_.erase(0, at_);
    scanned_ -= at_;
    at_ = 0;
  }
  buffer_ += bytes;
}

Result<std::optional<WatchEvent>> WatchDecoder::next() {
  for (;;) {
    const auto end = buffer_.find('\n', scanned_);
    if (end == buffer_.npos) {
      scanned_ = buffer_.size();
      if (buffer_.size() - at_ > event_bytes_max_)
        return Fail({Errc::Corrupt, std::format("a watch event is longer than {} bytes", event_bytes_max_)});
      return std::optional<WatchEvent>();
    }
    const std::string_view line = without_space(std::string_view(buffer_).substr(at_, end - at_));
    at_ = scanned_ = end + 1;
    if (line.empty()) continue;
    if (line.size() > event_bytes_max_) return Fail({Errc::Corrupt, std::format("a watch event is longer than {} bytes", event_bytes_max_)});
    const auto doc = kube::JsonDoc::parse(line);
    if (!doc) return Fail({Errc::Corrupt, "a watch event is not JSON: " + doc.error().what});
    const kube::Json root = doc->root();
    const std::string_view type = root["type"].str();
    const kube::Json object = root["object"];
    if (type == "ERROR") return Fail(error_of(static_cast<int>(object["code"].i64(500)), object.dump(), "watch"));
    WatchEvent event;
    if (type == "ADDED") event.type = WatchEvent::Type::Added;
    else if (type == "MODIFIED") event.type = WatchEvent::Type::Modified;
    else if (type == "DELETED") event.type = WatchEvent::Type::Deleted;
    else if (type == "BOOKMARK") event.type = WatchEvent::Type::Bookmark;
    else return Fail({Errc::Corrupt, std::format("a watch event has the unknown type '{}'", type.substr(0, 40))});
    if (event.type == WatchEvent::Type::Bookmark) {
      const auto revision = parse_int<std::uint64_t>(object["metadata"]["resourceVersion"].str());
      if (!revision) return Fail({Errc::Corrupt, "a watch's bookmark has no resourceVersion"});
      event.revision = kube::Revision(*revision);
      return std::optional(std::move(event));
    }
    auto parsed = kube::Object::from_json(object.dump());
    if (!parsed) return Fail({Errc::Corrupt, "a watch event's object: " + parsed.error().what});
    if ((*parsed)->name().empty()) return Fail({Errc::Corrupt, "a watch event's object has no name"});
    event.object = std::move(*parsed);
    event.revision = event.object->revision();
    return std::optional(std::move(event));
  }
}

}  // namespace skerry::client
