// SPDX-License-Identifier: Apache-2.0
#include "agent/convergence.h"

namespace skerry::agent {

Convergence::Verdict Convergence::compare(std::string_view resource, std::uint64_t own, std::uint64_t servers) {
  const auto at = last_.find(resource);
  if (own == servers) {
    if (at != last_.end()) last_.erase(at);
    return Verdict::Same;
  }
  if (at == last_.end()) {
    last_.emplace(resource, Last{own, servers, 1});
    return Verdict::Differs;
  }
  Last& last = at->second;
  const bool stood_still = last.own == own && last.servers == servers;
  if (stood_still && last.told && ++last.differences < options_.still_max) return Verdict::Still;
  if (stood_still || (!last.told && last.differences + 1 >= options_.differences_max)) {
    last = {own, servers, 0, true};
    return Verdict::Drift;
  }
  last = {own, servers, last.told ? 1 : last.differences + 1, false};
  return Verdict::Differs;
}

}  // namespace skerry::agent
