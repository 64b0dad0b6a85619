// SPDX-License-Identifier: Apache-2.0
// How a sandbox's process ended, and what processor time it has used: what the kernel tells about processes.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "sandbox/keeper_core.h"

namespace skerry::sandbox {

// Of a wait status.
SlotExit exit_of_wait_status(int status);
// The wait status of a process that another parent reaped; nothing on kernels before 6.15, which do not keep it.
std::optional<int> exit_status_of_stranger(int pidfd);
// utime + stime of /proc/PID/stat, in clock ticks; 0 when it is gone.
std::uint64_t cpu_ticks(pid_t);

}  // namespace skerry::sandbox
