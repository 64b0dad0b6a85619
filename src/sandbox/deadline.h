// SPDX-License-Identifier: Apache-2.0
// The time that guest code may take. One timer per process, armed lazily: it is left running between calls and re-armed by
// its own signal, so a request that ends in time costs no system call. When a call's time is up, SIGALRM cancels it by the
// engine's stop token; a cancel that met an already ending call is taken back (CallExecutor::drain_stale_cancel).
// Not all code looks at the token: a start section runs on another executor, and the compiler makes loops without a look at it
// of functions that end by calling themselves. A call that uses kForceCpuNs more of CPU time is left by force, as a trap at
// that very instruction would leave it, if the instruction is the guest's. One that uses kHardCpuNs elsewhere ends the process.
// CPU time, because a busy machine may stall it for longer than that.
#pragma once
#include <csignal>
#include <cstdint>
#include <utility>

#include "wasm/engine.h"

namespace skerry::sandbox {

class Deadline {
 public:
  static constexpr std::uint64_t kLookAfterNs = 10'000'000;  // how often it is looked at
  static constexpr std::uint64_t kForceCpuNs = 5'000'000;
  static constexpr std::uint64_t kHardCpuNs = 2'000'000'000;
  struct Force {
    std::pair<std::uintptr_t, std::uintptr_t> guest_code;
    void (*leave)(siginfo_t*, void* context);  // called from the signal handler; must not return
    void (*on_hopeless)();                     // likewise
  };
  // Installs the handler.
  static void install(wasm::CallExecutor&, const Force&);
  // A call begins now and may take so long; 0: for ever. `now_ns` is CLOCK_MONOTONIC.
  static void begin(std::uint64_t now_ns, std::uint64_t length_ns);
  // The call came back with this outcome. Returns true if its time was up.
  static bool end(wasm::Outcome);
  // Before end(): the call was left by force.
  static bool forced();
  // Inside a call: its time is up (a host function that waits asks this after EINTR).
  static bool expired();
};

std::uint64_t monotonic_ns();

}  // namespace skerry::sandbox
