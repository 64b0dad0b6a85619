// SPDX-License-Identifier: Apache-2.0
// PKCS #10: a request for a certificate, as a node sends it. Hostile bytes: everything that is read here was written by
// somebody else. What may be asked for is decided by others (control/signing_core.h, apiserver).
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "pki/certificate.h"

namespace skerry::pki {

struct RequestInfo {
  std::string common_name{};
  std::vector<std::string> organizations{};
  std::vector<std::string> dns_names{}, addresses{};  // alternative names; addresses as inet_ntop writes them
  bool plain = true;  // one CN and O's in the subject, alternative names of DNS and IP alone, no extensions beyond those
  std::string key{};  // fingerprint of the public key: http::key_fingerprint
};

constexpr std::size_t kRequestBytesMax = 16 * 1024;

// One CERTIFICATE REQUEST in PEM and nothing else but white space, signed with the key that it names (so whoever made it holds
// that key). Invalid, with the reason: anything else, or a key that is too weak (RSA below 2048 bits, curves below P-256).
Result<RequestInfo> inspect_request(std::string_view pem);

// The other side: what a node sends. The spec's names, signed with this key (PKCS #8, PEM).
Result<std::string> make_request(std::string_view key_pem, const LeafSpec&);

}  // namespace skerry::pki
