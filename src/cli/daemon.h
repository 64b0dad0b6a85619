// SPDX-License-Identifier: Apache-2.0
// The life of a process that serves until it is told to stop: open, start, run, and on SIGTERM or SIGINT stop in order.
#pragma once
#include <functional>

#include "base/error.h"
#include "rt/loop.h"

namespace skerry::cli {

// Runs `open` (blocking), `start`, and the loop until a signal came and `stop` has ended. A signal counts from before `open`: what is half made
// is stopped, never dropped. `stop` is called once in any case, so it also takes away what an open or a start that failed has left; the error
// is theirs. A second signal changes nothing: stop has its own limits.
struct Daemon {
  std::function<Result<>()> open;
  std::function<rt::Task<>()> start, stop;
};
Result<> run_daemon(rt::Loop&, Daemon);

}  // namespace skerry::cli
