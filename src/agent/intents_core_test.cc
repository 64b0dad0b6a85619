// SPDX-License-Identifier: Apache-2.0
// Changes made at a node that is cut off: what is done, what is told, what follows the answer. A small world in virtual time carries
// out what the core says: held pods are not ready, a restarted pod is ready again after three seconds, stand-ins after one.
#include "agent/intents_core.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <format>

#include "tests/golden.h"

namespace skerry::agent {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Field = LocalChange::Field;
using Verdict = IntentsCore::Verdict;

class IntentsCoreTest : public ::testing::Test {
 protected:
  struct Pod : IntentPod {
    Instant ready_at{};
  };
  void add(const std::string& uid, int created) { pods_.push_back(Pod{{.uid = uid, .ready = true, .created = Time{} + std::chrono::seconds(created)}, {}}); }
  LocalChange scale(int n) const { return {.namespace_ = "default", .name = "web", .uid = "d-1", .field = Field::Replicas, .value = std::to_string(n)}; }
  LocalChange restart(std::string at) const { return {.namespace_ = "default", .name = "web", .uid = "d-1", .field = Field::RestartedAt, .value = std::move(at)}; }
  std::vector<IntentPod> facts() const { return {pods_.begin(), pods_.end()}; }
  // As the shell does it: planned, durable, accepted.
  Result<> change(const LocalChange& c, std::string_view server) {
    TRY(auto intent, core_.plan(c, server, facts(), Time{}));
    if (core_.drops(intent)) disk_.erase(intent.id);
    else disk_[intent.id] = intent.save();
    core_.accept(std::move(intent));
    return {};
  }
  // Asks until nothing more comes; all of it goes into the trace.
  std::vector<std::string> poll() {
    std::vector<std::string> said;
    for (int i = 0; i < 10; ++i) {
      for (Pod& p : pods_) p.ready = !p.held && now_ >= p.ready_at;
      auto acts = core_.poll(now_, {{"d-1", facts()}});
      if (acts.empty()) return said;
      for (Act& a : acts) {
        said.push_back(describe(a));
        trace_ += std::format("  {}\n", said.back());
        carry_out(a);
      }
    }
    ADD_FAILURE() << "it never comes to rest:\n" << trace_;
    return said;
  }
  void carry_out(Act& a) {
    const auto find = [&](const std::string& uid) {
      const auto it = std::ranges::find(pods_, uid, &Pod::uid);
      EXPECT_NE(it, pods_.end()) << uid;
      return it;
    };
    if (auto* x = std::get_if<act::Save>(&a)) disk_[x->intent.id] = x->intent.save();
    else if (auto* r = std::get_if<act::Remove>(&a)) disk_.erase(r->id);
    else if (auto* h = std::get_if<act::Hold>(&a)) find(h->uid)->held = true;
    else if (auto* l = std::get_if<act::Release>(&a)) find(l->uid)->held = false;
    else if (auto* e = std::get_if<act::End>(&a)) {
      EXPECT_NE(find(e->uid)->stand_in, 0u) << "only stand-ins are ended";
      pods_.erase(find(e->uid));
    } else if (auto* s = std::get_if<act::Restart>(&a)) {
      find(s->uid)->ready_at = now_ + 3s;
    } else if (auto* m = std::get_if<act::Make>(&a)) {
      for (int i = 0; i < m->count; ++i) {
        ++made_;
        pods_.push_back(Pod{{.uid = std::format("s-{}", made_), .stand_in = m->id, .created = Time{} + std::chrono::seconds(1000 + made_)}, now_ + 1s});
      }
    } else if (auto* p = std::get_if<act::Replay>(&a)) {
      replays_.push_back(p->intent.id);
    }
  }
  void after(Duration d) {
    now_ += d;
    trace_ += std::format("after {}\n", to_human(d));
  }
  std::vector<std::string> answer(IntentId id, Verdict verdict, std::string text = "") {
    trace_ += std::format("answer to {}: {}\n", id, text);
    core_.on_replayed(id, verdict, std::move(text), now_);
    return poll();
  }
  // A new core reads what is on the disk, as after a crash.
  void reboot() {
    trace_ += "reboot\n";
    core_ = IntentsCore({});
    for (const auto& [id, json] : disk_) core_.restore(Intent::restore(id, json).value(), now_);
    for (Pod& p : pods_) p.held = false;  // a core does not keep it
  }
  void expect_golden(const std::string& name) { tests::expect_golden("src/agent/testdata/" + name + ".txt", trace_); }

  IntentsCore core_{{}};
  std::vector<Pod> pods_;
  std::map<IntentId, std::string> disk_;
  std::vector<IntentId> replays_;
  Instant now_{1h};
  int made_ = 0;
  std::string trace_;
};

// Goal: a day at a node that is cut off, as a trace. Method: up, a reboot, a restart, back to the server, whose pods take over.
TEST_F(IntentsCoreTest, ADayAlone) {
  add("a", 1);
  add("b", 2);
  trace_ += "scale 2→4\n";
  ASSERT_TRUE(change(scale(4), "2"));
  poll();
  after(1s);
  poll();
  reboot();
  poll();
  trace_ += "restart\n";
  ASSERT_TRUE(change(restart("2026-01-01T00:00:00Z"), ""));
  for (int i = 0; i < 5; ++i) {
    poll();
    after(3s);
  }
  trace_ += "the line is back\n";
  core_.on_line(true, now_);
  poll();
  answer(1, Verdict::Held);
  answer(2, Verdict::Held);
  add("c", 500);
  trace_ += "c is ready here\n";
  poll();
  after(2min);
  poll();
  EXPECT_TRUE(core_.empty());
  EXPECT_THAT(disk_, IsEmpty());
  EXPECT_EQ(pods_.size(), 3u);
  expect_golden("intents_day");
}

TEST_F(IntentsCoreTest, FewerHoldsWhatIsNotReadyThenTheYoungest) {
  for (int i = 1; i <= 4; ++i) add(std::format("p{}", i), i);
  pods_[0].ready_at = now_ + 1h;
  ASSERT_TRUE(change(scale(2), "4"));
  EXPECT_THAT(poll(), AllOf(Contains("hold p1"), Contains("hold p4"), Not(Contains("hold p2")), Not(Contains("hold p3"))));
  ASSERT_TRUE(change(scale(3), "4"));
  EXPECT_THAT(poll(), AllOf(Contains(HasSubstr("release")), Not(Contains(HasSubstr("hold ")))));
  ASSERT_TRUE(change(scale(0), "4"));
  poll();
  EXPECT_TRUE(std::ranges::all_of(pods_, &Pod::held));
}

TEST_F(IntentsCoreTest, PodsElsewhereAreNotThisNodesToHold) {
  add("a", 1);
  add("b", 2);
  ASSERT_TRUE(change(scale(4), "6"));
  EXPECT_THAT(poll(), Not(Contains(HasSubstr("hold"))));
  ASSERT_TRUE(change(scale(1), "6"));
  EXPECT_THAT(poll(), Contains("hold b"));
}

TEST_F(IntentsCoreTest, BackAtTheServersValueThereIsNoIntent) {
  add("a", 1);
  ASSERT_TRUE(change(scale(3), "1"));
  poll();
  EXPECT_EQ(pods_.size(), 3u);
  ASSERT_TRUE(change(scale(1), "1"));
  poll();
  EXPECT_TRUE(core_.empty());
  EXPECT_THAT(disk_, IsEmpty());
  EXPECT_EQ(pods_.size(), 1u);
  core_.on_line(true, now_);
  poll();
  EXPECT_THAT(replays_, IsEmpty());
}

TEST_F(IntentsCoreTest, TheServersValueWinsAndBothAreNamed) {
  add("a", 1);
  add("b", 2);
  ASSERT_TRUE(change(scale(1), "2"));
  poll();
  core_.on_line(true, now_);
  poll();
  const auto said = answer(1, Verdict::Lost, "5");
  EXPECT_THAT(said, Contains(AllOf(HasSubstr("Warning LocalChangeLost"), HasSubstr("from \"2\" to \"1\""), HasSubstr("says \"5\""))));
  EXPECT_TRUE(std::ranges::none_of(pods_, &Pod::held));
  EXPECT_TRUE(core_.empty());
}

// Goal: a server that has just started, and knows no rights yet, costs no change; one that goes on refusing is believed. Method: refusals, a lost
// answer in between, then as many in a row as count.
TEST_F(IntentsCoreTest, ARefusalIsBelievedWhenItIsRepeatedAndThenNeverTriedAgain) {
  add("a", 1);
  ASSERT_TRUE(change(scale(2), "1"));
  core_.on_line(true, now_);
  poll();
  const auto refused = [&] {
    const auto said = answer(1, Verdict::Refused, "not allowed");
    if (const auto at = core_.deadline()) now_ = *at;
    poll();
    return said;
  };
  for (int i = 0; i < 5; ++i) EXPECT_THAT(refused(), Not(Contains(HasSubstr("LocalChange"))));
  answer(1, Verdict::Unanswered, "timeout");
  now_ = core_.deadline().value();
  poll();
  for (int i = 0; i < 5; ++i) EXPECT_THAT(refused(), Not(Contains(HasSubstr("LocalChange"))));
  EXPECT_EQ(pods_.size(), 2u);
  EXPECT_THAT(refused(), Contains(HasSubstr("LocalChangeRefused")));
  EXPECT_EQ(pods_.size(), 1u) << "its stand-in ended";
  const auto told = replays_.size();
  after(1h);
  poll();
  EXPECT_EQ(replays_.size(), told);
}

TEST_F(IntentsCoreTest, WhatIsNotAnsweredIsToldAgainEverMoreSeldom) {
  add("a", 1);
  ASSERT_TRUE(change(scale(2), "1"));
  core_.on_line(true, now_);
  poll();
  Duration waited{0};
  for (int i = 0; i < 8; ++i) {
    answer(1, Verdict::Unanswered, "timeout");
    ASSERT_TRUE(core_.deadline());
    waited = *core_.deadline() - now_;
    now_ = *core_.deadline();
    poll();
  }
  EXPECT_EQ(waited, 1min);
  EXPECT_EQ(replays_.size(), 9u);
}

TEST_F(IntentsCoreTest, HeldPodsThatTheServerKeepsStartAgain) {
  for (int i = 1; i <= 3; ++i) add(std::format("p{}", i), i);
  ASSERT_TRUE(change(scale(1), "3"));
  poll();
  core_.on_line(true, now_);
  poll();
  answer(1, Verdict::Held);
  EXPECT_EQ(std::ranges::count_if(pods_, &Pod::held), 2) << "the server has them deleted first";
  std::erase_if(pods_, [](const Pod& p) { return p.uid == "p3"; });
  poll();
  EXPECT_EQ(std::ranges::count_if(pods_, &Pod::held), 1);
  after(2min);
  poll();
  EXPECT_EQ(std::ranges::count_if(pods_, &Pod::held), 0);
  EXPECT_TRUE(core_.empty());
}

// The server may not have heard yet who is not ready when it chooses.
TEST_F(IntentsCoreTest, AHeldPodServesAgainWhenTheServerDeletesAnotherInItsPlace) {
  for (int i = 1; i <= 3; ++i) add(std::format("p{}", i), i);
  ASSERT_TRUE(change(scale(1), "3"));
  EXPECT_THAT(poll(), AllOf(Contains("hold p3"), Contains("hold p2")));
  core_.on_line(true, now_);
  poll();
  answer(1, Verdict::Held);
  std::erase_if(pods_, [](const Pod& p) { return p.uid == "p1"; });
  EXPECT_THAT(poll(), Contains("release p2"));
  std::erase_if(pods_, [](const Pod& p) { return p.uid == "p3"; });
  poll();
  EXPECT_TRUE(core_.empty());
  EXPECT_FALSE(pods_[0].held);
}

TEST_F(IntentsCoreTest, AChangeDuringItsReplayIsToldAfterIt) {
  add("a", 1);
  ASSERT_TRUE(change(scale(2), "1"));
  core_.on_line(true, now_);
  poll();
  ASSERT_TRUE(change(scale(3), "1"));
  poll();
  EXPECT_THAT(answer(1, Verdict::Held), Contains("replay 1 replicas default/web 2→3"));
  ASSERT_TRUE(change(scale(1), "1"));  // and back again: the server has 2 or 3 by now
  poll();
  EXPECT_THAT(answer(1, Verdict::Held), Contains("replay 1 replicas default/web 3→1"));
  answer(1, Verdict::Held);
  EXPECT_TRUE(core_.empty());
}

// Goal: an answer given here holds, also if the line came back while it was written down. Method: the former value's replay begins between
// the plan and its being taken up; the server takes it, or its answer is lost.
TEST_F(IntentsCoreTest, AChangeWhoseFormerReplayBeganMeanwhileIsStillTold) {
  add("a", 1);
  ASSERT_TRUE(change(scale(2), "1"));
  poll();
  auto back = core_.plan(scale(1), "1", facts(), {});
  ASSERT_TRUE(back);
  core_.on_line(true, now_);
  EXPECT_THAT(poll(), Contains("replay 1 replicas default/web 1→2"));
  core_.accept(std::move(*back));
  poll();
  EXPECT_FALSE(core_.empty()) << "the server may have 2 by now";
  EXPECT_THAT(answer(1, Verdict::Held), Contains("replay 1 replicas default/web 2→1"));
  answer(1, Verdict::Held);
  EXPECT_TRUE(core_.empty());
  core_.on_line(false, now_);
  ASSERT_TRUE(change(scale(2), "1"));
  poll();
  auto third = core_.plan(scale(3), "1", facts(), {});
  ASSERT_TRUE(third);
  core_.on_line(true, now_);
  poll();
  core_.accept(std::move(*third));
  EXPECT_THAT(core_.intents().begin()->second.sent, ::testing::ElementsAre("2"));
}

TEST_F(IntentsCoreTest, RestartsGoOneAfterTheOtherAndNotTwice) {
  for (int i = 1; i <= 3; ++i) add(std::format("p{}", i), i);
  ASSERT_TRUE(change(restart("t1"), "t0"));
  EXPECT_THAT(poll(), ElementsAre(HasSubstr("save 1"), "restart p3"));
  reboot();  // in the middle: p3 is not restarted again
  EXPECT_THAT(poll(), ElementsAre(HasSubstr("save 1"), "restart p2"));
  after(1min);  // it does not get ready: the next one all the same
  pods_[1].ready_at = now_ + 1h;
  EXPECT_THAT(poll(), ElementsAre(HasSubstr("save 1"), "restart p1"));
  after(3s);
  EXPECT_THAT(poll(), IsEmpty());
}

TEST_F(IntentsCoreTest, StandInsOfNobodyEnd) {
  add("a", 1);
  pods_.push_back(Pod{{.uid = "s-9", .stand_in = 9, .ready = true}, {}});
  EXPECT_THAT(poll(), ElementsAre("end s-9"));
}

// Goal: a stand-in that the node evicts is removed, and made again ever more seldom. Method: each that was made ends at once.
TEST_F(IntentsCoreTest, AStandInThatEndedIsRemovedAndMadeAgainWithBackoff) {
  add("a", 1);
  ASSERT_TRUE(change(scale(2), "1"));
  EXPECT_THAT(poll(), Contains("make 1 stand-ins of 1"));
  std::vector<Duration> pauses;
  for (int i = 0; i < 7; ++i) {
    pods_.back().ended = true;
    EXPECT_THAT(poll(), ElementsAre("end " + std::format("s-{}", made_)));
    ASSERT_TRUE(core_.deadline());
    pauses.push_back(*core_.deadline() - now_);
    now_ = *core_.deadline() - 1ms;
    EXPECT_THAT(poll(), IsEmpty());
    now_ += 1ms;
    EXPECT_THAT(poll(), ElementsAre("make 1 stand-ins of 1"));
  }
  EXPECT_THAT(pauses, ElementsAre(10s, 20s, 40s, 80s, 160s, 5min, 5min));
  EXPECT_EQ(core_.deadline(), std::nullopt) << "it is there";
  after(10min);
  pods_.back().ended = true;
  EXPECT_THAT(poll(), ElementsAre("make 1 stand-ins of 1", HasSubstr("end s-"))) << "after a good while again at once";
}

// Goal: what cannot be made (no room, no pod to copy) is not tried at every turn. Method: nothing that is asked for is made.
TEST_F(IntentsCoreTest, StandInsThatCannotBeMadeAreTriedAgainLater) {
  ASSERT_TRUE(change(scale(2), "1"));
  const IntentsCore::Pods none{{"d-1", {}}};
  const auto makes = [&] { return std::ranges::any_of(core_.poll(now_, none), [](const Act& a) { return std::holds_alternative<act::Make>(a); }); };
  EXPECT_TRUE(makes());
  EXPECT_FALSE(makes());
  after(10s);
  EXPECT_TRUE(makes());
  EXPECT_FALSE(makes());
  ASSERT_TRUE(change(scale(3), "1"));
  EXPECT_TRUE(makes()) << "somebody asks anew";
}

TEST_F(IntentsCoreTest, RefusesWhatIsNoNumberAndTooMany) {
  EXPECT_EQ(core_.plan(scale(-1), "1", {}, {}).error().code, Errc::Invalid);
  EXPECT_EQ(core_.plan(scale(10'001), "1", {}, {}).error().code, Errc::Invalid);
  EXPECT_EQ(core_.plan(restart(""), "1", {}, {}).error().code, Errc::Invalid);
  IntentsCore small({.intents_max = 1});
  small.accept(small.plan(scale(2), "1", {}, {}).value());
  EXPECT_EQ(small.plan(restart("t"), "", {}, {}).error().code, Errc::Exhausted);
  EXPECT_TRUE(small.plan(scale(3), "1", {}, {})) << "of the same field there is one already";
  EXPECT_EQ(IntentsCore::room_needed(small.plan(scale(4), "1", {}, {}).value(), {{.uid = "s", .stand_in = 1}}), 2);
}

TEST_F(IntentsCoreTest, WhatIsOnTheDiskIsReadBackOrRefused) {
  Intent intent{.id = 4, .change = scale(7), .before = "3", .sent = {"5"}, .made = Time{} + 5s, .stage = Intent::Stage::Settling, .stand_ins = 4, .held = {"x"}, .known = {"y", "z"}, .todo = {"q"}};
  EXPECT_EQ(Intent::restore(4, intent.save()).value().save(), intent.save());
  for (const char* bad : {"", "{}", R"({"field":"image","uid":"u","name":"n","value":"1"})", R"({"field":"replicas","uid":"u","name":"n","value":"many"})"})
    EXPECT_FALSE(Intent::restore(4, bad)) << bad;
}

}  // namespace
}  // namespace skerry::agent
