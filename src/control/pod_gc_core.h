// SPDX-License-Identifier: Apache-2.0
// Pods that nobody else will remove. Pure: those of nodes that are gone (after a quarantine), those that were deleted
// before they had a node, and the oldest of those that ended, beyond a number.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "control/action.h"
#include "control/views.h"

namespace skerry::control {

class PodGcCore {
 public:
  struct Options {
    std::size_t ended_max = 12'500;
    Duration quarantine = std::chrono::seconds(40);  // from when a node was first missed
  };
  explicit PodGcCore(Options options) : options_(options) {}
  Plan poll(const std::vector<PodPtr>& pods, const std::set<std::string>& nodes, Instant now);

 private:
  Options options_;
  std::map<std::string, Instant> missed_;  // node to when it was first missed
};

}  // namespace skerry::control
