// SPDX-License-Identifier: Apache-2.0
#include "sim/scenario.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>
#include <format>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

namespace skerry::sim {
namespace {

constexpr std::pair<std::string_view, ChangeKind> kChanges[] = {
    {"scale", ChangeKind::Scale}, {"roll", ChangeKind::Roll}, {"delete", ChangeKind::Delete}, {"force-delete", ChangeKind::ForceDelete},
    {"config", ChangeKind::Config}, {"service", ChangeKind::Service}};
constexpr std::pair<std::string_view, FaultKind> kFaults[] = {
    {"line-cut", FaultKind::LineCut}, {"half-open", FaultKind::HalfOpen}, {"loss", FaultKind::Loss}, {"slow-line", FaultKind::SlowLine},
    {"server-down", FaultKind::ServerDown}, {"server-restart", FaultKind::ServerRestart}, {"server-compact", FaultKind::ServerCompact},
    {"server-backup", FaultKind::ServerBackup}, {"server-restore", FaultKind::ServerRestore}, {"nonsense", FaultKind::Nonsense},
    {"agent-kill", FaultKind::AgentKill}, {"keeper-kill", FaultKind::KeeperKill}, {"both-kill", FaultKind::BothKill},
    {"sandbox-kill", FaultKind::SandboxKill}, {"guest-crash", FaultKind::GuestCrash}, {"write-kill", FaultKind::WriteKill},
    {"power-cut", FaultKind::PowerCut}, {"write-cut", FaultKind::WriteCut}, {"disk-full", FaultKind::DiskFull},
    {"disk-slow", FaultKind::DiskSlow}, {"disk-damage", FaultKind::DiskDamage}, {"clock-jump", FaultKind::ClockJump}};

// Reads keys one by one, and in the end says what nobody asked for.
class Table {
 public:
  Table(const toml::table& table, std::string where) : table_(table), where_(std::move(where)) {}
  template <class T>
  void get(std::string_view key, T& out) {
    seen_.emplace(key);
    const auto node = table_[key];
    if (!node) return;
    if (const auto value = node.template value<T>()) out = *value;
    else fail(key, "has another type");
  }
  void get(std::string_view key, std::optional<std::uint64_t>& out) {
    std::int64_t value = -1;
    get(key, value);
    if (value >= 0) out = static_cast<std::uint64_t>(value);
  }
  // "5m", or "1m..3m".
  void get(std::string_view key, Range& out) {
    std::string text;
    get(key, text);
    if (text.empty()) return;
    const auto dots = text.find("..");
    const auto min = parse_duration(text.substr(0, dots)), max = dots == std::string::npos ? min : parse_duration(text.substr(dots + 2));
    if (min && max && *min <= *max) out = {*min, *max};
    else fail(key, std::format("\"{}\" is no duration like 5m or 1m..3m", text));
  }
  void get(std::string_view key, Duration& out) {
    Range range{out, out};
    get(key, range);
    out = range.min;
  }
  void get(std::string_view key, std::optional<Duration>& out) {
    if (!table_.contains(key)) return;
    Duration value{};
    get(key, value);
    out = value;
  }
  template <class Kind, std::size_t N>
  void get(std::string_view key, const std::pair<std::string_view, Kind> (&known)[N], Kind& out) {
    std::string text;
    get(key, text);
    const auto at = std::ranges::find(known, text, [](const auto& one) { return one.first; });
    if (at != std::end(known)) out = at->second;
    else fail(key, std::format("\"{}\" is not known", text));
  }
  template <class F>
  void each(std::string_view key, F f) {
    seen_.emplace(key);
    const auto* array = table_[key].as_array();
    if (array == nullptr) return;
    for (std::size_t i = 0; i < array->size(); ++i) {
      if (const auto* inner = array->get(i)->as_table()) {
        Table one(*inner, std::format("{}[{}]", key, i));
        f(one);
        if (auto error = one.finish()) error_ = error;
      }
    }
  }
  template <class F>
  void sub(std::string_view key, F f) {
    seen_.emplace(key);
    const auto* inner = table_[key].as_table();
    if (inner == nullptr) return;
    Table one(*inner, std::string(key));
    f(one);
    if (auto error = one.finish()) error_ = error;
  }
  std::optional<std::string> finish() {
    for (const auto& [key, value] : table_)
      if (!seen_.contains(std::string(key.str()))) fail(key.str(), "is not known");
    return error_;
  }

 private:
  void fail(std::string_view key, std::string_view why) {
    if (!error_) error_ = std::format("{}{}{} {}", where_, where_.empty() ? "" : ".", key, why);
  }
  const toml::table& table_;
  std::string where_;
  std::set<std::string> seen_;
  std::optional<std::string> error_;
};

}  // namespace

Result<Scenario> Scenario::parse(std::string name, const std::string& text) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) return Fail({Errc::Invalid, std::format("scenario {}, line {}: {}", name, parsed.error().source().begin.line, parsed.error().description())});
  Scenario out;
  out.name = std::move(name);
  Table top(parsed.table(), "");
  top.get("title", out.title);
  top.get("duration", out.duration);
  top.get("settle", out.settle);
  top.get("requests_per_second", out.requests_per_second);
  top.get("boot", out.boot);
  top.each("deployment", [&](Table& t) {
    Deployment& d = out.deployments.emplace_back();
    t.get("name", d.name);
    std::int64_t replicas = 1;
    t.get("replicas", replicas);
    d.replicas = static_cast<int>(replicas);
    t.get("service", d.service);
    t.get("config_map", d.config_map);
  });
  top.each("change", [&](Table& t) {
    Change& c = out.changes.emplace_back();
    t.get("kind", kChanges, c.kind);
    t.get("every", c.every);
  });
  top.each("fault", [&](Table& t) {
    Fault& f = out.faults.emplace_back();
    t.get("kind", kFaults, f.kind);
    t.get("every", f.every);
    t.get("lasts", f.lasts);
    t.get("first", f.first);
    t.get("share", f.share);
  });
  top.sub("expect", [&](Table& t) {
    t.get("offline_share", out.expect.offline_share);
    t.get("counted_share", out.expect.counted_share);
    t.get("stops_max", out.expect.stops_max);
    t.get("relists_max", out.expect.relists_max);
  });
  if (const auto error = top.finish()) return Fail({Errc::Invalid, std::format("scenario {}: {}", out.name, *error)});
  if (out.deployments.empty()) return Fail({Errc::Invalid, std::format("scenario {}: it has no deployment", out.name)});
  return out;
}

Result<Scenario> Scenario::load(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) return Fail({Errc::NotFound, std::format("no scenario {}: see sim/scenarios", path.string())});
  std::stringstream text;
  text << in.rdbuf();
  return parse(path.stem().string(), text.str());
}

}  // namespace skerry::sim
