// SPDX-License-Identifier: Apache-2.0
// What an EndpointSlice says to one node: its own endpoints and those of nowhere, IPv4. Read once for the rules and the names. Pure.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kube/json.h"
#include "kube/object.h"
#include "os/ipv4.h"

namespace skerry::net {

struct SliceEndpoint {
  os::Ipv4 address;
  std::string host{};  // its hostname; mostly empty
  bool ready = false, serving = false;
};
struct SlicePort {
  std::string name{}, protocol{};  // "tcp", "udp", "sctp"
  std::uint16_t port = 0;
};
struct Slice {
  std::string service{};  // of the slice's namespace
  std::vector<SliceEndpoint> endpoints{};
  std::vector<SlicePort> ports{};
};
// Of another family than IPv4: no endpoints and no ports. An endpoint without an address, a port without a number are left out.
Slice read_slice(const kube::Object&, std::string_view node);

// 0: no port.
std::uint16_t port_number(kube::Json value);
std::string lower_case(std::string_view text);  // ASCII, as names and protocols are

}  // namespace skerry::net
