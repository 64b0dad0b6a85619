// SPDX-License-Identifier: Apache-2.0
#include "control/replicaset_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/testing_world.h"

namespace skerry::control {
namespace {

using ::testing::HasSubstr;
using testing::World;

class ReplicaSets : public ::testing::Test {
 protected:
  void SetUp() override { make(3); }
  void make(int replicas) {
    world_.put(
        "replicasets",
        std::format(
            R"({{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{{"name":"web","namespace":"default","uid":"rs-1"}},
      "spec":{{"replicas":{},"selector":{{"matchLabels":{{"app":"web"}}}},"template":{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}}}}})",
            replicas));
  }
  Plan step() {
    const auto pods = world_.pods();
    Plan plan = reconcile_replica_set(
        {.replica_set = world_.get("replicasets", "web"), .pods = pods, .now = world_.now}, random_);
    world_.apply(plan);
    return plan;
  }
  void scale(int replicas) {
    world_.patch("replicasets", "web", std::format(R"({{"spec":{{"replicas":{}}}}})", replicas));
  }
  void pod(const std::string& name, const std::string& extra_metadata = "", const std::string& rest = "") {
    world_.put(
        "pods",
        std::format(
            R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default","labels":{{"app":"web"}}{}}},"spec":{{"nodeName":"n"}}{}}})",
            name, extra_metadata, rest));
  }
  static std::string owned() {
    return R"(,"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"rs-1","controller":true}])";
  }
  World world_;
  SeededRandom random_{7};
};

TEST_F(ReplicaSets, CreatesPodsAndReportsThem) {
  std::string text = testing::trace(step());
  for (const auto& pod : world_.pods()) world_.set_ready(pod->object->name(), true);
  for (int i = 0; i < 2; ++i) {
    text += "----\n";
    text += testing::trace(step());
  }
  testing::expect_golden("replicaset_creates.txt", text);
  EXPECT_EQ(world_.pods().size(), 3u);
  EXPECT_TRUE(step().actions.empty());
}

TEST_F(ReplicaSets, DeletesTheLeastUsefulPods) {
  make(3);
  pod("ready-old", owned());
  pod("ready-new", owned());
  pod("not-ready", owned());
  pod("pending", owned());
  pod("cheap", R"(,"annotations":{"controller.kubernetes.io/pod-deletion-cost":"-5"})" + owned());
  world_.set_ready("ready-old", true);
  world_.set_ready("cheap", true);
  world_.now += 1h;
  world_.set_ready("ready-new", true);
  world_.set_ready("not-ready", false);
  const auto deleted = [](const Plan& plan) {
    std::vector<std::string> names;
    for (const auto& action : plan.actions) {
      if (action.verb == Verb::Delete) names.push_back(action.name);
    }
    return names;
  };
  EXPECT_THAT(deleted(step()), ::testing::ElementsAre("pending", "not-ready"));
  scale(2);
  EXPECT_THAT(deleted(step()), ::testing::ElementsAre("cheap"));
  scale(1);
  EXPECT_THAT(deleted(step()), ::testing::ElementsAre("ready-new"));
}

TEST_F(ReplicaSets, AdoptsOrphansAndReleasesStrangers) {
  pod("orphan");
  pod("stranger",
      R"(,"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"other","uid":"rs-9","controller":true}])");
  pod("relabelled", owned());
  world_.patch("pods", "relabelled", R"({"metadata":{"labels":{"app":"debug"}}})");
  const auto plan = step();
  std::string text = testing::trace(plan);
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(patch pods default/orphan {"metadata":{"uid":"uid-1","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"rs-1","controller":true,"blockOwnerDeletion":true}]}})"));
  EXPECT_THAT(text, HasSubstr(R"(patch pods default/relabelled {"metadata":{"uid":"uid-3","ownerReferences":[]}})"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("stranger")));
  EXPECT_EQ(std::ranges::count(plan.actions, Verb::Create, &Action::verb), 2);
}

TEST_F(ReplicaSets, IgnoresPodsThatEndedOrGo) {
  pod("failed", owned(), R"(,"status":{"phase":"Failed"})");
  pod("going", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z")" + owned());
  EXPECT_EQ(std::ranges::count(step().actions, Verb::Create, &Action::verb), 3);
}

TEST_F(ReplicaSets, CreatesInBursts) {
  make(1200);
  const auto plan = step();
  EXPECT_EQ(std::ranges::count(plan.actions, Verb::Create, &Action::verb), 500);
  EXPECT_EQ(plan.again, Duration::zero());
}

TEST_F(ReplicaSets, WaitsForMinReadySeconds) {
  world_.patch("replicasets", "web", R"({"spec":{"replicas":1,"minReadySeconds":10}})");
  step();
  world_.set_ready(world_.pods()[0]->object->name(), true);
  world_.now += 4s;
  EXPECT_EQ(step().again, Duration(6s));
  world_.now += 6s;
  EXPECT_THAT(testing::trace(step()), HasSubstr(R"("availableReplicas":1)"));
}

TEST_F(ReplicaSets, SaysWhyItsPodsCannotBeMadeUntilTheyCan) {
  const auto sets = [&](std::string_view failure) {
    Plan plan = reconcile_replica_set({.replica_set = world_.get("replicasets", "web"), .pods = {}, .now = world_.now, .create_failure = failure}, random_);
    for (const auto& action : plan.actions) {
      if (action.verb == Verb::PatchStatus) world_.patch("replicasets", "web", action.body, Verb::PatchStatus);
    }
    return world_.get("replicasets", "web")->parse();
  };
  EXPECT_FALSE(find_condition(sets("").root(), kReplicaFailure).exists());
  const auto failing = sets("RuntimeClass \"x\" not found");
  const Json condition = find_condition(failing.root(), "ReplicaFailure");
  EXPECT_EQ(condition["status"].str(), "True");
  EXPECT_EQ(condition["reason"].str(), "FailedCreate");
  EXPECT_EQ(condition["message"].str(), "RuntimeClass \"x\" not found");
  const auto again = sets("another wording");
  EXPECT_EQ(find_condition(again.root(), kReplicaFailure)["message"].str(), "RuntimeClass \"x\" not found");
  const auto healed = sets("");
  EXPECT_FALSE(find_condition(healed.root(), kReplicaFailure).exists());
}

}  // namespace
}  // namespace skerry::control
