// SPDX-License-Identifier: Apache-2.0
#include "cli/daemon.h"

#include <csignal>
#include <optional>

#include "base/log.h"
#include "rt/task_group.h"

namespace skerry::cli {
namespace {

struct Running {
  rt::Loop& loop;
  Daemon daemon;
  rt::TaskGroup tasks{loop};
  rt::Event asked{loop};
  std::optional<Error> failure = {};

  rt::Task<> start() {
    CO_TRY_OK(daemon.open());
    co_return co_await daemon.start();
  }

  rt::Task<> run() {
    if (auto started = co_await start(); !started) {
      failure = started.error();
    } else {
      CO_TRY_OK(co_await asked.wait());
      LOG_INFO("stopping");
    }
    if (auto stopped = co_await daemon.stop(); !stopped) LOG_WARN("stopping failed", {"error", stopped.error()});
    loop.stop();
    co_return Result<>{};
  }
};

}  // namespace

Result<> run_daemon(rt::Loop& loop, Daemon daemon) {
  Running running{.loop = loop, .daemon = std::move(daemon)};
  loop.on_signal({SIGTERM, SIGINT}, [&](int) { running.asked.set(); });
  running.tasks.spawn("daemon", running.run());
  loop.run();
  if (running.failure) return Fail(*running.failure);
  return {};
}

}  // namespace skerry::cli
