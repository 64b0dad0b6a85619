// SPDX-License-Identifier: Apache-2.0
// WAGI: _start once per request in a fresh instance; the request as CGI environment and standard input, the response from
// standard output, standard error to the log.
#include <format>

#include "sandbox/cgi_environment.h"
#include "sandbox/cgi_response.h"
#include "sandbox/deadline.h"
#include "sandbox/guest_runtime.h"
#include "sandbox/guest_wasi.h"

namespace skerry::sandbox {
namespace {

class WagiGuest final : public Guest {
 public:
  explicit WagiGuest(GuestRuntime& runtime) : runtime_(runtime) {}

  Result<> start() override {
    // One instance is made to know that it can be; its _start is for a request.
    TRY(const auto instance, runtime_.make_instance(GuestRuntime::Start::No));
    if (!instance.find("_start")) return Fail(Error{Errc::Unsupported, "the module exports no _start, which a WAGI program needs"});
    return {};
  }

  void handle(Request& request, Response& response, Arena& arena) override {
    const auto& a = runtime_.assignment();
    const CgiServer server{a.server_name, a.server_port, a.container_name};
    auto& world = wasi_world;
    if (const auto made = make_cgi_environment(request, server, a.env, world.env); !made) {
      response.plain(400, made.error().what + "\n");
      return;
    }
    make_cgi_arguments(request, server, a.args, world.args);
    auto instance = runtime_.make_instance(GuestRuntime::Start::No);
    if (!instance) {
      runtime_.log().line(GuestLog::Err, std::format("skerry: no instance for a request: {}", instance.error().what));
      response.plain(503, "the guest could not be started for this request\n");
      return;
    }
    output_.clear();
    world.input = request.body;
    world.input_at = 0;
    world.output = &output_;
    world.output_max = a.response_bytes_max;
    world.output_overflowed = false;
    world.exit_code = 0;
    const auto end = runtime_.call(instance->find("_start"), monotonic_ns(), runtime_.request_deadline_ns());
    world.output = nullptr;
    world.input = {};
    runtime_.log().flush();
    finish(end, request, response, arena);
    if (output_.capacity() > kOutputKeptBytes) output_.release();
  }

 private:
  static constexpr std::size_t kOutputKeptBytes = 256u << 10;

  void finish(const CallEnd& end, const Request& request, Response& response, Arena& arena) {
    const bool exited = end.outcome == wasm::Outcome::Exited && !end.deadline;
    if (!end.done() && !exited) {
      runtime_.answer_failure(end, request, response);
      return;
    }
    const int code = exited ? wasi_world.exit_code : 0;
    if (code != 0) runtime_.log().line(GuestLog::Err, std::format("skerry: {} {}: the guest exited with code {}", request.method, request.uri, code));
    if (code != 0 && output_.empty()) {
      response.plain(500, std::format("the guest exited with code {} and wrote no response\n", code));
      return;
    }
    if (const auto parsed = parse_cgi_response(output_.view(), arena, response); !parsed) {
      runtime_.metrics().add(metrics::Counter::BadGatewayOutputs);
      runtime_.log().line(GuestLog::Err, std::format("skerry: {} {}: the guest's output is no CGI response: {}", request.method, request.uri,
                                                     parsed.error().what));
      response.plain(502, std::format("the guest's output is no CGI response: {}\n", parsed.error().what));
    }
  }

  GuestRuntime& runtime_;
  Buffer output_;
};

}  // namespace

std::unique_ptr<Guest> make_wagi_guest(GuestRuntime& runtime) { return std::make_unique<WagiGuest>(runtime); }

}  // namespace skerry::sandbox
