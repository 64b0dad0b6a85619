// SPDX-License-Identifier: Apache-2.0
// Asks the name servers of the host's resolv.conf. The shell of Upstreams: each query goes out as it came, with a fresh
// random id from a socket of its own (so a fresh port), and its reply is taken only from whom it was sent to, with that
// id and that question. The file is read again when it has changed. Who did not answer is probed in the background (".
// NS", by UDP), and only that decides who is dead: see Upstreams. Owner: NameServer, on its loop.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "metrics/registry.h"
#include "net/dns_message.h"
#include "net/upstreams.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::net {

class Forwarder {
 public:
  struct Options {
    std::filesystem::path resolv_conf = "/etc/resolv.conf";
    std::vector<std::string> ours{};  // addresses of this server, which are never asked
    std::uint16_t port = 53;          // of every upstream (tests have others)
    std::size_t in_flight_max = 256;
    Duration timeout = std::chrono::seconds(2);  // of one upstream
    Duration probe_timeout = std::chrono::seconds(1);
    Duration timeout_all = std::chrono::milliseconds(4500);  // of all: glibc gives up after 5 s
    Upstreams::Options upstreams{};
  };
  Forwarder(rt::Loop&, Random&, Options);
  ~Forwarder();

  void start();
  rt::Task<> stop();

  enum class Via : std::uint8_t { Udp, Tcp };
  // The reply to `query`, which asks `question`, with the query's id. The first upstream that answers otherwise than
  // that it cannot has it. Unavailable: none answers, now or as far as is known. Exhausted: too many wait already.
  rt::Task<std::string> ask(std::string query, DnsQuestion question, Via via);
  // False: ask() would say Exhausted.
  bool has_room() const;

  struct Counters {
    std::uint64_t answered = 0, unavailable = 0, refused = 0;  // of ask()
    std::uint64_t attempts_failed = 0, mismatches = 0;         // replies that were not to what was asked
  };
  const Counters& counters() const { return counters_; }
  const metrics::Histogram& took() const { return took_; }
  std::size_t known() const;
  std::size_t usable() const;  // not dead

 private:
  struct State;
  rt::Task<std::string> try_one(std::string address, std::string query, DnsQuestion question, Via via,
                                Duration timeout);
  rt::Task<> run_probes();
  rt::Task<> probe(std::string address);
  void reread(Instant now);

  rt::Loop& loop_;
  Random& random_;
  Options options_;
  SystemClock clock_;
  Counters counters_;
  metrics::Histogram took_;
  std::unique_ptr<State> state_;
};

}  // namespace skerry::net
