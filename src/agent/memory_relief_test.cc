// SPDX-License-Identifier: Apache-2.0
#include "agent/memory_relief.h"

#include <gmock/gmock.h>

namespace skerry::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Candidates = std::vector<MemoryRelief::Candidate>;

TEST(MemoryRelief, AsksNothingOfAnybodyWithoutPressure) {
  MemoryRelief relief;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(relief.decide(false, {{.uid = "a"}}), MemoryRelief::Decision{});
}

TEST(MemoryRelief, LetsAQuarterOfTheIdleAbleLeaveTheLeastImportantFirst) {
  MemoryRelief relief;
  Candidates awake;
  for (int i = 0; i < 8; ++i) awake.push_back({.uid = std::string(1, static_cast<char>('a' + i)), .priority = 100 - i});
  EXPECT_THAT(relief.decide(true, awake).trim, ElementsAre("h", "g"));
  EXPECT_THAT(relief.decide(true, {{.uid = "only"}}).trim, ElementsAre("only"));
}

TEST(MemoryRelief, OfEquallyImportantPodsTheLargestLeavesFirst) {
  MemoryRelief relief;
  EXPECT_THAT(relief.decide(true, {{.uid = "a", .memory_bytes = 1}, {.uid = "b", .memory_bytes = 9}, {.uid = "c", .memory_bytes = 5}}).trim, ElementsAre("b"));
}

TEST(MemoryRelief, NeverAsksAPodThatMayNotBeIdleToLeave) {
  MemoryRelief relief;
  const Candidates awake = {{.uid = "never", .priority = 0, .idle_able = false}, {.uid = "idle", .priority = 50}};
  for (int i = 0; i < 6; ++i) {
    const auto decision = relief.decide(true, awake);
    EXPECT_THAT(decision.trim, ElementsAre("idle")) << i;
    EXPECT_FALSE(decision.evict) << i;
  }
  EXPECT_EQ(relief.decide(true, awake).evict, "never") << "only then priority decides alone";
}

TEST(MemoryRelief, EndsOnePodAtATimeAndWaitsForItsMemory) {
  MemoryRelief relief;
  const Candidates awake = {{.uid = "low", .priority = 1, .idle_able = false}, {.uid = "high", .priority = 2, .idle_able = false}};
  EXPECT_EQ(relief.decide(true, awake), MemoryRelief::Decision{});
  EXPECT_EQ(relief.decide(true, awake), MemoryRelief::Decision{});
  EXPECT_EQ(relief.decide(true, awake).evict, "low");
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(relief.decide(true, {awake[1]}).evict) << i;
  EXPECT_EQ(relief.decide(true, {awake[1]}).evict, "high");
}

TEST(MemoryRelief, ARestFromPressureStartsThePatienceAnew) {
  MemoryRelief relief({.patience = 1, .patience_alone = 1});
  const Candidates awake = {{.uid = "a", .idle_able = false}};
  EXPECT_FALSE(relief.decide(true, awake).evict);
  EXPECT_FALSE(relief.decide(false, awake).evict);
  EXPECT_FALSE(relief.decide(true, awake).evict);
  EXPECT_TRUE(relief.decide(true, awake).evict);
}

TEST(MemoryRelief, NeverEndsACriticalPod) {
  MemoryRelief relief;
  for (int i = 0; i < 30; ++i) {
    const auto decision = relief.decide(true, {{.uid = "critical", .priority = 2'000'001'000, .idle_able = false}});
    EXPECT_FALSE(decision.evict);
    EXPECT_THAT(decision.trim, IsEmpty());
  }
}

}  // namespace
}  // namespace skerry::agent
