// SPDX-License-Identifier: Apache-2.0
#include "kube/digest.h"

#include <charconv>
#include <format>

#include "base/text.h"

namespace skerry::kube {

// FNV-1a over the uid, a zero byte and the revision's eight bytes (lowest first); then mixed, so that sums of near revisions differ.
std::uint64_t Digest::of(const Object& object) {
  std::uint64_t h = 0xcbf29ce484222325;
  const auto byte = [&h](std::uint8_t b) { h = (h ^ b) * 0x100000001b3; };
  for (const char c : object.uid()) byte(static_cast<std::uint8_t>(c));
  byte(0);
  for (int shift = 0; shift < 64; shift += 8) byte(static_cast<std::uint8_t>(object.revision().value() >> shift));
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9;
  h = (h ^ (h >> 27)) * 0x94d049bb133111eb;
  return h ^ (h >> 31);
}

std::string digests_text(const Digests& digests) {
  std::string out;
  for (const auto& [resource, value] : digests) out += std::format("{}{}={:016x}", out.empty() ? "" : ";", resource, value);
  return out;
}

std::optional<Digests> parse_digests(std::string_view text) {
  constexpr std::size_t kResourcesMax = 16, kNameMax = 64, kDigits = 16;
  Digests out;
  for (const std::string_view part : split(text, ';')) {
    const auto eq = part.find('=');
    if (eq == 0 || eq == std::string_view::npos || eq > kNameMax || part.size() != eq + 1 + kDigits || out.size() == kResourcesMax) return std::nullopt;
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(part.data() + eq + 1, part.data() + part.size(), value, 16);
    if (error != std::errc{} || end != part.data() + part.size()) return std::nullopt;
    out.emplace_back(part.substr(0, eq), value);
  }
  return out;
}

}  // namespace skerry::kube
