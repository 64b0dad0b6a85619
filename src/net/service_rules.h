// SPDX-License-Identifier: Apache-2.0
// What the node's nftables table must hold, given the Services and EndpointSlices and which pods have a process now.
// A pure core; service_proxy.h applies what it says. docs/adr/0010-services-in-nftables.md explains the shape:
//
//   prerouting, output:  ClusterIP . protocol . port --map services--> chain of the Service's port
//                        local address, protocol . port --map node-ports--> the same chain
//   chain svc-…:         dnat to numgen random mod N map { 0 : pod . port, … }
//   forward, output:     what still has an address of the service range has no endpoint: refused at once
//
// An update replaces only the chains and map elements that differ from what was applied last, in one transaction.
// Which pods of a Service get traffic: ready ones of this node; of them those that are awake and not busy; if there are
// none, those awake plus a few idle ones, which the first connection wakes. While no endpoint is ready, those that are
// terminating but still serving are used. sessionAffinity ClientIP chooses by a hash of the client's address among all
// ready pods: stable while the set of pods is (the timeout is not counted).
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kube/object.h"
#include "net/slice.h"
#include "os/ipv4.h"

namespace skerry::net {

using os::Ipv4;
using os::Ipv4Range;

class ServiceRules {
 public:
  struct Options {
    std::string table = "skerry";
    std::string node;  // only endpoints of this node, and those that name none
    Ipv4Range pods{{10u << 24 | 42u << 16}, 24};
    Ipv4Range services{{10u << 24 | 43u << 16}, 16};
    std::size_t idle_offer = 2;        // idle pods offered beside (or for want of) awake ones
    // The cluster DNS address and where the node's name server listens: port 53 of it leads there whatever Service has
    // that address (another port of which works as usual).
    struct NameServer {
      Ipv4 address, server;
    };
    std::optional<NameServer> names{};
    std::size_t endpoints_max = 1000;  // of one Service port; further ones get no traffic and are reported
  };
  explicit ServiceRules(Options);

  // Kubernetes objects. What cannot be served is left out, and problems() says so.
  void put_service(const kube::Object&);
  void remove_service(std::string_view namespace_, std::string_view name);
  void put_slice(const kube::Object&);  // discovery.k8s.io/v1 EndpointSlice
  void remove_slice(std::string_view namespace_, std::string_view name);
  void set_awake(std::set<Ipv4> pods);  // pods with a process
  void set_busy(std::set<Ipv4> pods);   // awake pods that had better get no further connection now

  // A batch for nft that makes the kernel's table equal to what is wanted, or nothing if it is.
  // The first, and the one after lost(), replaces the whole table.
  std::optional<std::string> update();
  void applied();               // the last batch is in the kernel
  void lost();                  // the kernel's state is unknown: a batch failed, or somebody else changed the table
  std::string removal() const;  // the batch that takes the table away
  // Nobody is sent to this pod any more: no slice offers it as ready, and the table that is in the kernel does not name it.
  bool free_of(Ipv4 pod) const;

  // Where connections to each Service port are to be led now: what update() puts into words for nft.
  struct Route {
    Ipv4 address;
    std::string protocol;  // "tcp", "udp"
    std::uint16_t port = 0;
    std::vector<std::pair<Ipv4, std::uint16_t>> pods{};
    friend auto operator<=>(const Route&, const Route&) = default;
  };
  std::vector<Route> routes() const;

  struct Problem {
    std::string namespace_, service, reason, message;  // reason and message of an Event on the Service
    friend auto operator<=>(const Problem&, const Problem&) = default;
  };
  std::vector<Problem> problems() const;  // of the present Services, sorted

 private:
  struct Endpoint {
    Ipv4 address;
    std::uint16_t port = 0;
    friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
  };
  struct Port {
    std::string name, protocol;  // "tcp", "udp"
    std::uint16_t port = 0, node_port = 0;
  };
  struct Service {
    std::vector<Ipv4> addresses;  // ClusterIP and external ones
    std::vector<Port> ports;
    bool affinity = false;
    std::vector<std::pair<std::string, std::string>> problems;
  };
  using Key = std::pair<std::string, std::string>;  // namespace, name

  // The wanted table: chain name to its rule's expression; map elements by key text.
  struct Plan {
    std::map<std::string, std::string> chains;
    std::map<std::string, std::string> services, node_ports;  // element key (JSON) to chain name
    std::set<Ipv4> pods;                                      // whom the chains name
    friend bool operator==(const Plan&, const Plan&) = default;
  };
  Plan plan() const;
  std::vector<Endpoint> candidates(const Key& key, const Service& service, const Port& port) const;
  std::string full(const Plan&) const;
  std::string difference(const Plan& from, const Plan& to) const;

  Options options_;
  std::map<Key, Service> services_;
  std::map<Key, Slice> slices_;
  std::set<Ipv4> awake_, busy_;
  std::optional<Plan> applied_;  // nothing: the kernel's state is unknown
  Plan offered_;
};

}  // namespace skerry::net
