// SPDX-License-Identifier: Apache-2.0
#include "sandbox/guest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <format>
#include <memory>
#include <utility>

#include "base/check.h"
#include "sandbox/deadline.h"
#include "sandbox/guest_runtime.h"
#include "sandbox/guest_wasi.h"
#include "sandbox/zero_map.h"
#include "wasm/native_cache.h"

// Native code of trampoline.wat and drain.wat, made by skerry-compile at build time (guest.cmake).
asm(".section .rodata\n"
    ".balign 16\n"
    ".globl skerry_trampoline_begin, skerry_trampoline_end, skerry_drain_begin, skerry_drain_end\n"
    "skerry_trampoline_begin: .incbin \"" SKERRY_TRAMPOLINE_FILE "\"\n"
    "skerry_trampoline_end: .byte 0\n"
    "skerry_drain_begin: .incbin \"" SKERRY_DRAIN_FILE "\"\n"
    "skerry_drain_end: .byte 0\n"
    ".previous\n");
extern "C" {
extern const char skerry_trampoline_begin[], skerry_trampoline_end[], skerry_drain_begin[], skerry_drain_end[];
}
#if defined(__SANITIZE_ADDRESS__)
// The engine's SIGSEGV handler and our alternate stack must be the only ones.
extern "C" const char* __asan_default_options() { return "handle_segv=0:handle_sigfpe=0:handle_sigbus=0:use_sigaltstack=0:detect_leaks=0"; }
#endif

namespace skerry::sandbox {
namespace {

// What serve() prepared for the nested loop, which the engine calls without arguments.
struct Serving {
  GuestImage* image = nullptr;
  const Assignment* assignment = nullptr;
  std::uint64_t memory_bytes_max = 0;
  ServeFds fds;
  metrics::Block* metrics = nullptr;
  GuestLog* log = nullptr;
  std::uintptr_t stack_top = 0;
};
Serving serving;
volatile sig_atomic_t stop_asked = 0;

void tell_keeper(char kind, std::string_view text) {
  if (serving.fds.control < 0) return;
  char packet[kControlTextMax + 1];
  packet[0] = kind;
  const auto n = std::min(text.size(), kControlTextMax);
  std::memcpy(packet + 1, text.data(), n);
  send(serving.fds.control, packet, n + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}
[[noreturn]] void give_up(int code, std::string_view why) {
  tell_keeper(kControlError, why);
  if (serving.log != nullptr) serving.log->line(GuestLog::Err, std::format("skerry: the sandbox ends: {}", why));
  _exit(code);
}
void on_hopeless_call() {
  static const char kText[] = "Ethe guest ran past its deadline in code that cannot be cancelled (one long memory operation?)";
  if (serving.fds.control >= 0) (void)!send(serving.fds.control, kText, sizeof kText - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  _exit(kExitGuestFailedToStart);
}

class SandboxEvents final : public ServerEvents {
 public:
  bool asked_to_stop() override { return stop_asked != 0; }
  void control_readable() override {
    char byte[16];
    iovec io{byte, sizeof byte};
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    const auto n = recvmsg(serving.fds.control, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n <= 0) return;
    int fd = -1;
    for (auto* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
    }
    if (byte[0] == kControlRelog && fd >= 0) serving.log->replace(fd);
    else if (fd >= 0) close(fd);
  }
};

// Runs inside the trampoline's call, so that the engine's signal handlers are set once and a guest call costs 0.1 µs
// instead of 1.6. Never returns.
wasm::HostStatus nested_loop(wasm::Frame&, const std::uint64_t*, std::uint64_t*) {
  const auto& a = *serving.assignment;
  auto& block = *serving.metrics;
  FaultWatch::install(serving.stack_top, a.stack_bytes_max);
  Deadline::install(*serving.image->calls, {serving.image->guest.code(), FaultWatch::leave_by_force, on_hopeless_call});
  GuestRuntime runtime(*serving.image, a, serving.memory_bytes_max, block, *serving.log);
  const auto guest = a.kind == GuestKind::Wagi ? make_wagi_guest(runtime) : make_http_handler_guest(runtime);
  if (const auto started = guest->start(); !started) give_up(kExitGuestFailedToStart, started.error().what);

  const auto ms = [](Duration d) { return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(d).count()); };
  HttpServer::Options options;
  options.header_bytes_max = a.header_bytes_max;
  options.header_count_max = a.header_count_max;
  options.body_bytes_max = a.body_bytes_max;
  options.response_bytes_max = a.response_bytes_max;
  options.connections_max = a.connections_max;
  constexpr rlim_t kDescriptorsOfOurs = 32;
  if (rlimit files{}; getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > 2 * kDescriptorsOfOurs) {
    options.connections_max = static_cast<std::uint32_t>(std::min<rlim_t>(options.connections_max, files.rlim_cur - kDescriptorsOfOurs));
  }
  options.header_timeout_ms = ms(a.header_timeout);
  options.body_timeout_ms = ms(a.body_timeout);
  options.keep_alive_timeout_ms = ms(a.keep_alive_timeout);
  options.write_timeout_ms = ms(a.write_timeout);
  options.idle_after_ms = a.idle_after > Duration::zero() ? std::max<std::uint64_t>(ms(a.idle_after), 1) : 0;
  SandboxEvents events;
  block.add(metrics::Counter::SandboxStarts);
  tell_keeper(kControlReady, "");
  {
    HttpServer server(options, *guest, events, block);
    server.run(serving.fds.listener, serving.fds.control);
  }
  serving.log->flush();
  block.add(metrics::Counter::SandboxExits);
  block.set(metrics::Counter::ConnectionsOpen, 0);
  block.left_in_order.store(1, std::memory_order_relaxed);
  _exit(kExitDone);
}
constexpr wasm::HostFunction kLoop[] = {{"loop", "", "", nested_loop}};

// Native code that we carry ourselves, as a file that the loader can open.
Result<wasm::Module> load_own(std::string_view bytes, const char* name) {
  const int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) return Fail(errno_error(errno, std::format("memfd_create {}", name)));
  for (std::size_t done = 0; done < bytes.size();) {
    const auto n = write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0) {
      const auto error = errno_error(errno, std::format("write {}", name));
      close(fd);
      return Fail(error);
    }
    done += static_cast<std::size_t>(n);
  }
  auto module = wasm::Module::load(std::format("/proc/self/fd/{}", fd), name);
  // Kept open: the loader knows libraries by their path, and a second one under the same number would be taken for the first.
  if (!module) close(fd);
  return module;
}

}  // namespace

Result<GuestImage*> load_image(const ImageSpec& spec) {
  TRY(const auto hash, wasm::sha256_of_file(spec.native_fd));
  if (hash != spec.sha256) {
    return Fail(Error{Errc::Corrupt, std::format("native code of {}: its SHA-256 is {} and must be {}; nothing of it is executed. Remove the file, and it is "
                                                 "compiled again", spec.name, wasm::to_hex(hash), wasm::to_hex(spec.sha256))});
  }
  wasm::initialise_engine();
  tzset();  // the time zone's file is read now, while there are files
  const int own = fcntl(spec.native_fd, F_DUPFD_CLOEXEC, 3);  // see load_own: the number must not be used again
  if (own < 0) return Fail(errno_error(errno, "duplicate the image's descriptor"));
  TRY(auto guest, wasm::Module::load(std::format("/proc/self/fd/{}", own), spec.name));
  TRY(auto trampoline, load_own({skerry_trampoline_begin, static_cast<std::size_t>(skerry_trampoline_end - skerry_trampoline_begin)}, "skerry-trampoline"));
  TRY(auto drain, load_own({skerry_drain_begin, static_cast<std::size_t>(skerry_drain_end - skerry_drain_begin)}, "skerry-drain"));
  auto image = std::unique_ptr<GuestImage>(new GuestImage{.name = spec.name,
                                                          .guest = std::move(guest),
                                                          .trampoline = std::move(trampoline),
                                                          .drain = std::move(drain),
                                                          .http = wasm::HostModule("http_handler", http_handler_functions()),
                                                          .wasi = wasm::HostModule("wasi_snapshot_preview1", wasi_functions()),
                                                          .loop = wasm::HostModule("skerry", kLoop),
                                                          .own_instantiator = nullptr,
                                                          .drain_instance = {},
                                                          .trampoline_instance = {},
                                                          .calls = nullptr,
                                                          .run = {}});
  const wasm::HostModule* loop[] = {&image->loop};
  image->own_instantiator = std::make_unique<wasm::Instantiator>(1, loop);
  TRY(auto drain_instance, image->own_instantiator->instantiate(image->drain));
  image->drain_instance = std::move(drain_instance);
  TRY(auto trampoline_instance, image->own_instantiator->instantiate(image->trampoline));
  image->trampoline_instance = std::move(trampoline_instance);
  const auto drain_function = image->drain_instance.find("drain");
  image->run = image->trampoline_instance.find("run");
  if (!drain_function || !image->run) return Fail(Error{Errc::Internal, "the sandbox's own helper modules are damaged"});
  TRY(image->calls, wasm::CallExecutor::create(drain_function));
  return image.release();
}

void serve(GuestImage& image, const SlotLimits& limits, ServeFds fds) {
  serving.image = &image;
  serving.fds = fds;
  static metrics::Block unread_block{};
  serving.metrics = &unread_block;

  struct sigaction ignore{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
  sigaction(SIGXFSZ, &ignore, nullptr);
  struct sigaction stop{};
  stop.sa_handler = [](int) { stop_asked = 1; };
  sigaction(SIGTERM, &stop, nullptr);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);  // delivered only while the loop waits
  sigprocmask(SIG_SETMASK, &blocked, nullptr);

  const auto assignment = read_assignment(fds.assignment);
  if (!assignment) give_up(kExitAssignmentRefused, assignment.error().what);
  const auto& a = *assignment;
  if (limits.worker >= a.workers) give_up(kExitAssignmentRefused, std::format("worker {} of {} does not exist", limits.worker, a.workers));
  if (fds.listener < 0) give_up(kExitAssignmentRefused, "no listening socket was handed over");
  std::optional<metrics::Page> page;
  if (fds.metrics >= 0) {
    auto mapped = metrics::Page::map(fds.metrics);
    if (!mapped) give_up(kExitAssignmentRefused, mapped.error().what);
    if (limits.worker >= mapped->workers()) give_up(kExitAssignmentRefused, std::format("the metrics page has no block for worker {}", limits.worker));
    page.emplace(std::move(*mapped));
    serving.metrics = &page->block(limits.worker);
    serving.metrics->left_in_order.store(0, std::memory_order_relaxed);
  }
  GuestLog log(fds.log, *serving.metrics);
  serving.log = &log;
  const rlimit stack{a.stack_bytes_max, a.stack_bytes_max};
  if (setrlimit(RLIMIT_STACK, &stack) != 0) give_up(kExitAssignmentRefused, errno_error(errno, "limit the stack").what);

  wasi_world.log = &log;
  wasi_world.args.clear();
  wasi_world.args.push_back(a.container_name.empty() ? "guest" : a.container_name);
  wasi_world.args.insert(wasi_world.args.end(), a.args.begin(), a.args.end());
  for (const auto& [name, value] : a.env) wasi_world.env.push_back(name + "=" + value);
  serving.assignment = &a;
  serving.memory_bytes_max = limits.memory_bytes_max == 0 ? a.memory_bytes_max : std::min(limits.memory_bytes_max, a.memory_bytes_max);
  serving.stack_top = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  zero_map::enable();
  const auto outcome = image.calls->call(image.run);
  give_up(kExitGuestFailedToStart, std::format("the sandbox's loop ended: {}", to_string(outcome)));
}

}  // namespace skerry::sandbox
