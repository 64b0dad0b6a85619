// SPDX-License-Identifier: Apache-2.0
// Which records the node's Services have, after the Kubernetes DNS specification 1.1.0. A pure core: it is fed Services
// and EndpointSlices as ServiceRules is, and asked questions; name_server.h puts it on the network.
//
//   ZONE                              SOA, NS ns.dns.ZONE        dns-version.ZONE      TXT "1.1.0"
//   SVC.NS.svc.ZONE                   A of the ClusterIP; headless: of each ready endpoint; ExternalName: CNAME
//                                     SRV of every port, as CoreDNS has it
//   HOST.SVC.NS.svc.ZONE              A of the endpoint whose hostname, or address as 10-42-0-3, that is
//   _PORT._PROTO.SVC.NS.svc.ZONE      SRV of a named port; headless: one for each ready endpoint
//   A-B-C-D.NS.pod.ZONE               A, for every address of the pod range ("pods insecure" in CoreDNS)
//   D.C.B.A.in-addr.arpa              PTR of a ClusterIP, or of an endpoint's names
//
// A headless Service without ready endpoints does not exist (NXDOMAIN), as the specification has it. Endpoints of other
// nodes are left out: they cannot be reached, and their addresses may be this node's too. IPv6: NODATA.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kube/object.h"
#include "net/dns_message.h"
#include "net/slice.h"
#include "os/ipv4.h"

namespace skerry::net {

using os::Ipv4;
using os::Ipv4Range;

class Names {
 public:
  struct Options {
    std::string zone = "cluster.local";
    std::string node;  // only endpoints of this node, and those that name none
    Ipv4Range pods{{10u << 24 | 42u << 16}, 24};
    Ipv4Range services{{10u << 24 | 43u << 16}, 16};
    Ipv4 server{10u << 24 | 43u << 16 | 10};  // where the name server is asked: ns.dns.ZONE
    std::uint32_t serial = 1;                 // of the SOA; grows with each change
  };
  explicit Names(Options);

  void put_service(const kube::Object&);
  void remove_service(std::string_view namespace_, std::string_view name);
  void put_slice(const kube::Object&);  // discovery.k8s.io/v1 EndpointSlice
  void remove_slice(std::string_view namespace_, std::string_view name);

  // All Services are known, from a checkpoint or the API server. Before that, what is not known is SERVFAIL, not
  // NXDOMAIN.
  void set_complete() { complete_ = true; }

  struct Answer {
    DnsAnswer message{};
    std::string follow{};  // a CNAME's target outside the zone: the answer is whole with its records
  };
  // Nothing: the question is not about our zones; somebody else knows.
  std::optional<Answer> answer(const DnsQuestion&) const;

  std::size_t services() const { return services_.size(); }

 private:
  struct Service {
    std::vector<Ipv4> addresses;  // ClusterIPs
    bool headless = false, not_ready_too = false;
    std::string external_name{};
    std::vector<SlicePort> ports;
  };
  using Key = std::pair<std::string, std::string>;  // namespace, name
  // What is at one name.
  struct Found {
    bool exists = false;
    std::vector<DnsRecord> records{}, additional{};
  };
  using Labels = std::vector<std::string>;

  Found find(const Labels& relative, const DnsQuestion&) const;
  Found find_service(const Key&, const Labels& below, const DnsQuestion&) const;
  std::optional<Answer> answer_reverse(const Labels&, const DnsQuestion&) const;
  std::set<std::string> endpoint_names(Ipv4) const;
  Answer finish(Found, const DnsQuestion&, DnsRecord soa) const;
  void follow_inside(Answer&, DnsQuestion) const;
  std::string service_name(const Key&) const;
  DnsRecord soa_of(std::string owner) const;
  // Calls visit(slice) for each slice of a Service.
  template <class Visit>
  void each_slice(const Key&, Visit) const;
  bool usable(const Service& service, const SliceEndpoint& endpoint) const {
    return endpoint.ready || service.not_ready_too;
  }

  Options options_;
  bool complete_ = false;
  Labels zone_;
  std::map<Key, Service> services_;
  std::map<Key, Slice> slices_;  // here an endpoint without a hostname has its address with dashes
};

}  // namespace skerry::net
