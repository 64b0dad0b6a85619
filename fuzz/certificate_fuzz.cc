// SPDX-License-Identifier: Apache-2.0
// What a server may answer to a node that asks for a certificate: the object, the PEM in it, the DER in that; and the files in which the
// node keeps what it got. Whatever it is, only a certificate for the key that was asked for is held, and a file that is read is a pair.
#include "agent/identity_folder.h"
#include "agent/renewal_core.h"
#include "base/text.h"
#include "fuzz/fuzz.h"
#include "kube/json.h"

namespace skerry::fuzz {
namespace {

using Core = agent::RenewalCore;

void answer(const Core::Answer& answer, Time now) {
  SeededRandom random(1);
  Core core({}, random);
  core.set_line(true);
  pki::CertificateInfo current{.common_name = "system:node:a", .organizations = {"system:nodes"}, .not_before = now - 48h, .not_after = now - 24h};
  core.set(Core::Managed{current, false, {.common_name = "system:node:a", .organizations = {"system:nodes"}}});
  core.on_asked("r", std::string(64, '0'), Instant{});
  const auto note = core.on_answer(answer, now, Instant{});
  const bool pending = answer.state == Core::Answer::State::Pending;
  REQUIRE(core.held().empty());  // nobody has that key
  REQUIRE(note.has_value() != pending && core.in_hand() == pending);
}

}  // namespace

void fuzz_one(std::string_view input) {
  static const Time now = Time{} + std::chrono::hours(24 * 365 * 56);
  if (const auto doc = kube::JsonDoc::parse(input)) answer(Core::read(doc->root()), now);
  const std::string wrapped = "-----BEGIN CERTIFICATE-----\n" + to_base64(input) + "\n-----END CERTIFICATE-----\n";
  for (const std::string_view pem : {input, std::string_view(wrapped)}) {
    answer({Core::Answer::State::Issued, std::string(pem)}, now);
    const auto info = pki::inspect_certificate(pem);
    REQUIRE(!info || info->key.size() == 64 || info->key.empty());
    const auto keys = pki::inspect_keys(pem);
    REQUIRE(!keys || (!keys->empty() && keys->size() <= 64));
  }
  const auto stored = agent::parse_stored(input);
  REQUIRE(!stored || agent::parse_stored(agent::to_text(*stored)).has_value());
}
}  // namespace skerry::fuzz
