// SPDX-License-Identifier: Apache-2.0
#include "cli/restart_policy.h"

#include <gtest/gtest.h>

namespace skerry::cli {
namespace {

TEST(RestartPolicy, WaitsLongerEachTimeUntilARunOfAMinute) {
  RestartPolicy policy;
  Instant now{};
  const auto die_after = [&](Duration run) {
    policy.started(now);
    now += run;
    return policy.died(now);
  };
  EXPECT_EQ(die_after(1s), Duration::zero());
  EXPECT_EQ(die_after(1s), Duration(100ms));
  EXPECT_EQ(die_after(1s), Duration(200ms));
  for (int i = 0; i < 20; ++i) die_after(1s);
  EXPECT_EQ(die_after(1s), Duration(10s));
  EXPECT_EQ(die_after(60s), Duration::zero());
}

TEST(RestartPolicy, ARunOfTenSecondsIsRememberedForever) {
  RestartPolicy policy;
  policy.started(Instant{});
  EXPECT_FALSE(policy.ever_ran(Instant{} + 9s));
  EXPECT_TRUE(policy.ever_ran(Instant{} + 10s));
  policy.started(Instant{} + 20s);
  EXPECT_TRUE(policy.ever_ran(Instant{} + 20s));
}

}  // namespace
}  // namespace skerry::cli
