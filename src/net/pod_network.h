// SPDX-License-Identifier: Apache-2.0
// The one piece of plumbing that all Wasm handler pods of a node share: a network namespace in which every pod address
// can be bound, and one link pair to the host.
//
//   host namespace                                   namespace `skerry-pods`
//   CIDR via .2 dev skerry0 src .1      skerry0 ──── eth0   .2
//   .1 on skerry0                                    local CIDR dev lo      (all pod addresses are this namespace's
//   own) service range dev lo src .1                      .1 dev eth0; default via .1
//
// A pod costs one socket: no interface, no namespace, no call to the kernel's configuration. No listener of the host
// can collide with a pod's or answer on its address. The service range gets a unicast route (a local one would expose
// the host's listeners on ClusterIPs), so that ClusterIPs reach nftables on a host without a default route. Owner: the
// agent, on its loop; calls take microseconds, open() about 2 ms. What exists is adopted, so pods go on serving while
// agents come and go; only remove() takes it away.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "os/fd.h"
#include "os/ipv4.h"

namespace skerry::net {

using os::Ipv4;
using os::Ipv4Range;

class PodNetwork {
 public:
  struct Options {
    std::filesystem::path run_folder = "/run/skerry";  // the namespace is kept as a file in it; made if absent
    std::string name = "skerry-pods";
    std::string host_link = "skerry0";
    Ipv4Range pods{{10u << 24 | 42u << 16}, 24};      // 10.42.0.0/24; prefix 8..29
    Ipv4Range services{{10u << 24 | 43u << 16}, 16};  // 10.43.0.0/16
  };
  // Makes what is missing; a namespace that it made goes again if the rest fails. Denied: not root. Conflict: it exists with another pod range, which serving pods may use.
  // Invalid: the options contradict each other.
  static Result<PodNetwork> open(Options);

  // A listening, non-blocking, close-on-exec TCP socket on a pod address. Port 0 lets the kernel choose.
  // AlreadyExists: that address and port have a listener. Invalid: not an address of the pod range.
  Result<os::UniqueFd> listen(Ipv4 address, std::uint16_t port, int backlog = 4096) const;

  // The same for UDP: a bound socket.
  Result<os::UniqueFd> bind_datagrams(Ipv4 address, std::uint16_t port) const;

  // That `fd`, which somebody else handed over, is such a socket as listen() makes for this address and port, and lives
  // in this network. Corrupt: it is something else.
  Result<> check_listener(int fd, Ipv4 address, std::uint16_t port) const;
  static std::optional<Ipv4> address_of(int fd);  // nothing: it is no socket of IPv4

  // Takes link, routes and name away. Sockets and sandboxes in it keep the namespace itself alive, cut off.
  Result<> remove();

  const Options& options() const { return options_; }
  Ipv4 host_address() const { return options_.pods.at(1); }
  // open() made the namespace: nothing can have been serving in it before.
  bool made() const { return made_; }
  // No pod ever has it (AddressPool): where the node's name server listens.
  Ipv4 own_address() const { return options_.pods.at(2); }
  int netns() const { return netns_.get(); }  // for probes: connect from inside, or see NetnsScope

 private:
  Result<os::UniqueFd> bind_socket(Ipv4 address, std::uint16_t port, int type, std::string_view operation) const;
  PodNetwork(Options options, os::UniqueFd netns, bool made) : options_(std::move(options)), netns_(std::move(netns)), made_(made) {}
  Options options_;
  os::UniqueFd netns_;
  bool made_;
};

}  // namespace skerry::net
