// SPDX-License-Identifier: Apache-2.0
// What one sandbox is to run and within which limits: everything of a pod's container that the sandbox needs and nobody
// else may see (environment, configuration). Travels as a sealed memfd (docs/wire/assignment.md): the agent writes it
// once per container, the keeper passes the descriptor on unread, only the sandbox maps it. Pure values, no engine.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/time.h"

namespace skerry::sandbox {

enum class GuestKind : std::uint8_t {
  HttpHandler = 1,  // http-wasm: handle_request
  Wagi = 2,         // _start per request, CGI environment
};
enum class Isolation : std::uint8_t {
  Reused = 0,      // one instance serves all requests of a worker
  PerRequest = 1,  // a fresh instance for each request (WAGI is always so)
};

struct Assignment {
  // Bounds that encode() and decode() enforce.
  static constexpr std::size_t kEncodedMax = 4u << 20;
  static constexpr std::size_t kEnvMax = 4096, kArgsMax = 1024, kNameMax = 512, kConfigMax = 1u << 20;

  std::string pod_uid, pod_namespace, pod_name, container_name, image_ref;
  GuestKind kind = GuestKind::HttpHandler;
  Isolation isolation = Isolation::Reused;
  std::vector<std::pair<std::string, std::string>> env;  // name (no '=' and no NUL), value (no NUL)
  std::vector<std::string> args;                         // without argv[0], which is the container's name; no NUL
  std::string config;                                    // what http-wasm's get_config answers; any bytes

  std::string server_name;        // CGI SERVER_NAME when a request has no Host
  std::uint16_t server_port = 0;  // CGI SERVER_PORT
  std::uint16_t workers = 1;      // processes on this listener; which of them one is comes in SlotLimits::worker

  Duration request_deadline = 30s;    // guest code for one request; then 504. 0: none
  Duration start_deadline = 10s;      // _initialize / _start before the first request; then the start fails
  Duration idle_after = 30s;          // leave after so long without connection or request. 0: never
  Duration header_timeout = 10s;      // from a request's first byte (or the connection) to the end of its head; then 408
  Duration body_timeout = 30s;        // between two reads of a body; then 408
  Duration keep_alive_timeout = 60s;  // an idle connection is half-closed after the smaller of this and idle_after
  Duration write_timeout = 30s;       // a client that takes no byte of its response for so long is cut off

  std::uint64_t memory_bytes_max = 128u << 20;   // guest's linear memory; whole 64 KiB pages below it are granted
  std::uint32_t stack_bytes_max = 1u << 20;      // native stack; deeper recursion traps
  std::uint64_t body_bytes_max = 4u << 20;       // request body; then 413
  std::uint64_t response_bytes_max = 16u << 20;  // what the guest may write for one request; then a trap (500)
  std::uint32_t header_bytes_max = 16u << 10;    // request line and headers; then 414 or 431. At most 64 KiB
  std::uint16_t header_count_max = 100;          // then 431
  std::uint32_t connections_max = 4096;          // more wait in the listener's backlog

  friend bool operator==(const Assignment&, const Assignment&) = default;
};

// Invalid names the field that breaks a bound.
Result<std::string> encode(const Assignment&);
// Corrupt: not an assignment of this version, or truncated; Invalid: a value out of bounds. Never trusts a length.
Result<Assignment> decode(std::string_view bytes);

// A new memfd (close-on-exec) with the encoded assignment, sealed against every change. The caller owns the descriptor.
Result<int> seal_assignment(const Assignment&);
// Reads one; refuses a descriptor that is not sealed against writing and resizing. Does not close it.
Result<Assignment> read_assignment(int fd);

}  // namespace skerry::sandbox
