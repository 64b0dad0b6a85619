// SPDX-License-Identifier: Apache-2.0
// The hash that finds a field by its JSON name. Shared by the generator, which searches a collision-free seed for each
// message, and the look-up in schema.cc: both must compute the same, so this file is the only definition.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>

namespace skerry::kube {

inline std::uint32_t field_hash(std::string_view name, std::uint32_t seed) {
  std::uint64_t head = 0, tail = 0;
  const std::size_t n = name.size() < 8 ? name.size() : 8;
  if (n > 0) {  // memcpy from an empty view's null pointer is undefined
    std::memcpy(&head, name.data(), n);
    std::memcpy(&tail, name.data() + name.size() - n, n);
  }
  std::uint64_t h = (head ^ (tail * 0x9E3779B97F4A7C15ULL) ^ name.size()) * (0xD6E8FEB86659FD93ULL + 2ULL * seed);
  h ^= h >> 32;
  return static_cast<std::uint32_t>(h * 0xD6E8FEB86659FD93ULL >> 32);
}

}  // namespace skerry::kube
