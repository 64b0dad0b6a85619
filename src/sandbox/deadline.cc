// SPDX-License-Identifier: Apache-2.0
#include "sandbox/deadline.h"

#include <sys/time.h>

#include <cerrno>
#include <csignal>
#include <ctime>

namespace skerry::sandbox {
namespace {

// Written by the code and its own signal handler, in one thread: volatile is what the language asks for here.
struct State {
  wasm::CallExecutor* executor = nullptr;
  void (*on_hopeless)() = nullptr;
  volatile std::uint64_t due_ns = 0;  // 0: no call with a deadline is running
  volatile bool fired = false;        // the running call was cancelled
  volatile std::uint64_t armed_ns = 0;  // when the timer goes off; 0: it is off
  volatile std::uint64_t fired_cpu_ns = 0;  // the process' CPU time when it was cancelled
};
State state;

void arm(std::uint64_t now_ns, std::uint64_t at_ns) {
  const auto length = at_ns > now_ns ? at_ns - now_ns : 1000;
  itimerval timer{};
  timer.it_value.tv_sec = static_cast<time_t>(length / 1'000'000'000);
  timer.it_value.tv_usec = static_cast<suseconds_t>(length % 1'000'000'000 / 1000 + 1);
  state.armed_ns = at_ns;
  setitimer(ITIMER_REAL, &timer, nullptr);
}

std::uint64_t cpu_ns() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

void on_alarm(int) {
  const int saved = errno;
  const auto now = monotonic_ns();
  state.armed_ns = 0;
  const auto due = state.due_ns;
  if (due != 0) {
    if (now < due) {
      arm(now, due);
    } else if (!state.fired) {
      state.fired = true;
      state.fired_cpu_ns = cpu_ns();
      state.executor->cancel();
      arm(now, now + Deadline::kHardAfterNs);
    } else if (cpu_ns() - state.fired_cpu_ns >= Deadline::kHardCpuNs) {
      state.on_hopeless();
    } else {
      arm(now, now + Deadline::kHardAfterNs);
    }
  }
  errno = saved;
}

}  // namespace

std::uint64_t monotonic_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

void Deadline::install(wasm::CallExecutor& executor, void (*on_hopeless)()) {
  state.executor = &executor;
  state.on_hopeless = on_hopeless;
  struct sigaction action{};
  action.sa_handler = on_alarm;
  action.sa_flags = SA_ONSTACK;  // no SA_RESTART: a waiting host function must come back
  sigemptyset(&action.sa_mask);
  sigaction(SIGALRM, &action, nullptr);
}

void Deadline::begin(std::uint64_t now_ns, std::uint64_t length_ns) {
  if (length_ns == 0) return;
  const auto due = now_ns + length_ns;
  state.due_ns = due;
  // A timer that goes off earlier re-arms itself; one that goes off later is too late.
  if (state.armed_ns == 0 || state.armed_ns > due) arm(now_ns, due);
}

bool Deadline::end(wasm::Outcome outcome) {
  state.due_ns = 0;
  if (!state.fired) return false;
  state.fired = false;
  if (outcome != wasm::Outcome::Interrupted) state.executor->drain_stale_cancel();
  return true;
}

void Deadline::disarm() {
  const itimerval off{};
  setitimer(ITIMER_REAL, &off, nullptr);
  state.armed_ns = 0;
}

bool Deadline::expired() { return state.fired; }

std::uint64_t Deadline::left_ns() {
  const auto due = state.due_ns;
  if (due == 0) return ~0ull;
  const auto now = monotonic_ns();
  return now >= due ? 0 : due - now;
}

}  // namespace skerry::sandbox
