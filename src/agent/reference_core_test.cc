// SPDX-License-Identifier: Apache-2.0
#include "agent/reference_core.h"

#include <gmock/gmock.h>

#include <format>

#include "kube/digest.h"

namespace skerry::agent {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;
using State = References::State;

class ReferenceCoreTest : public ::testing::Test {
 protected:
  static kube::ObjectPtr map(int value) {
    return kube::Object::from_json(std::format(
        R"({{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m","namespace":"d","uid":"u","resourceVersion":"{0}"}},"data":{{"k":"{0}"}}}})", value)).value();
  }
  static PodPlan plan() {
    PodPlan out;
    out.pod = std::make_shared<const kube::Identity>(kube::Identity{"d", "a", "u-a"});
    out.config_maps = {"m"};
    return out;
  }
  State state() const { return core_.config_map("d", "m").state; }
  ReferenceCore core_{{}};
  Instant t_{};
};

TEST_F(ReferenceCoreTest, WhatIsKeptIsWhatDiffers) {
  core_.want(plan(), t_);
  auto asked = core_.poll(t_);
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(state(), State::Unknown);
  EXPECT_THAT(core_.on_answer(asked[0], map(1), t_).store, SizeIs(1));
  EXPECT_EQ(state(), State::Present);
  t_ += 5s;
  core_.want(plan(), t_);
  EXPECT_EQ(state(), State::Unknown) << "a pod that starts waits for the fresh one";
  EXPECT_THAT(core_.on_answer(core_.poll(t_).at(0), map(1), t_).store, IsEmpty());
  const auto gone = core_.keep_only({});
  ASSERT_THAT(gone, SizeIs(1));
  EXPECT_EQ(gone[0].object, nullptr);
}

TEST_F(ReferenceCoreTest, WithoutTheServerWhatTheDiskKnewServes) {
  core_.restore(map(1));
  core_.want(plan(), t_);
  EXPECT_EQ(state(), State::Present) << "at once after a start";
  EXPECT_THAT(core_.on_answer(core_.poll(t_).at(0), Fail({Errc::Unavailable, "away"}), t_).store, IsEmpty());
  EXPECT_EQ(state(), State::Present);
}

TEST_F(ReferenceCoreTest, AServerThatTakesItsTimeIsNotWaitedForLonger) {
  core_.want(plan(), t_);
  core_.on_answer(core_.poll(t_).at(0), map(1), t_);
  t_ += 5s;
  core_.want(plan(), t_);
  ASSERT_THAT(core_.poll(t_), SizeIs(1));
  EXPECT_FALSE(core_.tick(t_ + 2s));
  EXPECT_TRUE(core_.tick(t_ + 3s));
  EXPECT_EQ(state(), State::Present);
}

TEST_F(ReferenceCoreTest, WhatIsMissingIsAskedForAgain) {
  core_.want(plan(), t_);
  core_.on_answer(core_.poll(t_).at(0), Fail({Errc::NotFound, "no"}), t_);
  EXPECT_EQ(state(), State::Missing);
  core_.tick(t_ + 1s);
  EXPECT_THAT(core_.poll(t_ + 1s), IsEmpty());
  core_.tick(t_ + 2s);
  EXPECT_THAT(core_.poll(t_ + 2s), SizeIs(1));
}

// Optional, or gone under a pod that runs on: two seconds would be tens of megabytes a day.
TEST_F(ReferenceCoreTest, WhatStaysMissingIsAskedForEverMoreSeldom) {
  core_.want(plan(), t_);
  int asked = 0;
  for (const Instant end = t_ + 1h; t_ < end; t_ += 1s) {
    core_.tick(t_);
    for (const auto& key : core_.poll(t_)) {
      ++asked;
      core_.on_answer(key, Fail({Errc::NotFound, "no"}), t_);
    }
  }
  EXPECT_LT(asked, 70);
  core_.want(plan(), t_);
  core_.on_answer(core_.poll(t_).at(0), Fail({Errc::NotFound, "no"}), t_);
  core_.tick(t_ + 4s);
  EXPECT_THAT(core_.poll(t_ + 4s), SizeIs(1)) << "a pod that comes does not wait for long";
}

TEST_F(ReferenceCoreTest, WhatIsKnownIsAskedForEveryHourAndServesMeanwhile) {
  core_.want(plan(), t_);
  core_.on_answer(core_.poll(t_).at(0), map(1), t_);
  core_.tick(t_ + 59min);
  EXPECT_THAT(core_.poll(t_ + 59min), IsEmpty());
  core_.tick(t_ + 1h);
  const auto asked = core_.poll(t_ + 1h);
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(state(), State::Present);
  EXPECT_THAT(core_.on_answer(asked[0], map(2), t_ + 1h).store, SizeIs(1)) << "newer: kept";
}

// Goal: what is held is compared with the server's, and read again where it differs, but not all the time. Method: digests by hand; a map that
// changes before each of a day's comparisons.
TEST_F(ReferenceCoreTest, WhatTheServerHasOtherwiseIsAskedForAndServesMeanwhile) {
  EXPECT_FALSE(core_.compare(0, t_));
  core_.want(plan(), t_);
  EXPECT_TRUE(core_.on_answer(core_.poll(t_).at(0), map(1), t_).changed);
  const auto of = [](int value) {
    kube::Digest digest;
    if (value > 0) digest.add(*map(value));
    return digest.value();
  };
  EXPECT_FALSE(core_.compare(of(1), t_));
  EXPECT_TRUE(core_.compare(of(2), t_));
  auto asked = core_.poll(t_);
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(state(), State::Present);
  const auto second = core_.on_answer(asked[0], map(2), t_);
  EXPECT_TRUE(second.changed);
  EXPECT_THAT(second.store, SizeIs(1));
  EXPECT_FALSE(core_.compare(of(2), t_ + 1min)) << "and the next difference counts at once again";
  EXPECT_TRUE(core_.compare(of(0), t_ + 2min));
  core_.on_answer(core_.poll(t_ + 2min).at(0), Fail({Errc::NotFound, "no"}), t_ + 2min);
  EXPECT_EQ(core_.digest(), 0u);
}

TEST_F(ReferenceCoreTest, WhatChangesAllTheTimeIsNotReadAllTheTime) {
  core_.want(plan(), t_);
  core_.on_answer(core_.poll(t_).at(0), map(1), t_);
  int read = 0;
  for (int minute = 1; minute <= 24 * 60; ++minute) {
    t_ += 1min;
    core_.compare(static_cast<std::uint64_t>(minute), t_);
    for (const auto& key : core_.poll(t_)) {
      ++read;
      core_.on_answer(key, map(minute), t_);
    }
  }
  EXPECT_GE(read, 24);
  EXPECT_LE(read, 36);
}

TEST_F(ReferenceCoreTest, AnAnswerThatSaysNothingNewChangesNothing) {
  core_.want(plan(), t_);
  core_.on_answer(core_.poll(t_).at(0), map(1), t_);
  core_.tick(t_ + 1h);
  EXPECT_FALSE(core_.on_answer(core_.poll(t_ + 1h).at(0), map(1), t_ + 1h).changed);
  core_.tick(t_ + 2h);
  EXPECT_FALSE(core_.on_answer(core_.poll(t_ + 2h).at(0), Fail({Errc::Unavailable, "away"}), t_ + 2h).changed);
  core_.tick(t_ + 3h);
  EXPECT_TRUE(core_.on_answer(core_.poll(t_ + 3h).at(0), Fail({Errc::NotFound, "no"}), t_ + 3h).changed);
}

TEST_F(ReferenceCoreTest, WhatMustNotBeOnTheDiskLeavesItAndComesBack) {
  core_.want(plan(), t_);
  EXPECT_THAT(core_.on_answer(core_.poll(t_).at(0), map(1), t_).store, SizeIs(1));
  const auto off = core_.keep_on_disk(false);
  ASSERT_THAT(off, SizeIs(1));
  EXPECT_EQ(off[0].object, nullptr);
  EXPECT_THAT(core_.keep_on_disk(false), IsEmpty());
  t_ += 5s;
  core_.want(plan(), t_);
  EXPECT_THAT(core_.on_answer(core_.poll(t_).at(0), map(2), t_).store, IsEmpty()) << "a newer one is held in memory";
  EXPECT_EQ(state(), State::Present);
  const auto on = core_.keep_on_disk(true);
  ASSERT_THAT(on, SizeIs(1));
  EXPECT_EQ(on[0].object->revision(), kube::Revision(2));
}

TEST_F(ReferenceCoreTest, WhatIsKnownOutlivesADenial) {
  core_.restore(map(1));
  core_.want(plan(), t_);
  EXPECT_THAT(core_.on_answer(core_.poll(t_).at(0), Fail({Errc::Denied, "no relationship found"}), t_).store, IsEmpty());
  EXPECT_EQ(state(), State::Present);
}

}  // namespace
}  // namespace skerry::agent
