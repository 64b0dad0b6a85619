// SPDX-License-Identifier: Apache-2.0
// A request for a certificate: the DER inside its PEM, and the PEM itself. What is accepted can be signed, and only what the
// spec says gets into the certificate.
#include "base/text.h"
#include "fuzz/fuzz.h"
#include "pki/request.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  static const Time now = Time{} + std::chrono::hours(24 * 365 * 56);
  static const auto ca = pki::CertificateAuthority::create("ca", now).value();
  const std::string wrapped = "-----BEGIN CERTIFICATE REQUEST-----\n" + to_base64(input) + "\n-----END CERTIFICATE REQUEST-----\n";
  for (const std::string_view pem : {input, std::string_view(wrapped)}) {
    const auto info = pki::inspect_request(pem);
    if (!info) continue;
    REQUIRE(info->key.size() == 64);
    const auto made = ca.sign(pem, {.common_name = "system:node:a", .organizations = {"system:nodes"}}, now);
    REQUIRE(made.has_value());
    const auto certificate = pki::inspect_certificate(*made);
    REQUIRE(certificate && certificate->common_name == "system:node:a" && certificate->dns_names.empty() && certificate->key == info->key);
  }
}
}  // namespace skerry::fuzz
