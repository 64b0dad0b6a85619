// SPDX-License-Identifier: Apache-2.0
#include "cli/restart_policy.h"

#include <algorithm>

namespace skerry::cli {

Duration RestartPolicy::died(Instant now) {
  if (now - started_ >= 60s) failures_ = 0;
  const int failures = failures_++;
  if (failures == 0) return Duration::zero();
  return std::min<Duration>(100ms * (1 << std::min(failures - 1, 10)), 10s);
}

}  // namespace skerry::cli
