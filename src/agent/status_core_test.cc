// SPDX-License-Identifier: Apache-2.0
#include "agent/status_core.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace skerry::agent {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

const PodName kA{"u-a", "d", "a"}, kB{"u-b", "d", "b"};
constexpr auto kNow = StatusCore::Urgency::Now;

class StatusCoreTest : public ::testing::Test {
 protected:
  std::vector<StatusCore::Send> poll() { return core_.poll(t_); }
  void answer(const StatusCore::Send& send, std::optional<Errc> code = std::nullopt) {
    core_.on_answer(send.id, code ? std::optional(Error(*code, "no")) : std::nullopt, t_);
  }
  SeededRandom random_{1};
  StatusCore core_{{}, random_};
  Instant t_{};
};

TEST_F(StatusCoreTest, OnlyTheLatestStatusThenTheDeletion) {
  core_.post(kA, "1", kNow, t_);
  core_.post(kA, "2", kNow, t_);
  auto first = poll();
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0].status, "2");
  core_.post(kA, "3", kNow, t_);
  core_.remove(kA, t_);
  EXPECT_THAT(poll(), IsEmpty()) << "one exchange of a pod at a time";
  answer(first[0]);
  auto second = poll();
  ASSERT_THAT(second, SizeIs(1));
  EXPECT_EQ(second[0].status, "3");
  answer(second[0]);
  auto third = poll();
  ASSERT_THAT(third, SizeIs(1));
  EXPECT_EQ(third[0].status, std::nullopt);
  answer(third[0]);
  EXPECT_EQ(core_.waiting(), 0u);
}

TEST_F(StatusCoreTest, SuspendedItSendsNothingAndAfterwardsTheLatest) {
  core_.suspend(true);
  core_.post(kA, "1", kNow, t_);
  EXPECT_THAT(poll(), IsEmpty());
  EXPECT_FALSE(core_.deadline());
  core_.post(kA, "2", kNow, t_);
  EXPECT_TRUE(core_.waits("u-a"));
  EXPECT_FALSE(core_.waits("u-b"));
  core_.suspend(false);
  const auto sent = poll();
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].status, "2");
}

TEST_F(StatusCoreTest, AServerThatIsAwayIsAskedByOnePodOnly) {
  core_.post(kA, "1", kNow, t_);
  core_.post(kB, "1", kNow, t_);
  for (const auto& send : poll()) answer(send, Errc::Unavailable);
  EXPECT_THAT(poll(), IsEmpty());
  ASSERT_TRUE(core_.deadline());
  t_ = *core_.deadline();
  auto one = poll();
  ASSERT_THAT(one, SizeIs(1));
  answer(one[0]);
  auto other = poll();
  ASSERT_THAT(other, SizeIs(1)) << "it is back: the others follow";
  core_.post(kA, "2", kNow, t_);
  answer(other[0], Errc::Unauthenticated);
  EXPECT_THAT(poll(), IsEmpty()) << "a certificate that is not taken is no trouble of one pod";
}

TEST_F(StatusCoreTest, WhatFailedIsSentAgainUnlessThereIsANewerOne) {
  core_.post(kA, "1", kNow, t_);
  auto sent = poll();
  core_.post(kA, "2", kNow, t_);
  answer(sent[0], Errc::Internal);
  EXPECT_THAT(poll(), IsEmpty());
  t_ += 500ms;
  sent = poll();
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].status, "2");
}

TEST_F(StatusCoreTest, AFailedDeletionIsSentAgainAndAnObjectThatIsGoneIsTheEnd) {
  core_.remove(kA, t_);
  auto sent = poll();
  ASSERT_THAT(sent, SizeIs(1));
  answer(sent[0], Errc::Timeout);
  t_ += 30s;
  sent = poll();
  ASSERT_THAT(sent, SizeIs(1));
  answer(sent[0], Errc::NotFound);
  EXPECT_EQ(core_.waiting(), 0u);
}

TEST_F(StatusCoreTest, ForgottenWhileUnderWayNothingFollows) {
  core_.post(kA, "1", kNow, t_);
  auto sent = poll();
  core_.forget(kA.uid);
  answer(sent[0], Errc::Unavailable);
  EXPECT_THAT(poll(), IsEmpty());
  core_.post(kA, "2", kNow, t_);
  EXPECT_THAT(poll(), SizeIs(1));
}

TEST_F(StatusCoreTest, APodThatWillBeReadyInAMomentIsWaitedFor) {
  core_.post(kA, "creating", StatusCore::Urgency::MaySettle, t_);
  EXPECT_THAT(poll(), IsEmpty());
  EXPECT_EQ(core_.deadline(), t_ + 150ms);
  core_.post(kA, "ready", kNow, t_);
  auto sent = poll();
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].status, "ready");
}

}  // namespace
}  // namespace skerry::agent
