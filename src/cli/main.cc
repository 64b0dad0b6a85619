// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <cstdio>
#include <variant>

#include "base/log.h"
#include "cli/cmd.h"

namespace skerry::cli {

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

int run(const Command& command) {
  return std::visit(Overloaded{[](const UpOptions& o) { return cmd_up(o); },
                               [](const ServerOptions& o) { return cmd_server(o); },
                               [](const NodeOptions& o) { return cmd_node(o); },
                               [](const RunOptions& o) { return cmd_run(o); },
                               [](const ImageAddOptions& o) { return cmd_image_add(o); },
                               [](const ImageListOptions& o) { return cmd_image_list(o); },
                               [](const ImageRemoveOptions& o) { return cmd_image_remove(o); },
                               [](const ImagePullOptions& o) { return cmd_image_pull(o); },
                               [](const ImagePushOptions& o) { return cmd_image_push(o); },
                               [](const ImageInspectOptions& o) { return cmd_image_inspect(o); },
                               [](const ImagePinOptions& o) { return cmd_image_pin(o); }},
                    command);
}

}  // namespace
}  // namespace skerry::cli

int main(int argc, char** argv) {
  // A peer that closes its end is an error of that write, not the end of this process.
  std::signal(SIGPIPE, SIG_IGN);
  const auto parsed = skerry::cli::parse_command_line(argc, argv);
  std::fputs(parsed.output.c_str(), stdout);
  std::fputs(parsed.error_output.c_str(), stderr);
  return parsed.command ? skerry::cli::run(*parsed.command) : parsed.exit_code;
}
