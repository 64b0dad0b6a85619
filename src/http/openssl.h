// SPDX-License-Identifier: Apache-2.0
// OpenSSL's objects with an owner, and the few readings of certificates that TLS and `pki` must do alike. Only for .cc files
// that include OpenSSL anyway. Whatever fails here leaves nothing in OpenSSL's error queue but what the caller asks for.
#pragma once
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace skerry::http {

template <auto F>
struct OpensslFree {
  template <class T>
  void operator()(T* p) const { F(p); }
};
using BioPtr = std::unique_ptr<BIO, OpensslFree<BIO_free_all>>;
using X509Ptr = std::unique_ptr<X509, OpensslFree<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using RequestPtr = std::unique_ptr<X509_REQ, OpensslFree<X509_REQ_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, OpensslFree<GENERAL_NAMES_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, OpensslFree<X509_STORE_CTX_free>>;

// Reads from `text`, which must outlive it.
BioPtr memory_bio(std::string_view text);
// Null: not a PEM key, or an encrypted one (nobody is asked for its pass phrase).
KeyPtr read_private_key(std::string_view pem);
// The values of one field of a certificate's name, in order. One with a NUL inside is left out: others would read it short.
std::vector<std::string> name_entries(const X509_NAME*, int nid);
// SHA-256 of the public key (SubjectPublicKeyInfo), in hex: equal for equal keys, whatever certificate they are in. "": it failed.
std::string key_fingerprint(EVP_PKEY*);
// A certificate's serial number, in hex.
std::string serial_of(const X509*);

}  // namespace skerry::http
