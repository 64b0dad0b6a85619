// SPDX-License-Identifier: Apache-2.0
#include "net/address_pool.h"

#include <format>

#include "base/check.h"

namespace skerry::net {

AddressPool::AddressPool(Ipv4Range range) : range_(range), capacity_(range.size() - kFirst - 1) {
  CHECK(range.prefix >= 8 && range.prefix <= 29);
}

Result<Ipv4> AddressPool::allocate(std::string_view owner) {
  if (const auto has = by_owner_.find(std::string(owner)); has != by_owner_.end()) return has->second;
  if (by_owner_.size() >= capacity_) {
    return Fail({Errc::Exhausted, std::format("all {} pod addresses of {} are in use; give the node a larger pod range",
                                              capacity_, range_.str())});
  }
  const auto end = static_cast<std::uint32_t>(range_.size() - 1);  // the broadcast address
  while (by_address_.contains(range_.at(next_).value)) next_ = next_ + 1 == end ? kFirst : next_ + 1;
  const Ipv4 address = range_.at(next_);
  next_ = next_ + 1 == end ? kFirst : next_ + 1;
  by_address_.emplace(address.value, &by_owner_.emplace(owner, address).first->first);
  return address;
}

Result<> AddressPool::reserve(std::string_view owner, Ipv4 address) {
  if (!range_.contains(address) || address < range_.at(kFirst) || address == range_.last()) {
    return Fail({Errc::Invalid, std::format("{} is not a pod address of {}", address.str(), range_.str())});
  }
  const auto has = by_owner_.find(std::string(owner));
  if (has != by_owner_.end() && has->second != address) {
    return Fail({Errc::Invalid, std::format("{} cannot have {}: it has {}", owner, address.str(), has->second.str())});
  }
  if (const auto at = by_address_.find(address.value); at != by_address_.end() && *at->second != owner) {
    return Fail({Errc::AlreadyExists, std::format("{} cannot have {}: {} has it", owner, address.str(), *at->second)});
  }
  by_address_.emplace(address.value, &by_owner_.emplace(owner, address).first->first);
  return {};
}

void AddressPool::release(std::string_view owner) {
  const auto has = by_owner_.find(std::string(owner));
  if (has == by_owner_.end()) return;
  by_address_.erase(has->second.value);
  by_owner_.erase(has);
}

}  // namespace skerry::net
