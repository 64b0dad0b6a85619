// SPDX-License-Identifier: Apache-2.0
// Which name servers the node forwards to, and which of them answer now. A pure core: forwarder.h asks them.
//
//   alive ──(two silences in a row, or unreachable)──▶ dead ──(probe answered)──▶ alive
//                                                      probed after 0.25, 0.5, … 5 s
//
// While all are dead a query fails at once, so that being offline costs the node's programs nothing but the answer.
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
    std::size_t silences_max = 2;
    Duration backoff_min = std::chrono::milliseconds(250), backoff_max = std::chrono::seconds(5);
  };
  explicit Upstreams(Options options) : options_(options) {}

  // The addresses of a resolv.conf, as text, at most three as with glibc, without those in `ours`.
  static std::vector<std::string> parse(std::string_view resolv_conf, const std::vector<std::string>& ours);

  // Those that stay keep their state; new ones are taken to be alive.
  void set(const std::vector<std::string>& addresses);
  std::vector<std::string> alive() const;  // whom to ask, in the file's order
  std::vector<std::string> due(Instant now) const;  // the dead ones that should be probed now

  enum class Failure : std::uint8_t { Silent, Unreachable };
  // Either returns whether the state changed. Nothing happens for an address that is not among them any more.
  bool answered(std::string_view address);
  bool failed(std::string_view address, Failure, Instant now);

  std::size_t size() const { return all_.size(); }

 private:
  struct Upstream {
    std::string address{};
    std::size_t silences = 0;
    bool dead = false;
    Duration backoff{};
    Instant probe_at{};
  };
  Upstream* find(std::string_view address);
  Options options_;
  std::vector<Upstream> all_;
};

}  // namespace skerry::net
