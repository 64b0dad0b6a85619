// SPDX-License-Identifier: Apache-2.0
// What a set of objects is, in 64 bits, whatever their order: the sum modulo 2^64 of a hash of each object's uid and
// resourceVersion. Two sides that hold the same versions have the same digest; it is kept up at each change, so that asking costs
// nothing. No protection against somebody who makes collisions on purpose: server and node trust each other. docs/wire/digest.md.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kube/object.h"

namespace skerry::kube {

class Digest {
 public:
  void add(const Object& o) { sum_ += of(o), ++count_; }
  void remove(const Object& o) { sum_ -= of(o), --count_; }
  std::uint64_t value() const { return sum_; }
  std::size_t count() const { return count_; }

 private:
  static std::uint64_t of(const Object&);
  std::uint64_t sum_ = 0;
  std::size_t count_ = 0;
};

// The header Skerry-Digest: "pods=0123456789abcdef;services=…", resources in any order.
inline constexpr std::string_view kDigestHeader = "Skerry-Digest";
using Digests = std::vector<std::pair<std::string, std::uint64_t>>;
std::string digests_text(const Digests&);
// Nothing: it is no such text, or of more than 16 resources.
std::optional<Digests> parse_digests(std::string_view text);

}  // namespace skerry::kube
