// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 over TLS, plain TCP (loopback: metrics) or a Unix socket, in front of one Handler. Everything runs on the
// loop that it is given. Keep-alive, chunked streams, Expect: 100-continue, HEAD; an Upgrade request reaches the Handler
// like any other (it answers 501). A stream ends when its client goes away, also while the stream waits.
// Every limit is in Options; what exceeds one is answered (413, 431) or closed (time), and counted.
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

// TLS 1.2 or newer. Clients are asked for a certificate; who sends none, or one that client_ca_pem did not sign, has an
// empty Peer::certificate_common_name (so the apiserver answers 401 instead of a broken handshake). One that held until it
// ended is Peer::expired_certificate.
struct ServerTls {
  std::string certificate_pem{};  // the leaf first
  std::string key_pem{};
  std::string client_ca_pem{};    // empty: no client certificate is asked for
};

class Server {
 public:
  struct Options {
    std::string name = "http";           // in logs
    std::string address = "127.0.0.1";   // an IP literal
    std::uint16_t port = 0;              // 0: the kernel chooses; see port()
    std::string unix_path{};               // if set, a Unix socket (mode 0600) in place of address and port
    std::optional<ServerTls> tls{};        // nothing: plain
    std::size_t connections_max = 4096;  // beyond: closed at once
    std::uint32_t header_bytes_max = 64 * 1024;
    std::uint64_t body_bytes_max = 3 * 1024 * 1024;
    Duration handshake_timeout = 10s;
    Duration idle_timeout = 3min;    // between requests
    Duration header_timeout = 10s;   // from the first byte of a request to the end of its headers
    Duration body_timeout = 30s;     // for the whole body
    Duration write_timeout = 30s;    // for each chunk: a receiver that does not read is cut off
  };
  struct Stats {
    std::uint64_t connections_open = 0, connections_total = 0, connections_refused = 0;
    std::uint64_t handshakes_failed = 0, handshakes_resumed = 0, requests_total = 0, requests_malformed = 0, streams_open = 0;
    std::uint64_t handler_failures = 0;  // an Error or an exception came out of the Handler: 500
    std::uint64_t timeouts = 0;
  };

  // The loop and the handler must outlive this.
  Server(rt::Loop&, Handler&, Options);
  ~Server();  // CHECK: stopped, if it was started
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds and listens, then serves on the loop. Unavailable: the address is taken; Invalid: bad address or PEM.
  Result<> start();
  // Stops accepting; idle connections and streams end now, running requests may finish within `grace`. Idempotent.
  rt::Task<> stop(Duration grace = 5s);
  // New connections use this certificate from now on. Invalid: bad PEM; the former stays.
  Result<> set_tls(ServerTls);

  std::uint16_t port() const;  // after start()
  const Stats& stats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skerry::http
