// SPDX-License-Identifier: Apache-2.0
#include "pki/request.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <format>

#include "base/text.h"
#include "http/openssl.h"
#include "pki/names.h"

namespace skerry::pki {
namespace {

constexpr int kRsaBitsMin = 2048, kRsaBitsMax = 8192;

Result<> judge_key(EVP_PKEY* key) {
  const int bits = EVP_PKEY_get_bits(key);
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
      if (bits < kRsaBitsMin || bits > kRsaBitsMax) return Fail({Errc::Invalid, "an RSA key must have 2048 to 8192 bits"});
      return {};
    case EVP_PKEY_EC: {
      char curve[32] = {};
      EVP_PKEY_get_group_name(key, curve, sizeof curve, nullptr);
      const std::string_view name = curve;
      if (name != "prime256v1" && name != "secp384r1" && name != "secp521r1") return Fail({Errc::Invalid, "the elliptic curve must be P-256, P-384 or P-521"});
      return {};
    }
    case EVP_PKEY_ED25519: return {};
    default: return Fail({Errc::Invalid, "the key must be of EC, RSA or Ed25519"});
  }
}

using ExtensionsPtr = std::unique_ptr<STACK_OF(X509_EXTENSION), decltype([](STACK_OF(X509_EXTENSION)* s) { sk_X509_EXTENSION_pop_free(s, X509_EXTENSION_free); })>;

void read_extensions(X509_REQ* request, RequestInfo& out) {
  const ExtensionsPtr extensions(X509_REQ_get_extensions(request));
  bool named = false;
  for (int i = 0; extensions && i < sk_X509_EXTENSION_num(extensions.get()); ++i) {
    X509_EXTENSION* extension = sk_X509_EXTENSION_value(extensions.get(), i);
    const int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
    // What a certificate's use is, the object says and the signer decides: here it binds nobody.
    if (nid == NID_key_usage || nid == NID_ext_key_usage || nid == NID_subject_key_identifier) continue;
    if (nid != NID_subject_alt_name || named) {
      out.plain = false;
      continue;
    }
    named = true;
    const http::NamesPtr names(static_cast<GENERAL_NAMES*>(X509V3_EXT_d2i(extension)));
    auto read = read_alternative_names(names.get());
    out.plain = out.plain && names && !read.others;
    out.dns_names = std::move(read.dns_names);
    out.addresses = std::move(read.addresses);
  }
}

Result<RequestInfo> read(std::string_view pem) {
  constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE REQUEST-----", kEnd = "-----END CERTIFICATE REQUEST-----";
  if (pem.size() > kRequestBytesMax) return Fail({Errc::Invalid, "the request is longer than any request is"});
  const std::string_view text = trim(pem);
  if (!text.starts_with(kBegin) || text.find(kEnd) != text.size() - std::min(kEnd.size(), text.size()))
    return Fail({Errc::Invalid, "PEM block type must be CERTIFICATE REQUEST, and there must be one"});
  const auto bio = http::memory_bio(text);
  const http::RequestPtr request(PEM_read_bio_X509_REQ(bio.get(), nullptr, [](char*, int, int, void*) { return -1; }, nullptr));
  if (!request) return Fail({Errc::Invalid, "the request cannot be read"});
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (!key) return Fail({Errc::Invalid, "the request's public key cannot be read"});
  TRY_OK(judge_key(key));
  if (X509_REQ_verify(request.get(), key) != 1) return Fail({Errc::Invalid, "the request is not signed with the key that it names"});
  RequestInfo out;
  const X509_NAME* subject = X509_REQ_get_subject_name(request.get());
  const auto names = http::name_entries(subject, NID_commonName);
  out.organizations = http::name_entries(subject, NID_organizationName);
  if (names.size() == 1) out.common_name = names.front();
  out.plain = names.size() == 1 && X509_NAME_entry_count(subject) == 1 + static_cast<int>(out.organizations.size());
  read_extensions(request.get(), out);
  out.key = http::key_fingerprint(key);
  return out;
}

}  // namespace

Result<http::NamesPtr> make_alternative_names(const std::vector<std::string>& dns_names, const std::vector<std::string>& addresses) {
  constexpr std::size_t kNameBytesMax = 253;
  http::NamesPtr names(GENERAL_NAMES_new());
  const auto push = [&](int type, std::string_view bytes) {
    ASN1_STRING* value = type == GEN_DNS ? static_cast<ASN1_STRING*>(ASN1_IA5STRING_new()) : ASN1_OCTET_STRING_new();
    ASN1_STRING_set(value, bytes.data(), static_cast<int>(bytes.size()));
    GENERAL_NAME* name = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(name, type, value);
    sk_GENERAL_NAME_push(names.get(), name);
  };
  for (const auto& dns : dns_names) {
    const bool plain = dns.size() <= kNameBytesMax && !dns.empty() && std::all_of(dns.begin(), dns.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '*' || c == '_';
    });
    if (!plain) return Fail({Errc::Invalid, std::format("'{}' is not a DNS name for a certificate", dns)});
    push(GEN_DNS, dns);
  }
  for (const auto& address : addresses) {
    std::array<char, 16> bytes{};
    if (inet_pton(AF_INET, address.c_str(), bytes.data()) == 1) push(GEN_IPADD, {bytes.data(), 4});
    else if (inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) push(GEN_IPADD, {bytes.data(), 16});
    else return Fail({Errc::Invalid, std::format("'{}' is not an IP address for a certificate", address)});
  }
  return names;
}

AlternativeNames read_alternative_names(const GENERAL_NAMES* names) {
  AlternativeNames out;
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names); ++i) {
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type));
    if (type != GEN_DNS && type != GEN_IPADD) {
      out.others = true;
      continue;
    }
    const std::string_view bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)), static_cast<std::size_t>(ASN1_STRING_length(value)));
    char text[INET6_ADDRSTRLEN];
    if (type == GEN_DNS) {
      out.dns_names.emplace_back(bytes);
    } else if ((bytes.size() == 4 || bytes.size() == 16) && inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof text)) {
      out.addresses.emplace_back(text);
    } else {
      out.others = true;
    }
  }
  return out;
}

Result<std::string> make_request(std::string_view key_pem, const LeafSpec& spec) {
  const auto key = http::read_private_key(key_pem);
  const http::RequestPtr request(X509_REQ_new());
  if (!key || !request) return Fail({Errc::Invalid, "not an unencrypted PEM private key"});
  X509_NAME* subject = X509_REQ_get_subject_name(request.get());
  const auto entry = [&](const char* field, const std::string& value) {
    return X509_NAME_add_entry_by_txt(subject, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value.data()), static_cast<int>(value.size()), -1, 0) == 1;
  };
  bool good = X509_REQ_set_pubkey(request.get(), key.get()) == 1;
  for (const auto& organization : spec.organizations) good = good && entry("O", organization);
  good = good && entry("CN", spec.common_name);
  if (good && (!spec.dns_names.empty() || !spec.addresses.empty())) {
    TRY(const auto names, make_alternative_names(spec.dns_names, spec.addresses));
    STACK_OF(X509_EXTENSION)* all = nullptr;
    good = X509V3_add1_i2d(&all, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1;
    const ExtensionsPtr extensions(all);
    good = good && X509_REQ_add_extensions(request.get(), extensions.get()) == 1;
  }
  const bool edwards = EVP_PKEY_get_base_id(key.get()) == EVP_PKEY_ED25519;
  good = good && X509_REQ_sign(request.get(), key.get(), edwards ? nullptr : EVP_sha256()) > 0;
  const http::BioPtr bio(BIO_new(BIO_s_mem()));
  good = good && PEM_write_bio_X509_REQ(bio.get(), request.get()) == 1;
  ERR_clear_error();
  if (!good) return Fail({Errc::Invalid, "the request could not be made: look at its names"});
  const char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

Result<RequestInfo> inspect_request(std::string_view pem) {
  auto out = read(pem);
  ERR_clear_error();
  return out;
}

}  // namespace skerry::pki
