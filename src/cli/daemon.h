// SPDX-License-Identifier: Apache-2.0
// The life of a process that serves until it is told to stop: start, run, and on SIGTERM or SIGINT stop in order.
#pragma once
#include <functional>

#include "base/error.h"
#include "rt/loop.h"

namespace skerry::cli {

// Runs `start`, then the loop until a signal came and `stop` has ended. The error is start's. A second signal changes nothing:
// stop has its own limits.
Result<> run_daemon(rt::Loop&, std::function<rt::Task<>()> start, std::function<rt::Task<>()> stop);

}  // namespace skerry::cli
