// SPDX-License-Identifier: Apache-2.0
// The example guest's parser, on the host: first byte: how the body is cut. The outcome does not depend on the cuts.
#include <algorithm>
#include <cstring>
#include <memory>

#include "fuzz/fuzz.h"
extern "C" {
#include "guest/examples/edge-service/batch.h"
}

namespace skerry::fuzz {
namespace {
struct Body {
  std::string_view rest;
  std::size_t step;
};
std::uint32_t read_body(void* context, char* buffer, std::uint32_t size, int* at_end) {
  auto& body = *static_cast<Body*>(context);
  const std::size_t count = std::min({body.step, body.rest.size(), std::size_t{size}});
  if (count > 0) std::memcpy(buffer, body.rest.data(), count);
  body.rest.remove_prefix(count);
  *at_end = body.rest.empty() ? 1 : 0;
  return static_cast<std::uint32_t>(count);
}
}  // namespace

void fuzz_one(std::string_view input) {
  static const auto one = std::make_unique<batch>();
  static const auto other = std::make_unique<batch>();
  const std::size_t step = 1 + take_byte(input) % 64U;
  batch_error error{}, other_error{};
  Body whole{input, input.size() + 1}, cut{input, step};
  const int refused = batch_parse(one.get(), read_body, &whole, &error);
  REQUIRE(batch_parse(other.get(), read_body, &cut, &other_error) == refused);
  if (refused != 0) {
    REQUIRE(error.offset == other_error.offset && error.reason == other_error.reason);
    REQUIRE(error.offset <= input.size());
    return;
  }
  REQUIRE(one->readings > 0 && one->readings <= BATCH_READINGS_MAX && one->sensors <= BATCH_SENSORS_MAX);
  REQUIRE(one->outliers == other->outliers);
  for (std::uint32_t i = 0; i < one->sensors; i++) {
    const auto& s = one->sensor[i];
    REQUIRE(s.min <= s.median && s.median <= s.max);
  }
}
}  // namespace skerry::fuzz
