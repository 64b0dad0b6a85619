// SPDX-License-Identifier: Apache-2.0
// A request's body, JSON or protobuf, of any kind: first byte: the kind; second: form and strictness. What decodes has
// canonical bytes that decode to themselves, and survives the way through protobuf.
#include "fuzz/fuzz.h"
#include "kube/codec.h"
#include "kube/defaults.h"
#include "kube/protobuf.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  const auto types = kube::resources();
  const auto& type = types[take_byte(input) % types.size()];
  const auto form = take_byte(input);
  const auto validation = form & 2 ? kube::FieldValidation::Strict : kube::FieldValidation::Warn;
  auto decoded = kube::decode_body(type, form & 1 ? kube::kProtobufType : kube::kJsonType, input, validation);
  if (!decoded) {
    REQUIRE(decoded.error().code >= 400 && decoded.error().code < 500);
    REQUIRE(kube::JsonDoc::parse(decoded.error().json()).has_value());
    return;
  }
  const std::string bytes = kube::canonical(type, decoded->object.root());
  auto again = kube::decode_body(type, kube::kJsonType, bytes, kube::FieldValidation::Strict);
  REQUIRE(again.has_value());
  REQUIRE(kube::canonical(type, again->object.root()) == bytes);

  const auto doc = kube::JsonDoc::parse(bytes);
  REQUIRE(doc.has_value());
  const auto raw = kube::json_to_protobuf(type.message(), doc->root());
  REQUIRE(raw.has_value());
  auto back = kube::protobuf_to_json(type.message(), *raw);
  REQUIRE(back.has_value());
}
}  // namespace skerry::fuzz
