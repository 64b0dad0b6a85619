// SPDX-License-Identifier: Apache-2.0
// The keeper's shell: one thread, one epoll. It waits, and carries out what KeeperCore decides.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "sandbox/keeper_core.h"
#include "sandbox/process.h"

namespace skerry::sandbox {

// How an adopted sandbox ended: asked of the kernel (Linux 6.15 keeps it), or taken as not known, as on older ones.
enum class ExitInfo : std::uint8_t { Kernel, None };

struct KeeperOptions {
  std::filesystem::path socket;         // where the agent connects; SOCKET.lock beside it keeps a second keeper away
  std::filesystem::path state;          // folder for the slot table; on a tmpfs where there is one
  std::string cgroup = "skerry";        // our tree in each hierarchy
  std::uint32_t uid_base = 1'000'000'000;  // slot N runs as uid and gid uid_base + N
  std::uint32_t parent = 0;             // if not 0: as at SIGTERM when this process, which must be the parent, ends
  ExitInfo exit_info = ExitInfo::Kernel;
  KeeperCore::Options core = {};
};

// What that worker had begun and not finished, and the connections it had, when its process ended; taken once: the page is corrected.
metrics::Losses take_losses(int metrics_page, std::uint16_t worker);

// Whether that worker marked its end as one in order; no page (-1): false.
bool says_left_in_order(int metrics_page, std::uint16_t worker);

// Runs until Shutdown. AlreadyExists: another keeper holds the socket. Without root or cgroups it says so in one log line.
Result<> keeper_main(const KeeperOptions&);

// The program: `keeper` and `template`. Returns the exit code.
int sandbox_main(int argc, char** argv, const GuestApi&);

}  // namespace skerry::sandbox
