// SPDX-License-Identifier: Apache-2.0
// The time that guest code may take. One timer per process, armed lazily: it is left running between calls and re-armed by
// its own signal, so a request that ends in time costs no system call. When a call's time is up, SIGALRM cancels it by the
// engine's stop token; a cancel that met an already ending call is taken back (CallExecutor::drain_stale_cancel).
// A call that uses kHardCpuNs more of CPU time without reacting (a start section, which runs on another executor) ends the
// process; CPU time, because a busy machine may stall it for longer than that.
#pragma once
#include <cstdint>

#include "wasm/engine.h"

namespace skerry::sandbox {

class Deadline {
 public:
  static constexpr std::uint64_t kHardAfterNs = 500'000'000;  // how often it is looked at
  static constexpr std::uint64_t kHardCpuNs = 200'000'000;
  // Installs the handler. `on_hopeless` is called from the signal handler when a call ignores its cancel; must not return.
  static void install(wasm::CallExecutor&, void (*on_hopeless)());
  // A call begins now and may take so long; 0: for ever. `now_ns` is CLOCK_MONOTONIC.
  static void begin(std::uint64_t now_ns, std::uint64_t length_ns);
  // The call came back with this outcome. Returns true if its time was up.
  static bool end(wasm::Outcome);
  // Stops the timer, for a process that is to wait undisturbed.
  static void disarm();
  // Inside a call: its time is up (a host function that waits asks this after EINTR).
  static bool expired();
  // Nanoseconds left of the running call; ~0 without a deadline.
  static std::uint64_t left_ns();
};

std::uint64_t monotonic_ns();

}  // namespace skerry::sandbox
