// SPDX-License-Identifier: Apache-2.0
#include "agent/memory_relief.h"

#include <algorithm>
#include <tuple>

namespace skerry::agent {

MemoryRelief::Decision MemoryRelief::decide(bool pressure, std::vector<Candidate> awake) {
  Decision out;
  if (!pressure) {
    rounds_ = 0;
    return out;
  }
  ++rounds_;
  // The least important first; of equals the one that gives most.
  std::ranges::sort(awake, [](const Candidate& a, const Candidate& b) {
    return std::tuple(a.priority, b.memory_bytes, std::string_view(a.uid)) < std::tuple(b.priority, a.memory_bytes, std::string_view(b.uid));
  });
  const auto able = static_cast<std::size_t>(std::ranges::count_if(awake, &Candidate::idle_able));
  if (rounds_ > (able > 0 ? options_.patience : options_.patience_alone)) {
    const auto victim = std::ranges::find_if(awake, [&](const Candidate& c) { return c.priority < options_.critical; });
    if (victim != awake.end()) {
      out.evict = victim->uid;
      rounds_ = -options_.pause;
      return out;
    }
  }
  const std::size_t most = std::max<std::size_t>(1, able / options_.share);
  for (const Candidate& c : awake)
    if (c.idle_able && out.trim.size() < most) out.trim.push_back(c.uid);
  return out;
}

}  // namespace skerry::agent
