// SPDX-License-Identifier: Apache-2.0
// CertificateSigningRequests, but for the request itself: who reads X.509 is apiserver.
#include <algorithm>
#include <set>

#include "kube/validation_internal.h"

namespace skerry::kube::validation {
namespace {

constexpr std::string_view kUsages[] = {"signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment",
                                        "cert sign", "crl sign", "encipher only", "decipher only", "any", "server auth", "client auth", "code signing",
                                        "email protection", "s/mime", "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing",
                                        "microsoft sgc", "netscape sgc"};
constexpr std::int64_t kSecondsMin = 600;

void signer_name(FieldErrors& errors, Path path, std::string_view name) {
  if (name.empty()) {
    errors.push_back(field_required(path));
    return;
  }
  if (name == "kubernetes.io/legacy-unknown") {
    errors.push_back(field_invalid_string(path, name, "the legacy signerName is not allowed via this API version"));
    return;
  }
  const auto slash = name.find('/');
  const std::string_view domain = name.substr(0, slash), rest = slash == name.npos ? std::string_view() : name.substr(slash + 1);
  const bool path_plain = !rest.empty() && std::ranges::all_of(rest, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
  if (name.size() > 571 || !path_plain || !check_dns1123_subdomain(domain).empty() || domain.find('.') == domain.npos)
    errors.push_back(field_invalid_string(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'"));
}

Json find_type(Json conditions, std::string_view type) {
  for (const Json c : conditions.items())
    if (c["type"].str() == type) return c;
  return {};
}

void conditions(FieldErrors& errors, Json all) {
  const std::string path = "status.conditions";
  std::set<std::string_view> seen;
  std::size_t i = 0;
  for (const Json c : all.items()) {
    const std::string here = at(path, i++);
    const auto type = c["type"].str(), status = c["status"].str();
    if (type.empty()) errors.push_back(field_required(at(here, "type")));
    if (!seen.insert(type).second) errors.push_back(field_duplicate(at(here, "type"), type));
    const bool final = type == "Approved" || type == "Denied" || type == "Failed";
    if (status.empty()) errors.push_back(field_required(at(here, "status")));
    else if (final) one_of(errors, at(here, "status"), c["status"], {"True"});
    else one_of(errors, at(here, "status"), c["status"], {"False", "True", "Unknown"});
    if ((type == "Approved" && seen.contains("Denied")) || (type == "Denied" && seen.contains("Approved")))
      errors.push_back(field_invalid_string(at(here, "type"), type, "Approved and Denied conditions are mutually exclusive"));
  }
}

}  // namespace

void validate_signing_request(FieldErrors& errors, Json spec) {
  if (spec["request"].str().empty()) errors.push_back(field_required("spec.request"));
  if (spec["usages"].size() == 0) errors.push_back(field_required("spec.usages"));
  std::set<std::string_view> seen;
  std::size_t i = 0;
  for (const Json usage : spec["usages"].items()) {
    const std::string here = at(std::string("spec.usages"), i++);
    if (std::ranges::find(kUsages, usage.str()) == std::end(kUsages))
      errors.push_back(field_not_supported(here, usage.str(), std::vector<std::string>(std::begin(kUsages), std::end(kUsages))));
    if (!seen.insert(usage.str()).second) errors.push_back(field_duplicate(here, usage.str()));
  }
  signer_name(errors, "spec.signerName", spec["signerName"].str());
  if (const Json seconds = spec["expirationSeconds"]; seconds && seconds.i64() < kSecondsMin)
    errors.push_back(field_invalid("spec.expirationSeconds", seconds.dump(), "may not specify a duration less than 600 seconds"));
}

void validate_signing_request_update(FieldErrors& errors, Json o, Json old, ChangedBy by) {
  const Json now = o["status"]["conditions"], was = old["status"]["conditions"];
  conditions(errors, now);
  for (const char* type : {"Approved", "Denied", "Failed"}) {
    const bool has = find_type(now, type).exists(), had = find_type(was, type).exists();
    if (had && !has) errors.push_back(field_forbidden("status.conditions", std::format("updates may not remove a condition of type {}", json_quote(type))));
    const bool decides = std::string_view(type) != "Failed";
    if (has && !had && decides && by != ChangedBy::Approval)
      errors.push_back(field_forbidden("status.conditions", std::format("updates may not add a condition of type {}", json_quote(type))));
  }
  const auto certificate = o["status"]["certificate"].str(), before = old["status"]["certificate"].str();
  if (certificate != before && (!before.empty() || by != ChangedBy::Status))
    errors.push_back(field_forbidden("status.certificate", before.empty() ? "updates may not set certificate content" : "updates may not modify certificate content"));
}

}  // namespace skerry::kube::validation
