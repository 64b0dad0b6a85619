// SPDX-License-Identifier: Apache-2.0
// JSON text: what parses is written as text that parses to the same, by the reader and by the editor.
#include "fuzz/fuzz.h"
#include "kube/json.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  const auto doc = kube::JsonDoc::parse(input);
  auto edit = kube::JsonEdit::parse(input);
  REQUIRE(doc.has_value() == edit.has_value());
  if (!doc) return;
  const std::string text = doc->root().dump();
  const auto again = kube::JsonDoc::parse(text);
  REQUIRE(again.has_value());
  REQUIRE(again->root().dump() == text);
  REQUIRE(edit->dump() == text);
  for (const auto member : doc->root().members()) {
    // With duplicate keys the last wins; either way there is one.
    REQUIRE(doc->root()[member.key].exists());
  }
}
}  // namespace skerry::fuzz
