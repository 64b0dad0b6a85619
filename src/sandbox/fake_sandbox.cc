// SPDX-License-Identifier: Apache-2.0
// skerry-sandbox-fake: the real keeper, template and slot with a guest side of a few lines instead of the engine. For
// the process side's own tests and for measuring it alone. GET /PATH answers 200 with one line; some paths misbehave:
//   /abort  /segv  /hang  /eat (memory until killed)  /forbidden (a system call that is not allowed)  /exec (a mapping that is not)
//   /forge (its assignment where its listener was)
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "metrics/page.h"
#include "os/seqpacket.h"
#include "sandbox/assignment.h"
#include "sandbox/keeper.h"

namespace skerry::sandbox {

struct GuestImage {
  std::string text;
};

namespace {

GuestImage the_image;
volatile std::sig_atomic_t asked_to_stop = 0;
void on_term(int) { asked_to_stop = 1; }

// The native code's first bytes say how the fake image behaves.
Result<GuestImage*> fake_load(const ImageSpec& spec) {
  char text[64] = {};
  const ssize_t n = ::pread(spec.native_fd, text, sizeof text - 1, 0);
  the_image.text.assign(text, n > 0 ? static_cast<std::size_t>(n) : 0);
  if (the_image.text.starts_with("bad image")) return Fail({Errc::Invalid, "the engine rejects it"});
  return &the_image;
}

std::string answer(std::string_view path) {
  if (path == "/abort") std::abort();
  if (path == "/segv") ::raise(SIGSEGV), ::_exit(9);
  if (path == "/hang") for (;;) ::clock_nanosleep(CLOCK_MONOTONIC, 0, std::array<timespec, 1>{{{1, 0}}}.data(), nullptr);
  if (path == "/forbidden") ::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
  if (path == "/exec") {
    [[maybe_unused]] const void* mapped = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  if (path == "/forge") ::close(kSlotListener), ::fcntl(kSlotAssignment, F_DUPFD, kSlotListener);
  if (path == "/eat")
    for (;;) {
      constexpr std::size_t kBytes = 1 << 20;
      void* p = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p != MAP_FAILED) std::memset(p, 1, kBytes);
    }
  return "hello from " + std::string(path) + "\n";
}

void serve_until_idle(const ServeFds& fds, int idle_ms, metrics::Block* block) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const auto watch = [epoll](int fd, std::uint32_t events) {
    epoll_event event{.events = events, .data = {.fd = fd}};
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  };
  watch(fds.listener, EPOLLIN | EPOLLEXCLUSIVE);
  watch(fds.control, EPOLLIN);
  int log = fds.log;
  [[maybe_unused]] const auto told = os::send_message(fds.control, std::as_bytes(std::span(&kControlReady, 1)));
  for (;;) {
    epoll_event event;
    const int count = ::epoll_wait(epoll, &event, 1, idle_ms);
    if (asked_to_stop != 0 || count == 0) return;
    if (count < 0) continue;
    if (event.data.fd == fds.listener) {
      const int connection = ::accept4(fds.listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection >= 0) watch(connection, EPOLLIN);
    } else if (event.data.fd == fds.control) {
      std::byte buffer[64];
      auto received = os::receive_message(fds.control, buffer);
      if (!received || received->state != os::Received::State::Message) ::epoll_ctl(epoll, EPOLL_CTL_DEL, fds.control, nullptr);
      else if (!received->fds.empty()) log = received->fds[0].release();
    } else {
      char request[2048];
      const ssize_t n = ::recv(event.data.fd, request, sizeof request, 0);
      if (n <= 0) {
        ::close(event.data.fd);
        continue;
      }
      std::string_view head(request, static_cast<std::size_t>(n));
      head.remove_prefix(std::min<std::size_t>(head.size(), 4));
      if (block != nullptr) block->add(metrics::Counter::RequestsStarted);
      const std::string body = answer(head.substr(0, head.find(' ')));
      const std::string response = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
      ::send(event.data.fd, response.data(), response.size(), MSG_NOSIGNAL);
      if (log >= 0) [[maybe_unused]] const auto logged = ::write(log, body.data(), body.size());
      if (block != nullptr) block->add(metrics::Counter::RequestsFinished);
    }
  }
}

void fake_serve(GuestImage&, const SlotLimits& limits, ServeFds fds) {
  struct sigaction action{};
  action.sa_handler = on_term;
  ::sigaction(SIGTERM, &action, nullptr);
  const auto assignment = read_assignment(fds.assignment);
  const auto say = [&fds](const std::string& text) {
    const std::string message = kControlError + text;
    [[maybe_unused]] const auto told = os::send_message(fds.control, std::as_bytes(std::span(message)));
  };
  if (!assignment) {
    say(assignment.error().what);
    ::_exit(kExitAssignmentRefused);
  }
  if (assignment->config == "fail") {
    say("the guest does not start");
    ::_exit(kExitGuestFailedToStart);
  }
  auto page = metrics::Page::map(fds.metrics);
  const int idle_ms = assignment->idle_after == Duration{0}
                          ? -1
                          : static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(assignment->idle_after).count());
  metrics::Block* const block = page ? &page->block(limits.worker) : nullptr;
  if (block != nullptr) block->left_in_order.store(0, std::memory_order_relaxed);
  serve_until_idle(fds, idle_ms, block);
  if (block != nullptr) block->left_in_order.store(1, std::memory_order_relaxed);
  ::_exit(kExitDone);
}

}  // namespace
}  // namespace skerry::sandbox

int main(int argc, char** argv) {
  return skerry::sandbox::sandbox_main(argc, argv, {.load = skerry::sandbox::fake_load, .serve = skerry::sandbox::fake_serve});
}
