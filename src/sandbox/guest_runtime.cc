// SPDX-License-Identifier: Apache-2.0
#include "sandbox/guest_runtime.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <format>
#include <utility>

#include "sandbox/deadline.h"
#include "sandbox/guest_wasi.h"

namespace skerry::sandbox {
namespace {

constexpr std::uint64_t kPageBytes = 65536;

struct Watch {
  struct sigaction engine {};
  std::uintptr_t stack_top = 0, stack_low = 0;
  volatile bool stack_overflow = false;
  volatile bool in_guest = false;
};
Watch watch;

void on_segv(int signal, siginfo_t* info, void* context) {
  if (!watch.in_guest) {  // a bug of ours: die as one
    struct sigaction plain{};
    plain.sa_handler = SIG_DFL;
    sigaction(signal, &plain, nullptr);
    return;
  }
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (address >= watch.stack_low && address < watch.stack_top) watch.stack_overflow = true;
  watch.engine.sa_sigaction(signal, info, context);  // jumps back to the call; returns never
}

}  // namespace

void FaultWatch::install(std::uintptr_t stack_top, std::size_t stack_bytes) {
  constexpr std::size_t kAlternateStackBytes = 32u << 10, kGuardBytes = 2u << 20;
  static char* alternate = nullptr;
  if (alternate == nullptr) {
    alternate = static_cast<char*>(::mmap(nullptr, kAlternateStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }
  stack_t stack{};
  stack.ss_sp = alternate;
  stack.ss_size = kAlternateStackBytes;
  sigaltstack(&stack, nullptr);
  watch.stack_top = stack_top;
  watch.stack_low = stack_top - stack_bytes - kGuardBytes;
  wasm::set_host_stack_floor(stack_top - stack_bytes + (96u << 10));
  struct sigaction engine{};
  sigaction(SIGSEGV, nullptr, &engine);
  if ((engine.sa_flags & SA_SIGINFO) == 0 || engine.sa_sigaction == on_segv) return;
  watch.engine = engine;
  engine.sa_sigaction = on_segv;
  engine.sa_flags |= SA_ONSTACK;
  sigaction(SIGSEGV, &engine, nullptr);
  for (const int other : {SIGBUS, SIGFPE}) {
    struct sigaction action{};
    sigaction(other, nullptr, &action);
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) continue;
    action.sa_flags |= SA_ONSTACK;
    sigaction(other, &action, nullptr);
  }
}
bool FaultWatch::take_stack_overflow() {
  const bool was = watch.stack_overflow;
  watch.stack_overflow = false;
  if (was) {
    // The pages that the recursion touched go back at once: from well below this frame to the stack's end.
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) & ~std::uintptr_t{4095};
    const auto low = watch.stack_low + (2u << 20);
    if (here > low + (64u << 10)) madvise(reinterpret_cast<void*>((low + 4095) & ~std::uintptr_t{4095}), here - (32u << 10) - ((low + 4095) & ~std::uintptr_t{4095}), MADV_DONTNEED);
  }
  return was;
}
void FaultWatch::leave_by_force(siginfo_t* info, void* context) { watch.engine.sa_sigaction(SIGSEGV, info, context); }
void FaultWatch::enter_guest() { watch.in_guest = true; }
void FaultWatch::leave_guest() { watch.in_guest = false; }

GuestRuntime::GuestRuntime(GuestImage& image, const Assignment& assignment, std::uint64_t memory_bytes_max, metrics::Block& block, GuestLog& log)
    : image_(image),
      assignment_(assignment),
      metrics_(block),
      log_(log),
      pages_max_(static_cast<std::uint32_t>(std::min<std::uint64_t>(memory_bytes_max / kPageBytes, 65536))),
      pages_min_(image.guest.memory_pages_min("memory")),
      instantiator_(pages_max_, std::array<const wasm::HostModule*, 2>{&image.http, &image.wasi}) {}

template <class Call>
CallEnd GuestRuntime::guarded(Call call, std::uint64_t now_ns, std::uint64_t length_ns) {
  CallEnd end;
  metrics_.add(metrics::Counter::GuestCalls);
  Deadline::begin(now_ns, length_ns);
  FaultWatch::enter_guest();
  end.outcome = call();
  FaultWatch::leave_guest();
  const bool fired = Deadline::expired(), forced = Deadline::forced();
  if (fired && end.outcome != wasm::Outcome::Interrupted) metrics_.add(metrics::Counter::StaleTokensDrained);
  Deadline::end(end.outcome);
  end.client_gone = std::exchange(client_gone_, false);
  if (end.outcome == wasm::Outcome::Done) return end;  // in time, or so nearly that the answer is worth more than the rule
  if (end.client_gone) return end;                     // counted where it was noticed
  end.deadline = fired && (forced || end.outcome == wasm::Outcome::Interrupted || end.outcome == wasm::Outcome::Exited);
  if (end.deadline) {
    metrics_.add(metrics::Counter::Deadlines);
    return end;
  }
  using enum wasm::Outcome;
  switch (end.outcome) {
    case Exited: metrics_.add(metrics::Counter::GuestExits); return end;
    case MemoryBounds:
      end.stack_overflow = FaultWatch::take_stack_overflow();
      metrics_.add(end.stack_overflow ? metrics::Counter::TrapsStackOverflow : metrics::Counter::TrapsMemoryBounds);
      break;
    case Unreachable: metrics_.add(metrics::Counter::TrapsUnreachable); break;
    case Arithmetic: metrics_.add(metrics::Counter::TrapsArithmetic); break;
    case HostRefusal:
      if (wasm::take_host_stack_refusal()) {
        end.stack_overflow = true;
        metrics_.add(metrics::Counter::TrapsStackOverflow);
      } else {
        metrics_.add(metrics::Counter::TrapsHostRefusal);
      }
      break;
    default: break;
  }
  metrics_.add(metrics::Counter::GuestTraps);
  return end;
}

CallEnd GuestRuntime::call(const wasm::Function& f, std::uint64_t now_ns, std::uint64_t length_ns) {
  return guarded([&] { return image_.calls->call(f); }, now_ns, length_ns);
}
CallEnd GuestRuntime::call_i64(const wasm::Function& f, std::uint64_t& result, std::uint64_t now_ns, std::uint64_t length_ns) {
  return guarded([&] { return image_.calls->call_i64(f, result); }, now_ns, length_ns);
}
CallEnd GuestRuntime::call_ii(const wasm::Function& f, std::uint32_t a, std::uint32_t b, std::uint64_t now_ns, std::uint64_t length_ns) {
  return guarded([&] { return image_.calls->call_ii(f, a, b); }, now_ns, length_ns);
}

std::string GuestRuntime::describe(const CallEnd& end) const {
  if (end.client_gone) return "was stopped, because its client is gone or takes nothing";
  if (end.deadline) return std::format("took longer than its deadline of {}", to_human(assignment_.request_deadline));
  if (end.stack_overflow) return std::format("recursed deeper than its stack of {} bytes", assignment_.stack_bytes_max);
  if (end.outcome == wasm::Outcome::Exited) return std::format("called proc_exit({})", wasi_world.exit_code);
  return std::format("trapped: {}", to_string(end.outcome));
}

void GuestRuntime::answer_failure(const CallEnd& end, const Request& request, Response& response) {
  const auto what = describe(end);
  log_.line(GuestLog::Err, std::format("skerry: {} {}: the guest {}", request.method, request.uri, what));
  if (response.committed) {
    response.abort = true;  // half a response is out; its end must not look like one
    if (!end.client_gone) response.status = end.deadline ? 504 : 500;
    return;
  }
  response.plain(end.deadline ? 504 : 500, std::format("the guest {}\n", what));
}

Result<wasm::Instance> GuestRuntime::make_instance(Start start) {
  const auto start_ns = static_cast<std::uint64_t>(assignment_.start_deadline.count());
  metrics_.add(metrics::Counter::InstancesCreated);
  const auto fail = [&](std::string what) -> Result<wasm::Instance> {
    metrics_.add(metrics::Counter::InstancesFailed);
    return Fail(Error{Errc::Unavailable, std::move(what)});
  };
  const auto too_little = [&](std::uint32_t pages) {
    return fail(std::format("the module needs {} pages of memory ({} KiB) and got {}: its limit is {} pages ({} KiB). Raise the container's memory limit, "
                            "or build the module with a smaller initial memory",
                            pages_min_, static_cast<std::uint64_t>(pages_min_) * 64, pages, pages_max_, static_cast<std::uint64_t>(pages_max_) * 64));
  };
  if (pages_min_ > pages_max_) return too_little(0);
  Deadline::begin(monotonic_ns(), start_ns);
  FaultWatch::enter_guest();
  auto made = instantiator_.instantiate(image_.guest);
  FaultWatch::leave_guest();
  const bool forced = Deadline::forced();
  Deadline::end(wasm::Outcome::Done);
  if (forced) return fail(std::format("its start section took longer than its deadline of {}", to_human(assignment_.start_deadline)));
  if (!made) return fail(std::format("{}. Is there room for its memory of {} KiB?", made.error().what, static_cast<std::uint64_t>(pages_min_) * 64));
  if (const auto pages = made->memory_pages("memory"); pages < pages_min_) return too_little(pages);
  if (start == Start::Yes) {
    auto function = made->find("_initialize");
    std::string_view name = "_initialize";
    if (!function) {
      function = made->find("_start");
      name = "_start";
    }
    if (function) {
      wasi_world.exit_code = 0;
      auto end = call(function, monotonic_ns(), start_ns);
      const bool clean_exit = end.outcome == wasm::Outcome::Exited && !end.deadline && wasi_world.exit_code == 0;
      if (!end.done() && !clean_exit) {
        if (end.deadline) return fail(std::format("{} took longer than its deadline of {}", name, to_human(assignment_.start_deadline)));
        return fail(std::format("{}: the guest {}", name, describe(end)));
      }
    }
  }
  return std::move(*made);
}

}  // namespace skerry::sandbox
