// SPDX-License-Identifier: Apache-2.0
#include "net/upstreams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::net {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Upstreams, ReadsAResolvConfAsGlibcDoes) {
  EXPECT_THAT(
      Upstreams::parse(
          "# nameserver 192.0.2.9\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # far\n"
          "nameservers 192.0.2.8\nnameserver\nnameserver 192.0.2.1\nnameserver 10.43.0.10\nnameserver fe80::1%eth0\n"
          "nameserver 192.0.2.4\noptions ndots:5",
          {"10.43.0.10"}),
      ElementsAre("192.0.2.1", "2001:db8::1", "fe80::1%eth0"));
  EXPECT_THAT(Upstreams::parse("", {}), IsEmpty());
}

// Goal: whoever asks for a name whose own servers are silent cuts nobody off. Method: many such queries, and probes
// that are answered.
TEST(Upstreams, OnlyProbesDecide) {
  Upstreams upstreams({});
  upstreams.set({"a", "b"});
  const Instant t{};
  EXPECT_TRUE(upstreams.all_alive());
  for (int i = 0; i < 10; ++i) upstreams.query_failed("a", t);
  EXPECT_THAT(upstreams.usable(), ElementsAre("a", "b"));
  EXPECT_THAT(upstreams.due(t), ElementsAre("a")) << "at once";
  EXPECT_FALSE(upstreams.probe_failed("a", t)) << "one packet may be lost";
  EXPECT_FALSE(upstreams.answered("a")) << "it was not dead";
  EXPECT_TRUE(upstreams.all_alive());
  EXPECT_FALSE(upstreams.probe_failed("a", t)) << "late: it has answered since";
  upstreams.query_failed("a", t);
  EXPECT_FALSE(upstreams.probe_failed("a", t));
  EXPECT_THAT(upstreams.due(t), ElementsAre("a"));
  EXPECT_TRUE(upstreams.probe_failed("a", t));
  EXPECT_THAT(upstreams.usable(), ElementsAre("b"));
  EXPECT_THAT(upstreams.due(t), IsEmpty());
}

TEST(Upstreams, TheDeadAreProbedEverMoreSeldomAndComeBackAtOnce) {
  Upstreams upstreams({.probes_max = 1});
  upstreams.set({"a"});
  Instant t{};
  upstreams.query_failed("a", t);
  EXPECT_TRUE(upstreams.probe_failed("a", t));
  std::vector<std::int64_t> waits;
  for (int i = 0; i < 7; ++i) {
    const Instant from = t;
    while (upstreams.due(t).empty()) t += 50ms;
    waits.push_back((t - from) / 1ms);
    EXPECT_FALSE(upstreams.probe_failed("a", t)) << "it was dead before";
  }
  EXPECT_THAT(waits, ElementsAre(250, 500, 1000, 2000, 4000, 5000, 5000));
  EXPECT_TRUE(upstreams.answered("a"));
  EXPECT_THAT(upstreams.usable(), ElementsAre("a"));
  EXPECT_THAT(upstreams.due(t + 1h), IsEmpty());
}

TEST(Upstreams, ANewFileKeepsWhatIsKnown) {
  Upstreams upstreams({.probes_max = 1});
  upstreams.set({"a", "b"});
  upstreams.query_failed("b", Instant{});
  EXPECT_TRUE(upstreams.probe_failed("b", Instant{}));
  upstreams.set({"b", "c"});
  EXPECT_THAT(upstreams.usable(), ElementsAre("c"));
  upstreams.query_failed("a", Instant{});
  EXPECT_FALSE(upstreams.probe_failed("a", Instant{})) << "it is not known any more";
}

}  // namespace
}  // namespace skerry::net
