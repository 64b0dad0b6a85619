// SPDX-License-Identifier: Apache-2.0
#include "agent/busy_pods.h"

#include <utility>

namespace skerry::agent {

std::set<std::string> BusyPods::update(Instant now, const std::vector<Reading>& readings) {
  const double seconds = std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  std::set<std::string> out;
  std::unordered_map<std::string, Known> next;
  for (const Reading& reading : readings) {
    const std::string uid(reading.uid);
    Known entry{.cpu_seconds = reading.cpu_seconds, .busy = false};
    // The first reading says nothing, and neither does one that is lower than the last: its processes are others.
    if (const auto before = known_.find(uid); before != known_.end() && seconds > 0 && reading.cpu_seconds >= before->second.cpu_seconds) {
      const double share = (reading.cpu_seconds - before->second.cpu_seconds) / seconds / reading.cores_max;
      entry.busy = share >= (before->second.busy ? options_.free_below : options_.busy_from);
    }
    if (entry.busy) out.insert(uid);
    next.emplace(uid, entry);
  }
  known_ = std::move(next);
  return out;
}

}  // namespace skerry::agent
