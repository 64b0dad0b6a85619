// SPDX-License-Identifier: Apache-2.0
#include "client/informer_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>

namespace skerry::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Act = InformerCore::Act;

kube::ObjectPtr pod(std::string name, std::uint64_t revision, std::string uid = "") {
  return kube::Object::from_json(std::format(R"({{"kind":"Pod","apiVersion":"v1","metadata":{{"namespace":"d","name":"{}","uid":"{}","resourceVersion":"{}"}}}})",
                                             name, uid.empty() ? "uid-" + name : uid, revision)).value();
}
WatchEvent event(WatchEvent::Type type, kube::ObjectPtr object) {
  const auto revision = object->revision();
  return {type, std::move(object), revision};
}
std::string show(const Change& change) {
  const auto side = [](const kube::ObjectPtr& o) { return o ? std::format("{}@{}", o->name(), o->revision().value()) : std::string("-"); };
  return side(change.before) + ">" + side(change.after);
}
std::vector<std::string> show(const std::vector<Change>& changes) {
  std::vector<std::string> out;
  for (const auto& change : changes) out.push_back(show(change));
  return out;
}
const Error kLost{Errc::Unavailable, "lost"};
const Error kGone{Errc::Gone, "too old"};

struct Core : ::testing::Test {
  SeededRandom random{1};
  InformerCore core{{.backoff_min = 100ms, .backoff_max = 1s, .objects_max = 5}, random};
  Instant now{};

  std::vector<std::string> list(std::vector<kube::ObjectPtr> items, std::uint64_t revision) {
    EXPECT_EQ(core.poll(now).act, Act::List);
    return show(core.on_list(std::move(items), kube::Revision(revision), now).value());
  }
  void watch(std::uint64_t from) {
    const auto action = core.poll(now);
    EXPECT_EQ(action.act, Act::Watch);
    EXPECT_EQ(action.revision, kube::Revision(from));
  }
  std::string on(WatchEvent::Type type, kube::ObjectPtr object) {
    const auto change = core.on_event(event(type, std::move(object)));
    return change ? show(*change) : "";
  }
};

TEST_F(Core, WhatIsRejectedIsAChangeWhenItIsSaidRightly) {
  list({pod("a", 3)}, 9);
  watch(9);
  EXPECT_EQ(on(WatchEvent::Type::Modified, pod("a", 10, "uid-a")), "a@3>a@10");
  core.reject(pod("a", 10), pod("a", 3));
  EXPECT_EQ(on(WatchEvent::Type::Modified, pod("a", 10, "uid-a")), "a@3>a@10");
  core.reject(pod("a", 3), nullptr);
  EXPECT_EQ(core.cache().size(), 1u) << "it is not what is known any more";
}

// Goal: a list that leaves out what exists takes nothing away. Method: one list without two objects, of which one is really gone.
TEST_F(Core, WhatAListLeavesOutIsAskedForByItsName) {
  InformerCore careful({.backoff_min = 100ms, .backoff_max = 1s, .confirm_removals = true}, random);
  careful.restore({pod("a", 3), pod("b", 4), pod("c", 5)}, kube::Revision{});
  ASSERT_EQ(careful.poll(now).act, Act::List) << "restored without a revision: listed";
  const auto digest_holds = [&careful] {
    kube::Digest sum;
    for (const auto& object : careful.cache()) sum.add(*object);
    return sum.value() == careful.digest();
  };
  EXPECT_THAT(show(careful.on_list({pod("c", 6)}, kube::Revision(9), now).value()), ElementsAre("c@5>c@6"));
  EXPECT_EQ(careful.resumable(), kube::Revision{}) << "nobody may resume behind what is not known yet";
  EXPECT_TRUE(digest_holds());
  auto asked = careful.poll(now);
  ASSERT_EQ(asked.act, Act::Get);
  EXPECT_EQ(asked.object->name(), "b");
  EXPECT_EQ(careful.poll(now).act, Act::Wait);
  EXPECT_FALSE(careful.on_got(Fail(kLost), now)) << "not known: asked again, later";
  EXPECT_EQ(careful.poll(now).act, Act::Sleep);
  now += 1s;
  ASSERT_EQ(careful.poll(now).object->name(), "b");
  EXPECT_EQ(show(*careful.on_got(Fail({Errc::NotFound, "no"}), now)), "b@4>-");
  ASSERT_EQ(careful.poll(now).object->name(), "a");
  EXPECT_TRUE(digest_holds());
  EXPECT_EQ(show(*careful.on_got(pod("a", 8), now)), "a@3>a@8");
  EXPECT_TRUE(digest_holds());
  EXPECT_EQ(careful.resumable(), kube::Revision{});
  EXPECT_EQ(careful.cache().size(), 2u);
  EXPECT_EQ(careful.poll(now).act, Act::Sleep) << "the list was wrong: it is made again, not at once";
  now += 1s;
  EXPECT_EQ(careful.poll(now).act, Act::List);
  EXPECT_THAT(careful.on_list({pod("a", 8), pod("c", 6)}, kube::Revision(10), now).value(), IsEmpty());
  EXPECT_EQ(careful.resumable(), kube::Revision(10));
  EXPECT_EQ(careful.poll(now).act, Act::Watch);
  // A server whose authorizer denies what does not exist: three lists say the same.
  careful.on_watch_ended(Error{Errc::Gone, "too old"}, now);
  now += 2s;
  for (int round = 1; round <= 3; ++round) {
    ASSERT_EQ(careful.poll(now).act, Act::List) << round;
    EXPECT_THAT(careful.on_list({pod("a", 8)}, kube::Revision(20), now).value(), IsEmpty());
    ASSERT_EQ(careful.poll(now).object->name(), "c");
    const auto change = careful.on_got(Fail({Errc::Denied, "no relationship found"}), now);
    EXPECT_TRUE(digest_holds());
    EXPECT_EQ(change.has_value(), round == 3);
    if (change) {
      EXPECT_EQ(show(*change), "c@6>-");
      break;
    }
    EXPECT_EQ(careful.resumable(), kube::Revision{});
    EXPECT_EQ(careful.poll(now).act, Act::Sleep);
    now += 5s;
  }
  careful.reject(pod("a", 8), pod("a", 7));
  EXPECT_TRUE(digest_holds());
  EXPECT_EQ(careful.poll(now).act, Act::Watch);
}

TEST_F(Core, ListsThenWatchesFromTheListsRevision) {
  EXPECT_FALSE(core.synced());
  EXPECT_THAT(list({pod("a", 3), pod("b", 5)}, 9), ElementsAre("->a@3", "->b@5"));
  EXPECT_TRUE(core.synced());
  watch(9);
  EXPECT_EQ(core.poll(now).act, Act::Wait);
  EXPECT_EQ(on(WatchEvent::Type::Added, pod("c", 10)), "->c@10");
  EXPECT_EQ(on(WatchEvent::Type::Modified, pod("a", 11)), "a@3>a@11");
  EXPECT_EQ(on(WatchEvent::Type::Deleted, pod("b", 12)), "b@5>-");
  EXPECT_EQ(core.revision(), kube::Revision(12));
  EXPECT_EQ(core.cache().size(), 2U);
}

// Goal: what somebody has in memory anyway is held in place of a copy, if it is the very same version, and only then.
TEST(InformerShare, HoldsTheVersionThatIsThereAlready) {
  SeededRandom random(1);
  kube::ObjectPtr theirs = pod("a", 3);
  InformerCore core({.share = [&](const kube::Object&) { return theirs; }}, random);
  const Instant now{};
  ASSERT_EQ(core.poll(now).act, InformerCore::Act::List);
  ASSERT_TRUE(core.on_list({pod("a", 3)}, kube::Revision(3), now));
  EXPECT_EQ(*core.cache().begin(), theirs);
  ASSERT_EQ(core.poll(now).act, InformerCore::Act::Watch);
  const auto change = core.on_event({WatchEvent::Type::Modified, pod("a", 4), kube::Revision(4)});  // theirs is another version
  ASSERT_TRUE(change);
  EXPECT_EQ(change->before, theirs);
  EXPECT_EQ(change->after->revision(), kube::Revision(4));
  theirs = pod("b", 5);
  ASSERT_TRUE(core.on_event({WatchEvent::Type::Added, pod("b", 5), kube::Revision(5)}));
  EXPECT_EQ(*core.cache().rbegin(), theirs);
}

TEST_F(Core, ResumesFromTheLastRevisionAlsoOfBookmarks) {
  list({}, 9);
  watch(9);
  EXPECT_EQ(on(WatchEvent::Type::Added, pod("c", 10)), "->c@10");
  EXPECT_FALSE(core.on_event({WatchEvent::Type::Bookmark, nullptr, kube::Revision(50)}).has_value());
  core.on_watch_ended(std::nullopt, now);
  watch(50);
  core.on_watch_ended(kLost, now);
  const auto action = core.poll(now);
  ASSERT_EQ(action.act, Act::Sleep);
  EXPECT_GE(action.until, now + 50ms);
  EXPECT_LE(action.until, now + 100ms);
  now = action.until;
  watch(50);
}

TEST_F(Core, ReportsOnlyRealDifferences) {
  list({pod("a", 3)}, 9);
  watch(9);
  EXPECT_EQ(on(WatchEvent::Type::Added, pod("a", 3)), "");     // repeated
  EXPECT_EQ(on(WatchEvent::Type::Modified, pod("a", 2)), "");  // older
  EXPECT_EQ(on(WatchEvent::Type::Deleted, pod("x", 10)), "");  // never known
  EXPECT_EQ(on(WatchEvent::Type::Added, pod("a", 11, "other")), "a@3>a@11");
}

TEST_F(Core, AfterGoneItListsOnceAndDiffs) {
  list({pod("a", 3), pod("b", 4), pod("c", 5)}, 9);
  watch(9);
  on(WatchEvent::Type::Modified, pod("a", 10));
  core.on_watch_ended(kGone, now);
  EXPECT_THAT(list({pod("a", 10), pod("b", 20), pod("d", 21)}, 30), ElementsAre("c@5>-", "b@4>b@20", "->d@21"));
  watch(30);
  core.on_watch_ended(kGone, now);  // no progress: this one at once, the next with back-off
  EXPECT_THAT(list({pod("a", 10), pod("b", 20), pod("d", 21)}, 31), IsEmpty());
  watch(31);
  core.on_watch_ended(kGone, now);
  EXPECT_EQ(core.poll(now).act, Act::Sleep);
  EXPECT_EQ(core.relists(), 3U);
}

TEST_F(Core, BacksOffWithJitterUpToItsLimitAndResetsOnProgress) {
  Duration last{};
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(core.poll(now).act, Act::List);
    core.on_list_failed(kLost, now);
    const auto action = core.poll(now);
    ASSERT_EQ(action.act, Act::Sleep);
    last = action.until - now;
    const Duration whole = std::min<Duration>(100ms * (1 << i), 1s);
    EXPECT_GE(last, whole / 2);
    EXPECT_LE(last, whole);
    EXPECT_EQ(core.poll(action.until - 1ns).act, Act::Sleep);
    now = action.until;
  }
  list({}, 1);
  watch(1);
  on(WatchEvent::Type::Added, pod("a", 2));
  core.on_watch_ended(kLost, now);
  const auto action = core.poll(now);
  ASSERT_EQ(action.act, Act::Sleep);
  EXPECT_LE(action.until - now, 100ms);
}

TEST_F(Core, AWatchThatEndsAtOnceWithoutAWordBacksOff) {
  list({}, 1);
  watch(1);
  core.on_watch_ended(std::nullopt, now);
  EXPECT_EQ(core.poll(now).act, Act::Sleep);
  now += 1s;
  watch(1);
  now += 5s;
  core.on_watch_ended(std::nullopt, now);
  watch(1);
}

TEST_F(Core, TwoNodesDoNotComeBackInStep) {
  SeededRandom other_random{2};
  InformerCore other{{.backoff_min = 100ms, .backoff_max = 1s}, other_random};
  for (InformerCore* one : {&core, &other}) {
    EXPECT_EQ(one->poll(now).act, Act::List);
    one->on_list_failed(kLost, now);
  }
  EXPECT_NE(core.poll(now).until, other.poll(now).until);
}

TEST_F(Core, BoundsWhatItHolds) {
  std::vector<kube::ObjectPtr> many;
  for (int i = 0; i < 6; ++i) many.push_back(pod(std::format("p{}", i), 1));
  EXPECT_EQ(core.poll(now).act, Act::List);
  EXPECT_EQ(core.on_list(many, kube::Revision(1), now).error().code, Errc::Exhausted);
  EXPECT_EQ(core.poll(now).act, Act::Sleep);
}

TEST_F(Core, ARestoredCacheWatchesFirst) {
  core.restore({pod("a", 3)}, kube::Revision(9));
  EXPECT_EQ(core.cache().size(), 1U);
  watch(9);
  core.on_watch_ended(kGone, now);
  EXPECT_THAT(list({pod("a", 4)}, 20), ElementsAre("a@3>a@4"));
}

TEST(ObjectKey, TellsNamespacedFromClusterScoped) {
  EXPECT_EQ(object_key("d", "a"), "d/a");
  EXPECT_EQ(object_key("", "a"), "a");
}

}  // namespace
}  // namespace skerry::client
