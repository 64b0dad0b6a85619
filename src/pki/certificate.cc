// SPDX-License-Identifier: Apache-2.0
#include "pki/certificate.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <format>

#include "http/openssl.h"
#include "pki/names.h"
#include "pki/request.h"

namespace skerry::pki {
namespace {

using http::BioPtr;
using http::KeyPtr;
using http::name_entries;
using http::NamesPtr;
using http::X509Ptr;

constexpr std::size_t kNamesMax = 64, kNameBytesMax = 253, kPemBytesMax = 256 * 1024;

Error openssl_error(std::string_view step) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  Error out(Errc::Internal, std::format("{} failed: {}", step, reason ? reason : "no reason given"));
  ERR_clear_error();
  return out;
}

template <class Write>
Result<std::string> to_pem(Write&& write) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || write(bio.get()) != 1) return Fail(openssl_error("writing PEM"));
  const char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

Result<KeyPair> to_pair(X509* certificate, EVP_PKEY* key) {
  KeyPair out;
  TRY(out.certificate_pem, to_pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); }));
  TRY(out.key_pem, to_pem([&](BIO* bio) { return PEM_write_bio_PKCS8PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); }));
  return out;
}

Result<X509Ptr> read_certificate(std::string_view pem) {
  if (pem.size() > kPemBytesMax) return Fail({Errc::Corrupt, "the certificate is longer than any certificate is"});
  const auto bio = http::memory_bio(pem);
  X509Ptr out(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (!out) return Fail({Errc::Corrupt, "not a PEM certificate"});
  return out;
}

Result<KeyPtr> read_key(std::string_view pem) {
  if (pem.size() > kPemBytesMax) return Fail({Errc::Corrupt, "the private key is longer than any key is"});
  auto out = http::read_private_key(pem);
  if (!out) return Fail({Errc::Corrupt, "not an unencrypted PEM private key"});
  return out;
}

bool valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::all_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; });
}

bool add_entry(X509_NAME* name, const char* field, std::string_view value) {
  return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value.data()),
                                    static_cast<int>(value.size()), -1, 0) == 1;
}

bool add_extension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509V3_set_ctx_nodb(&context);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
  if (!extension) return false;
  const bool added = X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

Result<> add_alternative_names(X509* certificate, const LeafSpec& spec) {
  if (spec.dns_names.empty() && spec.addresses.empty()) return {};
  TRY(const auto names, make_alternative_names(spec.dns_names, spec.addresses));
  if (X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) != 1)
    return Fail(openssl_error("adding the alternative names"));
  return {};
}

Result<X509Ptr> begin_certificate(EVP_PKEY* key, std::string_view common_name, const std::vector<std::string>& organizations,
                                  Time not_before, Time not_after) {
  if (!valid_name(common_name)) return Fail({Errc::Invalid, "a certificate needs a common name of 1 to 253 printable bytes"});
  X509Ptr out(X509_new());
  std::array<unsigned char, 16> serial{};
  if (!out || RAND_bytes(serial.data(), serial.size()) != 1) return Fail(openssl_error("making a certificate"));
  serial[0] = static_cast<unsigned char>((serial[0] & 0x7f) | 0x40);  // positive, and never short
  BIGNUM* number = BN_bin2bn(serial.data(), serial.size(), nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(out.get()));
  BN_free(number);
  X509_set_version(out.get(), X509_VERSION_3);
  const auto set_time = [](ASN1_TIME* field, Time at) {
    return ASN1_TIME_set(field, std::chrono::floor<std::chrono::seconds>(at).time_since_epoch().count()) != nullptr;
  };
  if (!set_time(X509_getm_notBefore(out.get()), not_before) || !set_time(X509_getm_notAfter(out.get()), not_after) ||
      X509_set_pubkey(out.get(), key) != 1)
    return Fail(openssl_error("making a certificate"));
  X509_NAME* name = X509_get_subject_name(out.get());
  for (const auto& organization : organizations)
    if (!valid_name(organization) || !add_entry(name, "O", organization))
      return Fail({Errc::Invalid, std::format("'{}' is not an organization for a certificate", organization)});
  if (!add_entry(name, "CN", common_name))  // X.509 allows 64 characters
    return Fail({Errc::Invalid, std::format("'{}' is too long for a certificate's common name (64 characters)", common_name)});
  ERR_clear_error();
  return out;
}

Result<Time> to_time(const ASN1_TIME* value) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(value, &parts) != 1) return Fail({Errc::Corrupt, "the certificate's dates cannot be read"});
  return Time(std::chrono::seconds(::timegm(&parts)));
}

std::string first_or_empty(std::vector<std::string> all) { return all.empty() ? std::string() : std::move(all.front()); }

}  // namespace

struct CertificateAuthority::State {
  KeyPair pair;
  X509Ptr certificate;
  KeyPtr key;
  Time not_after;

  Result<X509Ptr> certify(EVP_PKEY* of, const LeafSpec& spec, Time now) const {
    if (spec.organizations.size() + spec.dns_names.size() + spec.addresses.size() > kNamesMax)
      return Fail({Errc::Invalid, std::format("a certificate may have at most {} organizations, names and addresses", kNamesMax)});
    const Time end = std::min(now + spec.validity, not_after), begin = std::max(now - kBackdate, spec.not_before);
    if (end <= now) return Fail({Errc::Invalid, std::format("the certificate authority ended on {}: make a new one", to_rfc3339(not_after))});
    if (end <= begin) return Fail({Errc::Invalid, "the certificate would end before it begins: look at the clock of this machine"});
    TRY(auto made_certificate, begin_certificate(of, spec.common_name, spec.organizations, begin, end));
    X509* made = made_certificate.get();
    X509* issuer = certificate.get();
    X509_set_issuer_name(made, X509_get_subject_name(issuer));
    const bool rsa = EVP_PKEY_get_base_id(of) == EVP_PKEY_RSA;  // TLS 1.2 without forward secrecy encrypts with it
    if (!add_extension(made, issuer, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(made, issuer, NID_key_usage, rsa ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature") ||
        !add_extension(made, issuer, NID_ext_key_usage, spec.usage == Usage::Server ? "serverAuth" : "clientAuth") ||
        !add_extension(made, issuer, NID_authority_key_identifier, "keyid"))
      return Fail(openssl_error("making a certificate"));
    TRY_OK(add_alternative_names(made, spec));
    if (X509_sign(made, key.get(), EVP_sha256()) == 0) return Fail(openssl_error("signing a certificate"));
    return made_certificate;
  }
};

CertificateAuthority::CertificateAuthority(std::unique_ptr<State> state) : state_(std::move(state)) {}
CertificateAuthority::CertificateAuthority(CertificateAuthority&&) noexcept = default;
CertificateAuthority& CertificateAuthority::operator=(CertificateAuthority&&) noexcept = default;
CertificateAuthority::~CertificateAuthority() = default;
const KeyPair& CertificateAuthority::pair() const { return state_->pair; }

Result<CertificateAuthority> CertificateAuthority::create(std::string_view common_name, Time now, Duration validity) {
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return Fail(openssl_error("making a key"));
  TRY(const auto certificate, begin_certificate(key.get(), common_name, {}, now - kBackdate, now + validity));
  X509* made = certificate.get();
  X509_set_issuer_name(made, X509_get_subject_name(made));
  if (!add_extension(made, made, NID_basic_constraints, "critical,CA:TRUE") ||
      !add_extension(made, made, NID_key_usage, "critical,keyCertSign,cRLSign,digitalSignature") ||
      !add_extension(made, made, NID_subject_key_identifier, "hash") || X509_sign(made, key.get(), EVP_sha256()) == 0)
    return Fail(openssl_error("making the certificate authority"));
  TRY(const KeyPair pair, to_pair(made, key.get()));
  return load(pair);
}

Result<CertificateAuthority> CertificateAuthority::load(const KeyPair& pair) {
  auto state = std::make_unique<State>();
  state->pair = pair;
  TRY(state->certificate, read_certificate(pair.certificate_pem));
  TRY(state->key, read_key(pair.key_pem));
  if (X509_check_ca(state->certificate.get()) != 1) return Fail({Errc::Corrupt, "the certificate is not one of an authority"});
  if (X509_check_private_key(state->certificate.get(), state->key.get()) != 1) {
    ERR_clear_error();
    return Fail({Errc::Corrupt, "the authority's key does not belong to its certificate"});
  }
  TRY(state->not_after, to_time(X509_get0_notAfter(state->certificate.get())));
  return CertificateAuthority(std::move(state));
}

Result<KeyPair> CertificateAuthority::issue(const LeafSpec& spec, Time now) const {
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return Fail(openssl_error("making a key"));
  TRY(const auto certificate, state_->certify(key.get(), spec, now));
  return to_pair(certificate.get(), key.get());
}

Result<std::string> CertificateAuthority::sign(std::string_view request_pem, const LeafSpec& spec, Time now) const {
  TRY_OK(inspect_request(request_pem));
  const auto bio = http::memory_bio(request_pem);
  const http::RequestPtr request(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
  if (!request) return Fail(openssl_error("reading a request"));
  TRY(const auto certificate, state_->certify(X509_REQ_get0_pubkey(request.get()), spec, now));
  return to_pem([&](BIO* out) { return PEM_write_bio_X509(out, certificate.get()); });
}

Result<CertificateInfo> inspect_certificate(std::string_view pem) {
  TRY(const auto certificate, read_certificate(pem));
  CertificateInfo out;
  const X509_NAME* subject = X509_get_subject_name(certificate.get());
  out.common_name = first_or_empty(name_entries(subject, NID_commonName));
  out.issuer_common_name = first_or_empty(name_entries(X509_get_issuer_name(certificate.get()), NID_commonName));
  out.organizations = name_entries(subject, NID_organizationName);
  TRY(out.not_before, to_time(X509_get0_notBefore(certificate.get())));
  TRY(out.not_after, to_time(X509_get0_notAfter(certificate.get())));
  const NamesPtr names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  auto read = read_alternative_names(names.get());
  out.dns_names = std::move(read.dns_names);
  out.addresses = std::move(read.addresses);
  out.key = http::key_fingerprint(X509_get0_pubkey(certificate.get()));
  out.serial = http::serial_of(certificate.get());
  return out;
}

Result<std::vector<std::string>> inspect_keys(std::string_view bundle_pem) {
  if (bundle_pem.size() > kPemBytesMax) return Fail({Errc::Corrupt, "the bundle of certificates is longer than any is"});
  const auto bio = http::memory_bio(bundle_pem);
  std::vector<std::string> out;
  while (const X509Ptr one{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) {
    EVP_PKEY* key = X509_get0_pubkey(one.get());
    if (!key || out.size() == kNamesMax) break;
    out.push_back(http::key_fingerprint(key));
  }
  const bool whole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;  // nothing but the end ended it
  ERR_clear_error();
  if (out.empty() || !whole) return Fail({Errc::Corrupt, std::format("not a bundle of at most {} PEM certificates", kNamesMax)});
  return out;
}

Result<std::string> fingerprint_of(std::string_view key_pem) {
  TRY(const auto key, read_key(key_pem));
  return http::key_fingerprint(key.get());
}

Result<std::string> make_key() {
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return Fail(openssl_error("making a key"));
  return to_pem([&](BIO* bio) { return PEM_write_bio_PKCS8PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
}

std::string renewal_reason(const KeyPair& pair, const LeafSpec& spec, const CertificateAuthority& ca, Time now) {
  const auto certificate = read_certificate(pair.certificate_pem);
  const auto key = read_key(pair.key_pem);
  const auto authority = read_certificate(ca.pair().certificate_pem);
  const auto info = inspect_certificate(pair.certificate_pem);
  if (!certificate || !key || !authority || !info) return "it cannot be read";
  if (X509_check_private_key(certificate->get(), key->get()) != 1) {
    ERR_clear_error();
    return "its key does not belong to it";
  }
  if (X509_verify(certificate->get(), X509_get0_pubkey(authority->get())) != 1) {
    ERR_clear_error();
    return "another authority signed it";
  }
  if (info->common_name != spec.common_name) return "its name differs";
  if (info->organizations != spec.organizations) return "its organizations differ";
  const auto covers = [](const auto& has, const auto& wanted) {
    return std::all_of(wanted.begin(), wanted.end(), [&](const auto& one) { return std::find(has.begin(), has.end(), one) != has.end(); });
  };
  if (!covers(info->dns_names, spec.dns_names)) return "it lacks a DNS name";
  std::vector<std::string> addresses;  // in the spelling that inspection gives
  for (const auto& address : spec.addresses) {
    std::array<char, 16> bytes{};
    char text[INET6_ADDRSTRLEN];
    const int family = address.find(':') == address.npos ? AF_INET : AF_INET6;
    if (inet_pton(family, address.c_str(), bytes.data()) == 1 && inet_ntop(family, bytes.data(), text, sizeof text)) addresses.emplace_back(text);
  }
  if (!covers(info->addresses, addresses)) return "it lacks an address";
  if (now < info->not_before) return "it is not valid yet";
  const Duration whole = info->not_after - info->not_before;
  if (info->not_after - now <= whole / 3) return "a third or less of its time is left";
  return "";
}

}  // namespace skerry::pki
