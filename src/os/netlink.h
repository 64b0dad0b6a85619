// SPDX-License-Identifier: Apache-2.0
// rtnetlink without a library: links, IPv4 addresses and routes, in about a millisecond for what `ip` needs 30 for.
// A Netlink belongs to the network namespace in which its thread was when it was opened. Calls block until the kernel
// has answered, which it does at once. Not thread-safe. Without CAP_NET_ADMIN every change is Denied.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "os/fd.h"
#include "os/ipv4.h"

namespace skerry::os {

class Netlink {
 public:
  static Result<Netlink> open();

  struct Link {
    int index = 0;
    bool up = false;
    bool running = false;  // up, with a carrier, and the kernel has begun to send on it
    std::string alias;  // free text kept by the kernel; see set_alias
  };
  Result<Link> link(std::string_view name);  // NotFound
  // A pair of virtual Ethernet links; `peer` is created in the network namespace `peer_netns`. AlreadyExists.
  Result<> add_veth(std::string_view name, std::string_view peer, int peer_netns);
  Result<> set_up(int index);
  Result<> set_alias(int index, std::string_view alias);  // up to 255 bytes
  Result<> move_to_netns(int index, int netns);
  Result<> remove_link(int index);  // its peer goes too

  // An existing address or route is success.
  Result<> add_address(int index, Ipv4 address, int prefix);

  enum class RouteKind : std::uint8_t { Unicast, Local };
  enum class RouteTable : std::uint8_t { Main, Local };
  struct Route {
    Ipv4Range to;
    int index = 0;  // the link
    RouteKind kind = RouteKind::Unicast;
    RouteTable table = RouteTable::Main;
    std::optional<Ipv4> gateway = {};  // taken to be on the link
    std::optional<Ipv4> source = {};   // preferred source address
  };
  Result<> add_route(const Route&);     // replaces a route to the same range in the same table
  Result<> remove_route(const Route&);  // NotFound

 private:
  explicit Netlink(UniqueFd socket) : socket_(std::move(socket)) {}
  class Message;
  // Sends, reads up to the acknowledgement. `reply`: receives the payload of a reply before it, if not null.
  Result<> transact(Message& message, std::string_view operation, std::string* reply = nullptr);

  UniqueFd socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace skerry::os
