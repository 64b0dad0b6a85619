// SPDX-License-Identifier: Apache-2.0
#include "http/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <format>

#include "http/openssl.h"

namespace skerry::http {
namespace {

// All certificates of a PEM text. Invalid: none, or a broken one.
Result<std::vector<X509Ptr>> read_certificates(const std::string& pem, std::string_view what) {
  std::vector<X509Ptr> out;
  const auto bio = memory_bio(pem);
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) out.emplace_back(certificate);
  const auto error = ERR_peek_last_error();
  const bool at_end = ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  const std::string text = tls_error_text();
  if (out.empty() || !at_end) return Fail({Errc::Invalid, std::format("the {} is not PEM with certificates: {}", what, text)});
  return out;
}

Result<> use_pair(SSL_CTX* context, const std::string& certificate_pem, const std::string& key_pem) {
  TRY(const auto chain, read_certificates(certificate_pem, "certificate"));
  const auto key = read_private_key(key_pem);
  if (!key) return Fail({Errc::Invalid, "the private key is not an unencrypted PEM key"});
  if (SSL_CTX_use_certificate(context, chain.front().get()) != 1)
    return Fail({Errc::Invalid, "the certificate cannot be used: " + tls_error_text()});
  for (std::size_t i = 1; i < chain.size(); ++i)
    if (SSL_CTX_add1_chain_cert(context, chain[i].get()) != 1)
      return Fail({Errc::Invalid, "the certificate's chain cannot be used: " + tls_error_text()});
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    ERR_clear_error();
    return Fail({Errc::Invalid, "the private key does not belong to the certificate"});
  }
  return {};
}

Result<std::shared_ptr<X509_STORE>> make_store(const std::string& ca_pem) {
  TRY(const auto authorities, read_certificates(ca_pem, "certificate authority"));
  std::shared_ptr<X509_STORE> store(X509_STORE_new(), X509_STORE_free);
  for (const auto& authority : authorities)
    if (X509_STORE_add_cert(store.get(), authority.get()) != 1)
      return Fail({Errc::Invalid, "the certificate authority cannot be used: " + tls_error_text()});
  return store;
}

Result<std::shared_ptr<SSL_CTX>> make_context(const SSL_METHOD* method) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(method), SSL_CTX_free);
  if (!context) return Fail({Errc::Internal, "no TLS context: " + tls_error_text()});
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // Idle connections give their record buffers back: there are thousands.
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  if (SSL_CTX_set1_groups_list(context.get(), "X25519:P-256") != 1)
    return Fail({Errc::Internal, "TLS groups: " + tls_error_text()});
  return context;
}

std::optional<std::time_t> to_time(const ASN1_TIME* value) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(value, &parts) != 1) return std::nullopt;
  return ::timegm(&parts);
}

// The newest session of a client's context. It belongs to the context, which outlives every connection made with it. Connections are
// given copies: OpenSSL marks the one that was used, and that of a connection which ends without a goodbye, as not to be resumed.
int session_slot() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, [](void*, void* session, CRYPTO_EX_DATA*, int, long, void*) {
    SSL_SESSION_free(static_cast<SSL_SESSION*>(session));
  });
  return index;
}
int keep_session(SSL* ssl, SSL_SESSION* session) {
  SSL_CTX* context = SSL_get_SSL_CTX(ssl);
  auto* former = static_cast<SSL_SESSION*>(SSL_CTX_get_ex_data(context, session_slot()));
  SSL_SESSION* copy = SSL_SESSION_dup(session);
  if (copy != nullptr && SSL_CTX_set_ex_data(context, session_slot(), copy) == 1) SSL_SESSION_free(former);
  else SSL_SESSION_free(copy);
  return 0;  // the one that was given stays OpenSSL's
}

// A server's, called once it knows what the client resumes, whether or not it named a server. A new ticket (it holds the client's
// certificate: 650 bytes) would be most of what is sent back, and the former may be used again.
int no_ticket_when_resumed(SSL* ssl, int*, void*) {
  if (SSL_session_reused(ssl) == 1) SSL_set_num_tickets(ssl, 0);
  return SSL_TLSEXT_ERR_NOACK;  // as without this
}

bool is_address(const std::string& text) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 || inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

}  // namespace

std::string tls_error_text() {
  const auto error = ERR_peek_last_error();
  ERR_clear_error();
  if (error == 0) return "no reason given";
  const char* reason = ERR_reason_error_string(error);
  return reason ? reason : std::format("error {:#x}", error);
}

Result<TlsContext> make_server_context(const ServerTls& options) {
  TlsContext out;
  TRY(out.context, make_context(TLS_server_method()));
  SSL_CTX* context = out.context.get();
  TRY_OK(use_pair(context, options.certificate_pem, options.key_pem));
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
  // Resumption by tickets alone: nothing is kept here for each client.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 1);
  // A line may be away for a day. What a ticket says of a client is judged anew at every connection (verified_client()), and its
  // key exchange is fresh.
  constexpr long kTicketSeconds = 2 * 24 * 3600;
  SSL_CTX_set_timeout(context, kTicketSeconds);
  SSL_CTX_set_tlsext_servername_callback(context, no_ticket_when_resumed);
  constexpr unsigned char kSessionContext[] = "skerry";
  SSL_CTX_set_session_id_context(context, kSessionContext, sizeof kSessionContext - 1);
  if (!options.client_ca_pem.empty()) {
    TRY(out.client_ca, make_store(options.client_ca_pem));
    TRY(const auto authorities, read_certificates(options.client_ca_pem, "client certificate authority"));
    for (const auto& authority : authorities) SSL_CTX_add_client_CA(context, authority.get());
    // Accepted here, judged in verified_client(): an unknown client must get an HTTP 401 with a reason.
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, [](int, X509_STORE_CTX*) { return 1; });
  }
  return out;
}

Result<TlsContext> make_client_context(const ClientTls& options) {
  if (options.ca_pem.empty()) return Fail({Errc::Invalid, "no certificate authority is given for the server"});
  TlsContext out;
  TRY(out.context, make_context(TLS_client_method()));
  TRY(const auto store, make_store(options.ca_pem));
  SSL_CTX_set1_cert_store(out.context.get(), store.get());
  SSL_CTX_set_verify(out.context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_session_cache_mode(out.context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(out.context.get(), keep_session);
  if (!options.certificate_pem.empty() || !options.key_pem.empty())
    TRY_OK(use_pair(out.context.get(), options.certificate_pem, options.key_pem));
  return out;
}

std::optional<ClientIdentity> verified_client(SSL* ssl, X509_STORE* store) {
  if (store == nullptr) return std::nullopt;
  const X509Ptr certificate(SSL_get1_peer_certificate(ssl));
  if (!certificate) return std::nullopt;
  const auto not_before = to_time(X509_get0_notBefore(certificate.get())), not_after = to_time(X509_get0_notAfter(certificate.get()));
  if (!not_before || !not_after) return std::nullopt;
  // What is wrong with it, at a moment or now, and how far from the leaf.
  const auto verify = [&](std::optional<std::time_t> at) -> std::pair<int, int> {
    const StoreContextPtr context(X509_STORE_CTX_new());
    if (!context || X509_STORE_CTX_init(context.get(), store, certificate.get(), SSL_get_peer_cert_chain(ssl)) != 1) return {X509_V_ERR_UNSPECIFIED, 0};
    X509_STORE_CTX_set_purpose(context.get(), X509_PURPOSE_SSL_CLIENT);
    if (at) X509_STORE_CTX_set_time(context.get(), 0, *at);
    const bool holds = X509_verify_cert(context.get()) == 1;
    ERR_clear_error();
    return {holds ? X509_V_OK : X509_STORE_CTX_get_error(context.get()), X509_STORE_CTX_get_error_depth(context.get())};
  };
  const auto [wrong, depth] = verify(std::nullopt);
  const bool expired = wrong == X509_V_ERR_CERT_HAS_EXPIRED && depth == 0;
  // Its last second: in that of its end it has ended.
  if (wrong != X509_V_OK && (!expired || verify(*not_after - 1).first != X509_V_OK)) return std::nullopt;
  const X509_NAME* subject = X509_get_subject_name(certificate.get());
  auto names = name_entries(subject, NID_commonName);
  if (names.size() != 1) return std::nullopt;
  const auto time = [](std::time_t seconds) { return Time(std::chrono::seconds(seconds)); };
  return ClientIdentity{.certificate = {.common_name = std::move(names.front()),
                                        .organizations = name_entries(subject, NID_organizationName),
                                        .serial = serial_of(certificate.get()),
                                        .key = key_fingerprint(X509_get0_pubkey(certificate.get())),
                                        .not_before = time(*not_before),
                                        .not_after = time(*not_after)},
                        .expired = expired};
}

void resume_session(SSL* ssl) {
  const auto* newest = static_cast<SSL_SESSION*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), session_slot()));
  if (newest == nullptr) return;
  SSL_SESSION* copy = SSL_SESSION_dup(newest);
  if (copy == nullptr || SSL_set_session(ssl, copy) != 1) ERR_clear_error();  // then a full handshake
  SSL_SESSION_free(copy);  // null, or the connection's own by now
}

Result<> expect_server_name(SSL* ssl, const std::string& name) {
  if (is_address(name)) {
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) != 1)
      return Fail({Errc::Internal, "TLS: cannot expect the address " + name});
    return {};
  }
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (SSL_set1_host(ssl, name.c_str()) != 1 || SSL_set_tlsext_host_name(ssl, name.c_str()) != 1)
    return Fail({Errc::Invalid, "TLS: cannot expect the name " + name});
  return {};
}

}  // namespace skerry::http
