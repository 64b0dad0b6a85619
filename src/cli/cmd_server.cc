// SPDX-License-Identifier: Apache-2.0
#include <csignal>

#include "base/log.h"
#include "cli/cmd.h"
#include "cli/daemon.h"
#include "cli/server_process.h"
#include "os/spawn.h"

namespace skerry::cli {
namespace {

rt::Task<> stop(ServerProcess* server) {  // null: it did not open
  if (server != nullptr) CO_TRY_OK(co_await server->stop());
  co_return Result<>{};
}

}  // namespace

int cmd_server(const ServerOptions& options) {
  if (options.verbose) set_log_level(LogLevel::Debug);
  if (options.parent != 0)
    if (auto bound = os::end_with(options.parent, SIGKILL); !bound) return fail(bound.error());
  rt::Loop loop;
  std::unique_ptr<ServerProcess> server;
  auto ended = run_daemon(loop, {.open = [&]() -> Result<> {
                                   TRY(server, ServerProcess::open(loop, options));
                                   return {};
                                 },
                                 .start = [&] { return server->start(); },
                                 .stop = [&] { return stop(server.get()); }});
  return ended ? kExitOk : fail(ended.error());
}

}  // namespace skerry::cli
