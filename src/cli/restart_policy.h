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
  // Whether any run until now lasted ten seconds. If not, a program that says that it failed would do so again.
  bool ever_ran(Instant now) { return ran_ = ran_ || now - started_ >= 10s; }

 private:
  Instant started_{};
  bool ran_ = false;
  int failures_ = 0;
};

}  // namespace skerry::cli
