// SPDX-License-Identifier: Apache-2.0
// One request and one response type for every front (HTTPS server, in-process transport, later HTTP/2), and the two
// interfaces that move them: a Handler answers, a Transport sends. Bodies are whole strings, or a Stream of shared chunks
// (watches, followed logs), so that one event is serialised once for all its receivers.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "rt/loop.h"

namespace skerry::http {

using Chunk = std::shared_ptr<const std::string>;

// Names compare without case; order is kept; a name may come more than once.
class Headers {
 public:
  std::string_view get(std::string_view name) const;  // the first, or ""
  bool has(std::string_view name) const;
  void set(std::string_view name, std::string_view value);  // replaces all of that name
  void add(std::string_view name, std::string_view value);
  void remove(std::string_view name);
  const std::vector<std::pair<std::string, std::string>>& all() const { return all_; }

 private:
  std::vector<std::pair<std::string, std::string>> all_;
};

// What a client certificate says that client_ca_pem signed for clients, and whose private key the peer has shown to hold in the
// TLS handshake (a resumed session counts as the handshake that it resumes).
struct ClientCertificate {
  std::string common_name{};
  std::vector<std::string> organizations{};
  std::string serial{};  // hex
  std::string key{};     // fingerprint of the public key: SHA-256, hex
  Time not_before{}, not_after{};
};
// Who sent a request, as far as the front can say: the verified client certificate and the address. The bearer token
// stays in the Authorization header; the apiserver's authenticator judges both.
struct Peer {
  std::string address{};                      // "127.0.0.1:41234", or "in-process"
  std::string certificate_common_name{};      // empty: no verified client certificate
  std::vector<std::string> certificate_organizations{};
  std::string certificate_serial{}, certificate_key{};  // with the name; as in ClientCertificate
  // It held at the handshake. A connection may outlive it: whoever judges a request looks at its end again.
  Time certificate_not_before{}, certificate_not_after = Time::max();
  // A certificate that held until its end, and nothing since: it identifies nobody, and the names above are empty. For whoever
  // lets it be renewed.
  std::shared_ptr<const ClientCertificate> expired_certificate{};
  bool in_process = false;                  // a component of this process: trusted as system:masters
};

// A path and query, decoded. "/api/v1/pods?limit=5&watch=true".
struct Target {
  std::string path{};  // percent-decoded by segment; always starts with '/'
  std::vector<std::pair<std::string, std::string>> query{};  // decoded, in order
  std::string_view param(std::string_view name) const;     // the first, or ""
  bool has_param(std::string_view name) const;
  static Result<Target> parse(std::string_view raw);  // Invalid: bad escapes, NUL, no leading slash
};
std::string percent_encode(std::string_view text);  // for a query value or a path segment

struct Request {
  std::string method{};  // upper case
  std::string target{};  // raw: path and query
  Headers headers{};
  std::string body{};
  Peer peer{};
};

// Pulled by the front, one chunk at a time, on the loop that made it. Destroying it ends the production (a watcher
// that disconnected). A front calls next() again only after the former has returned.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual rt::Task<std::optional<Chunk>> next() = 0;  // nothing: the end. An error: the connection is closed
};

struct Response {
  int status = 200;
  Headers headers{};
  Chunk body{};                      // may be null: empty. Shared: the store's own bytes may be sent
  std::unique_ptr<Stream> stream{};  // if set: sent chunked after `body`, until it ends
  std::string_view text() const { return body ? std::string_view(*body) : std::string_view(); }
};
Response make_response(int status, std::string_view content_type, std::string body);

// Answers requests, on the server's loop. Must not throw; an Error becomes a 500 by the front (the apiserver itself
// answers every expected failure with its own body).
class Handler {
 public:
  virtual ~Handler() = default;
  virtual rt::Task<Response> handle(Request) = 0;
  // Asked by a front before it reads a body: who may send nothing is told so while nothing of his is in memory. The
  // request has everything but its body. An answer is sent, and the connection ends; nothing: handle() follows.
  virtual std::optional<Response> refuse_body([[maybe_unused]] const Request& head) { return std::nullopt; }
};

// Sends a request to one fixed peer. Unavailable: could not connect or broken before the response; Timeout.
// Whole: the answer has a body and no stream. Streamed: an answer with a 2xx status has a stream that yields the whole
// body as it arrives (and no body); any other answer has a body, so that its error can be read.
enum class BodyMode : std::uint8_t { Whole, Streamed };
class Transport {
 public:
  virtual ~Transport() = default;
  virtual rt::Task<Response> send(Request, BodyMode, Duration timeout) = 0;
};

}  // namespace skerry::http
