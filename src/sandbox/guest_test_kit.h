// SPDX-License-Identifier: Apache-2.0
// For the tests of the guest side: a forked child that loads an image and serves on loopback, as a slot would, and a client
// that speaks just enough HTTP.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/page.h"
#include "sandbox/assignment.h"
#include "sandbox/guest.h"

namespace skerry::sandbox::test {

// Native code that the build made from testdata/.
std::string native_path(std::string_view name);

struct Reply {
  int status = 0;  // 0: the connection ended without a response
  std::string head, body;
  std::string header(std::string_view name) const;
};

// A client connection. Every read waits 20 s at most.
class Client {
 public:
  explicit Client(std::uint16_t port);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  bool send(std::string_view bytes);
  Reply read(bool head_only = false);  // the next response
  Reply ask(std::string_view request) { return send(request) ? read() : Reply{}; }
  Reply get(std::string_view path) { return ask("GET " + std::string(path) + " HTTP/1.1\r\nHost: t\r\n\r\n"); }
  std::string read_to_end();  // "" if the peer closed at once; includes what read() left
  void close_sending();
  int fd() const { return fd_; }

 private:
  bool fill();
  int fd_;
  std::string in_;
};

class Sandbox {
 public:
  struct Options {
    std::string image = "handler";
    Assignment assignment{};
    SlotLimits limits{};
    std::uint16_t workers = 1;
    int log = -1;                                  // instead of a memfd; the caller's
    std::uint64_t log_bytes_max = 0;               // RLIMIT_FSIZE
    std::vector<std::size_t> no_memory_for = {};  // mappings of these very sizes fail with ENOMEM
  };
  Sandbox() : Sandbox(Options{}) {}
  explicit Sandbox(Options);
  ~Sandbox();  // SIGKILL, if it still lives
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  std::uint16_t port() const { return port_; }
  int pid(std::size_t worker = 0) const { return pids_[worker]; }
  int control() const { return control_; }
  Reply get(std::string_view path) { return Client(port_).get(path); }
  std::uint64_t counter(metrics::Counter c) const { return metrics::read_snapshot(*page_)[c]; }
  metrics::Page& page() { return *page_; }
  std::string log() const;
  bool alive() const;  // every worker
  void signal(int number) const;
  // Waits (20 s at most) for the end: the exit code, or -signal; -1000 if it does not end.
  int wait_for_exit();
  std::string control_packet();  // the next packet on the control socket

 private:
  std::vector<int> pids_;
  std::uint16_t port_ = 0;
  int listener_ = -1, control_ = -1, log_ = -1, metrics_ = -1;
  bool reaped_ = false;
  std::unique_ptr<metrics::Page> page_;
};

}  // namespace skerry::sandbox::test
