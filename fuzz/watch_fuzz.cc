// SPDX-License-Identifier: Apache-2.0
// The bytes of a watch: first byte: how they are cut. The events do not depend on the cuts.
#include <string>
#include <vector>

#include "client/watch_decoder.h"
#include "fuzz/fuzz.h"

namespace skerry::fuzz {
namespace {
std::vector<std::string> events_of(std::string_view input, std::size_t step) {
  client::WatchDecoder decoder(4096);
  std::vector<std::string> events;
  while (!input.empty()) {
    decoder.push(input.substr(0, step));
    input.remove_prefix(std::min(step, input.size()));
    for (;;) {
      const auto event = decoder.next();
      if (!event) {
        events.emplace_back("error");
        return events;
      }
      if (!*event) break;
      events.push_back(std::to_string(static_cast<int>((*event)->type)) + ((*event)->object ? "o" : "-"));
    }
  }
  return events;
}
}  // namespace

void fuzz_one(std::string_view input) {
  const std::size_t step = 1 + take_byte(input) % 64U;
  const auto whole = events_of(input, input.size() + 1);
  const auto cut = events_of(input, step);
  // A line that is too long may be noticed at another point; what came before it is the same.
  for (std::size_t i = 0; i < std::min(whole.size(), cut.size()); i++) REQUIRE(whole[i] == cut[i]);
}
}  // namespace skerry::fuzz
