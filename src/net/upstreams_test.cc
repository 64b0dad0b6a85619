// SPDX-License-Identifier: Apache-2.0
#include "net/upstreams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::net {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Failure = Upstreams::Failure;

TEST(Upstreams, ReadsAResolvConfAsGlibcDoes) {
  EXPECT_THAT(Upstreams::parse("# nameserver 192.0.2.9\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # far\n"
                               "nameservers 192.0.2.8\nnameserver\nnameserver 192.0.2.1\nnameserver 10.43.0.10\nnameserver fe80::1%eth0\n"
                               "nameserver 192.0.2.4\noptions ndots:5",
                               {"10.43.0.10"}),
              ElementsAre("192.0.2.1", "2001:db8::1", "fe80::1%eth0"));
  EXPECT_THAT(Upstreams::parse("", {}), IsEmpty());
}

TEST(Upstreams, OneLostPacketKillsNobodyTwoDo) {
  Upstreams upstreams({});
  upstreams.set({"a", "b"});
  const Instant t{};
  EXPECT_FALSE(upstreams.failed("a", Failure::Silent, t));
  EXPECT_THAT(upstreams.alive(), ElementsAre("a", "b"));
  EXPECT_FALSE(upstreams.answered("a"));
  EXPECT_FALSE(upstreams.failed("a", Failure::Silent, t)) << "an answer between them";
  EXPECT_TRUE(upstreams.failed("a", Failure::Silent, t));
  EXPECT_THAT(upstreams.alive(), ElementsAre("b"));
  EXPECT_TRUE(upstreams.failed("b", Failure::Unreachable, t)) << "at once: nothing was lost, there is no way";
  EXPECT_THAT(upstreams.alive(), IsEmpty());
}

TEST(Upstreams, TheDeadAreProbedEverMoreSeldomAndComeBackAtOnce) {
  Upstreams upstreams({.silences_max = 1});
  upstreams.set({"a"});
  Instant t{};
  upstreams.failed("a", Failure::Silent, t);
  std::vector<std::int64_t> waits;
  for (int i = 0; i < 7; ++i) {
    const Instant from = t;
    while (upstreams.due(t).empty()) t += 50ms;
    waits.push_back((t - from) / 1ms);
    EXPECT_FALSE(upstreams.failed("a", Failure::Silent, t)) << "it was dead before";
  }
  EXPECT_THAT(waits, ElementsAre(250, 500, 1000, 2000, 4000, 5000, 5000));
  EXPECT_TRUE(upstreams.answered("a"));
  EXPECT_THAT(upstreams.alive(), ElementsAre("a"));
  EXPECT_THAT(upstreams.due(t + 1h), IsEmpty());
}

TEST(Upstreams, ANewFileKeepsWhatIsKnown) {
  Upstreams upstreams({.silences_max = 1});
  upstreams.set({"a", "b"});
  upstreams.failed("b", Failure::Silent, Instant{});
  upstreams.set({"b", "c"});
  EXPECT_THAT(upstreams.alive(), ElementsAre("c"));
  EXPECT_FALSE(upstreams.failed("a", Failure::Silent, Instant{})) << "it is not known any more";
}

}  // namespace
}  // namespace skerry::net
