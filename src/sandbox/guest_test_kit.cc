// SPDX-License-Identifier: Apache-2.0
#include "sandbox/guest_test_kit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "sandbox/http_message.h"
#include "wasm/native_cache.h"

namespace skerry::sandbox::test {
namespace {

void refuse_mappings_of(const std::vector<std::size_t>& sizes) {
  if (sizes.empty()) return;
  std::vector<sock_filter> program{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
                                   BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  for (const auto size : sizes) {  // the second argument, in two halves
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args) + 8));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(size), 0, 3));
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args) + 12));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(size >> 32), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

}  // namespace

std::string native_path(std::string_view name) { return std::string(SKERRY_TEST_NATIVE) + "/" + std::string(name) + ".so"; }

std::string Reply::header(std::string_view name) const {
  std::size_t at = 0;
  while (at < head.size()) {
    const auto end = head.find("\r\n", at);
    const auto line = std::string_view(head).substr(at, end - at);
    const auto colon = line.find(": ");
    if (colon != std::string_view::npos && equal_ignoring_case(line.substr(0, colon), name)) return std::string(line.substr(colon + 2));
    if (end == std::string::npos) break;
    at = end + 2;
  }
  return "";
}

Client::Client(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval limit{20, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
}
Client::~Client() { close(fd_); }
bool Client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}
bool Client::fill() {
  char buffer[65536];
  const auto n = recv(fd_, buffer, sizeof buffer, 0);
  if (n <= 0) return false;
  in_.append(buffer, static_cast<std::size_t>(n));
  return true;
}
Reply Client::read(bool head_only) {
  Reply out;
  std::size_t end;
  while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill()) return out;
  }
  out.head = in_.substr(0, end + 2);
  in_.erase(0, end + 4);
  out.status = std::atoi(out.head.c_str() + 9);
  if (head_only || out.status == 204 || out.status == 304 || out.status < 200) return out;
  if (const auto length = out.header("content-length"); !length.empty()) {
    const auto n = static_cast<std::size_t>(std::atoll(length.c_str()));
    while (in_.size() < n) {
      if (!fill()) return {};
    }
    out.body = in_.substr(0, n);
    in_.erase(0, n);
  } else if (out.header("transfer-encoding") == "chunked") {
    for (;;) {
      std::size_t line;
      while ((line = in_.find("\r\n")) == std::string::npos) {
        if (!fill()) return {};
      }
      const auto n = static_cast<std::size_t>(std::strtoull(in_.c_str(), nullptr, 16));
      in_.erase(0, line + 2);
      if (n == 0) {  // trailers, then an empty line
        for (;;) {
          while ((line = in_.find("\r\n")) == std::string::npos) {
            if (!fill()) return {};
          }
          const auto field = in_.substr(0, line + 2);
          in_.erase(0, line + 2);
          if (line == 0) return out;
          out.head += field;
        }
      }
      while (in_.size() < n + 2) {
        if (!fill()) return {};
      }
      out.body += in_.substr(0, n);
      in_.erase(0, n + 2);
    }
  } else {
    while (fill()) {
    }
    out.body = std::move(in_);
    in_.clear();
  }
  return out;
}
std::string Client::read_to_end() {
  while (fill()) {
  }
  return std::move(in_);
}
void Client::close_sending() { shutdown(fd_, SHUT_WR); }

Sandbox::Sandbox(Options options) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listener_, 512) == 0);
  CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  options.assignment.workers = options.workers;
  if (options.assignment.container_name.empty()) options.assignment.container_name = "test";
  metrics_ = metrics::create_page(options.workers).value();
  page_ = std::make_unique<metrics::Page>(metrics::Page::map(metrics_).value());
  log_ = options.log >= 0 ? fcntl(options.log, F_DUPFD_CLOEXEC, 0) : memfd_create("log", MFD_CLOEXEC);
  fcntl(log_, F_SETFL, O_APPEND);
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
  control_ = pair[0];
  const auto assignment = seal_assignment(options.assignment);
  CHECK(assignment.has_value());
  std::fflush(nullptr);
  for (std::uint16_t worker = 0; worker < options.workers; ++worker) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(pair[0]);
      auto native = wasm::verify_native(native_path(options.image));
      if (!native) {
        std::fprintf(stderr, "%s\n", native.error().what.c_str());
        _exit(99);
      }
      auto image = load_image({.native_fd = native->fd, .sha256 = native->hash, .name = options.image});
      if (!image) {
        std::fprintf(stderr, "%s\n", image.error().what.c_str());
        _exit(98);
      }
      refuse_mappings_of(options.no_memory_for);
      const rlimit file_size{options.log_bytes_max, options.log_bytes_max};
      if (options.log_bytes_max > 0 && setrlimit(RLIMIT_FSIZE, &file_size) != 0) _exit(97);
      auto limits = options.limits;
      limits.worker = worker;
      serve(**image, limits, {.listener = listener_, .assignment = *assignment, .log = log_, .metrics = metrics_, .control = pair[1]});
    }
    pids_.push_back(pid);
  }
  close(pair[1]);
  close(*assignment);
}
Sandbox::~Sandbox() {
  if (!reaped_) {
    for (const int pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  for (const int fd : {listener_, control_, log_, metrics_}) close(fd);
}
std::string Sandbox::log() const {
  std::string out(static_cast<std::size_t>(lseek(log_, 0, SEEK_END)), '\0');
  CHECK(pread(log_, out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
  return out;
}
bool Sandbox::alive() const {
  return !reaped_ && std::ranges::all_of(pids_, [](int pid) {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
  });
}
void Sandbox::signal(int number) const { kill(pids_[0], number); }
int Sandbox::wait_for_exit() {
  for (int i = 0; i < 2000; ++i) {
    int status = 0;
    if (waitpid(pids_[0], &status, WNOHANG) == pids_[0]) {
      reaped_ = true;
      return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    usleep(10'000);
  }
  return -1000;
}
std::string Sandbox::control_packet() {
  pollfd waiting{control_, POLLIN, 0};
  if (poll(&waiting, 1, 20'000) <= 0) return "";
  char buffer[kControlTextMax + 1];
  const auto n = recv(control_, buffer, sizeof buffer, 0);
  return n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : "";
}

}  // namespace skerry::sandbox::test
