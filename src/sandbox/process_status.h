// SPDX-License-Identifier: Apache-2.0
// What the kernel tells about processes, and is told: how a sandbox ended, what processor time it used, who goes first.
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

// The calling process, and what it forks, gets a processor sooner than others that want one: it does little at a time and a
// request waits for it. Without the right to it, or on kernels before 6.12 in part, nothing changes.
void go_first();
// For a fork that is to weigh as much as others again; it still needs no long turn.
void weigh_as_others();

}  // namespace skerry::sandbox
