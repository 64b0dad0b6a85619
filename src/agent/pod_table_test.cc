// SPDX-License-Identifier: Apache-2.0
#include "agent/pod_table.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <format>

namespace skerry::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class NoReferences final : public References {
 public:
  Found config_map(std::string_view, std::string_view) const override { return {}; }
  Found secret(std::string_view, std::string_view) const override { return {}; }
  Found runtime_class(std::string_view) const override { return {}; }
};

// One table, a disk that is a value, virtual time. round() says in words what is written and done.
class PodTableTest : public ::testing::Test {
 protected:
  static kube::ObjectPtr pod(const std::string& name, int revision, std::string_view more = "", std::string_view uid = "", std::string_view status = "") {
    return kube::Object::from_json(std::format(
        R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"d","uid":"{}","resourceVersion":"{}"}},)"
        R"("spec":{{"nodeName":"edge-1","restartPolicy":"Always","terminationGracePeriodSeconds":0,"containers":[{{"name":"app","image":"r.example/a:1"{}}}]}},"status":{{{}}}}})",
        name, uid.empty() ? "u-" + name : uid, revision, more, status)).value();
  }
  static PodTable::Options options() { return {.core = {.node_name = "edge-1"}, .plan = {}, .addresses = {os::Ipv4::parse("10.99.0.0").value(), 24}, .pods_max = 3}; }
  void apply(const std::vector<Change>& changes) {
    for (const Change& c : changes) {
      if (const auto* x = std::get_if<change::PutPod>(&c)) {
        std::erase_if(disk_.pods, [&](const auto& p) { return p.object->uid() == x->object->uid(); });
        disk_.pods.push_back({x->object, x->state});
      } else if (const auto* s = std::get_if<change::PutPodState>(&c)) {
        for (auto& p : disk_.pods)
          if (p.object->uid() == s->uid) p.state = s->state;
      } else if (const auto* r = std::get_if<change::RemovePod>(&c)) {
        std::erase_if(disk_.pods, [&](const auto& p) { return p.object->uid() == r->uid; });
      } else if (const auto* o = std::get_if<change::PutObject>(&c)) {
        std::erase_if(disk_.objects, [&](const auto& p) { return p->name() == o->object->name(); });
        disk_.objects.push_back(o->object);
      } else if (const auto* n = std::get_if<change::RemoveObject>(&c)) {
        std::erase_if(disk_.objects, [&](const auto& p) { return p->name() == n->name; });
      } else if (const auto* number = std::get_if<change::PutNumber>(&c)) {
        std::erase_if(disk_.numbers, [&](const auto& p) { return p.first == number->name; });
        disk_.numbers.emplace_back(number->name, number->value);
      }
    }
  }
  // A round whose writes are on the disk; the names of its commands.
  std::vector<std::string> round() {
    auto done = table_->round({wall_, now_}, references_);
    apply(done.write);
    table_->on_durable();
    forgets_ = done.forgets;
    const auto out = words(done.todo);
    for (auto& [uid, commands] : done.todo)
      for (const Command& c : commands)
        if (std::holds_alternative<command::Forget>(c)) table_->forget(uid);
    return out;
  }
  static std::vector<std::string> words(const std::vector<PodTable::Todo>& todo) {
    std::vector<std::string> out;
    for (const auto& [uid, commands] : todo)
      for (const Command& c : commands) {
        const std::string text = describe(c);
        out.push_back(uid + " " + text.substr(0, text.find(' ')));
      }
    return out;
  }
  PodTable::Restored restart() {
    table_.emplace(options(), nullptr);
    return table_->restore(disk_, {wall_, now_});
  }
  // Up to the keeper.
  void serve(const std::string& uid) {
    PodEntry* entry = table_->find(uid);
    ASSERT_NE(entry, nullptr);
    round();
    entry->core.on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "i", .key = "k"}), "");
    table_->mark(uid);
    round();
    entry->core.on_listening(0);
    table_->mark(uid);
    round();
    entry->core.on_placed(0, {wall_, now_});
    table_->mark(uid);
    round();
    ASSERT_TRUE(entry->core.ready());
  }
  static std::vector<std::string> names(const std::vector<kube::ObjectPtr>& objects) {
    std::vector<std::string> out;
    for (const auto& o : objects) out.push_back(std::format("{}@{}", o->name(), o->revision().value()));
    std::ranges::sort(out);
    return out;
  }

  Time wall_ = from_rfc3339("2026-01-01T00:00:00Z").value();
  Instant now_{};
  NoReferences references_;
  Checkpoint::Loaded disk_;
  std::optional<PodTable> table_{std::in_place, options(), nullptr};
  bool forgets_ = false;
};

TEST_F(PodTableTest, WhatIsOnTheDiskBeforeAnythingIsDoneIsTheSameAfterARestart) {
  table_->on_pod(nullptr, pod("a", 5));
  EXPECT_THAT(table_->take_effects(), SizeIs(1));
  serve("u-a");
  const std::string address = table_->find("u-a")->core.address();
  const auto id = table_->find("u-a")->core.keeper_id(0);
  EXPECT_THAT(restart().problems, IsEmpty());
  PodEntry* again = table_->find("u-a");
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->core.address(), address);
  EXPECT_EQ(again->core.keeper_id(0), id);
  EXPECT_EQ(table_->by_keeper_id(id.value())->entry, again);
  table_->on_pod(nullptr, pod("b", 6));
  EXPECT_GT(table_->find("u-b")->core.keeper_id(0), id) << "ids are never given out twice";
}

// Goal: an informer that resumes from the disk knows what the server last showed. Method: a pod served, whose status came back with
// a newer revision, and one that is refused.
TEST_F(PodTableTest, LatestObjectsAreWhatAResumedWatchStandsOn) {
  table_->on_pod(nullptr, pod("a", 5));
  table_->on_pod(nullptr, pod("bad", 6, R"(,"command":["sh"],"stdin":true)"));
  table_->on_pod(nullptr, pod("done", 7, "", "", R"("phase":"Succeeded")"));
  serve("u-a");
  table_->on_pod(pod("a", 5), pod("a", 9, "", "", R"("phase":"Running")"));
  apply(table_->latest_objects());
  EXPECT_THAT(table_->latest_objects(), IsEmpty());
  const auto restored = restart();
  EXPECT_THAT(restored.problems, IsEmpty());
  EXPECT_THAT(names(restored.objects), ElementsAre("a@9", "bad@6", "done@7"));
  ASSERT_TRUE(table_->entries().contains("u-a"));
  table_->on_pod(pod("done", 7), nullptr);
  table_->on_pod(pod("a", 9), nullptr);
  apply(table_->latest_objects());
  EXPECT_THAT(names(restart().objects), Contains("bad@6"));
  EXPECT_THAT(disk_.objects, ::testing::Each(::testing::Not(::testing::ResultOf([](const auto& o) { return o->name(); }, "done"))));
}

// Goal: a removal that was seen and is not seen again (the watch has read on) is carried out by the next agent. Method: vanish, let
// the state reach the disk, restart before the end.
TEST_F(PodTableTest, APodThatVanishedEndsAlsoIfTheAgentDiesMeanwhile) {
  table_->on_pod(nullptr, pod("a", 5));
  serve("u-a");
  table_->on_pod(pod("a", 5), nullptr);
  EXPECT_THAT(round(), Contains("u-a stop"));
  const auto restored = restart();
  EXPECT_THAT(restored.objects, IsEmpty()) << "the API server has it no more";
  ASSERT_NE(table_->find("u-a"), nullptr);
  table_->mark_all();
  EXPECT_THAT(round(), Contains("u-a forget"));
  EXPECT_TRUE(forgets_) << "the revision behind its removal goes to the disk with it";
  EXPECT_THAT(disk_.pods, IsEmpty());
  EXPECT_EQ(table_->find("u-a"), nullptr);
}

// Goal: a changed image is carried out although the agent dies before the old one was stopped. Method: the new version reaches the disk,
// the next agent meets a keeper with the old image.
TEST_F(PodTableTest, TheOldImageIsNotAdoptedAsTheNewOne) {
  using Held = PodTable::Held;
  table_->on_pod(nullptr, pod("a", 5));
  serve("u-a");
  const std::uint64_t id = table_->find("u-a")->core.keeper_id(0).value();
  EXPECT_EQ(restart().problems.size(), 0u);
  EXPECT_EQ(table_->meet({.id = id, .image_key = "k", .awake = 1}, false), PodTable::Met::Adopted);
  EXPECT_TRUE(table_->find("u-a")->core.ready()) << "the same image goes on";
  table_->on_pod(pod("a", 5), kube::Object::from_json(std::string(*pod("a", 6)->json()).replace(pod("a", 6)->json()->find("a:1"), 3, "a:2")).value());
  round();
  restart();
  EXPECT_EQ(table_->meet({.id = id, .image_key = "k", .awake = 1}, false), PodTable::Met::Adopted);
  EXPECT_FALSE(table_->find("u-a")->core.ready());
  table_->mark_all();
  EXPECT_THAT(round(), ::testing::IsSupersetOf({"u-a stop", "u-a prepare-image"}));
  EXPECT_EQ(table_->meet({.id = 99, .state = Held::State::Serving}, false), PodTable::Met::Drop);
  EXPECT_EQ(table_->meet({.id = 99, .state = Held::State::Serving}, true), PodTable::Met::Stranger);
  EXPECT_EQ(table_->meet({.id = 99, .state = Held::State::Stopping}, true), PodTable::Met::Drop);
}

// Goal: a start from an older copy leaves a pod that serves its address, also if the copy is from before it had one. Method: the disk as it
// was when the pod came; a keeper that holds it at an address, which is also free, another's, or not known.
TEST_F(PodTableTest, WhatListensElsewhereIsNotAdopted) {
  const auto listens_at = [](const char* text) { return os::Ipv4::parse(text).value(); };
  table_->on_pod(nullptr, pod("a", 5));
  apply(table_->latest_objects());
  const Checkpoint::Loaded older = disk_;
  serve("u-a");
  const std::uint64_t id = table_->find("u-a")->core.keeper_id(0).value();
  const std::string address(table_->find("u-a")->core.address());
  restart();
  EXPECT_EQ(table_->meet({.id = id, .image_key = "k", .listens_at = listens_at("10.99.0.77")}, false), PodTable::Met::Drop);
  EXPECT_EQ(table_->meet({.id = id, .image_key = "k", .listens_at = listens_at(address.c_str())}, false), PodTable::Met::Adopted);
  disk_ = older;
  restart();
  ASSERT_EQ(table_->find("u-a")->core.address(), "");
  EXPECT_EQ(table_->meet({.id = id, .image_key = "k"}, true), PodTable::Met::Drop);
  EXPECT_EQ(table_->meet({.id = id, .image_key = "k", .listens_at = listens_at("192.0.2.1")}, true), PodTable::Met::Drop);
  EXPECT_EQ(table_->meet({.id = id, .image_key = "k", .listens_at = listens_at("10.99.0.77")}, true), PodTable::Met::Adopted);
  table_->mark_all();
  round();
  EXPECT_EQ(table_->find("u-a")->core.address(), "10.99.0.77");
  restart();
  EXPECT_EQ(table_->find("u-a")->core.address(), "10.99.0.77") << "it is on the disk";
}

// Goal: what a broken server says of a pod costs it nothing, now or at the next start. Method: versions that cannot be, each followed by a
// restart from the disk.
TEST_F(PodTableTest, AVersionThatCannotBeIsNotTaken) {
  table_->on_pod(nullptr, pod("a", 5));
  serve("u-a");
  table_->take_effects();
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string json(*pod("a", 9)->json());
    json.replace(json.find(from), from.size(), to);
    return kube::Object::from_json(json).value();
  };
  const auto other_node = with("edge-1", "edge-2");
  const auto no_containers = with(R"({"name":"app","image":"r.example/a:1"})", "");
  const auto more = with(R"({"name":"app")", R"({"name":"x","image":"i"},{"name":"app")");
  for (const auto& version : {other_node, no_containers, more}) {
    table_->on_pod(pod("a", 5), version);
    EXPECT_TRUE(std::holds_alternative<effect::Unusable>(table_->take_effects().at(0)));
    round();
    apply(table_->latest_objects());
    const auto restored = restart();
    EXPECT_THAT(restored.problems, IsEmpty());
    EXPECT_THAT(names(restored.objects), ElementsAre("a@5"));
  }
  table_->on_pod(nullptr, kube::Object::from_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"e","namespace":"d","uid":"u-e"},"spec":{"nodeName":"edge-2","containers":[{"name":"a","image":"i"}]}})").value());
  EXPECT_EQ(table_->find("u-e"), nullptr) << "another node's pod is not run here";
  const auto deleted = with(R"("uid":"u-a")", R"("uid":"u-a","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":0)");
  table_->on_pod(pod("a", 5), deleted);
  table_->take_effects();
  table_->on_pod(deleted, pod("a", 12));
  EXPECT_TRUE(table_->find("u-a")->core.plan().deleting) << "a deletion is for good, also when the server was restored from before it";
}

// Goal: an ended pod that was not removed yet does not cost another its address. Method: one ends, gives its address back, another takes it
// (as after a restart, when the pool begins anew); then both are on the disk.
TEST_F(PodTableTest, WhatWasSaidWronglyOfAPodThatHasNotBegunIsReplaced) {
  std::string json(*pod("a", 5)->json());
  json.replace(json.find(R"({"name":"app")"), 13, R"({"name":"x","image":"i"},{"name":"app")");
  table_->on_pod(nullptr, kube::Object::from_json(json).value());
  round();
  ASSERT_EQ(table_->find("u-a")->core.containers(), 2u);
  table_->on_pod(pod("a", 5), pod("a", 6));
  ASSERT_EQ(table_->find("u-a")->core.containers(), 1u);
  serve("u-a");
  EXPECT_THAT(restart().problems, IsEmpty());
}

TEST_F(PodTableTest, AnAddressThatWasGivenBackIsTheNextOnes) {
  table_->on_pod(nullptr, pod("a", 5));
  serve("u-a");
  const std::string address = table_->find("u-a")->core.address();
  table_->on_pod(pod("a", 5), kube::Object::from_json(std::string(*pod("a", 6)->json()).replace(pod("a", 6)->json()->find("\"uid\""), 5, R"("deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":0,"uid")")).value());
  round();
  table_->find("u-a")->core.on_stopped(0, {}, {wall_, now_});
  table_->mark("u-a");
  EXPECT_THAT(round(), Contains("u-a release"));
  EXPECT_THAT(restart().problems, IsEmpty());
  table_->on_pod(nullptr, pod("b", 8));
  serve("u-b");
  ASSERT_EQ(table_->find("u-b")->core.address(), address);
  EXPECT_THAT(restart().problems, IsEmpty());
  EXPECT_NE(table_->find("u-a"), nullptr);
  EXPECT_NE(table_->find("u-b"), nullptr);
}

TEST_F(PodTableTest, HeldBackOnlyWhatTheKeeperHoldsIsLookedAt) {
  table_->on_pod(nullptr, pod("a", 5));
  table_->on_pod(nullptr, pod("b", 6));
  round();
  restart();
  table_->hold_starts(true);
  table_->find("u-b")->held_by_keeper = true;
  table_->mark_all();
  for (const std::string& line : round()) EXPECT_THAT(line, HasSubstr("u-b ")) << line;
  table_->on_pod(pod("a", 5), nullptr);
  EXPECT_THAT(round(), Contains("u-a forget")) << "what is over ends all the same";
  table_->on_pod(nullptr, pod("c", 8));
  EXPECT_THAT(round(), IsEmpty());
  table_->hold_starts(false);
  EXPECT_THAT(round(), Contains("u-c prepare-image"));
}

TEST_F(PodTableTest, AnotherPodOfTheSameNameTakesThePlace) {
  table_->on_pod(nullptr, pod("a", 5));
  serve("u-a");
  table_->take_effects();
  table_->on_pod(pod("a", 5), pod("a", 8, "", "u-other"));
  EXPECT_THAT(table_->take_effects(), SizeIs(2)) << "gone, and references of the new one";
  EXPECT_TRUE(table_->find("u-a")->core.vanished());
  apply(table_->latest_objects());
  round();
  const auto restored = restart();
  EXPECT_THAT(names(restored.objects), ElementsAre("a@8"));
}

TEST_F(PodTableTest, WhatCannotBeTakenOverIsAProblemSoThatNobodyResumesWithoutIt) {
  table_->on_pod(nullptr, pod("a", 5));
  serve("u-a");
  disk_.pods[0].state = "{";
  const auto restored = restart();
  EXPECT_THAT(restored.problems, ElementsAre(HasSubstr("pod d/a: ")));
  EXPECT_EQ(table_->find("u-a"), nullptr);
}

TEST_F(PodTableTest, BeyondTheLimitAPodIsRefusedOnce) {
  for (const char* name : {"a", "b", "c", "e"}) table_->on_pod(nullptr, pod(name, 5));
  auto effects = table_->take_effects();
  ASSERT_THAT(effects, SizeIs(4));
  ASSERT_TRUE(std::holds_alternative<effect::Refused>(effects[3]));
  EXPECT_EQ(std::get<effect::Refused>(effects[3]).reason, "OutOfpods");
  table_->on_pod(pod("e", 5), pod("e", 6));
  EXPECT_THAT(table_->take_effects(), IsEmpty());
}

TEST_F(PodTableTest, AfterTheFirstListWhatItDoesNotNameIsOver) {
  table_->on_pod(nullptr, pod("a", 5));
  table_->on_pod(nullptr, pod("b", 6));
  table_->on_listed([](std::string_view, std::string_view name) { return name == "a" ? pod("a", 5) : pod("b", 9, "", "another"); });
  EXPECT_FALSE(table_->find("u-a")->core.vanished());
  EXPECT_TRUE(table_->find("u-b")->core.vanished());
}

TEST_F(PodTableTest, ANewPodThatNoApiServerAcceptsIsAskedForAgainAndNotRefused) {
  const auto nonsense = kube::Object::from_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"d","uid":"u-a","resourceVersion":"3"},"spec":{"nodeName":"edge-1","containers":[]}})").value();
  table_->on_pod(nullptr, nonsense);
  const auto effects = table_->take_effects();
  ASSERT_THAT(effects, SizeIs(1));
  EXPECT_TRUE(std::holds_alternative<effect::Unusable>(effects[0]));
  table_->on_pod(nullptr, pod("a", 3));
  EXPECT_NE(table_->find("u-a"), nullptr);
}

// The power was cut, and the disk is full: what is on it is served again, and nobody is told what is not on it.
TEST_F(PodTableTest, WhileTheDiskRefusesOnlyPodsThatAreOnItAreStarted) {
  table_->on_pod(nullptr, pod("a", 3));
  serve("u-a");
  restart();
  table_->mark_all();
  table_->on_pod(nullptr, pod("b", 4));
  std::vector<PodTable::Todo> waiting;
  const auto refused = [&] {
    auto round = table_->round({wall_, now_}, references_);
    std::ranges::move(round.todo, std::back_inserter(waiting));
    return words(table_->take_ahead(waiting));
  };
  EXPECT_THAT(refused(), ElementsAre("u-a prepare-image"));
  EXPECT_THAT(words(waiting), UnorderedElementsAre("u-a status", "u-b prepare-image", "u-b status"));
  PodEntry& a = *table_->find("u-a");
  a.core.on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "i", .key = "k"}), "");
  table_->mark("u-a");
  EXPECT_THAT(refused(), ElementsAre("u-a open-listener"));
  a.core.on_listening(0);
  table_->mark("u-a");
  EXPECT_THAT(refused(), ElementsAre("u-a put"));
  a.core.on_placed(0, {wall_, now_});
  table_->mark("u-a");
  EXPECT_THAT(refused(), ElementsAre("u-a event"));
  EXPECT_TRUE(a.core.ready());
  EXPECT_THAT(words(waiting), UnorderedElementsAre("u-a status", "u-b prepare-image", "u-b status")) << "of the statuses the last is enough";
  for (int i = 0; i < 100; ++i) waiting.push_back({"u-b", {command::PrepareImage{0, "i", PullPolicy::Always, false}, command::PostEvent{}}});
  table_->take_ahead(waiting);
  EXPECT_EQ(std::ranges::count(words(waiting), "u-b prepare-image"), 1);
  EXPECT_EQ(std::ranges::count(words(waiting), "u-b event"), 16);
}

// Goal: a pod that is over leaves no row, also while the disk refuses its removal. Method: what is written after Forget was decided.
TEST_F(PodTableTest, APodThatIsOverIsNotWrittenAgain) {
  table_->on_pod(nullptr, pod("a", 3));
  serve("u-a");
  table_->on_pod(pod("a", 3), nullptr);
  std::vector<Change> written;
  for (int i = 0; i < 20 && !forgets_; ++i) {
    auto done = table_->round({wall_, now_}, references_);
    forgets_ = done.forgets;
    std::ranges::move(done.write, std::back_inserter(written));
    table_->find("u-a")->core.on_stopped(0, {}, {wall_, now_});
    table_->mark("u-a");
    now_ += 10s;
  }
  ASSERT_TRUE(forgets_);
  table_->mark("u-a");  // e.g. something that it refers to has changed
  auto after = table_->round({wall_, now_}, references_);
  std::ranges::move(after.write, std::back_inserter(written));
  std::ranges::move(table_->latest_objects(), std::back_inserter(written));
  apply(written);
  EXPECT_THAT(disk_.pods, IsEmpty());
}

}  // namespace
}  // namespace skerry::agent
