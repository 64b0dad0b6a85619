// SPDX-License-Identifier: Apache-2.0
#include "cli/daemon.h"

#include <csignal>
#include <optional>

#include "base/log.h"
#include "rt/task_group.h"

namespace skerry::cli {
namespace {

struct Daemon {
  rt::Loop& loop;
  std::function<rt::Task<>()> start, stop;
  rt::TaskGroup tasks{loop};
  rt::Event asked{loop};
  std::optional<Error> failure = {};

  rt::Task<> run() {
    if (auto started = co_await start(); !started) {
      failure = started.error();
    } else {
      CO_TRY_OK(co_await asked.wait());
      LOG_INFO("stopping");
    }
    if (auto stopped = co_await stop(); !stopped) LOG_WARN("stopping failed", {"error", stopped.error()});
    loop.stop();
    co_return Result<>{};
  }
};

}  // namespace

Result<> run_daemon(rt::Loop& loop, std::function<rt::Task<>()> start, std::function<rt::Task<>()> stop) {
  Daemon daemon{.loop = loop, .start = std::move(start), .stop = std::move(stop)};
  loop.on_signal({SIGTERM, SIGINT}, [&](int) { daemon.asked.set(); });
  daemon.tasks.spawn("daemon", daemon.run());
  loop.run();
  if (daemon.failure) return Fail(*daemon.failure);
  return {};
}

}  // namespace skerry::cli
