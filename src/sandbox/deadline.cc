// SPDX-License-Identifier: Apache-2.0
#include "sandbox/deadline.h"

#include <pthread.h>
#include <sys/time.h>
#include <ucontext.h>

#include <cerrno>
#include <csignal>
#include <ctime>

namespace skerry::sandbox {
namespace {

// Written by the code and its own signal handler, in one thread: volatile is what the language asks for here.
struct State {
  wasm::CallExecutor* executor = nullptr;
  Deadline::Force force{};
  volatile std::uint64_t due_ns = 0;  // 0: no call with a deadline is running
  volatile bool fired = false;        // the running call was cancelled
  volatile bool forced = false;       // and left by force
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

bool in_guest_code(const void* context) {
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  const auto at = static_cast<std::uintptr_t>(machine.gregs[REG_RIP]);
#elif defined(__aarch64__)
  const auto at = static_cast<std::uintptr_t>(machine.pc);
#else
#error "where does this machine keep its instruction's address?"
#endif
  return at >= state.force.guest_code.first && at < state.force.guest_code.second;
}

void on_alarm(int, siginfo_t* info, void* context) {
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
      arm(now, now + Deadline::kLookAfterNs);
    } else {
      const auto used = cpu_ns() - state.fired_cpu_ns;
      if (used >= Deadline::kForceCpuNs && in_guest_code(context)) {
        state.forced = true;
        sigset_t alarm;  // this handler does not return, which would unblock it
        sigemptyset(&alarm);
        sigaddset(&alarm, SIGALRM);
        pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr);
        errno = saved;
        state.force.leave(info, context);
      }
      if (used >= Deadline::kHardCpuNs) state.force.on_hopeless();
      arm(now, now + Deadline::kLookAfterNs);
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

void Deadline::install(wasm::CallExecutor& executor, const Force& force) {
  state.executor = &executor;
  state.force = force;
  struct sigaction action{};
  action.sa_sigaction = on_alarm;
  action.sa_flags = SA_ONSTACK | SA_SIGINFO;  // no SA_RESTART: a waiting host function must come back
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
  state.forced = false;
  if (outcome != wasm::Outcome::Interrupted) state.executor->drain_stale_cancel();
  return true;
}

bool Deadline::expired() { return state.fired; }
bool Deadline::forced() { return state.forced; }

}  // namespace skerry::sandbox
