// SPDX-License-Identifier: Apache-2.0
// The node's name server: answers on UDP and TCP what Names knows, and forwards the rest. The shell around both.
//
//   datagram, or message of a connection ─▶ read_query ─▶ Names ──▶ answer            (at once, without a wait)
//                                                           ├─ not ours ──▶ Forwarder ─▶ the reply as it came
//                                                           └─ ExternalName ▶ Forwarder ─▶ CNAME and what it leads to
//
// Its sockets live in the pods' network (pod_network.h), where nftables leads the cluster DNS address
// (service_rules.h). The limits: in-flight forwards (then SERVFAIL), connections (then the one idle longest is closed),
// idle time and size of a message on a connection; queries of one connection are answered one after the other. Owner:
// cli, on the agent's loop; the agent feeds names() before start(), so that the first query is answered whole.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "base/random.h"
#include "metrics/registry.h"
#include "net/forwarder.h"
#include "net/names.h"
#include "os/fd.h"
#include "rt/loop.h"

namespace skerry::net {

class NameServer {
 public:
  struct Options {
    Names::Options names{};
    Forwarder::Options forward{};
    std::size_t udp_bytes_max = 1232;  // of our own answers, however much the client takes
    std::size_t query_bytes_max = 4096;
    std::size_t connections_max = 64;
    Duration idle_max = std::chrono::seconds(10);  // between messages, and for one message
  };
  NameServer(rt::Loop&, Random&, Options);
  ~NameServer();

  Names& names();
  // `udp` and `tcp` are bound, the latter listens; both non-blocking (PodNetwork makes them).
  Result<> start(os::UniqueFd udp, os::UniqueFd tcp);
  rt::Task<> stop();

  struct Counters {
    std::uint64_t udp = 0, tcp = 0;  // queries
    std::uint64_t answered = 0, no_data = 0, no_such_name = 0, forwarded = 0, failed = 0, refused = 0, malformed = 0;
    std::uint64_t truncated = 0, connections = 0, connections_dropped = 0, unsent = 0;
  };
  const Counters& counters() const;
  void write_metrics(metrics::Exposition&) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skerry::net
