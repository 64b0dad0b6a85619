// SPDX-License-Identifier: Apache-2.0
// Text codings that several modules share: hexadecimal, base64, integers.
#pragma once
#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace skerry {

std::string to_hex(std::string_view bytes);  // lower case
std::string to_base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);  // standard alphabet, padded; no white space

// The whole of `text` as a decimal integer, or nothing.
template <std::integral T>
std::optional<T> parse_int(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view text, char separator);  // "a,,b" has three parts; "" has one
std::string_view trim(std::string_view text);                                // spaces, tabs, CR, LF at both ends

}  // namespace skerry
