// SPDX-License-Identifier: Apache-2.0
// Rollouts as golden traces: the cores of Deployment and ReplicaSet against a small world in which pods get ready.
#include "control/deployment_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/replicaset_core.h"
#include "control/testing_world.h"

namespace skerry::control {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::World;

class Deployments : public ::testing::Test {
 protected:
  void make(int replicas, const std::string& strategy =
                              R"("rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate")") {
    world_.put(
        "deployments",
        std::format(
            R"({{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"web","namespace":"default","uid":"d-1"}},
      "spec":{{"replicas":{},"revisionHistoryLimit":2,"progressDeadlineSeconds":60,"strategy":{{{}}},"selector":{{"matchLabels":{{"app":"web"}}}},
      "template":{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{"containers":[{{"name":"c","image":"v1"}}]}}}}}}}})",
            replicas, strategy));
  }
  Plan step() {
    const auto sets = world_.replica_sets();
    const auto running = [&](std::string_view uid) {
      return static_cast<std::int64_t>(std::ranges::count_if(
          world_.pods(), [&](const PodPtr& pod) { return pod->controller->uid == uid && !pod->finished; }));
    };
    Plan plan = reconcile_deployment({.deployment = world_.get("deployments", "web"),
                                      .replica_sets = sets,
                                      .running_pods = running,
                                      .now = world_.now});
    world_.apply(plan);
    return plan;
  }
  void replica_sets() {
    for (const auto& set : world_.all("replicasets")) {
      for (int i = 0; i < 2; ++i) {  // the second reports what the first did
        const auto pods = world_.pods();
        world_.apply(reconcile_replica_set(
            {.replica_set = world_.get("replicasets", set->name()), .pods = pods, .now = world_.now}, random_));
      }
    }
  }
  // At most so many pods get ready.
  void ready(int most) {
    for (const auto& pod : world_.pods()) {
      if (!pod->ready && most-- > 0) world_.set_ready(pod->object->name(), true);
    }
  }
  std::string picture() const {
    std::string text;
    std::map<std::string, std::string> rows;
    for (const auto& set : world_.replica_sets()) {
      const auto doc = set->object->parse();
      rows[std::format("{}", set->revision)] =
          std::format("  revision {} image {}: {} wanted, {} pods, {} available\n", set->revision,
                      doc.root().path("spec.template.spec")["containers"][std::size_t{0}]["image"].str(), set->replicas,
                      set->status_replicas, set->status_available);
    }
    for (const auto& [key, row] : rows) text += row;
    const auto doc = world_.get("deployments", "web")->parse();
    const Json status = doc.root()["status"];
    text += std::format("  status: observed {}, replicas {}, updated {}, ready {}, available {}, unavailable {}\n",
                        status["observedGeneration"].i64(), status["replicas"].i64(), status["updatedReplicas"].i64(),
                        status["readyReplicas"].i64(), status["availableReplicas"].i64(),
                        status["unavailableReplicas"].i64());
    for (const Json condition : status["conditions"].items()) {
      text += std::format("  {}={} {}: {}\n", condition["type"].str(), condition["status"].str(),
                          condition["reason"].str(), condition["message"].str());
    }
    return text;
  }
  // Steps until nothing changes, `pace` pods getting ready between steps.
  std::string run(int pace) {
    std::string text;
    for (int i = 0; i < 60; ++i) {
      const Plan plan = step();
      for (const auto& note : plan.notes) text += std::format("event {}: {}\n", note.reason, note.message);
      replica_sets();
      ready(pace);
      replica_sets();
      world_.now += 1s;
      text += std::format("step {}\n{}", i, picture());
      if (plan.actions.empty() && i > 0) break;
    }
    return text;
  }
  void image(const std::string& name) {
    world_.patch(
        "deployments", "web",
        std::format(R"({{"spec":{{"template":{{"spec":{{"containers":[{{"name":"c","image":"{}"}}]}}}}}}}})", name));
  }
  int available() const {
    int count = 0;
    for (const auto& pod : world_.pods()) count += pod->ready;
    return count;
  }
  World world_;
  SeededRandom random_{7};
};

TEST_F(Deployments, RollsOutAndUpdates) {
  make(4);
  std::string text = "create\n----\n" + run(2);
  image("v2");
  text += "\nnew image\n----\n" + run(1);
  testing::expect_golden("rolling_update.txt", text);
  EXPECT_EQ(world_.pods().size(), 4u);
  EXPECT_TRUE(step().actions.empty()) << "a finished rollout writes nothing";
}

// Goal: never fewer than replicas - maxUnavailable available, never more than replicas + maxSurge in all.
TEST_F(Deployments, KeepsItsBoundsDuringARollout) {
  make(10, R"("rollingUpdate":{"maxSurge":2,"maxUnavailable":0},"type":"RollingUpdate")");
  run(10);
  image("v2");
  for (int i = 0; i < 60; ++i) {
    step();
    replica_sets();
    EXPECT_GE(available(), 10);
    EXPECT_LE(world_.pods().size(), 12u);
    ready(1);
    replica_sets();
  }
  for (const auto& pod : world_.pods()) EXPECT_THAT(*pod->object->json(), HasSubstr("v2"));
}

TEST_F(Deployments, RecreatesAfterTheLastOldPod) {
  make(2, R"("type":"Recreate")");
  std::string text = "create\n----\n" + run(2);
  image("v2");
  text += "\nnew image\n----\n" + run(2);
  testing::expect_golden("recreate.txt", text);
}

TEST_F(Deployments, ScalesInProportionDuringARollout) {
  make(10, R"("rollingUpdate":{"maxSurge":3,"maxUnavailable":2},"type":"RollingUpdate")");
  run(10);
  image("v2");
  for (int i = 0; i < 3; ++i) {  // v2 never gets ready
    step();
    replica_sets();
  }
  world_.patch("deployments", "web", R"({"spec":{"replicas":20}})");
  std::string text = picture() + "scale to 20\n----\n" + testing::trace(step()) + picture();
  testing::expect_golden("proportional.txt", text);
}

TEST_F(Deployments, SaysWhenTheDeadlinePassed) {
  make(1);
  step();
  replica_sets();
  Plan plan = step();
  plan = step();
  ASSERT_TRUE(plan.again);
  EXPECT_LE(*plan.again, Duration(60s));
  world_.now += 61s;
  step();
  EXPECT_THAT(picture(), HasSubstr("Progressing=False ProgressDeadlineExceeded: ReplicaSet \"web-"));
}

TEST_F(Deployments, KeepsHistoryWithinItsLimitAndRevisionsRising) {
  make(1);
  run(5);
  for (const auto* name : {"v2", "v3", "v4", "v5"}) {
    image(name);
    run(5);
  }
  EXPECT_EQ(world_.replica_sets().size(), 3u);  // the present one and two old ones
  EXPECT_THAT(*world_.get("deployments", "web")->json(), HasSubstr(R"("deployment.kubernetes.io/revision":"5")"));
  image("v4");  // back: its ReplicaSet is used again, as revision 6
  run(5);
  EXPECT_EQ(world_.replica_sets().size(), 3u);
  EXPECT_THAT(*world_.get("deployments", "web")->json(), HasSubstr(R"("deployment.kubernetes.io/revision":"6")"));
}

TEST_F(Deployments, RestartsByAnnotation) {
  make(2);
  run(5);
  world_.patch(
      "deployments", "web",
      R"({"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-11-23T00:00:00Z"}}}}})");
  run(5);
  EXPECT_EQ(world_.replica_sets().size(), 2u);
  for (const auto& pod : world_.pods()) EXPECT_THAT(*pod->object->json(), HasSubstr("restartedAt"));
}

TEST_F(Deployments, DoesNotRollWhilePaused) {
  make(2);
  run(5);
  world_.patch("deployments", "web", R"({"spec":{"paused":true}})");
  image("v2");
  run(5);
  EXPECT_EQ(world_.replica_sets().size(), 1u);
  EXPECT_THAT(picture(), HasSubstr("Progressing=Unknown DeploymentPaused"));
  world_.patch("deployments", "web", R"({"spec":{"paused":false}})");
  run(5);
  EXPECT_EQ(world_.replica_sets().size(), 2u);
}

TEST_F(Deployments, HashIsStable) {
  const auto doc = kube::JsonDoc::parse(R"({"spec":{"a":1}})");
  EXPECT_EQ(template_hash(doc->root(), 0), template_hash(doc->root(), 0));
  EXPECT_NE(template_hash(doc->root(), 0), template_hash(doc->root(), 1));
}

TEST_F(Deployments, TheReplicaSetFollowsWithoutNewPods) {
  make(2);
  run(10);
  world_.patch("deployments", "web", R"({"metadata":{"annotations":{"kubernetes.io/change-cause":"try"}},"spec":{"minReadySeconds":5}})");
  const auto text = run(10);
  EXPECT_THAT(text, Not(HasSubstr("event ")));
  const auto sets = world_.replica_sets();
  ASSERT_EQ(sets.size(), 1u);
  const auto doc = sets[0]->object->parse();
  EXPECT_EQ(doc.root()["metadata"]["annotations"]["kubernetes.io/change-cause"].str(), "try");
  EXPECT_EQ(doc.root()["spec"]["minReadySeconds"].i64(), 5);
}

// Percentages of a surge round up, of what may be missing down; both nothing means that one may be missing.
TEST_F(Deployments, RoundsPercentages) {
  struct Case {
    int replicas;
    const char *surge, *unavailable;
    int most, least;
  };
  for (const Case& one : {Case{10, "25%", "25%", 13, 8}, Case{3, "25%", "25%", 4, 3}, Case{1, "25%", "25%", 2, 1}, Case{5, "0%", "0%", 5, 4},
                          Case{4, "0", "50%", 4, 2}, Case{4, "100%", "0", 8, 4}, Case{7, "1", "30%", 8, 5}, Case{4, "0", "200%", 4, 0}}) {
    SCOPED_TRACE(std::format("{} {} {}", one.replicas, one.surge, one.unavailable));
    world_ = World();
    const auto quoted = [](std::string_view text) { return text.ends_with('%') ? std::format("\"{}\"", text) : std::string(text); };
    make(one.replicas, std::format(R"("type":"RollingUpdate","rollingUpdate":{{"maxSurge":{},"maxUnavailable":{}}})", quoted(one.surge), quoted(one.unavailable)));
    run(100);
    image("v2");
    int most = 0, least = one.replicas;
    for (int i = 0; i < 40; ++i) {
      step();
      replica_sets();
      most = std::max(most, static_cast<int>(world_.pods().size()));
      least = std::min(least, available());
      ready(1);
      replica_sets();
    }
    EXPECT_EQ(most, one.most);
    EXPECT_EQ(least, one.least);
    EXPECT_EQ(available(), one.replicas);
  }
}

TEST_F(Deployments, ScalesWhilePausedAndGoesOnWhenResumed) {
  make(4);
  run(10);
  world_.patch("deployments", "web", R"({"spec":{"paused":true,"replicas":6}})");
  image("v2");
  auto text = run(10);
  EXPECT_THAT(text, HasSubstr("from 4 to 6"));
  EXPECT_THAT(text, Not(HasSubstr("image v2")));
  EXPECT_THAT(text, HasSubstr("Progressing=Unknown DeploymentPaused"));
  world_.patch("deployments", "web", R"({"spec":{"paused":false}})");
  text = run(10);
  EXPECT_THAT(text, HasSubstr("revision 2 image v2: 6 wanted, 6 pods, 6 available"));
  EXPECT_THAT(text, HasSubstr("Progressing=True NewReplicaSetAvailable"));
}

TEST_F(Deployments, RollsBackToAnOlderTemplateUnderANewRevision) {
  make(3);
  run(10);
  image("v2");
  run(10);
  image("v1");
  const auto text = run(10);
  EXPECT_THAT(text, HasSubstr("revision 3 image v1: 3 wanted, 3 pods, 3 available"));
  EXPECT_EQ(world_.replica_sets().size(), 2u);
  const auto doc = world_.get("deployments", "web")->parse();
  EXPECT_EQ(doc.root()["metadata"]["annotations"]["deployment.kubernetes.io/revision"].str(), "3");
}

TEST_F(Deployments, SaysWhatKeepsItsReplicaSetFromMakingPods) {
  make(1);
  run(10);
  const std::string set = world_.replica_sets()[0]->object->name();
  world_.patch("replicasets", set, R"({"status":{"conditions":[{"type":"ReplicaFailure","status":"True","reason":"FailedCreate","message":"no such RuntimeClass"}]}})",
               Verb::PatchStatus);
  step();
  EXPECT_THAT(picture(), HasSubstr("ReplicaFailure=True FailedCreate: no such RuntimeClass"));
  EXPECT_THAT(step().actions, ::testing::IsEmpty());
  world_.patch("replicasets", set, R"({"status":{"conditions":[]}})", Verb::PatchStatus);
  step();
  EXPECT_THAT(picture(), Not(HasSubstr("ReplicaFailure")));
  EXPECT_THAT(step().actions, ::testing::IsEmpty());
}

}  // namespace
}  // namespace skerry::control
