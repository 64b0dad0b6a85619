// SPDX-License-Identifier: Apache-2.0
// Small texts from outside: times, durations, base64, numbers, quantities, image references. What parses is written as
// text that parses to the same.
#include "base/text.h"
#include "base/time.h"
#include "fuzz/fuzz.h"
#include "kube/quantity.h"
#include "oci/reference.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  if (const auto time = from_rfc3339(input)) {
    const auto again = from_rfc3339(to_rfc3339_nano(*time));
    REQUIRE(again.has_value());
    REQUIRE(*again == *time);
  }
  if (const auto duration = parse_duration(input)) (void)to_human(*duration);
  if (const auto bytes = from_base64(input)) REQUIRE(from_base64(to_base64(*bytes)) == bytes);
  REQUIRE(from_base64(to_base64(input)) == input);
  if (const auto number = parse_int<std::int64_t>(input))
    REQUIRE(parse_int<std::int64_t>(std::to_string(*number)) == number);
  if (const auto quantity = kube::Quantity::parse(input)) {
    const auto again = kube::Quantity::parse(quantity->str());
    REQUIRE(again.has_value());
    REQUIRE(*again == *quantity);
    REQUIRE(again->str() == quantity->str());
  }
  if (const auto reference = oci::Reference::parse(input)) {
    const auto again = oci::Reference::parse(reference->text());
    REQUIRE(again.has_value());
    REQUIRE(*again == *reference);
  }
}
}  // namespace skerry::fuzz
