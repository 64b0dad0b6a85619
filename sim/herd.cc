// SPDX-License-Identifier: Apache-2.0
#include "sim/herd.h"

#include <algorithm>
#include <map>
#include <memory>
#include <queue>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "client/informer_core.h"
#include "kube/json.h"

namespace skerry::sim {
namespace {

// Every node draws the same number.
class SameRandom final : public Random {
 public:
  std::uint64_t next() override { return 0; }
};

}  // namespace

Herd run_herd(const HerdOptions& options) {
  SeededRandom seeded(options.seed);
  SameRandom same;
  Random& random = options.jitter ? static_cast<Random&>(seeded) : same;
  const std::size_t count = std::size_t{options.nodes} * options.watches;
  std::vector<std::unique_ptr<client::InformerCore>> cores;
  struct Due {
    Instant when;
    std::size_t core;
    bool operator>(const Due& o) const { return when > o.when; }
  };
  std::priority_queue<Due, std::vector<Due>, std::greater<>> queue;
  const Instant lost{1min}, back = lost + options.outage, end = back + options.observed;
  const auto poll = [&](std::size_t i, Instant now) {
    const auto action = cores[i]->poll(now);
    if (action.act == client::InformerCore::Act::Sleep) queue.push({action.until, i});
    return action.act;
  };
  for (std::size_t i = 0; i < count; ++i) {
    cores.push_back(std::make_unique<client::InformerCore>(client::InformerCore::Options{}, random));
    cores[i]->restore({}, kube::Revision(100));
    CHECK(poll(i, Instant{}) == client::InformerCore::Act::Watch);
    cores[i]->on_watch_ended(Error(Errc::Unavailable, "the server is away"), lost);  // all of them at one moment
    poll(i, lost);
  }
  Herd out{.connections = count};
  std::map<std::int64_t, std::uint64_t> seconds, tenths;
  std::uint64_t away = 0, open = 0;
  while (!queue.empty() && queue.top().when <= end) {
    const auto [now, i] = queue.top();
    queue.pop();
    const auto act = poll(i, now);
    if (act == client::InformerCore::Act::Sleep) continue;
    if (now < back) {
      if (now >= back - 1min) ++away;
      cores[i]->on_watch_ended(Error(Errc::Unavailable, "the server is away"), now);
      poll(i, now);
      continue;
    }
    ++out.requests;
    if (act == client::InformerCore::Act::List) ++out.lists;
    ++seconds[(now - back) / 1s];
    ++tenths[(now - back) / 100ms];
    if (++open == count) out.all_back = now - back;  // it stays open
  }
  for (const auto& [second, n] : seconds) out.peak_second = std::max(out.peak_second, n);
  for (const auto& [tenth, n] : tenths) out.peak_100ms = std::max(out.peak_100ms, n);
  out.attempts_per_second_away = static_cast<double>(away) / 60;
  return out;
}

std::string to_json(const Herd& h) {
  kube::JsonEdit edit;
  auto root = edit.root();
  root.set("connections", static_cast<std::int64_t>(h.connections));
  root.set("requests", static_cast<std::int64_t>(h.requests));
  root.set("lists", static_cast<std::int64_t>(h.lists));
  root.set("peak_requests_in_a_second", static_cast<std::int64_t>(h.peak_second));
  root.set("peak_requests_in_100_ms", static_cast<std::int64_t>(h.peak_100ms));
  root.set("seconds_until_all_are_back", std::chrono::duration<double>(h.all_back).count());
  root.set("attempts_a_second_while_away", h.attempts_per_second_away);
  return edit.dump();
}

}  // namespace skerry::sim
