// SPDX-License-Identifier: Apache-2.0
#include "agent/pull_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::agent {
namespace {

using ::testing::HasSubstr;
using Act = PullCore::Act;

struct PullPolicies : ::testing::Test {
  Act act(PullPolicy policy, const oci::Image* stored) { return core.decide("r.example.com/a:1", policy, stored, now).act; }
  static oci::Image image(const char* source) { return {.reference = oci::Reference::parse("r.example.com/a:1").value(), .source = source, .manifest = "sha256:1"}; }

  SeededRandom random{1};
  PullCore core{{}, random};
  Instant now{};
  const oci::Image pulled = image("registry"), sideloaded = image("sideload");
  const Error away{Errc::Unavailable, "r.example.com cannot be reached"}, denied{Errc::Denied, "r.example.com refuses access"};
};

TEST_F(PullPolicies, AreThoseOfKubernetes) {
  EXPECT_EQ(act(PullPolicy::IfNotPresent, &pulled), Act::Use);
  EXPECT_EQ(act(PullPolicy::Never, &pulled), Act::Use);
  EXPECT_EQ(act(PullPolicy::Always, &pulled), Act::Ask);
  EXPECT_EQ(act(PullPolicy::IfNotPresent, nullptr), Act::Ask);
  EXPECT_EQ(act(PullPolicy::Always, nullptr), Act::Ask);
  const auto never = core.decide("r.example.com/a:1", PullPolicy::Never, nullptr, now);
  EXPECT_EQ(never.act, Act::Refuse);
  EXPECT_EQ(never.reason, "ErrImageNeverPull");
}

TEST_F(PullPolicies, ASideLoadedImageIsAskedForNowhere) { EXPECT_EQ(act(PullPolicy::Always, &sideloaded), Act::Use); }

TEST_F(PullPolicies, AnImageByDigestIsAskedForOnce) {
  const std::string fixed = "r.example.com/a@sha256:" + std::string(64, '1');
  EXPECT_EQ(core.decide(fixed, PullPolicy::Always, &pulled, now).act, Act::Use);
  EXPECT_EQ(core.decide(fixed + " 4711", PullPolicy::Always, &pulled, now).act, Act::Use) << "with a pull secret";
  oci::Image by_digest = pulled;
  by_digest.reference = oci::Reference::parse(fixed).value();
  EXPECT_EQ(act(PullPolicy::Always, &by_digest), Act::Ask) << "what is wanted counts, not what the image on the disk is called";
}

TEST_F(PullPolicies, OnlySoManyImagesAreRemembered) {
  PullCore few({.images_max = 2}, random);
  few.on_failure("r.example.com/a:1", denied, now);
  few.on_answer("r.example.com/b:1", now + 1s);
  const auto held_back = [&] { return few.decide("r.example.com/a:1", PullPolicy::IfNotPresent, nullptr, now + 2s).act == Act::Refuse; };
  EXPECT_TRUE(held_back());
  few.on_answer("r.example.com/c:1", now + 2s);
  EXPECT_FALSE(held_back()) << "the oldest is forgotten";
}

TEST_F(PullPolicies, OneAnswerHoldsForAllThatAskWithinAWhile) {
  core.on_answer("r.example.com/a:1", now);
  EXPECT_EQ(act(PullPolicy::Always, &pulled), Act::Use);
  EXPECT_EQ(act(PullPolicy::Always, nullptr), Act::Ask) << "it was removed since";
  now += 10s;
  EXPECT_EQ(act(PullPolicy::Always, &pulled), Act::Ask);
}

// Goal: a registry that is away costs one attempt an image, ever more seldom, and stops nothing that is on the disk.
TEST_F(PullPolicies, ARegistryThatIsAwayStopsNothingThatIsOnTheDisk) {
  int asked = 0;
  for (; now < Instant{} + 30min; now += 1s) {
    const auto decision = core.decide("r.example.com/a:1", PullPolicy::Always, &pulled, now);
    ASSERT_NE(decision.act, Act::Refuse);
    if (decision.act == Act::Use) {
      EXPECT_THAT(decision.text, HasSubstr("cannot be reached"));
      continue;
    }
    ++asked;
    core.on_failure("r.example.com/a:1", away, now);
  }
  EXPECT_GE(asked, 9);
  EXPECT_LE(asked, 14);
  core.try_again();
  EXPECT_EQ(act(PullPolicy::Always, &pulled), Act::Ask);
}

TEST_F(PullPolicies, WhatIsNotThereWaitsAndSaysWhy) {
  core.on_failure("r.example.com/a:1", away, now);
  const auto decision = core.decide("r.example.com/a:1", PullPolicy::IfNotPresent, nullptr, now);
  EXPECT_EQ(decision.act, Act::Refuse);
  EXPECT_EQ(decision.reason, "ImagePullBackOff");
  EXPECT_EQ(decision.text, "Back-off pulling image \"r.example.com/a:1\": r.example.com cannot be reached");
  EXPECT_EQ(core.decide("r.example.com/a:1 other", PullPolicy::IfNotPresent, nullptr, now).act, Act::Ask) << "who has other credentials is not held back";
  EXPECT_EQ(act(PullPolicy::IfNotPresent, &pulled), Act::Use) << "it was added since";
}

TEST_F(PullPolicies, ARegistryThatRefusesIsNotAway) {
  core.on_failure("r.example.com/a:1", denied, now);
  EXPECT_EQ(act(PullPolicy::Always, &pulled), Act::Refuse) << "this pod may not have it";
  EXPECT_EQ(act(PullPolicy::IfNotPresent, &pulled), Act::Use);
}

}  // namespace
}  // namespace skerry::agent
