// SPDX-License-Identifier: Apache-2.0
// The smaller cores: work queue, Events, garbage collection, node lifecycle, pods that nobody else removes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/events.h"
#include "control/garbage_core.h"
#include "control/node_lifecycle_core.h"
#include "control/pod_gc_core.h"
#include "control/testing_world.h"
#include "control/work_queue.h"

namespace skerry::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::object;
using testing::World;
constexpr Instant kStart = Instant{} + 1h;

TEST(WorkQueue, GivesEachKeyToOneWorkerAndRemembersWhatCameMeanwhile) {
  WorkQueue queue;
  queue.add("a", kStart + 10ms);
  queue.add("a", kStart + 50ms);  // later: nothing changes
  queue.add("b", kStart);
  EXPECT_EQ(queue.take(kStart), "b");
  EXPECT_EQ(queue.take(kStart), std::nullopt);
  EXPECT_EQ(queue.next(), kStart + 10ms);
  EXPECT_EQ(queue.take(kStart + 10ms), "a");
  queue.add("a", kStart + 20ms);
  EXPECT_EQ(queue.take(kStart + 1s), std::nullopt);
  queue.done("a");
  EXPECT_EQ(queue.take(kStart + 1s), "a");
  queue.done("a");
  EXPECT_EQ(queue.next(), std::nullopt);
}

TEST(WorkQueue, BacksOffUntilAKeySucceeds) {
  WorkQueue queue({.backoff_min = 1s, .backoff_max = 3s});
  Instant now = kStart;
  std::vector<Duration> pauses;
  queue.add("a", now);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(queue.take(now));
    queue.failed("a", now);
    pauses.push_back(*queue.next() - now);
    now = *queue.next();
  }
  EXPECT_THAT(pauses, ElementsAre(1s, 2s, 3s, 3s));
}

TEST(Events, CountsRepetitionsAndCombinesSimilarOnes) {
  World world;
  SeededRandom random(7);
  const auto pod =
      world.put("pods", R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"default"}})");
  EventCore core({.component = "test"});
  core.add({pod, NoteType::Warning, "FailedScheduling", "no room"}, world.now, random);
  core.add({pod, NoteType::Warning, "FailedScheduling", "no room"}, world.now + 1s, random);
  const auto first = core.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->verb, Verb::Create);
  EXPECT_THAT(first->body, HasSubstr(R"("reason":"FailedScheduling","type":"Warning","source":{"component":"test"})"));
  EXPECT_THAT(first->body, HasSubstr(R"("count":2})"));
  EXPECT_TRUE(kube::JsonDoc::parse(first->body));
  EXPECT_FALSE(core.next());
  core.add({pod, NoteType::Warning, "FailedScheduling", "no room"}, world.now + 2s, random);
  const auto second = core.next();
  EXPECT_EQ(second->verb, Verb::Patch);
  EXPECT_EQ(second->name, first->name);
  EXPECT_THAT(second->body, HasSubstr(R"("count":3})"));
  for (int i = 0; i < 30; ++i)
    core.add({pod, NoteType::Normal, "Created", std::format("pod {}", i)}, world.now, random);
  int created = 0;
  std::string last;
  while (const auto action = core.next()) {
    ++created;
    last = action->body;
  }
  EXPECT_EQ(created, 11);
  EXPECT_THAT(last, HasSubstr(R"("message":"(combined from similar events): pod 29")"));
}

TEST(Events, PostsAnewWhatExpired) {
  SeededRandom random(7);
  EventCore core({.component = "test"});
  const auto pod = object(R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"default","uid":"u"}})");
  const Note note{pod, NoteType::Warning, "FailedScheduling", "no node"};
  core.add(note, Time{} + 1h, random);
  const auto first = core.next();
  ASSERT_TRUE(first);
  core.add(note, Time{} + 3h, random);
  const auto counted = core.next();
  ASSERT_TRUE(counted);
  EXPECT_EQ(counted->verb, Verb::Patch);
  core.expired(*counted);
  const auto anew = core.next();
  ASSERT_TRUE(anew);
  EXPECT_EQ(anew->verb, Verb::Create);
  EXPECT_THAT(anew->body, HasSubstr(R"("count":2)"));
  EXPECT_FALSE(core.next());
  core.expired({.verb = Verb::Patch, .resource = client::kEvents, .namespace_ = "default", .name = "nobody", .body = "{}"});
  EXPECT_FALSE(core.next());
  core.add({pod, NoteType::Normal, "Scheduled", "there", "default-scheduler"}, Time{} + 3h, random);
  EXPECT_THAT(core.next()->body, HasSubstr(R"("source":{"component":"default-scheduler"},"reportingComponent":"default-scheduler")"));
}

TEST(Events, ForgetsTheOldestAndBoundsItsQueue) {
  World world;
  SeededRandom random(7);
  EventCore core({.known_max = 10, .queue_max = 5});
  for (int i = 0; i < 50; ++i) {
    const auto pod = world.put(
        "pods",
        std::format(R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p{}","namespace":"default"}}}})", i));
    core.add({pod, NoteType::Normal, "A", "b"}, world.now, random);
  }
  EXPECT_EQ(core.dropped(), 45u);
}

class Garbage : public ::testing::Test {
 protected:
  ObjectPtr put(const std::string& kind, const std::string& name, const std::string& owner_uid,
                const std::string& more = "") {
    const std::string resource = kind == "Pod" ? "pods" : kind == "ReplicaSet" ? "replicasets" : "deployments";
    const std::string owners =
        owner_uid.empty()
            ? ""
            : std::format(
                  R"(,"ownerReferences":[{{"apiVersion":"apps/v1","kind":"X","name":"x","uid":"{}","controller":true,"blockOwnerDeletion":true}}])",
                  owner_uid);
    const auto made = world_.put(
        resource,
        std::format(
            R"({{"apiVersion":"v1","kind":"{0}","metadata":{{"name":"{1}","namespace":"default","uid":"{1}"{2}{3}}}}})",
            kind, name, owners, more));
    core_.put(path(kind), made);
    return made;
  }
  static client::ResourcePath path(const std::string& kind) {
    return kind == "Pod" ? client::kPods : kind == "ReplicaSet" ? client::kReplicaSets : client::kDeployments;
  }
  std::string looked() {
    std::string text;
    for (const auto& uid : core_.take_candidates()) {
      const auto verdict = core_.look(uid);
      for (const auto& action : verdict.actions) text += action.trace() + "\n";
      for (const auto& ask : verdict.ask) text += "ask " + ask.owner.uid + "\n";
    }
    return text;
  }
  World world_;
  GarbageCore core_;
};

TEST_F(Garbage, DeletesWhatLostItsOwnerLevelByLevel) {
  const auto deployment = put("Deployment", "d", "");
  const auto set = put("ReplicaSet", "r", "d");
  put("Pod", "p1", "r");
  put("Pod", "p2", "r");
  EXPECT_EQ(looked(), "");
  core_.remove(*deployment);
  EXPECT_EQ(looked(), "delete replicasets default/r Background\n");
  core_.remove(*set);
  EXPECT_EQ(looked(), "delete pods default/p1 Background\ndelete pods default/p2 Background\n");
}

TEST_F(Garbage, AsksBeforeItBelievesThatAnOwnerIsGone) {
  put("Pod", "p", "r");
  EXPECT_EQ(looked(), "ask r\n");
  core_.absent("r");
  EXPECT_THAT(core_.look("p").actions, ::testing::SizeIs(1));
  put("ReplicaSet", "r", "");
  EXPECT_THAT(core_.look("p").actions, IsEmpty()) << "it came after all";
}

TEST_F(Garbage, KeepsWhatHasAnotherOwner) {
  put("ReplicaSet", "r2", "");
  const auto lost = put("ReplicaSet", "r1", "");
  put("Pod", "p", "",
      R"(,"ownerReferences":[{"kind":"ReplicaSet","name":"r1","uid":"r1"},{"kind":"ReplicaSet","name":"r2","uid":"r2"}])");
  core_.remove(*lost);
  EXPECT_THAT(looked(), AllOf(HasSubstr(R"(patch pods default/p {"metadata":{"uid":"p")"),
                              HasSubstr(R"("ownerReferences":[{"kind":"ReplicaSet","name":"r2","uid":"r2"}])")));
}

TEST_F(Garbage, WaitsInTheForeground) {
  put("Deployment", "d", "");
  const auto pod = put("Pod", "p", "d");
  put("Deployment", "d", "", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["foregroundDeletion"])");
  EXPECT_EQ(looked(), "delete pods default/p Background\n");
  put("Pod", "p", "d", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z")");
  EXPECT_EQ(looked(), "") << "it is still there";
  core_.remove(*pod);
  EXPECT_THAT(looked(), HasSubstr(R"("finalizers":[])"));
}

TEST_F(Garbage, OrphansWhenAsked) {
  put("Deployment", "d", "");
  put("Pod", "p", "d");
  put("Deployment", "d", "", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["orphan"])");
  EXPECT_THAT(looked(), AllOf(HasSubstr("patch pods default/p"), HasSubstr(R"("ownerReferences":[])")));
  put("Pod", "p", "");
  EXPECT_THAT(looked(), AllOf(HasSubstr("patch deployments default/d"), HasSubstr(R"("finalizers":[])")));
}

class Nodes : public ::testing::Test {
 protected:
  void node(const std::string& name, const std::string& more = "") {
    world_.put(
        "nodes",
        std::format(
            R"({{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{}"{}}},"spec":{{}},"status":{{"conditions":[{{"type":"MemoryPressure","status":"False"}},{{"type":"Ready","status":"True","lastHeartbeatTime":"t0"}}]}}}})",
            name, more));
    show(name);
  }
  void show(const std::string& name) { core_->put_node(world_.get("nodes", name), now_); }
  void lease(const std::string& name) {
    core_->put_lease(
        *object(std::format(
            R"({{"kind":"Lease","metadata":{{"name":"{}","namespace":"kube-node-lease"}},"spec":{{"renewTime":"{}"}}}})",
            name, ++renewals_)),
        now_);
  }
  // Time passes in steps of 5 s; the named nodes renew their leases. What the core decides is applied, and returned.
  std::string run(Duration time, const std::vector<std::string>& alive) {
    std::string text;
    for (const Instant end = now_ + time; now_ < end;) {
      now_ += 5s;
      world_.now += 5s;
      for (const auto& name : alive) lease(name);
      const auto plan = core_->poll(world_.now, now_);
      for (const auto& note : plan.notes) notes_ += std::format("{}s {}: {}\n", (now_ - kStart) / 1s, note.reason, note.message);
      for (const auto& action : plan.actions) {
        text += std::format("{}s {}\n", (now_ - kStart) / 1s, action.trace());
        world_.patch("nodes", action.name, action.body, action.verb);
        show(action.name);
      }
    }
    return text;
  }
  World world_;
  SeededRandom random_{7};
  std::optional<NodeLifecycleCore> core_{std::in_place, NodeLifecycleCore::Options{.autonomy = false}, random_};
  Instant now_ = kStart;
  std::string notes_;
  int renewals_ = 0;
};

TEST_F(Nodes, FallSilentAndComeBack) {
  for (const auto* name : {"a", "b", "c"}) node(name);
  EXPECT_EQ(run(60s, {"a", "b", "c"}), "");
  std::string text = run(120s, {"a", "b"});
  EXPECT_THAT(text, HasSubstr(R"(patch status nodes c)"));
  EXPECT_THAT(text, HasSubstr(R"("type":"Ready","status":"Unknown")"));
  EXPECT_THAT(text, HasSubstr(R"("key":"node.kubernetes.io/unreachable","effect":"NoSchedule")"));
  EXPECT_THAT(text, HasSubstr(R"("key":"node.kubernetes.io/unreachable","effect":"NoExecute")"));
  EXPECT_THAT(text, Not(HasSubstr("nodes a")));
  world_.patch("nodes", "c", R"({"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"t1"}]}})",
               Verb::PatchStatus);
  show("c");
  text = run(20s, {"a", "b", "c"});
  EXPECT_THAT(text, HasSubstr(R"("taints":[])"));
}

TEST_F(Nodes, AreGivenTheTimeThatTheirLeaseAsksFor) {
  for (const auto* name : {"a", "b", "c"}) node(name);
  const auto asks = [this](const char* name, int seconds) {
    core_->put_lease(*object(std::format(R"({{"kind":"Lease","metadata":{{"name":"{}","namespace":"kube-node-lease"}},"spec":{{"leaseDurationSeconds":{},"renewTime":"x{}"}}}})",
                                         name, seconds, ++renewals_)), now_);
  };
  asks("b", 240);
  asks("c", 1);  // less than the grace is the grace
  EXPECT_THAT(run(60s, {"a"}), AllOf(HasSubstr("patch status nodes c"), Not(HasSubstr("nodes b"))));
  EXPECT_THAT(run(170s, {"a"}), Not(HasSubstr("nodes b")));
  EXPECT_THAT(run(30s, {"a"}), HasSubstr("patch status nodes b"));
}

TEST_F(Nodes, AreNotEvictedWhenAllAreSilent) {
  for (const auto* name : {"a", "b"}) node(name);
  const auto text = run(300s, {});
  EXPECT_THAT(text, HasSubstr("NoSchedule"));
  EXPECT_THAT(text, Not(HasSubstr("NoExecute")));
}

TEST_F(Nodes, HaveTheirWholeGraceAfterOurOwnAbsence) {
  for (const auto* name : {"a", "b", "c"}) node(name);
  run(30s, {"a", "b", "c"});
  now_ += 1h;  // this machine was suspended
  EXPECT_EQ(run(35s, {"a"}), "");
  EXPECT_THAT(run(20s, {"a"}), HasSubstr("patch status nodes b"));
}

TEST_F(Nodes, LosePodsOneNodeAtATime) {
  for (const auto* name : {"a", "b", "c", "d", "e"}) node(name);
  run(30s, {"a", "b", "c", "d", "e"});
  const auto text = run(60s, {"a", "b", "c"});
  std::vector<std::string> when;
  for (const auto line : split(text, '\n')) {
    if (line.find("NoExecute") != std::string_view::npos) when.emplace_back(line.substr(0, line.find(' ')));
  }
  ASSERT_EQ(when.size(), 2u);
  EXPECT_NE(when[0], when[1]);
}

TEST_F(Nodes, KeepTheirPodsWithAutonomy) {
  node("a", R"(,"annotations":{"skerry.dev/autonomy":"true"})");
  node("b");
  const auto text = run(120s, {"b"});
  EXPECT_THAT(text, HasSubstr("NoSchedule"));
  EXPECT_THAT(text, Not(HasSubstr("NoExecute")));
}

TEST_F(Nodes, AnAnnotationDecidesAgainstTheDefault) {
  core_.emplace(NodeLifecycleCore::Options{.autonomy = true}, random_);
  node("a", R"(,"annotations":{"skerry.dev/autonomy":"false"})");
  node("b"), node("c"), node("d", R"(,"annotations":{"skerry.dev/autonomy":"true"},"labels":{"skerry.dev/autonomy":"false"})");
  const auto text = run(120s, {"b"});
  for (const auto line : split(text, '\n')) {
    if (line.contains("NoExecute")) {
      EXPECT_THAT(std::string(line), HasSubstr("nodes a"));
    }
  }
  EXPECT_TRUE(world_.get("nodes", "a")->json()->contains("NoExecute"));
  // Switched off while it is silent: from then on its pods have their patience.
  world_.patch("nodes", "c", R"({"metadata":{"annotations":{"skerry.dev/autonomy":"false"}}})");
  show("c");
  EXPECT_THAT(run(120s, {"b"}), HasSubstr(R"(nodes c {"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoSchedule")"));
  EXPECT_TRUE(world_.get("nodes", "c")->json()->contains("NoExecute"));
}

TEST_F(Nodes, AreNotReadyBeforeTheirFirstWord) {
  world_.put("nodes", R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"new"},"spec":{"taints":[{"key":"node.kubernetes.io/not-ready","effect":"NoSchedule"}]}})");
  show("new");
  node("b");
  EXPECT_EQ(run(30s, {"b"}), "");
  world_.patch("nodes", "new", R"({"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"t1"}]}})", Verb::PatchStatus);
  show("new");
  EXPECT_THAT(run(5s, {"new", "b"}), HasSubstr(R"("taints":[])"));
  EXPECT_EQ(notes_, "");
}

// What a node says of itself is no silence.
TEST_F(Nodes, AutonomyIsNotForWhoSaysThatItIsNotReady) {
  core_.emplace(NodeLifecycleCore::Options{}, random_);
  node("a"), node("b");
  world_.patch("nodes", "a", R"({"status":{"conditions":[{"type":"Ready","status":"False","lastHeartbeatTime":"t1"}]}})", Verb::PatchStatus);
  show("a");
  EXPECT_THAT(run(5s, {"a", "b"}), HasSubstr(R"("key":"node.kubernetes.io/not-ready","effect":"NoExecute")"));
  // Then it falls silent as well: its pods stay.
  run(60s, {"b"});
  EXPECT_FALSE(world_.get("nodes", "a")->json()->contains("NoExecute"));
}

// Hours without a word, a new server in between, and the return: what is decided for the node and for its pods.
TEST_F(Nodes, AnAutonomousNodesLongSilence) {
  core_.emplace(NodeLifecycleCore::Options{}, random_);
  node("a"), node("b");
  for (const auto* toleration : {R"({"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300})",
                                 R"({"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":0})"}) {
    const auto name = std::format("pod-{}", world_.pods().size());
    world_.put("pods", std::format(R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default"}},"spec":{{"nodeName":"a","tolerations":[{}]}}}})", name, toleration));
    world_.set_ready(name, true);
  }
  const auto pods = [&] { return testing::trace(core_->pods(*world_.get("nodes", "a"), world_.pods(), world_.now)); };
  std::string text = run(600s, {"b"}) + pods() + "-- another server\n";
  core_.emplace(NodeLifecycleCore::Options{}, random_);
  show("a"), show("b");
  text += run(7200s, {"b"}) + pods() + "-- it is back\n";
  world_.patch("nodes", "a", R"({"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"t1"}]}})", Verb::PatchStatus);
  show("a");
  text += run(60s, {"a", "b"}) + pods() + "-- events\n" + notes_;
  testing::expect_golden("autonomy.txt", text);
}

TEST_F(Nodes, PodsGoWhenTheirPatienceEnds) {
  const auto silent = world_.put(
      "nodes",
      std::format(
          R"({{"apiVersion":"v1","kind":"Node","metadata":{{"name":"a"}},"spec":{{"taints":[{{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"{}"}}]}},
    "status":{{"conditions":[{{"type":"Ready","status":"Unknown"}}]}}}})",
          to_rfc3339(world_.now)));
  const auto pod = [&](const std::string& name, const std::string& tolerations) {
    world_.put(
        "pods",
        std::format(
            R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default"}},"spec":{{"nodeName":"a","tolerations":[{}]}}}})",
            name, tolerations));
  };
  pod("impatient", R"({"key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":0})");
  pod("silent", "");
  pod("patient",
      R"({"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300})");
  pod("eternal", R"({"operator":"Exists"})");
  world_.set_ready("eternal", true);
  auto plan = core_->pods(*silent, world_.pods(), world_.now);
  auto text = testing::trace(plan);
  EXPECT_THAT(text, HasSubstr("delete pods default/impatient"));
  EXPECT_THAT(text,
              AllOf(HasSubstr("patch status pods default/eternal"), HasSubstr(R"("type":"Ready","status":"False")")));
  EXPECT_THAT(text, Not(HasSubstr("delete pods default/patient")));
  EXPECT_EQ(plan.again, Duration(300s));
  text = testing::trace(core_->pods(*silent, world_.pods(), world_.now + 300s));
  EXPECT_THAT(text, HasSubstr("delete pods default/patient"));
  EXPECT_THAT(text, HasSubstr("delete pods default/silent"));
  EXPECT_THAT(text, Not(HasSubstr("delete pods default/eternal")));
}

// An operator's taint needs no patience; a toleration with seconds counts from the time that the controller wrote down.
TEST_F(Nodes, AnOperatorsTaintMovesPodsAtOnce) {
  node("a", R"(,"annotations":{"skerry.dev/autonomy":"true"})");
  world_.patch("nodes", "a", R"({"spec":{"taints":[{"key":"repair","value":"disk","effect":"NoExecute"}]}})");
  show("a");
  const auto text = run(5s, {"a"});
  EXPECT_THAT(text, HasSubstr(std::format(R"("timeAdded":"{}")", to_rfc3339(world_.now))));
  EXPECT_EQ(run(10s, {"a"}), "");
  const auto pod = [&](const std::string& name, const std::string& tolerations) {
    world_.put("pods", std::format(R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default"}},"spec":{{"nodeName":"a","tolerations":[{}]}}}})",
                                   name, tolerations));
  };
  pod("plain", "");
  pod("other", R"({"key":"repair","operator":"Equal","value":"memory","effect":"NoExecute"})");
  pod("equal", R"({"key":"repair","operator":"Equal","value":"disk","effect":"NoExecute"})");
  pod("soon", R"({"key":"repair","operator":"Exists","tolerationSeconds":60})");
  auto plan = core_->pods(*world_.get("nodes", "a"), world_.pods(), world_.now);
  auto deletions = testing::trace(plan);
  EXPECT_THAT(deletions, AllOf(HasSubstr("default/plain"), HasSubstr("default/other"), Not(HasSubstr("default/equal")), Not(HasSubstr("default/soon"))));
  EXPECT_EQ(plan.again, Duration(50s));
  deletions = testing::trace(core_->pods(*world_.get("nodes", "a"), world_.pods(), world_.now + 50s));
  EXPECT_THAT(deletions, HasSubstr("default/soon"));
}

TEST(PodGc, RemovesPodsOfLostNodesAndTheOldestThatEnded) {
  World world;
  const auto pod = [&](const std::string& name, const std::string& node, const std::string& phase,
                       const std::string& more = "") {
    world.put(
        "pods",
        std::format(
            R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default"{}}},"spec":{{"nodeName":"{}"}},"status":{{"phase":"{}"}}}})",
            name, more, node, phase));
    world.now += 1s;
  };
  pod("old", "a", "Succeeded");
  pod("new", "a", "Failed");
  pod("lost", "gone", "Running");
  pod("never-placed", "", "Pending", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z")");
  PodGcCore core({.ended_max = 1});
  const auto names = [&](Instant now) {
    std::vector<std::string> all;
    for (const auto& action : core.poll(world.pods(), {"a"}, now).actions) all.push_back(action.name);
    return all;
  };
  EXPECT_THAT(names(kStart), ::testing::UnorderedElementsAre("old", "never-placed"));
  EXPECT_THAT(names(kStart + 41s), ::testing::UnorderedElementsAre("old", "never-placed", "lost"));
}

}  // namespace
}  // namespace skerry::control
