// SPDX-License-Identifier: Apache-2.0
// The path and query of a request to the API.
#include "fuzz/fuzz.h"
#include "http/message.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  if (const auto target = http::Target::parse(input)) {
    REQUIRE(target->path.starts_with("/"));
    REQUIRE(target->path.find('\0') == std::string::npos);
  }
  const auto round = http::Target::parse("/?x=" + http::percent_encode(input));
  // NUL is refused wherever it stands.
  REQUIRE(round.has_value() == (input.find('\0') == std::string_view::npos));
  if (round) REQUIRE(round->param("x") == input);
}
}  // namespace skerry::fuzz
