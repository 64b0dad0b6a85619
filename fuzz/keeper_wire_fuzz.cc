// SPDX-License-Identifier: Apache-2.0
// A packet between agent and keeper, and an assignment: first byte: which, and how many descriptors came with it. What
// decodes encodes to bytes that decode to the same.
#include <span>

#include "fuzz/fuzz.h"
#include "sandbox/assignment.h"
#include "sandbox/protocol.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  const auto first = take_byte(input);
  const std::size_t fds = (first >> 2) % 8;
  const auto bytes = std::as_bytes(std::span(input));
  switch (first % 4) {
    case 0:
      if (const auto command = sandbox::decode_command(bytes, fds)) {
        const std::string encoded = sandbox::encode(*command);
        REQUIRE(encoded.size() <= sandbox::kKeeperMessageMax);
        const auto again = sandbox::decode_command(std::as_bytes(std::span(encoded)), fds);
        REQUIRE(again.has_value());
        REQUIRE(*again == *command);
      }
      break;
    case 1:
      if (const auto event = sandbox::decode_event(bytes, fds)) {
        const std::string encoded = sandbox::encode(*event);
        REQUIRE(encoded.size() <= sandbox::kKeeperMessageMax);
        const auto again = sandbox::decode_event(std::as_bytes(std::span(encoded)), fds);
        REQUIRE(again.has_value());
        REQUIRE(*again == *event);
      }
      break;
    default:
      if (const auto assignment = sandbox::decode(input)) {
        const auto encoded = sandbox::encode(*assignment);
        REQUIRE(encoded.has_value());
        const auto again = sandbox::decode(*encoded);
        REQUIRE(again.has_value());
        REQUIRE(*again == *assignment);
      }
  }
}
}  // namespace skerry::fuzz
