// SPDX-License-Identifier: Apache-2.0
// X.509 with P-256 keys: one certificate authority, the certificates that it issues, and when they must be renewed.
// Values in PEM; nothing here touches a disk (see pki/folder.h). Errors never carry key bytes.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"

namespace skerry::pki {

struct KeyPair {
  std::string certificate_pem{};
  std::string key_pem{};  // PKCS #8
};

enum class Usage : std::uint8_t { Server, Client };

struct LeafSpec {
  std::string common_name{};                 // the user name, for a client: "system:node:edge-1"
  std::vector<std::string> organizations{};  // the groups: "system:nodes"
  std::vector<std::string> dns_names{};
  std::vector<std::string> addresses{};      // IP literals
  Usage usage = Usage::Client;
  Duration validity = std::chrono::hours(24 * 365);
  Time not_before{};  // it begins no earlier; else kBackdate before now
};

// Certificates begin this much before `now`, because machines that come back without a network have slow clocks.
constexpr Duration kBackdate = 1h;
// An authority that a machine makes for itself holds at whatever time its clock may show (no battery: 1970): nobody drives there to
// make another. Time ends in 2262.
constexpr Time kAuthorityBegin{}, kAuthorityEnd = std::chrono::sys_days{std::chrono::year{2199} / 12 / 31};

class CertificateAuthority {
 public:
  static Result<CertificateAuthority> create(std::string_view common_name, Time now,
                                             Duration validity = std::chrono::hours(24 * 3650));
  // Corrupt: not PEM, not a CA, or the key is not the certificate's.
  static Result<CertificateAuthority> load(const KeyPair&);
  CertificateAuthority(CertificateAuthority&&) noexcept;
  CertificateAuthority& operator=(CertificateAuthority&&) noexcept;
  ~CertificateAuthority();

  // A new key and a certificate for it; never valid beyond the CA itself. Invalid: a bad address or an empty name.
  Result<KeyPair> issue(const LeafSpec&, Time now) const;
  // A certificate for the key of a request (PEM; see pki/request.h). What it says is the spec's alone, nothing of the request's.
  Result<std::string> sign(std::string_view request_pem, const LeafSpec&, Time now) const;
  const KeyPair& pair() const;

 private:
  struct State;
  explicit CertificateAuthority(std::unique_ptr<State>);
  std::unique_ptr<State> state_;
};

// What a certificate says. Corrupt: not PEM.
struct CertificateInfo {
  std::string common_name{}, issuer_common_name{};
  std::vector<std::string> organizations{}, dns_names{}, addresses{};
  Time not_before{}, not_after{};
  std::string serial{}, key{};  // hex: the number, the public key's fingerprint
};
Result<CertificateInfo> inspect_certificate(std::string_view pem);
// The fingerprints of the public keys of all certificates of a bundle, in order: the same authority has the same key, whatever
// certificate it shows. Corrupt: there is none, one that cannot be read, or more than 64.
Result<std::vector<std::string>> inspect_keys(std::string_view bundle_pem);
// The fingerprint of a private key's public half: equal to CertificateInfo::key if the two belong together. Corrupt: not a key.
Result<std::string> fingerprint_of(std::string_view key_pem);
// A new P-256 key: PKCS #8, PEM.
Result<std::string> make_key();

// Renew once a third of the validity or less is left, or when it is not yet valid, or when the spec asks for names or
// addresses that the certificate lacks, or when `ca` did not sign it. The reason, or "" if it can stay.
std::string renewal_reason(const KeyPair&, const LeafSpec&, const CertificateAuthority& ca, Time now);

}  // namespace skerry::pki
