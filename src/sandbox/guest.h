// SPDX-License-Identifier: Apache-2.0
// The seam between the process side of a sandbox (keeper, template, slot: who isolates and starts) and the guest side
// (engine, HTTP, guest kinds: what runs inside).
//
//   template:  load_image()  -> GuestImage, once, while /proc and the image are still reachable; then namespaces, root, …
//   slot:      fork, hardening (uid, capabilities, seccomp), parked until its ServeFds arrive
//              serve()       -> reads the assignment, instantiates, answers requests until idle or told to stop
//
// Everything is single-threaded. load_image() starts one thread inside and waits until it is gone (the engine's handle
// for cancelling calls can only be had so); when it returns, the process has one thread again and may be forked.
//
// System calls that serve() uses after the slot is hardened (the seccomp list must have them; others are not needed):
//   read write writev pread64 recvfrom recvmsg sendto sendmsg accept4 close fcntl shutdown setsockopt getsockname
//   getpeername epoll_create1 epoll_ctl epoll_pwait epoll_wait ppoll mmap munmap mprotect madvise mremap brk fstat
//   newfstatat lseek prlimit64 rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack setitimer clock_gettime
//   clock_nanosleep getrandom futex sched_yield getpid gettid tgkill exit_group restart_syscall
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "sandbox/assignment.h"

namespace skerry::sandbox {

struct ImageSpec {
  int native_fd = -1;                     // the .so that skerry-compile made, open for reading; the caller keeps and closes it
  std::array<std::uint8_t, 32> sha256{};  // of that file; a mismatch is Corrupt, and nothing of the file is executed
  std::string name;                       // for messages: the image's reference or digest
};

// Loaded, validated native code, host functions and cancellation, shared copy-on-write by all slots of the image.
// Lives until the process ends. Holds nothing of any pod.
struct GuestImage;

// Needs /proc/self/fd. Errors: Corrupt (hash), Invalid (the engine rejects it, with its words), Unsupported.
Result<GuestImage*> load_image(const ImageSpec&);

struct SlotLimits {
  std::uint64_t memory_bytes_max = 0;  // 0: as the assignment says; else the smaller of both
  std::uint16_t worker = 0;            // index among Assignment::workers; selects the block in the metrics page
};

// serve() owns all of them from the call on, and leaves listener, assignment and metrics page open at these numbers until it
// ends: the next keeper takes them from there. -1 where allowed.
struct ServeFds {
  int listener = -1;    // bound and listening TCP socket, shared with the keeper and other workers; made non-blocking
  int assignment = -1;  // sealed memfd (assignment.h)
  int log = -1;         // O_APPEND file for CRI lines; -1: the guest's output is dropped
  int metrics = -1;     // metrics page (metrics/page.h), writable; -1: counted nowhere
  int control = -1;     // socketpair to the keeper; -1: none (skerry run, tests)
};

// Packets on the control socket. Sandbox to keeper: 'R' (serving: the guest is instantiated, the listener is polled),
// 'E' + text up to kControlTextMax (why it ends with 64 or 65; sent right before the exit).
// Keeper to sandbox: 'L' with one descriptor (SCM_RIGHTS): the new log file. End of file is ignored: a sandbox outlives
// its keeper.
inline constexpr char kControlReady = 'R', kControlError = 'E', kControlRelog = 'L';
inline constexpr std::size_t kControlTextMax = 1024;

// Exit codes of serve().
inline constexpr int kExitDone = 0;                 // idle, or asked to stop by SIGTERM and drained
inline constexpr int kExitAssignmentRefused = 64;   // assignment, descriptors or limits are unusable
inline constexpr int kExitGuestFailedToStart = 65;  // instantiate, _initialize or _start failed, or memory was not had

// Runs the guest until it is idle (exit 0), SIGTERM has drained it (exit 0), or it cannot run (64, 65). Ends in _exit.
// Sets RLIMIT_STACK, signal handlers (SIGTERM, SIGALRM, SIGSEGV's stack) and ignores SIGPIPE and SIGXFSZ.
[[noreturn]] void serve(GuestImage&, const SlotLimits&, ServeFds);

}  // namespace skerry::sandbox
