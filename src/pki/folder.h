// SPDX-License-Identifier: Apache-2.0
// The folder DATA/pki: NAME.crt (0644) and NAME.key (0600), each replaced atomically. What exists and is good is kept.
// Blocking; used at start and at renewal.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/time.h"
#include "pki/certificate.h"

namespace skerry::pki {

class Folder {
 public:
  // Made with mode 0700 if absent.
  static Result<Folder> open(std::filesystem::path);

  // ca.crt and ca.key; created when there is no ca.crt. Corrupt when the key is missing or either is broken: an authority is never
  // replaced silently, because every issued certificate would end with it; the text says what to restore. Valid from kAuthorityBegin
  // to kAuthorityEnd.
  Result<CertificateAuthority> authority(std::string_view common_name) const;
  // NAME.crt and NAME.key, issued or renewed when renewal_reason() says so.
  Result<KeyPair> leaf(std::string_view name, const LeafSpec&, const CertificateAuthority&, Time now) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) {}
  Result<> write(std::string_view name, const KeyPair&) const;
  std::filesystem::path path_;
};

}  // namespace skerry::pki
