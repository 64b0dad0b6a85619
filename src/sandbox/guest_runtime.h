// SPDX-License-Identifier: Apache-2.0
// What the guest kinds share inside the child: the image, making an instance and starting it, calling it under a deadline, and
// turning every way in which a call can end into a status, a counter and a line in the log.
#pragma once
#include <array>
#include <csignal>
#include <memory>
#include <optional>
#include <string>

#include "metrics/page.h"
#include "sandbox/assignment.h"
#include "sandbox/guest.h"
#include "sandbox/guest_log.h"
#include "sandbox/http_server.h"
#include "wasm/engine.h"

namespace skerry::sandbox {

struct GuestImage {
  std::string name;
  wasm::Module guest, trampoline, drain;
  wasm::HostModule http, wasi, loop;
  std::unique_ptr<wasm::Instantiator> own_instantiator;  // of the two helpers
  wasm::Instance drain_instance, trampoline_instance;
  std::unique_ptr<wasm::CallExecutor> calls;
  wasm::Function run;
};

// Was the latest trap of the memory kind a native stack overflow? Set by the SIGSEGV handler.
class FaultWatch {
 public:
  // Inside the nested loop: takes over the engine's handler, onto a stack of its own.
  static void install(std::uintptr_t stack_top, std::size_t stack_bytes);
  static bool take_stack_overflow();
  // From another signal's handler, while the guest's code runs: as if that code had trapped. Never returns.
  static void leave_by_force(siginfo_t*, void* context);
  static void enter_guest();
  static void leave_guest();
};

struct CallEnd {
  wasm::Outcome outcome = wasm::Outcome::Done;
  bool deadline = false;
  bool stack_overflow = false;
  bool client_gone = false;  // ended by us: nobody is left to take the response
  bool done() const { return outcome == wasm::Outcome::Done && !deadline; }
};

class GuestRuntime {
 public:
  GuestRuntime(GuestImage&, const Assignment&, std::uint64_t memory_bytes_max, metrics::Block&, GuestLog&);

  // A new instance, its memory checked, started if `start` is a function of it (_initialize, _start; exit code 0 is fine).
  // The error is a sentence for the operator.
  enum class Start : std::uint8_t { No, Yes };
  Result<wasm::Instance> make_instance(Start);

  // Calls under the request's deadline, counting.
  CallEnd call(const wasm::Function&, std::uint64_t now_ns, std::uint64_t length_ns);
  CallEnd call_i64(const wasm::Function&, std::uint64_t& result, std::uint64_t now_ns, std::uint64_t length_ns);
  CallEnd call_ii(const wasm::Function&, std::uint32_t, std::uint32_t, std::uint64_t now_ns, std::uint64_t length_ns);

  // 504, 500 or a cut connection for a call that did not end well; one line in the guest's log.
  void answer_failure(const CallEnd&, const Request&, Response&);
  std::string describe(const CallEnd&) const;
  // Said by a host function that then ends the running call: the client is gone, which is no fault of the guest.
  void client_is_gone() { client_gone_ = true; }

  const Assignment& assignment() const { return assignment_; }
  metrics::Block& metrics() { return metrics_; }
  GuestLog& log() { return log_; }
  std::uint64_t request_deadline_ns() const { return static_cast<std::uint64_t>(assignment_.request_deadline.count()); }

 private:
  template <class Call>
  CallEnd guarded(Call, std::uint64_t now_ns, std::uint64_t length_ns);

  GuestImage& image_;
  const Assignment& assignment_;
  metrics::Block& metrics_;
  GuestLog& log_;
  std::uint32_t pages_max_, pages_min_;
  bool client_gone_ = false;
  wasm::Instantiator instantiator_;
};

// The guest kinds: one file each. `start` makes what must exist before the first request.
class Guest : public RequestHandler {
 public:
  virtual ~Guest() = default;
  virtual Result<> start() = 0;
};
std::unique_ptr<Guest> make_http_handler_guest(GuestRuntime&);
std::unique_ptr<Guest> make_wagi_guest(GuestRuntime&);
std::span<const wasm::HostFunction> http_handler_functions();

}  // namespace skerry::sandbox
