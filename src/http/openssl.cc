// SPDX-License-Identifier: Apache-2.0
#include "http/openssl.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/text.h"

namespace skerry::http {

BioPtr memory_bio(std::string_view text) { return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

KeyPtr read_private_key(std::string_view pem) {
  const auto bio = memory_bio(pem);
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, [](char*, int, int, void*) { return -1; }, nullptr));
  ERR_clear_error();
  return key;
}

std::string key_fingerprint(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = key ? i2d_PUBKEY(key, &der) : -1;
  if (size <= 0) return {};
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  const bool done = EVP_Digest(der, static_cast<std::size_t>(size), hash, &length, EVP_sha256(), nullptr) == 1;
  OPENSSL_free(der);
  return done ? to_hex({reinterpret_cast<const char*>(hash), length}) : std::string();
}

std::string serial_of(const X509* certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate);
  return to_hex({reinterpret_cast<const char*>(ASN1_STRING_get0_data(serial)), static_cast<std::size_t>(ASN1_STRING_length(serial))});
}

std::vector<std::string> name_entries(const X509_NAME* name, int nid) {
  std::vector<std::string> out;
  for (int at = -1; (at = X509_NAME_get_index_by_NID(name, nid, at)) >= 0;) {
    unsigned char* text = nullptr;
    const int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (size < 0) continue;
    std::string value(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
    OPENSSL_free(text);
    if (!value.contains('\0')) out.push_back(std::move(value));
  }
  return out;
}

}  // namespace skerry::http
