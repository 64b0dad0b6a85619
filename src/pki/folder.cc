// SPDX-License-Identifier: Apache-2.0
#include "pki/folder.h"

#include <fcntl.h>

#include <format>

#include "base/log.h"
#include "os/file.h"

namespace skerry::pki {
namespace {

constexpr std::size_t kPemBytesMax = 64 * 1024;

// Nothing if the file does not exist.
Result<std::optional<std::string>> read_if_there(const std::filesystem::path& path) {
  auto text = os::read_small_file(path, kPemBytesMax);
  if (text) return std::optional(std::move(*text));
  if (text.error().code == Errc::NotFound) return std::optional<std::string>();
  return Fail(std::move(text).error());
}

}  // namespace

Result<Folder> Folder::open(std::filesystem::path path) {
  TRY_OK(os::make_folders(path, 0700));
  return Folder(std::move(path));
}

Result<> Folder::write(std::string_view name, const KeyPair& pair) const {
  // The key first: a certificate without its key would be taken for a broken pair after a crash.
  TRY_OK(os::write_file_atomically(path_ / std::format("{}.key", name), pair.key_pem, 0600));
  return os::write_file_atomically(path_ / std::format("{}.crt", name), pair.certificate_pem, 0644);
}

Result<CertificateAuthority> Folder::authority(std::string_view common_name) const {
  TRY(const auto certificate, read_if_there(path_ / "ca.crt"));
  TRY(const auto key, read_if_there(path_ / "ca.key"));
  if (certificate && key) {
    auto loaded = CertificateAuthority::load({*certificate, *key});
    if (loaded) return loaded;
    return Fail({Errc::Corrupt, std::format("{}/ca.crt and ca.key: {}; restore both from a backup, or delete both to make a new authority "
                                            "(every certificate and kubeconfig of the old one then ends)",
                                            path_.string(), loaded.error().what)});
  }
  // A lone key is what a crash in the middle of the first start leaves: nothing was issued with it yet.
  if (certificate)
    return Fail({Errc::Corrupt, std::format("{0}/ca.crt is there but ca.key is not; restore ca.key from a backup, or delete ca.crt to make a "
                                            "new authority (every certificate and kubeconfig of the old one then ends)",
                                            path_.string())});
  TRY(auto made, CertificateAuthority::create(common_name, kAuthorityBegin + kBackdate, kAuthorityEnd - kAuthorityBegin - kBackdate));
  TRY_OK(write("ca", made.pair()));
  LOG_INFO("certificate authority created", {"folder", path_.string()});
  return made;
}

Result<KeyPair> Folder::leaf(std::string_view name, const LeafSpec& spec, const CertificateAuthority& ca, Time now) const {
  TRY(auto certificate, read_if_there(path_ / std::format("{}.crt", name)));
  TRY(auto key, read_if_there(path_ / std::format("{}.key", name)));
  std::string reason = "there is none";
  if (certificate && key) {
    KeyPair pair{std::move(*certificate), std::move(*key)};
    reason = renewal_reason(pair, spec, ca, now);
    if (reason.empty()) return pair;
  }
  TRY(auto made, ca.issue(spec, now));
  TRY_OK(write(name, made));
  LOG_INFO("certificate issued", {"name", name}, {"because", reason});
  return made;
}

}  // namespace skerry::pki
