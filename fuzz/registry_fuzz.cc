// SPDX-License-Identifier: Apache-2.0
// What a registry, a pull secret and the registry client say. The first byte chooses the reader.
#include "fuzz/fuzz.h"
#include "oci/auth.h"
#include "oci/manifest.h"
#include "oci/pull_wire.h"

namespace {

using namespace skerry;

void read_manifest(std::string_view text) {
  const auto document = oci::parse_manifest("application/json", text);
  if (!document) return;
  if (const auto* manifest = std::get_if<oci::Manifest>(&*document)) {
    REQUIRE(!manifest->layers.empty());
    static_cast<void>(oci::check_layers(*manifest).has_value());
  } else {
    static_cast<void>(oci::choose(std::get<oci::Index>(*document), "amd64").has_value());
  }
}

void read_answer(std::string_view text) {
  const auto answer = oci::parse_answer(text);
  if (!answer) return;
  const auto again = oci::parse_answer(oci::to_json(*answer));
  REQUIRE(again && oci::to_json(*again) == oci::to_json(*answer));
  if (const auto* pulled = std::get_if<oci::answer::Pulled>(&*answer)) REQUIRE(!pulled->file.contains('/') && !pulled->file.starts_with('.'));
}

}  // namespace

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  switch (const auto which = take_byte(input); which % 5) {
    case 0: read_manifest(input); break;
    case 1: static_cast<void>(oci::parse_config(input).has_value()); break;
    case 2: static_cast<void>(oci::parse_challenges(input).has_value()); break;
    case 3: static_cast<void>(oci::credentials_for(input, oci::Reference{.registry = "r.example.com:5000", .repository = "a/b", .tag = "1"}).has_value()); break;
    default: read_answer(input); break;
  }
}
}  // namespace skerry::fuzz
