// SPDX-License-Identifier: Apache-2.0
#include "agent/busy_pods.h"

#include <gmock/gmock.h>

namespace skerry::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class BusyPodsTest : public ::testing::Test {
 protected:
  // A quarter of a second later, after so much processor time of each.
  std::set<std::string> later(double a, double b) {
    now_ += 250ms;
    a_ += a;
    b_ += b;
    return pods_.update(now_, {{.uid = "a", .cpu_seconds = a_, .cores_max = 0.5}, {.uid = "b", .cpu_seconds = b_, .cores_max = 2}});
  }
  BusyPods pods_;
  Instant now_{};
  double a_ = 100, b_ = 7;
};

TEST_F(BusyPodsTest, AreThoseNearTheirOwnLimit) {
  EXPECT_THAT(later(50, 50), IsEmpty()) << "the first reading says nothing";
  EXPECT_THAT(later(0.125, 0.125), ElementsAre("a")) << "half a core: all that a has, a quarter of b's two";
  EXPECT_THAT(later(0.125, 0.45), ElementsAre("a", "b"));
}

TEST_F(BusyPodsTest, StayBusyUntilTheyHaveMuchRoom) {
  (void)later(0, 0);
  EXPECT_THAT(later(0.09, 0), IsEmpty()) << "72 %";
  EXPECT_THAT(later(0.11, 0), ElementsAre("a")) << "88 %";
  EXPECT_THAT(later(0.07, 0), ElementsAre("a")) << "56 %";
  EXPECT_THAT(later(0.05, 0), IsEmpty()) << "40 %";
}

TEST_F(BusyPodsTest, APodWithOtherProcessesBeginsAnew) {
  (void)later(0, 0);
  EXPECT_THAT(later(0.125, 0), ElementsAre("a"));
  EXPECT_THAT(later(-50, 0), IsEmpty());
  EXPECT_THAT(pods_.update(now_ + 250ms, {}), IsEmpty());
  now_ += 250ms;
  EXPECT_THAT(later(0.125, 0), IsEmpty()) << "it was away: a first reading again";
}

}  // namespace
}  // namespace skerry::agent
