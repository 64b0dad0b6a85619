// SPDX-License-Identifier: Apache-2.0
#include "cli/daemon.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>

namespace skerry::cli {
namespace {

struct DaemonTest : ::testing::Test {
  // Says the steps in their order; `open` does what it is told to.
  Result<> run(std::function<Result<>()> open) {
    rt::Loop loop;
    return run_daemon(loop, {.open = std::move(open), .start = [&] { return step('s'); }, .stop = [&] { return step('e'); }});
  }
  rt::Task<> step(char name) {
    steps += name;
    co_return Result<>{};
  }
  std::string steps;
};

// Goal: who is told to end while it opens leaves nothing half made. Method: the signal comes in the middle of open, where it would kill the process.
TEST_F(DaemonTest, ASignalDuringOpenStopsInOrder) {
  const auto ended = run([]() -> Result<> {
    ::raise(SIGTERM);
    return {};
  });
  EXPECT_TRUE(ended) << ended.error().what;
  EXPECT_EQ(steps, "se");
}

TEST_F(DaemonTest, WhatAFailedOpenMadeIsStopped) {
  const auto ended = run([]() -> Result<> { return Fail({Errc::Unavailable, "half made"}); });
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().what, "half made");
  EXPECT_EQ(steps, "e");
}

}  // namespace
}  // namespace skerry::cli
