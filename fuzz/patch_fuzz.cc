// SPDX-License-Identifier: Apache-2.0
// A patch by a client on an object of ours: first byte: the kind; second: the patch type; then object, NUL, patch.
#include "fuzz/fuzz.h"
#include "kube/codec.h"
#include "kube/patch.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  const auto types = kube::resources();
  const auto& type = types[take_byte(input) % types.size()];
  constexpr kube::PatchType kHow[] = {kube::PatchType::Json, kube::PatchType::Merge, kube::PatchType::StrategicMerge,
                                      kube::PatchType::Apply};
  const auto how = kHow[take_byte(input) % 4];
  const auto current = kube::decode_body(type, kube::kJsonType, take_until(input, '\0'), kube::FieldValidation::Ignore);
  if (!current) return;
  const auto frozen = kube::JsonDoc::parse(kube::canonical(type, current->object.root()));
  REQUIRE(frozen.has_value());
  auto patched = kube::apply_patch(how, type, frozen->root(), input);
  if (!patched) {
    REQUIRE(patched.error().code >= 400);
    return;
  }
  REQUIRE(how != kube::PatchType::Apply);
  const auto decoded = kube::decode_patched(type.body(), patched->root(), kube::FieldValidation::Warn);
  if (!decoded) return;
  const std::string bytes = kube::canonical(type, decoded->object.root());
  REQUIRE(kube::JsonDoc::parse(bytes).has_value());
}
}  // namespace skerry::fuzz
