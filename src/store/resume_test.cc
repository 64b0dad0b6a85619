// SPDX-License-Identifier: Apache-2.0
// Watches from before the history: answered if nothing that they select has changed since, and 410 whenever that cannot be told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>

#include "base/random.h"
#include "kube/digest.h"
#include "sql/faulty_vfs.h"
#include "store/store.h"
#include "tests/run_on.h"

namespace skerry::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr ResourceId kPods(0), kMaps(1), kLeases(2), kEvents(3);

std::string pod(std::string_view name, std::string_view node, Revision revision) {
  return std::format(R"({{"kind":"Pod","metadata":{{"name":"{}","namespace":"d","resourceVersion":"{}"}},"spec":{{"nodeName":"{}"}}}})", name, revision.value(), node);
}
std::string map(std::string_view ns, std::string_view name, Revision revision) {
  return std::format(R"({{"kind":"ConfigMap","metadata":{{"name":"{}","namespace":"{}","resourceVersion":"{}"}}}})", name, ns, revision.value());
}
rt::Task<ObjectPtr> put_task(Store& store, ResourceId id, std::string ns, std::string name, std::string node) {
  co_return co_await store.write(id, ns, name, [&](const ObjectPtr&, Revision next) -> Result<Outcome> {
    return Put{id == kPods ? pod(name, node, next) : map(ns, name, next)};
  });
}
rt::Task<ObjectPtr> remove_task(Store& store, ResourceId id, std::string ns, std::string name) {
  co_return co_await store.write(id, ns, name, [&](const ObjectPtr& newest, Revision next) -> Result<Outcome> {
    return Remove{id == kPods ? pod(name, newest->node_name(), next) : map(ns, name, next)};
  });
}
Selected on_node(std::string node) {
  return {.filter = [node](const kube::Object& o) { return o.node_name() == node; }, .lasting = Selected::Lasting{.namespace_ = {}, .node = node}};
}
Selected in(std::string ns) {
  return {.filter = [ns](const kube::Object& o) { return o.namespace_() == ns; }, .lasting = Selected::Lasting{.namespace_ = ns, .node = {}}};
}

struct World {
  sql::FaultyVfs disk{"resume-test"};
  ManualClock clock;
  rt::Loop loop;
  std::unique_ptr<Store> store;
  std::size_t scopes_max = 100, changes_max = 2;

  World() { open(); }
  ~World() { EXPECT_TRUE(run_on(loop, store->stop())); }
  void open(std::uint64_t skip = 0) {
    auto database = sql::Database::open("s.db", {.vfs = disk.name()}, Store::migrations()).value();
    store = Store::open(loop, clock, std::move(database),
                        {.resources = {{.name = "pods", .removal_scope = RemovalScope::Node},
                                       {.name = "configmaps"},
                                       {.name = "leases", .durability = Durability::Coalesced},
                                       {.name = "events", .ttl = 1h}},
                         .history = {.changes_max = changes_max},
                         .removal_scopes_max = scopes_max,
                         .skip_revisions = skip})
                .value();
  }
  void reopen(std::uint64_t skip = 0) {
    EXPECT_TRUE(run_on(loop, store->stop()));
    store.reset();
    open(skip);
  }
  void crash(std::uint64_t skip = 0) {
    disk.crash();
    (void)run_on(loop, store->stop());
    store.reset();
    disk.restart();
    open(skip);
  }
  Revision put(ResourceId id, std::string name, std::string node = "", std::string ns = "d") {
    return run_on(loop, put_task(*store, id, ns, name, node)).value()->revision();
  }
  Revision remove(ResourceId id, std::string name, std::string ns = "d") { return run_on(loop, remove_task(*store, id, ns, name)).value()->revision(); }
  void churn() {
    for (int i = 0; i < 5; ++i) put(kPods, "other", "elsewhere"), put(kMaps, "other", "", "elsewhere");
  }
  bool resumes(ResourceId id, Selected selected, Revision from) {
    auto watch = store->watch(id, std::move(selected), from);
    if (!watch) {
      EXPECT_EQ(watch.error().code, Errc::Gone);
    }
    return watch.has_value();
  }
  // The events that are there, as "ADDED a".
  std::vector<std::string> events(ResourceId id, Selected selected, Revision from) {
    std::vector<std::string> out;
    auto watch = store->watch(id, std::move(selected), from);
    if (!watch) return {"gone"};
    for (;;) {
      auto event = (*watch)->poll().value();
      if (!event) return out;
      out.push_back(std::format("{} {}", to_string(event->type), event->object->name()));
    }
  }
};

TEST(Resume, FromBeforeTheHistoryIfNothingSelectedChanged) {
  World w;
  const Revision seen = w.put(kPods, "a", "n");
  w.churn();
  EXPECT_THAT(w.events(kPods, on_node("n"), seen), IsEmpty());
  EXPECT_TRUE(w.resumes(kMaps, in("d"), seen));
  EXPECT_EQ(w.store->stats().watches_resumed, 2U);
  EXPECT_FALSE(w.resumes(kPods, on_node("elsewhere"), seen));
  EXPECT_FALSE(w.resumes(kPods, {}, seen));
  EXPECT_FALSE(w.resumes(kPods, on_node("n"), Revision(seen.value() - 1)));  // `a` itself is newer
  // What changed again within the history is told by the history, and what it was before by the former version.
  w.put(kPods, "a", "n");
  EXPECT_THAT(w.events(kPods, on_node("n"), seen), ElementsAre("MODIFIED a"));
  w.put(kPods, "a", "n"), w.put(kPods, "a", "n"), w.put(kPods, "a", "n");
  EXPECT_FALSE(w.resumes(kPods, on_node("n"), seen));
}

TEST(Resume, SeesWhatComesAfterIt) {
  World w;
  const Revision seen = w.put(kPods, "a", "n");
  w.put(kPods, "b", "");
  w.churn();
  auto watch = w.store->watch(kPods, on_node("n"), seen).value();
  w.put(kPods, "b", "n");  // bound now
  EXPECT_EQ(watch->poll().value()->object->name(), "b");
  EXPECT_EQ(watch->revision(), w.store->revision());
}

TEST(Resume, NeverWhereSomethingCouldHaveLeft) {
  World w;
  const Revision seen = w.put(kPods, "a", "n");
  w.churn();
  EXPECT_FALSE(w.resumes(kPods, {.filter = on_node("n").filter}, seen));
  EXPECT_FALSE(w.resumes(kPods, on_node("n"), Revision(w.store->revision().value() + 1)));  // newer than anything
}

TEST(Resume, OverARestartAndACrash) {
  World w;
  const Revision seen = w.put(kPods, "a", "n");
  w.churn();
  w.reopen();
  EXPECT_TRUE(w.resumes(kPods, on_node("n"), seen));
  w.put(kPods, "c", "n");
  EXPECT_THAT(w.events(kPods, on_node("n"), seen), ElementsAre("ADDED c"));
  w.crash();
  EXPECT_FALSE(w.resumes(kPods, on_node("n"), seen));
  EXPECT_TRUE(w.resumes(kMaps, in("d"), seen));
}

TEST(Resume, ARemovalInScopeIsRememberedForEver) {
  World w;
  w.put(kPods, "a", "n"), w.put(kPods, "b", "m"), w.put(kMaps, "c");
  const Revision seen = w.store->revision();
  const Revision gone = w.remove(kPods, "a");
  w.remove(kMaps, "c");
  w.churn();
  for (int start = 0; start < 3; ++start) {
    EXPECT_FALSE(w.resumes(kPods, on_node("n"), seen)) << start;
    EXPECT_FALSE(w.resumes(kPods, in("d"), seen)) << start;  // of pods the node is remembered, not the namespace
    EXPECT_TRUE(w.resumes(kPods, on_node("n"), gone)) << start;
    EXPECT_TRUE(w.resumes(kPods, on_node("m"), seen)) << start;
    EXPECT_FALSE(w.resumes(kMaps, in("d"), seen)) << start;
    EXPECT_TRUE(w.resumes(kMaps, in("e"), seen)) << start;
    if (start == 0) w.reopen();
    if (start == 1) w.crash();
  }
}

TEST(Resume, TheOldestScopesAreForgottenWhereThereAreTooMany) {
  World w;
  w.scopes_max = 4;
  w.reopen();
  const Revision seen = w.put(kMaps, "kept", "", "quiet");
  std::vector<Revision> removed;
  for (int i = 0; i < 5; ++i) {
    const auto ns = std::format("n{}", i);
    w.put(kMaps, "x", "", ns);
    removed.push_back(w.remove(kMaps, "x", ns));
  }
  w.churn();
  w.put(kMaps, "y", "", "n4"), w.remove(kMaps, "y", "n4");  // its transaction carries the new floor
  for (int start = 0; start < 2; ++start) {
    EXPECT_FALSE(w.resumes(kMaps, in("quiet"), seen)) << start;
    EXPECT_FALSE(w.resumes(kMaps, in("quiet"), removed[1])) << start;
    EXPECT_TRUE(w.resumes(kMaps, in("quiet"), removed[2])) << start;
    EXPECT_FALSE(w.resumes(kMaps, in("n3"), removed[2])) << start;
    w.crash();
  }
}

TEST(Resume, ExpiryIsARemoval) {
  World w;
  const Revision seen = w.put(kEvents, "e");
  w.put(kEvents, "f", "", "quiet");
  w.clock.advance(61min);
  ASSERT_TRUE(run_on(w.loop, w.store->sweep(w.clock.now())));
  ASSERT_TRUE(run_on(w.loop, w.store->flush()));
  EXPECT_EQ(w.store->count(kEvents), 0U);
  w.crash();
  EXPECT_FALSE(w.resumes(kEvents, in("d"), seen));
  EXPECT_TRUE(w.resumes(kEvents, in("never"), seen));
}

TEST(Resume, CoalescedResourcesForgetAtEveryStart) {
  World w;
  const Revision seen = w.put(kLeases, "a");
  for (int i = 0; i < 4; ++i) w.put(kLeases, "b", "", "e");
  EXPECT_TRUE(w.resumes(kLeases, in("d"), seen));
  w.put(kMaps, "x");
  w.crash();
  EXPECT_FALSE(w.resumes(kLeases, in("d"), seen));
}

TEST(Resume, NothingFromBeforeARestoredCopyAlsoAfterTheNextStart) {
  World w;
  w.put(kMaps, "a");
  const Revision seen = w.store->revision();
  // As after a restore: what else was written between the copy and `lost` is not here.
  const Revision lost(seen.value() + 50);
  w.crash(Store::kAfterRestore);
  const Revision restored = w.store->revision();
  for (int start = 0; start < 3; ++start) {
    EXPECT_FALSE(w.resumes(kMaps, in("d"), seen)) << start;
    EXPECT_FALSE(w.resumes(kMaps, in("d"), lost)) << start;
    EXPECT_TRUE(w.resumes(kMaps, in("d"), restored)) << start;
    EXPECT_GE(w.store->revision(), restored);
    w.crash();
  }
}

TEST(Resume, OfRemovalsBeforeTheTableNothingIsKnown) {
  sql::FaultyVfs disk("resume-migration");
  {
    auto database = sql::Database::open("s.db", {.vfs = disk.name()}, Store::migrations().first(1)).value();
    ASSERT_TRUE(database.exec("INSERT INTO resources VALUES (1, 'configmaps'); INSERT INTO meta VALUES ('revision', 40), ('reserved', 50);"));
    ASSERT_TRUE(database.transaction([&]() -> Result<> {
      TRY(auto put, database.prepare("INSERT INTO objects VALUES (1, 'd/a', ?)"));
      return put.run(sql::Blob{map("d", "a", Revision(7))});
    }));
  }
  rt::Loop loop;
  const ManualClock clock;
  auto store = Store::open(loop, clock, sql::Database::open("s.db", {.vfs = disk.name()}, Store::migrations()).value(), {.resources = {{.name = "configmaps"}}}).value();
  EXPECT_FALSE(store->watch(ResourceId(0), {}, Revision(39)));
  EXPECT_TRUE(store->watch(ResourceId(0), {}, Revision(40)));
}

TEST(Removals, KeepTheNewestOfEachScope) {
  Removals r(10);
  EXPECT_TRUE(r.none_since(Revision(0), ""));
  r.add("a", Revision(5)), r.add("b", Revision(9)), r.add("a", Revision(4));
  EXPECT_FALSE(r.none_since(Revision(4), "a"));
  EXPECT_TRUE(r.none_since(Revision(5), "a"));
  EXPECT_FALSE(r.none_since(Revision(8), ""));
  EXPECT_TRUE(r.none_since(Revision(0), "c"));
  EXPECT_FALSE(Removals(10, Revision(3)).none_since(Revision(2), "c"));
  EXPECT_FALSE(r.take_raised_floor());
}

TEST(Removals, ForgetTheOldestHalf) {
  Removals r(3);
  for (std::uint64_t i = 1; i <= 4; ++i) r.add(std::format("s{}", i), Revision(i * 10));
  EXPECT_EQ(r.scopes(), 2U);
  EXPECT_EQ(r.take_raised_floor(), Revision(20));
  EXPECT_FALSE(r.take_raised_floor());
  EXPECT_FALSE(r.none_since(Revision(19), "s9"));
  EXPECT_TRUE(r.none_since(Revision(20), "s1"));
  EXPECT_FALSE(r.none_since(Revision(20), "s3"));
}

// Goal: the digests that are kept up are those of what is there, of every node, also after a start. Method: random writes and removals,
// each digest against one made from a list.
TEST(Digests, AreThoseOfWhatIsVisible) {
  World w;
  SeededRandom random(7);
  const auto check = [&] {
    for (const char* node : {"n-0", "n-1", "n-2", ""}) {
      kube::Digest expected;
      const auto list = w.store->list(kPods, {});
      for (const auto& object : list->items)
        if (*node == 0 || object->node_name() == node) expected.add(*object);
      ASSERT_EQ(w.store->digest(kPods, node), expected.value()) << node;
    }
  };
  for (int i = 0; i < 300; ++i) {
    const std::string name = std::format("p-{}", random.below(12));
    const auto existing = w.store->newest(kPods, "d", name);
    if (existing && random.below(3) == 0) {
      ASSERT_TRUE(run_on(w.loop, remove_task(*w.store, kPods, "d", name)));
    } else {
      ASSERT_TRUE(run_on(w.loop, put_task(*w.store, kPods, "d", name, existing ? existing->node_name() : std::format("n-{}", random.below(3)))));
    }
    if (i % 20 == 0) check();
    if (i % 100 == 50) w.reopen();
  }
  check();
  EXPECT_NE(w.store->digest(kPods), 0u);
  EXPECT_EQ(w.store->digest(kPods, "unknown"), 0u);
}

}  // namespace
}  // namespace skerry::store
