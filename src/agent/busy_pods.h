// SPDX-License-Identifier: Apache-2.0
// Which awake pods had better get no further connection now: those whose processes use nearly all the processor time that
// they may have (limits.cpu, or one core for each worker). Services then offer idle pods too (net/service_rules.h). A pure
// core, fed with readings several times a second.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/time.h"

namespace skerry::agent {

class BusyPods {
 public:
  struct Options {
    double busy_from = 0.8;   // of what it may use
    double free_below = 0.5;  // lower, so that a pod does not come and go with every reading
  };
  struct Reading {
    std::string_view uid;
    double cpu_seconds = 0;  // of its processes since they began
    double cores_max = 1;
  };
  BusyPods() = default;
  explicit BusyPods(Options options) : options_(options) {}

  // `readings`: of every pod that is awake now. Returns the uids of the busy ones.
  std::set<std::string> update(Instant now, const std::vector<Reading>& readings);

 private:
  struct Known {
    double cpu_seconds = 0;
    bool busy = false;
  };
  Options options_{};
  Instant last_{};
  std::unordered_map<std::string, Known> known_;
};

}  // namespace skerry::agent
