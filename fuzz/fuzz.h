// SPDX-License-Identifier: Apache-2.0
// What fuzz targets share. A target defines fuzz_one; libFuzzer (preset fuzz) or replay_main.cc (unit tests) calls it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace skerry::fuzz {

// Runs one input to its end; what is wrong ends the process (REQUIRE, CHECK, a sanitizer).
void fuzz_one(std::string_view input);

// A property that every input must have.
#define REQUIRE(...) ((__VA_ARGS__) ? (void)0 : ::skerry::fuzz::broken(#__VA_ARGS__, __FILE__, __LINE__))
[[noreturn]] inline void broken(const char* property, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: this input breaks: %s\n", file, line, property);
  std::abort();
}

// Takes the input up to the separator off its front; the whole of it where there is none.
inline std::string_view take_until(std::string_view& input, char separator) {
  const auto at = input.find(separator);
  const auto part = input.substr(0, at);
  input = at == std::string_view::npos ? std::string_view{} : input.substr(at + 1);
  return part;
}
inline std::uint8_t take_byte(std::string_view& input) {
  if (input.empty()) return 0;
  const auto byte = static_cast<std::uint8_t>(input.front());
  input.remove_prefix(1);
  return byte;
}

}  // namespace skerry::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
