// SPDX-License-Identifier: Apache-2.0
// Internal to http: OpenSSL contexts from PEM, and who a verified client certificate says its bearer is.
#pragma once
#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "http/client.h"
#include "http/message.h"
#include "http/server.h"

namespace skerry::http {

struct TlsContext {
  std::shared_ptr<SSL_CTX> context{};
  std::shared_ptr<X509_STORE> client_ca{};  // of a server that asks for certificates; else null
};

// Invalid: which PEM is bad. Never a key's bytes.
Result<TlsContext> make_server_context(const ServerTls&);
Result<TlsContext> make_client_context(const ClientTls&);

// Checked here once more, whole (chain, dates, purpose), because a resumed session brings no new check. Nothing if there
// is no certificate or it does not hold. Expired: only its end is wrong; it and its chain held in its last moment.
struct ClientIdentity {
  ClientCertificate certificate;
  bool expired = false;
};
std::optional<ClientIdentity> verified_client(SSL*, X509_STORE*);

// On a client's connection, before the handshake: SNI, and that the peer's certificate must name `name` (or the address).
Result<> expect_server_name(SSL*, const std::string& name);

// On a client's connection, before the handshake: resumes the newest session of its context, if there is one that may be resumed.
// Then the handshake moves no certificates. (One context goes with one server and one name: a session never meets another's.)
void resume_session(SSL*);

// OpenSSL's own words for the last failure, and empties its queue.
std::string tls_error_text();

}  // namespace skerry::http
