// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <format>

#include "sql/faulty_vfs.h"
#include "tests/run_on.h"

namespace skerry::store {
namespace {

using testing::ElementsAre;

constexpr ResourceId kMaps(0), kLeases(1), kEvents(2);

std::string body(std::string_view ns, std::string_view name, Revision revision, std::string_view value, std::string_view app = "x") {
  return std::format(R"({{"kind":"ConfigMap","metadata":{{"name":"{}","namespace":"{}","resourceVersion":"{}","labels":{{"app":"{}"}}}},"v":"{}"}})",
                     name, ns, revision.value(), app, value);
}

struct World {
  sql::FaultyVfs disk{"store-test"};
  ManualClock clock;
  rt::Loop loop;
  std::unique_ptr<Store> store;

  explicit World(History::Limits limits = {}) { open(limits); }
  ~World() {
    if (store) {
      EXPECT_TRUE(run_on(loop, store->stop()));
    }
  }
  void open(History::Limits limits = {}) {
    auto database = sql::Database::open("s.db", {.vfs = disk.name()}, Store::migrations()).value();
    store = Store::open(loop, clock, std::move(database),
                        {.resources = {{.name = "configmaps"}, {.name = "leases", .durability = Durability::Coalesced},
                                       {.name = "events", .ttl = 1h, .objects_max = 3}},
                         .history = limits})
                .value();
  }
  void reopen(History::Limits limits = {}) {
    EXPECT_TRUE(run_on(loop, store->stop()));
    store.reset();
    open(limits);
  }
  void crash() {
    disk.crash();
    (void)run_on(loop, store->stop());
    store.reset();
    disk.restart();
    open();
  }
  Result<ObjectPtr> put(std::string_view name, std::string_view value, std::string_view app = "x", ResourceId id = kMaps) {
    return run_on(loop, put_task(*store, id, std::string(name), std::string(value), std::string(app)));
  }
  static rt::Task<ObjectPtr> put_task(Store& store, ResourceId id, std::string name, std::string value, std::string app = "x") {
    co_return co_await store.write(id, "d", name, [&](const ObjectPtr&, Revision next) -> Result<Outcome> {
      return Put{body("d", name, next, value, app)};
    });
  }
  Result<ObjectPtr> remove(std::string_view name, ResourceId id = kMaps) {
    return run_on(loop, remove_task(*store, id, std::string(name)));
  }
  static rt::Task<ObjectPtr> remove_task(Store& store, ResourceId id, std::string name) {
    co_return co_await store.write(id, "d", name, [&](const ObjectPtr&, Revision next) -> Result<Outcome> {
      return Remove{body("d", name, next, "last")};
    });
  }
  std::vector<std::string> names(const ListQuery& query = {}) {
    std::vector<std::string> out;
    const auto listed = store->list(kMaps, query).value();
    for (const auto& object : listed.items) out.push_back(object->name());
    return out;
  }
  // The events that are there, as "ADDED a@7 x".
  std::vector<std::string> events(Watch& watch) {
    std::vector<std::string> out;
    for (;;) {
      auto event = watch.poll();
      if (!event) {
        out.push_back(std::format("error {}", to_string(event.error().code)));
        return out;
      }
      if (!*event) return out;
      out.push_back(std::format("{} {} {}", to_string((*event)->type), (*event)->object->name(), (*event)->object->label("app")));
    }
  }
};

TEST(Store, KeepsObjectsAndRevisionsOverARestart) {
  World w;
  const auto a = w.put("a", "1").value();
  const auto b = w.put("b", "2").value();
  EXPECT_EQ(b->revision().value(), a->revision().value() + 1);
  const auto before = w.store->revision();
  w.reopen();
  EXPECT_EQ(w.store->revision(), before);
  EXPECT_EQ(*w.store->get(kMaps, "d", "a")->json(), *a->json());
  EXPECT_THAT(w.names(), ElementsAre("a", "b"));
  EXPECT_EQ(w.put("c", "3").value()->revision().value(), before.value() + 1);
}

// The second mutation runs before the first has committed, and must see it.
rt::Task<> second_write(Store& store, bool& seen) {
  CO_TRY(auto done, co_await store.write(kMaps, "d", "p", [&](const ObjectPtr& newest, Revision next) -> Result<Outcome> {
    seen = newest != nullptr && newest->json()->contains("first");
    return Put{body("d", "p", next, "second")};
  }));
  EXPECT_TRUE(done->json()->contains("second"));
  co_return Result<>{};
}
rt::Task<> drop(rt::Task<ObjectPtr> task) {
  CO_TRY(auto object, co_await std::move(task));
  EXPECT_NE(object, nullptr);
  co_return Result<>{};
}

TEST(Store, MutationsSeeWhatIsOnItsWayAndReadersDoNot) {
  World w;
  rt::TaskGroup group(w.loop);
  bool seen = false;
  group.spawn("first", drop(World::put_task(*w.store, kMaps, "p", "first")));
  group.spawn("second", second_write(*w.store, seen));
  w.loop.context().poll_one();
  w.loop.context().poll_one();
  EXPECT_EQ(w.store->get(kMaps, "d", "p"), nullptr);
  ASSERT_NE(w.store->newest(kMaps, "d", "p"), nullptr);
  while (group.size() > 0) w.loop.context().run_one();
  EXPECT_TRUE(seen);
  EXPECT_TRUE(w.store->get(kMaps, "d", "p")->json()->contains("second"));
  EXPECT_EQ(w.store->stats().commits, 1U);  // one transaction for both
}

TEST(Store, AnswersTheMutationsErrorAndUsesNoRevision) {
  World w;
  const auto before = w.put("a", "1").value()->revision();
  const auto refused = run_on(w.loop, w.store->write(kMaps, "d", "a", [](const ObjectPtr&, Revision) -> Result<Outcome> {
    return Fail({Errc::Conflict, "no"});
  }));
  EXPECT_EQ(refused.error().code, Errc::Conflict);
  const auto kept = run_on(w.loop, w.store->write(kMaps, "d", "a", [](const ObjectPtr&, Revision) -> Result<Outcome> { return Keep{}; }));
  EXPECT_EQ(kept.value()->revision(), before);
  EXPECT_EQ(w.remove("nope").error().code, Errc::NotFound);
  EXPECT_EQ(w.put("b", "1").value()->revision().value(), before.value() + 1);
}

TEST(Store, ListsByNamespaceInPagesAtOneRevision) {
  World w;
  for (const char* name : {"a", "b", "c", "d", "e"}) ASSERT_TRUE(w.put(name, "1"));
  const auto first = w.store->list(kMaps, {.namespace_ = "d", .limit = 2}).value();
  EXPECT_EQ(first.items.size(), 2U);
  EXPECT_TRUE(first.more);
  EXPECT_EQ(first.remaining, 3U);
  // What happens between the pages is not seen by the later ones.
  ASSERT_TRUE(w.remove("c"));
  ASSERT_TRUE(w.put("bb", "new"));
  ASSERT_TRUE(w.put("d", "2"));
  const auto second = w.store->list(kMaps, {.namespace_ = "d", .limit = 2, .start_after = first.last_key, .at = first.revision}).value();
  ASSERT_EQ(second.items.size(), 2U);
  EXPECT_EQ(second.items[0]->name(), "c");
  EXPECT_TRUE(second.items[1]->json()->contains(R"("v":"1")"));
  const auto third = w.store->list(kMaps, {.namespace_ = "d", .limit = 2, .start_after = second.last_key, .at = first.revision}).value();
  ASSERT_EQ(third.items.size(), 1U);
  EXPECT_FALSE(third.more);
  EXPECT_THAT(w.names(), ElementsAre("a", "b", "bb", "d", "e"));
  EXPECT_THAT(w.names({.namespace_ = "dd"}), ElementsAre());
}

TEST(Store, AnOldPageIsGoneWhenTheHistoryIsShort) {
  World w({.changes_max = 2});
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(w.put(name, "1"));
  const auto at = w.store->revision();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(w.put("a", std::to_string(i)));
  EXPECT_EQ(w.store->list(kMaps, {.at = at}).error().code, Errc::Gone);
}

TEST(Watch, ShowsTransitionsIntoAndOutOfASelection) {
  World w;
  ASSERT_TRUE(w.put("old", "1", "y"));
  const auto from = w.store->revision();
  auto watch = w.store->watch(kMaps, {.filter = [](const kube::Object& o) { return o.label("app") == "y"; }}, from).value();
  ASSERT_TRUE(w.put("a", "1", "y"));
  ASSERT_TRUE(w.put("b", "1", "z"));
  ASSERT_TRUE(w.put("a", "2", "z"));
  ASSERT_TRUE(w.put("b", "2", "y"));
  ASSERT_TRUE(w.put("b", "3", "y"));
  ASSERT_TRUE(w.remove("b"));
  ASSERT_TRUE(w.remove("a"));
  EXPECT_THAT(w.events(*watch), ElementsAre("ADDED a y", "DELETED a y", "ADDED b y", "MODIFIED b y", "DELETED b x"));
  EXPECT_EQ(watch->revision(), w.store->revision());
  // Without a revision: first what exists.
  auto fresh = w.store->watch(kMaps, {.filter = [](const kube::Object& o) { return o.label("app") == "y"; }}, std::nullopt).value();
  EXPECT_THAT(w.events(*fresh), ElementsAre("ADDED old y"));
  // From the past: the same again.
  auto again = w.store->watch(kMaps, {}, Revision(w.store->revision().value() - 2)).value();
  EXPECT_THAT(w.events(*again), ElementsAre("DELETED b x", "DELETED a x"));
}

TEST(Watch, ALeavingObjectCarriesTheRevisionOfItsLeaving) {
  World w;
  auto watch = w.store->watch(kMaps, {.filter = [](const kube::Object& o) { return o.label("app") == "y"; }}, w.store->revision()).value();
  ASSERT_TRUE(w.put("a", "1", "y"));
  ASSERT_TRUE(w.put("a", "2", "z"));
  (void)watch->poll();
  const auto left = watch->poll().value().value();
  EXPECT_EQ(left.object->revision(), w.store->revision());
  EXPECT_TRUE(left.object->json()->contains(R"("v":"1")"));
  EXPECT_EQ(*left.line(), std::format("{{\"type\":\"DELETED\",\"object\":{}}}\n", *left.object->json()));
}

TEST(Watch, SharesOneTextBetweenWatchers) {
  World w;
  auto one = w.store->watch(kMaps, {}, w.store->revision()).value();
  auto two = w.store->watch(kMaps, {}, w.store->revision()).value();
  ASSERT_TRUE(w.put("a", "1"));
  const auto a = one->poll().value()->line(), b = two->poll().value()->line();
  EXPECT_EQ(a.get(), b.get());
}

TEST(Watch, IsDroppedWhenItFallsBehind) {
  World w({.changes_max = 3});
  auto watch = w.store->watch(kMaps, {}, w.store->revision()).value();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(w.put("a", std::to_string(i)));
  EXPECT_THAT(w.events(*watch), ElementsAre("error Gone"));
  EXPECT_EQ(w.store->stats().watches_dropped, 1U);
  EXPECT_EQ(w.store->watch(kMaps, {}, Revision(1)).error().code, Errc::Gone);
  EXPECT_EQ(w.store->watch(kMaps, {}, Revision(w.store->revision().value() + 9)).error().code, Errc::Gone);
}

rt::Task<> follow(Watch& watch, std::vector<std::string>& out) {
  for (;;) {
    CO_TRY(auto event, co_await watch.next(1h));
    if (event) out.push_back(event->object->name());
  }
}

TEST(Watch, WakesOnlyForWhatItSelects) {
  World w;
  rt::TaskGroup group(w.loop);
  std::vector<std::string> seen;
  auto watch = w.store->watch(kMaps, {.filter = [](const kube::Object& o) { return o.label("app") == "y"; }}, w.store->revision()).value();
  group.spawn("follow", follow(*watch, seen));
  ASSERT_TRUE(w.put("a", "1", "z"));
  ASSERT_TRUE(w.put("b", "1", "y"));
  ASSERT_TRUE(w.put("c", "1", "z"));
  while (w.loop.context().poll() > 0) {
  }
  EXPECT_THAT(seen, ElementsAre("b"));
  EXPECT_EQ(watch->revision(), w.store->revision());
  EXPECT_TRUE(run_on(w.loop, group.stop()));
  auto patient = run_on(w.loop, watch->next(1ms));
  EXPECT_FALSE(patient.value().has_value());
}

TEST(Watch, ResumesOverARestartIfNothingWasMissed) {
  World w;
  ASSERT_TRUE(w.put("a", "1"));
  const auto seen = w.store->revision();
  w.reopen();
  EXPECT_TRUE(w.store->watch(kMaps, {}, seen));
  EXPECT_EQ(w.store->watch(kMaps, {}, Revision(seen.value() - 1)).error().code, Errc::Gone);
  ASSERT_TRUE(w.put("a", "2"));
  w.crash();
  EXPECT_EQ(w.store->watch(kMaps, {}, seen).error().code, Errc::Gone);
  EXPECT_TRUE(w.store->watch(kMaps, {}, Revision(seen.value() + 1)));
}

TEST(Store, KeepsLeasesInMemoryAndCarriesThemToTheDiskTogether) {
  World w;
  ASSERT_TRUE(w.put("a", "1"));
  const auto before = w.disk.operations();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(w.put("node", std::to_string(i), "x", kLeases));
  EXPECT_EQ(w.disk.operations(), before);
  ASSERT_TRUE(run_on(w.loop, w.store->flush()));
  EXPECT_GT(w.disk.operations(), before);
  ASSERT_TRUE(w.put("node", "lost", "x", kLeases));
  const auto seen = w.store->revision();
  w.crash();
  EXPECT_TRUE(w.store->get(kLeases, "d", "node")->json()->contains(R"("v":"99")"));
  EXPECT_GE(w.store->revision(), seen);  // also those that never reached the disk
  EXPECT_EQ(w.store->watch(kLeases, {}, seen).error().code, Errc::Gone);
  EXPECT_TRUE(w.store->watch(kMaps, {}, seen));
  ASSERT_TRUE(w.put("node", "kept", "x", kLeases));
  w.reopen();
  EXPECT_TRUE(w.store->get(kLeases, "d", "node")->json()->contains("kept"));
}

TEST(Store, ExpiresEventsAndBoundsTheirNumber) {
  World w;
  auto watch = w.store->watch(kEvents, {}, w.store->revision()).value();
  ASSERT_TRUE(w.put("one", "1", "x", kEvents));
  w.clock.advance(30min);
  ASSERT_TRUE(w.put("two", "1", "x", kEvents));
  w.clock.advance(31min);
  ASSERT_TRUE(run_on(w.loop, w.store->sweep(w.clock.now())));
  ASSERT_TRUE(run_on(w.loop, w.store->flush()));
  EXPECT_EQ(w.store->count(kEvents), 1U);
  for (const char* name : {"three", "four", "five"}) ASSERT_TRUE(w.put(name, "1", "x", kEvents));
  ASSERT_TRUE(run_on(w.loop, w.store->sweep(w.clock.now())));
  ASSERT_TRUE(run_on(w.loop, w.store->flush()));
  EXPECT_EQ(w.store->count(kEvents), 3U);
  EXPECT_EQ(w.store->get(kEvents, "d", "two"), nullptr);
  EXPECT_THAT(w.events(*watch), ElementsAre("ADDED one x", "ADDED two x", "DELETED one x", "ADDED three x", "ADDED four x", "ADDED five x",
                                            "DELETED two x"));
}

TEST(Store, GoesOnAboveAllRevisionsAfterARestoreFromItsCopy) {
  std::string folder = "/tmp/skerry-store-copy-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const ManualClock clock;
  rt::Loop loop;
  Revision seen;
  {
    auto database = sql::Database::open(folder + "/s.db", {}, Store::migrations()).value();
    auto store = Store::open(loop, clock, std::move(database), {.resources = {{.name = "configmaps"}}, .copy_to = folder + "/good.db"}).value();
    ASSERT_TRUE(run_on(loop, World::put_task(*store, kMaps, "copied", "1")));
    ASSERT_TRUE(run_on(loop, store->copy()));
    ASSERT_TRUE(run_on(loop, World::put_task(*store, kMaps, "later", "1")));
    seen = store->revision();
    std::filesystem::copy_file(folder + "/good.db", folder + "/kept.db");
    EXPECT_TRUE(run_on(loop, store->stop()));
  }
  std::filesystem::resize_file(folder + "/s.db", 100);
  auto opened = sql::Database::open_or_restore(folder + "/s.db", folder + "/kept.db", {}, Store::migrations()).value();
  EXPECT_TRUE(opened.restored);
  auto store = Store::open(loop, clock, std::move(opened.database), {.resources = {{.name = "configmaps"}}, .skip_revisions = Store::kAfterRestore}).value();
  EXPECT_NE(store->get(kMaps, "d", "copied"), nullptr);
  EXPECT_GT(store->revision(), seen);
  EXPECT_EQ(store->watch(kMaps, {}, seen).error().code, Errc::Gone);
  std::filesystem::remove_all(folder);
}

TEST(Store, AFullDiskRefusesWritesButKeepsLeasesGoing) {
  World w;
  ASSERT_TRUE(w.put("a", "1"));
  w.disk.fail_at(1, sql::FaultyVfs::Fault::Sticky, sql::FaultyVfs::Reason::DiskFull);
  EXPECT_EQ(w.put("a", "2").error().code, Errc::Exhausted);
  EXPECT_EQ(w.put("b", "2").error().code, Errc::Exhausted);
  EXPECT_TRUE(w.put("node", "1", "x", kLeases));
  EXPECT_TRUE(w.store->get(kMaps, "d", "a")->json()->contains(R"("v":"1")"));
  EXPECT_EQ(w.store->newest(kMaps, "d", "b"), nullptr);
  w.disk.heal();
  EXPECT_TRUE(w.put("a", "3"));
}

}  // namespace
}  // namespace skerry::store
