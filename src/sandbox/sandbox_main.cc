// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <format>
#include <map>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/text.h"
#include "sandbox/keeper.h"

namespace skerry::sandbox {
namespace {

constexpr std::string_view kUsage =
    "usage: skerry-sandbox keeper --socket PATH --state DIR [options]\n"
    "\n"
    "Owns the listeners of idle pods, wakes a sandbox when a connection comes, and reaps it. Started by `skerry node`.\n"
    "\n"
    "  --socket PATH      where the agent connects\n"
    "  --state DIR        folder for the slot table, best on a tmpfs\n"
    "  --cgroup NAME      our tree in each cgroup hierarchy (skerry)\n"
    "  --uid-base N       slot K runs as uid N + K (1000000000)\n"
    "  --parked-min N     parked slots of an image at rest (2)\n"
    "  --parked-max N     parked slots of an image under a burst (64)\n"
    "  --slots-max N      sandboxes and parked slots in all (8192)\n"
    "  --pods-max N       pods in all (20000)\n"
    "  --parent PID       end in order when that process, the one that started this, ends\n"
    "  --exit-info WHERE  kernel, or none: how adopted sandboxes ended is then not known, as before Linux 6.15 (kernel)\n"
    "  --log-level LEVEL  debug, info, warn or error (info)\n"
    "\n"
    "`skerry-sandbox template` is what the keeper starts itself, one for each image.\n";

Result<KeeperOptions> parse(int argc, char** argv) {
  KeeperOptions options;
  std::string socket, state, level = "info", exit_info = "kernel";
  const std::map<std::string_view, std::string*> texts{{"--socket", &socket}, {"--state", &state}, {"--cgroup", &options.cgroup}, {"--log-level", &level}, {"--exit-info", &exit_info}};
  const std::map<std::string_view, std::uint32_t*> numbers{{"--uid-base", &options.uid_base},
                                                           {"--parent", &options.parent},
                                                           {"--parked-min", &options.core.parked_min},
                                                           {"--parked-max", &options.core.parked_max},
                                                           {"--slots-max", &options.core.slots_max},
                                                           {"--pods-max", &options.core.pods_max}};
  for (int i = 2; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (i + 1 >= argc) return Fail({Errc::Invalid, std::format("{} needs a value", name)});
    if (const auto text = texts.find(name); text != texts.end()) {
      *text->second = argv[i + 1];
    } else if (const auto number = numbers.find(name); number != numbers.end()) {
      const auto value = parse_int<std::uint32_t>(argv[i + 1]);
      if (!value) return Fail({Errc::Invalid, std::format("{} {}: a number is needed", name, argv[i + 1])});
      *number->second = *value;
    } else {
      return Fail({Errc::Invalid, std::format("unknown option {}", name)});
    }
  }
  if (socket.empty() || state.empty()) return Fail({Errc::Invalid, "--socket and --state are needed"});
  if (options.core.parked_min < 1 || options.core.parked_max < options.core.parked_min)
    return Fail({Errc::Invalid, "--parked-min must be at least 1 and not above --parked-max"});
  if (options.core.slots_max < 1 || options.core.slots_max > 1'000'000 || options.uid_base < 1000 ||
      std::uint64_t{options.uid_base} + options.core.slots_max > 4'000'000'000)
    return Fail({Errc::Invalid, "--slots-max must be 1 to 1000000, and the uids above --uid-base must lie between 1000 and 4000000000"});
  const std::map<std::string_view, LogLevel> levels{{"debug", LogLevel::Debug}, {"info", LogLevel::Info}, {"warn", LogLevel::Warn}, {"error", LogLevel::Error}};
  if (!levels.contains(level)) return Fail({Errc::Invalid, "--log-level must be debug, info, warn or error"});
  set_log_level(levels.at(level));
  if (exit_info != "kernel" && exit_info != "none") return Fail({Errc::Invalid, "--exit-info must be kernel or none"});
  options.exit_info = exit_info == "none" ? ExitInfo::None : ExitInfo::Kernel;
  options.socket = socket;
  options.state = state;
  return options;
}

}  // namespace

int sandbox_main(int argc, char** argv, const GuestApi& guest) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "template" && argc == 2) return template_main(guest);
  if (mode == "--help" || mode == "help") {
    std::fwrite(kUsage.data(), 1, kUsage.size(), stdout);
    return 0;
  }
  if (mode != "keeper") {
    std::fwrite(kUsage.data(), 1, kUsage.size(), stderr);
    return 2;
  }
  const auto options = parse(argc, argv);
  if (!options) {
    std::fprintf(stderr, "skerry-sandbox keeper: %s; see skerry-sandbox --help\n", options.error().what.c_str());
    return 2;
  }
  if (auto done = keeper_main(*options); !done) {
    LOG_ERROR("keeper ended", {"error", done.error()});
    return 1;
  }
  return 0;
}

}  // namespace skerry::sandbox
