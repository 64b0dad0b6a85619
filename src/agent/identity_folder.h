// SPDX-License-Identifier: Apache-2.0
// DATA/node/pki: the certificates that the node has asked for, each with its key in one file, so that no crash parts them
// (docs/wire/identity.md): client.pem, signed-serving.pem. A save is durable when it returns; after a power cut at any point there
// is the former file or the new one, and both are whole pairs. Blocking: reads for microseconds, saves for an fsync.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/renewal_core.h"
#include "base/error.h"
#include "pki/certificate.h"

namespace skerry::agent {

struct StoredCertificate {
  pki::KeyPair pair{};
  std::vector<std::string> authorities{};  // fingerprints of the keys of the cluster's authorities when it was got: pki::inspect_keys
  bool key_kept = false;                   // RenewalCore::Managed::key_kept
};

class IdentityFolder {
 public:
  // Made with mode 0700 if absent.
  static Result<IdentityFolder> open(std::filesystem::path);
  // Removes what interrupted saves have left. While nobody saves.
  void sweep() const;
  // Nothing: there is none. Corrupt: it is not what save() writes, or its key is not its certificate's; says what to do.
  Result<std::optional<StoredCertificate>> load(RenewalCore::Purpose) const;
  Result<> save(RenewalCore::Purpose, const StoredCertificate&) const;
  std::filesystem::path file(RenewalCore::Purpose) const;

 private:
  explicit IdentityFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

// The text of a file, and back. Pure.
std::string to_text(const StoredCertificate&);
Result<StoredCertificate> parse_stored(std::string_view text);

// Why a stored certificate does not take the place of the one that the operator gave (the kubeconfig's); "" if it does: it has the
// same name, is of the same cluster (an authority of then is one of now), and begins later.
std::string why_not_stored(const pki::CertificateInfo& given, const std::vector<std::string>& authorities, const StoredCertificate&);

}  // namespace skerry::agent
