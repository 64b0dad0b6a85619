// SPDX-License-Identifier: Apache-2.0
// Which name servers the node forwards to, and which of them answer now. A pure core: forwarder.h asks them.
//
//   alive ──(a query was not answered)──▶ suspect ──(two probes in a row were not)──▶ dead
//     ◀───────(anything was answered)─────────┴──────────────────────────────────────────┘ probed after 0.25, 0.5, … 5
//     s
//
// Probes decide, and not queries: a name whose own servers are silent must not cut anybody else off. Suspects are asked
// as the alive are. While all are dead a query fails at once, so that being offline costs the node's programs no
// waiting.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace skerry::net {

class Upstreams {
 public:
  struct Options {
    std::size_t probes_max = 2;
    Duration backoff_min = std::chrono::milliseconds(250), backoff_max = std::chrono::seconds(5);
  };
  explicit Upstreams(Options options) : options_(options) {}

  // The addresses of a resolv.conf, as text, at most three as with glibc, without those in `ours`.
  static std::vector<std::string> parse(std::string_view resolv_conf, const std::vector<std::string>& ours);

  // Those that stay keep their state; new ones are taken to be alive.
  void set(const std::vector<std::string>& addresses);
  std::vector<std::string> usable() const;          // whom to ask, in the file's order: all but the dead
  std::vector<std::string> due(Instant now) const;  // those that should be probed now
  bool all_alive() const;                           // nothing is to be probed, now or later

  // Of an address that is not among them any more nothing is kept. The results: one that was dead is not any more; one
  // that was not is dead.
  bool answered(std::string_view address);  // a query or a probe
  void query_failed(std::string_view address, Instant now);
  bool probe_failed(std::string_view address, Instant now);

  std::size_t size() const { return all_.size(); }

 private:
  struct Upstream {
    std::string address{};
    bool suspect = false;
    std::size_t probes_failed = 0;
    Duration backoff{};
    Instant probe_at{};
  };
  Upstream* find(std::string_view address);
  bool dead(const Upstream& one) const { return one.probes_failed >= options_.probes_max; }
  Options options_;
  std::vector<Upstream> all_;
};

}  // namespace skerry::net
