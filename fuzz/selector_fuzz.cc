// SPDX-License-Identifier: Apache-2.0
// Label and field selectors of a query: what parses is written as text that parses to the same.
#include "fuzz/fuzz.h"
#include "kube/selector.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  const auto doc =
      kube::JsonDoc::parse(R"({"metadata":{"name":"a","labels":{"app":"x","tier":"1"}},"spec":{"nodeName":"n"}})");
  REQUIRE(doc.has_value());
  if (const auto selector = kube::LabelSelector::parse(input)) {
    const std::string text = selector->to_string();
    const auto again = kube::LabelSelector::parse(text);
    REQUIRE(again.has_value());
    REQUIRE(again->to_string() == text);
    const auto labels = doc->root().path("metadata.labels");
    REQUIRE(again->matches(labels) == selector->matches(labels));
  }
  const auto* pods = kube::find_resource("", "v1", "pods");
  REQUIRE(pods != nullptr);
  if (const auto fields = kube::FieldSelector::parse(input, *pods)) (void)fields->matches(doc->root());
}
}  // namespace skerry::fuzz
