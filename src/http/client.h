// SPDX-License-Identifier: Apache-2.0
// A Transport to one host and port, over TLS or plain. Whole exchanges share a small pool of kept-alive connections;
// every streamed body (watch, followed log) has a connection of its own, which its Stream owns until the body's end. Connections
// after the first resume its TLS session: they move no certificates. After a break one goes ahead of the others for that.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/time.h"
#include "http/message.h"
#include "rt/loop.h"

namespace skerry::http {

struct ClientTls {
  std::string ca_pem{};           // pinned: only what this signed is trusted. Required
  std::string certificate_pem{};  // the client's own, with key_pem; or empty
  std::string key_pem{};
  std::string server_name{};      // checked against the SANs (name or IP), and sent as SNI if a name; empty: `host`
};

// Loop and options as given; destroy it on the loop, after the tasks that use it have ended. Streams may outlive it.
class HttpsTransport final : public Transport {
 public:
  struct Options {
    std::string host{};  // a name or an IP literal
    std::uint16_t port = 0;
    std::string unix_path{};                  // if set, in place of host and port
    std::optional<ClientTls> tls{};           // nothing: plain HTTP
    std::string bearer_token{};               // if set: an Authorization header, unless the request has one
    std::string user_agent = "skerry";
    std::size_t idle_connections_max = 4;   // kept for reuse
    std::size_t connections_max = 64;       // whole exchanges at once; beyond: Exhausted. Streams do not count
    Duration idle_timeout = 90s;            // a kept connection older than this is not reused
    Duration connect_timeout = 10s;         // at most; the exchange's own timeout bounds it too
    std::uint64_t body_bytes_max = 256 * 1024 * 1024;
    std::uint32_t header_bytes_max = 64 * 1024;
  };
  // Invalid: bad PEM, or neither host nor unix_path.
  static Result<std::unique_ptr<HttpsTransport>> create(rt::Loop&, Options);
  ~HttpsTransport() override;

  // As Transport says. Sets Host, User-Agent, Content-Length. Unavailable: refused, reset, TLS failure, name unknown
  // (the text says which, with host and port); Timeout; Corrupt: not HTTP, or beyond a limit. A kept connection that
  // turns out closed is replaced once, for methods that may be repeated.
  rt::Task<Response> send(Request, BodyMode, Duration timeout) override;

  // New connections present this certificate or token from now on; kept ones are dropped. Invalid: bad PEM.
  Result<> set_credentials(std::optional<ClientTls>, std::string bearer_token);

 private:
  struct State;
  explicit HttpsTransport(std::shared_ptr<State>);
  std::shared_ptr<State> state_;
};

}  // namespace skerry::http
