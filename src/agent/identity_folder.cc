// SPDX-License-Identifier: Apache-2.0
#include "agent/identity_folder.h"

#include <algorithm>
#include <format>

#include "base/log.h"
#include "base/text.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

constexpr std::size_t kFileBytesMax = 128 * 1024;
constexpr std::string_view kVersion = "Skerry node certificate 1", kAuthorities = "Authorities: ", kKey = "Key: ", kKept = "kept", kNew = "new";
constexpr std::string_view kBegin = "-----BEGIN ", kKeyBegin = "-----BEGIN PRIVATE KEY-----";

bool is_fingerprint(std::string_view text) {
  return text.size() == 64 && std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

std::string to_text(const StoredCertificate& stored) {
  std::string authorities;
  for (const std::string& one : stored.authorities) authorities += (authorities.empty() ? "" : ",") + one;
  return std::format("{}\n{}{}\n{}{}\n{}{}", kVersion, kAuthorities, authorities, kKey, stored.key_kept ? kKept : kNew, stored.pair.certificate_pem, stored.pair.key_pem);
}

Result<StoredCertificate> parse_stored(std::string_view text) {
  const auto wrong = [](std::string_view what) { return Fail({Errc::Corrupt, std::string(what)}); };
  const auto line = [&text]() {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string_view out = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return out;
  };
  StoredCertificate out;
  if (line() != kVersion) return wrong("it does not begin as a certificate of this version does");
  const std::string_view authorities = line(), key = line();
  if (!authorities.starts_with(kAuthorities) || !key.starts_with(kKey)) return wrong("its first lines are damaged");
  for (const std::string_view one : split(authorities.substr(kAuthorities.size()), ',')) {
    if (!is_fingerprint(one)) return wrong("its line of authorities is damaged");
    out.authorities.emplace_back(one);
  }
  const std::string_view kind = key.substr(kKey.size());
  if (kind != kKept && kind != kNew) return wrong("its line of the key is damaged");
  out.key_kept = kind == kKept;
  const auto at = text.find(kKeyBegin);
  if (!text.starts_with(kBegin) || at == std::string_view::npos || at == 0) return wrong("it is cut off");
  out.pair = {std::string(text.substr(0, at)), std::string(text.substr(at))};
  TRY(const auto info, pki::inspect_certificate(out.pair.certificate_pem));
  TRY(const auto fingerprint, pki::fingerprint_of(out.pair.key_pem));
  if (info.key != fingerprint) return wrong("its key is not its certificate's");
  return out;
}

Result<IdentityFolder> IdentityFolder::open(std::filesystem::path path) {
  TRY_OK(os::make_folders(path, 0700));
  return IdentityFolder(std::move(path));
}

void IdentityFolder::sweep() const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    if (entry.path().filename().native().find(".pem.tmp.") == std::string::npos) continue;
    std::error_code failed;
    std::filesystem::remove(entry.path(), failed);
    if (failed) LOG_WARN("what an interrupted save left could not be removed", {"file", entry.path().string()}, {"reason", failed.message()});
  }
}

std::filesystem::path IdentityFolder::file(RenewalCore::Purpose purpose) const {
  return path_ / (purpose == RenewalCore::Purpose::Client ? "client.pem" : "signed-serving.pem");
}

Result<std::optional<StoredCertificate>> IdentityFolder::load(RenewalCore::Purpose purpose) const {
  const auto text = os::read_small_file(file(purpose), kFileBytesMax);
  if (!text && text.error().code == Errc::NotFound) return std::optional<StoredCertificate>();
  auto out = text ? parse_stored(*text) : Result<StoredCertificate>(Fail(text.error()));
  if (out) return std::optional(std::move(*out));
  return Fail({out.error().code, std::format("{}: {}; restore it, or remove it and give the node new credentials if those of its kubeconfig have been replaced",
                                             file(purpose).string(), out.error().what)});
}

Result<> IdentityFolder::save(RenewalCore::Purpose purpose, const StoredCertificate& stored) const {
  const std::string text = to_text(stored);
  if (auto good = parse_stored(text); !good) return Fail(good.error().with("a certificate that could not be read again is not kept"));
  return os::write_file_atomically(file(purpose), text, 0600);
}

std::string why_not_stored(const pki::CertificateInfo& given, const std::vector<std::string>& authorities, const StoredCertificate& stored) {
  const auto info = pki::inspect_certificate(stored.pair.certificate_pem);
  if (!info) return info.error().what;
  if (info->common_name != given.common_name || info->organizations != given.organizations)
    return std::format("it is of {}, and the kubeconfig's is of {}", info->common_name, given.common_name);
  const bool same_cluster = std::ranges::any_of(stored.authorities, [&](const std::string& one) { return std::ranges::find(authorities, one) != authorities.end(); });
  if (!same_cluster) return "it is of a cluster with another authority";
  if (info->not_before <= given.not_before) return "the kubeconfig's is newer";
  return "";
}

}  // namespace skerry::agent
