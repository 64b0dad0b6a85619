// SPDX-License-Identifier: Apache-2.0
// IPv4 addresses and ranges as values, in host byte order.
#pragma once
#include <compare>
#include <cstdint>
#include <format>
#include <optional>
#include <string>
#include <string_view>

#include "base/text.h"

namespace skerry::os {

struct Ipv4 {
  std::uint32_t value = 0;
  friend auto operator<=>(const Ipv4&, const Ipv4&) = default;

  // Dotted quad without leading zeros; nothing else.
  static std::optional<Ipv4> parse(std::string_view text) {
    const auto parts = split(text, '.');
    if (parts.size() != 4) return std::nullopt;
    std::uint32_t value = 0;
    for (const auto part : parts) {
      const auto octet = parse_int<std::uint32_t>(part);
      if (!octet || *octet > 255 || part.size() > 3 || (part.size() > 1 && part[0] == '0')) return std::nullopt;
      value = value << 8 | *octet;
    }
    return Ipv4{value};
  }
  std::string str() const {
    return std::format("{}.{}.{}.{}", value >> 24, value >> 16 & 255, value >> 8 & 255, value & 255);
  }
};

struct Ipv4Range {
  Ipv4 first;       // the network address: no host bits
  int prefix = 32;  // 0..32
  friend bool operator==(const Ipv4Range&, const Ipv4Range&) = default;

  // "10.42.0.0/24"; host bits must be zero.
  static std::optional<Ipv4Range> parse(std::string_view text) {
    const auto parts = split(text, '/');
    if (parts.size() != 2) return std::nullopt;
    const auto first = Ipv4::parse(parts[0]);
    const auto prefix = parse_int<int>(parts[1]);
    if (!first || !prefix || *prefix < 0 || *prefix > 32) return std::nullopt;
    const Ipv4Range range{*first, *prefix};
    if ((first->value & ~range.mask()) != 0) return std::nullopt;
    return range;
  }
  std::uint32_t mask() const { return prefix == 0 ? 0 : ~std::uint32_t{0} << (32 - prefix); }
  std::uint64_t size() const { return std::uint64_t{1} << (32 - prefix); }
  Ipv4 last() const { return Ipv4{first.value | ~mask()}; }
  Ipv4 at(std::uint32_t offset) const { return Ipv4{first.value + offset}; }
  bool contains(Ipv4 address) const { return (address.value & mask()) == first.value; }
  bool overlaps(Ipv4Range other) const { return contains(other.first) || other.contains(first); }
  std::string str() const { return std::format("{}/{}", first.str(), prefix); }
};

}  // namespace skerry::os
