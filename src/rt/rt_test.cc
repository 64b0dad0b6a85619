// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <thread>

#include "rt/blocking_pool.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::rt {
namespace {

Task<int> answer(BlockingPool& pool) {
  const auto here = std::this_thread::get_id();
  CO_TRY(const int value, co_await pool.run<int>([here]() -> Result<int> {
    return std::this_thread::get_id() == here ? 0 : 42;
  }));
  EXPECT_EQ(std::this_thread::get_id(), here);
  co_return value;
}

TEST(BlockingPool, RunsElsewhereAndResumesOnTheLoop) {
  BlockingPool pool({.name = "test"});
  EXPECT_EQ(Loop::run_one(answer(pool)).value(), 42);
}

Task<> sleeper(int& unwound) {
  struct Guard {
    int& n;
    ~Guard() { ++n; }
  } guard{unwound};
  co_return co_await sleep_for(1h);
}

Task<> failing() { co_return Fail({Errc::Unavailable, "no line"}); }

Task<> scenario(Loop& loop, TaskGroup& group, int& unwound) {
  for (int i = 0; i < 3; ++i) group.spawn("sleeper", sleeper(unwound));
  group.spawn("failing", failing());
  CO_TRY_OK(co_await sleep_for(1ms));
  EXPECT_EQ(group.size(), 3U);
  CO_TRY_OK(co_await group.stop());
  EXPECT_EQ(unwound, 3);
  group.spawn("late", sleeper(unwound));
  EXPECT_EQ(group.size(), 0U);
  loop.stop();
  co_return Result<>{};
}

TEST(TaskGroup, StopCancelsAndWaitsForEveryTask) {
  Loop loop;
  TaskGroup group(loop), outer(loop);
  int unwound = 0;
  outer.spawn("scenario", scenario(loop, group, unwound));
  loop.run();
  EXPECT_EQ(unwound, 3);
}

Task<> reads(int fd, bool& done) {
  CO_TRY_OK(co_await wait_readable(fd));
  done = true;
  co_return Result<>{};
}
Task<> fd_scenario(Loop& loop, TaskGroup& group) {
  int fds[2];
  EXPECT_EQ(::pipe(fds), 0);
  bool done = false, never = false;
  group.spawn("reader", reads(fds[0], done));
  CO_TRY_OK(co_await sleep_for(1ms));
  EXPECT_FALSE(done);
  EXPECT_EQ(::write(fds[1], "x", 1), 1);
  CO_TRY_OK(co_await sleep_for(1ms));
  EXPECT_TRUE(done);
  char c;
  EXPECT_EQ(::read(fds[0], &c, 1), 1);
  group.spawn("cancelled", reads(fds[0], never));
  CO_TRY_OK(co_await sleep_for(1ms));
  CO_TRY_OK(co_await group.stop());
  EXPECT_FALSE(never);
  EXPECT_EQ(::close(fds[0]) + ::close(fds[1]), 0);  // still the caller's
  loop.stop();
  co_return Result<>{};
}

TEST(Loop, WaitsForADescriptorItDoesNotOwn) {
  Loop loop;
  TaskGroup group(loop), outer(loop);
  outer.spawn("scenario", fd_scenario(loop, group));
  loop.run();
}

Task<> cancel_one_scenario(Loop& loop, TaskGroup& group, int& unwound) {
  const auto cancel = group.spawn_cancellable("one", sleeper(unwound));
  group.spawn("other", sleeper(unwound));
  CO_TRY_OK(co_await sleep_for(1ms));
  cancel();
  CO_TRY_OK(co_await sleep_for(1ms));
  EXPECT_EQ(unwound, 1);
  EXPECT_EQ(group.size(), 1U);
  cancel();  // after its end: nothing
  CO_TRY_OK(co_await group.stop());
  EXPECT_EQ(unwound, 2);
  loop.stop();
  co_return Result<>{};
}

TEST(TaskGroup, OneTaskIsCancelledByItself) {
  Loop loop;
  TaskGroup group(loop), outer(loop);
  int unwound = 0;
  outer.spawn("scenario", cancel_one_scenario(loop, group, unwound));
  loop.run();
  EXPECT_EQ(unwound, 2);
}

Task<> waits(Event& event, std::string& trace) {
  CO_TRY_OK(co_await event.wait());
  trace += "w";
  co_return Result<>{};
}
Task<> event_scenario(Loop& loop, TaskGroup& group, Event& event, std::string& trace) {
  group.spawn("a", waits(event, trace));
  group.spawn("b", waits(event, trace));
  CO_TRY(const bool early, co_await event.wait_for(1ms));
  EXPECT_FALSE(early);
  event.set();
  CO_TRY_OK(co_await sleep_for(1ms));
  EXPECT_EQ(trace, "ww");
  event.reset();
  group.spawn("c", waits(event, trace));
  CO_TRY_OK(co_await sleep_for(1ms));
  CO_TRY_OK(co_await group.stop());
  EXPECT_EQ(trace, "ww");
  loop.stop();
  co_return Result<>{};
}

Task<> reset_at_once_scenario(Loop& loop, TaskGroup& group, Event& event, std::string& trace) {
  group.spawn("a", waits(event, trace));
  group.spawn("b", waits(event, trace));
  CO_TRY_OK(co_await sleep_for(1ms));
  event.set();
  event.reset();
  CO_TRY_OK(co_await sleep_for(1ms));
  EXPECT_FALSE(event.is_set());
  CO_TRY_OK(co_await group.stop());
  loop.stop();
  co_return Result<>{};
}

// One of two that wait may reset it, to wait again, before the other one had its turn.
TEST(Event, WhoWaitedGoesOnAlthoughItWasResetMeanwhile) {
  Loop loop;
  TaskGroup group(loop), outer(loop);
  Event event(loop);
  std::string trace;
  outer.spawn("scenario", reset_at_once_scenario(loop, group, event, trace));
  loop.run();
  EXPECT_EQ(trace, "ww");
}

TEST(Event, WakesAllWaitersAndStaysSet) {
  Loop loop;
  TaskGroup group(loop), outer(loop);
  Event event(loop);
  std::string trace;
  outer.spawn("scenario", event_scenario(loop, group, event, trace));
  loop.run();
  EXPECT_EQ(trace, "ww");
}

}  // namespace
}  // namespace skerry::rt
