// SPDX-License-Identifier: Apache-2.0
// Which pod has which address of the node's range. A pure core: the agent writes an assignment into its checkpoint
// before it uses it, and takes the checkpoint's assignments back with reserve() when it starts.
// Addresses are handed out in rotation, so that a freed one rests as long as possible before another pod answers on it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "os/ipv4.h"

namespace skerry::net {

using os::Ipv4;
using os::Ipv4Range;

class AddressPool {
 public:
  // The first three addresses (network, host, pod side) and the last are never handed out. The prefix must be 8..29.
  explicit AddressPool(Ipv4Range range);

  // The address that `owner` (a pod's uid) has, or a new one. Exhausted: the range is full.
  Result<Ipv4> allocate(std::string_view owner);
  // Gives `owner` exactly this address, as the checkpoint says. AlreadyExists: another owner has it; Invalid: it is not
  // of this range, or the owner has another.
  Result<> reserve(std::string_view owner, Ipv4 address);
  void release(std::string_view owner);  // nothing happens if it has none

  std::size_t used() const { return by_owner_.size(); }
  std::size_t capacity() const { return capacity_; }

 private:
  static constexpr std::uint32_t kFirst = 3;
  Ipv4Range range_;
  std::size_t capacity_;
  std::uint32_t next_ = kFirst;  // offset where the search starts
  std::unordered_map<std::string, Ipv4> by_owner_;
  std::unordered_map<std::uint32_t, const std::string*> by_address_;  // into by_owner_
};

}  // namespace skerry::net
