// SPDX-License-Identifier: Apache-2.0
// When a supervised program is started again after it died: at once the first time, then after a delay that doubles
// from 100 ms to 10 s; a run of a minute forgives. A pure core.
#pragma once
#include "base/time.h"

namespace skerry::cli {

class RestartPolicy {
 public:
  void started(Instant now) { started_ = now; }
  // How long to wait before the next start.
  Duration died(Instant now);

 private:
  Instant started_{};
  int failures_ = 0;
};

}  // namespace skerry::cli
