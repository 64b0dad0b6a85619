// SPDX-License-Identifier: Apache-2.0
#include "client/informer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/fake_api.h"
#include "http/in_process.h"

namespace skerry::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct InformerTest : ::testing::Test {
  rt::Loop loop;
  FakeApi api{loop};
  http::InProcessTransport transport{api};
  Client client{transport, {.list_page = 2}};
  SeededRandom random{1};
  std::vector<std::string> trace;
  Informer informer{loop, client, random, {.resource = kPods, .core = {.backoff_min = 2ms, .backoff_max = 8ms}},
                    [this](const ObjectPtr& before, const ObjectPtr& after) {
                      const auto side = [](const ObjectPtr& o) { return o ? std::format("{}@{}", o->name(), o->revision().value()) : std::string("-"); };
                      trace.push_back(side(before) + ">" + side(after));
                    }};
  bool finished = false;

  using Scenario = rt::Task<> (*)(InformerTest&);
  void run(Scenario scenario) {
    rt::TaskGroup tasks(loop);
    tasks.spawn("scenario", whole(*this, scenario));
    loop.run();
    EXPECT_TRUE(finished);
  }
  static rt::Task<> whole(InformerTest& t, Scenario scenario) {
    const auto result = co_await scenario(t);
    EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().what);
    t.finished = true;
    CO_TRY_OK(co_await t.informer.stop());
    EXPECT_EQ(t.api.watches_open, 0);
    t.loop.stop();
    co_return Result<>{};
  }
  rt::Task<> until(std::function<bool()> done) {
    for (int i = 0; i < 2000 && !done(); ++i) CO_TRY_OK(co_await rt::sleep_for(1ms));
    EXPECT_TRUE(done());
    co_return Result<>{};
  }
  std::vector<std::string> taken() { return std::exchange(trace, {}); }
};

TEST_F(InformerTest, ListsWatchesAndResumesWithoutRepeating) {
  for (const char* name : {"a", "b", "c"}) api.put(name);
  run([](InformerTest& t) -> rt::Task<> {
    t.informer.start();
    CO_TRY_OK(co_await t.informer.synced().wait());
    EXPECT_THAT(t.taken(), ElementsAre("->a@101", "->b@102", "->c@103"));
    EXPECT_EQ(t.informer.get("d", "b")->revision(), Revision(102));
    EXPECT_EQ(t.informer.get("d", "x"), nullptr);
    CO_TRY_OK(co_await t.until([&t] { return t.informer.connected(); }));
    t.api.put("b");
    t.api.erase("a");
    t.api.put("z");
    CO_TRY_OK(co_await t.until([&t] { return t.trace.size() == 3; }));
    EXPECT_THAT(t.taken(), ElementsAre("b@102>b@104", "a@101>-", "->z@106"));
    t.api.disconnect();
    t.api.put("z");
    CO_TRY_OK(co_await t.until([&t] { return t.trace.size() == 1; }));
    EXPECT_THAT(t.taken(), ElementsAre("z@106>z@107"));
    co_return Result<>{};
  });
}

TEST_F(InformerTest, AfterCompactionItListsOnceAndReportsTheDifferences) {
  for (const char* name : {"a", "b", "c"}) api.put(name);
  run([](InformerTest& t) -> rt::Task<> {
    t.informer.start();
    CO_TRY_OK(co_await t.until([&t] { return t.informer.connected(); }));
    t.taken();
    t.api.forced.emplace_back(503, "");  // the first return fails
    t.api.disconnect();
    t.api.erase("a");
    t.api.put("b");
    t.api.put("d");
    t.api.compact();
    CO_TRY_OK(co_await t.until([&t] { return t.trace.size() == 3; }));
    EXPECT_THAT(t.taken(), ElementsAre("a@101>-", "b@102>b@105", "->d@106"));
    CO_TRY_OK(co_await t.until([&t] { return t.informer.connected(); }));
    EXPECT_EQ(t.informer.cache().size(), 3U);
    co_return Result<>{};
  });
}

TEST_F(InformerTest, ABookmarkMovesTheRevisionOn) {
  run([](InformerTest& t) -> rt::Task<> {
    t.informer.start();
    CO_TRY_OK(co_await t.until([&t] { return t.informer.connected(); }));
    t.api.bookmark();
    CO_TRY_OK(co_await t.until([&t] { return t.informer.revision() == Revision(101); }));
    t.api.compact();
    t.api.disconnect();
    CO_TRY_OK(co_await t.until([&t] { return t.api.requests.size() == 3 && t.informer.connected(); }));
    EXPECT_THAT(t.taken(), IsEmpty());
    EXPECT_THAT(t.api.requests[2].target, HasSubstr("resourceVersion=101"));
    co_return Result<>{};
  });
}

TEST_F(InformerTest, KeepsTryingWhileTheServerIsAway) {
  for (int i = 0; i < 4; ++i) api.forced.emplace_back(503, "");
  run([](InformerTest& t) -> rt::Task<> {
    t.informer.start();
    CO_TRY_OK(co_await t.informer.synced().wait());
    EXPECT_EQ(t.api.requests.size() >= 5, true);
    co_return Result<>{};
  });
}

TEST_F(InformerTest, ARestoredInformerOnlyHearsWhatIsNew) {
  api.put("a");
  run([](InformerTest& t) -> rt::Task<> {
    CO_TRY(auto list, co_await t.client.list(kPods, ""));
    t.api.put("b");
    t.informer.restore(std::move(list.items), list.revision);
    EXPECT_NE(t.informer.get("d", "a"), nullptr);
    t.informer.start();
    CO_TRY_OK(co_await t.informer.synced().wait());
    CO_TRY_OK(co_await t.until([&t] { return !t.trace.empty(); }));
    EXPECT_THAT(t.taken(), ElementsAre("->b@102"));
    co_return Result<>{};
  });
}

// A dead line says nothing: the watch is silent, not broken, and what happened meanwhile is missed.
TEST_F(InformerTest, AWatchThatIsGivenUpResumesWhereItWas) {
  api.put("a");
  run([](InformerTest& t) -> rt::Task<> {
    t.informer.reconnect();  // before there is one: nothing happens
    t.informer.start();
    CO_TRY_OK(co_await t.until([&t] { return t.informer.connected(); }));
    t.taken();
    t.api.deaf = true;
    t.api.put("b");
    t.api.erase("a");
    CO_TRY_OK(co_await rt::sleep_for(5ms));
    EXPECT_THAT(t.taken(), IsEmpty());
    EXPECT_TRUE(t.informer.connected());
    t.api.deaf = false;
    t.informer.reconnect();
    t.informer.reconnect();  // once more is no more
    CO_TRY_OK(co_await t.until([&t] { return t.trace.size() == 2; }));
    EXPECT_THAT(t.taken(), ElementsAre("->b@102", "a@101>-"));
    EXPECT_EQ(t.api.watches_open, 1);
    EXPECT_EQ(t.api.requests.size(), 3U);  // a list and two watches
    EXPECT_THAT(t.api.requests[2].target, HasSubstr("resourceVersion=101"));
    co_return Result<>{};
  });
}

TEST_F(InformerTest, AWatchGivenUpBeforeItBeganIsOpenedAnew) {
  run([](InformerTest& t) -> rt::Task<> {
    t.informer.start();
    CO_TRY_OK(co_await t.informer.synced().wait());
    for (int i = 0; i < 20; ++i) {  // at every stage of its opening
      t.informer.reconnect();
      CO_TRY_OK(co_await rt::sleep_for(Duration(i * 100'000)));
    }
    CO_TRY_OK(co_await t.until([&t] { return t.informer.connected(); }));
    EXPECT_EQ(t.api.watches_open, 1);
    t.api.put("z");
    CO_TRY_OK(co_await t.until([&t] { return !t.trace.empty(); }));
    EXPECT_THAT(t.taken(), ElementsAre("->z@101"));
    co_return Result<>{};
  });
}

}  // namespace
}  // namespace skerry::client
