// SPDX-License-Identifier: Apache-2.0
#include "agent/logs.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <format>
#include <fstream>
#include <sstream>

#include "os/file.h"

namespace skerry::agent {
namespace {

const Time kStart = *from_rfc3339("2026-11-23T10:00:00Z");

class LogsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-logs-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  LogFolder logs() const { return LogFolder({.folder = folder_, .bytes_max = 1000, .files_max = 3}); }
  void append(std::uint32_t attempt, std::string_view text) {
    auto fd = logs().open(kPlace, attempt).value();
    ASSERT_TRUE(os::write_all(fd.get(), text));
  }
  static std::string lines(int from, int to) {
    std::string out;
    for (int i = from; i < to; ++i) out += std::format("{} stdout F line {}\n", to_rfc3339_nano(kStart + std::chrono::seconds(i)), i);
    return out;
  }
  LogFiles files(std::uint32_t attempt) const {
    return [this, attempt] { return logs().files(kPlace, attempt); };
  }
  std::string read(const LogQuery& query, std::uint32_t attempt = 0) {
    auto stream = open_log_stream(files(attempt), query, [] { return false; });
    std::string out;
    for (;;) {
      auto chunk = rt::Loop::run_one(stream->next());
      if (!chunk || !*chunk) break;
      out += ***chunk;
    }
    return out;
  }
  const LogPlace kPlace{"default", "web", "u-1", "app"};
  std::filesystem::path folder_;
};

TEST_F(LogsTest, PrintsLinesWithoutCriPrefixAndJoinsParts) {
  append(0, "2026-11-23T10:00:00.000000001Z stdout F hello\n2026-11-23T10:00:01.0Z stderr P half \n2026-11-23T10:00:01.1Z stderr F done\nnot a CRI line\n");
  EXPECT_EQ(read({}), "hello\nhalf done\nnot a CRI line\n");
  EXPECT_EQ(read({.timestamps = true}), "2026-11-23T10:00:00.000000001Z hello\n2026-11-23T10:00:01.0Z half done\nnot a CRI line\n");
}

TEST_F(LogsTest, TailsOverRotatedFiles) {
  append(0, lines(0, 30));
  EXPECT_TRUE(logs().rotate(kPlace, 0, kStart).value());
  append(0, lines(30, 33));
  EXPECT_FALSE(logs().rotate(kPlace, 0, kStart).value());
  EXPECT_EQ(read({.tail_lines = 1}), "line 32\n");
  EXPECT_EQ(read({.tail_lines = 3}), "line 30\nline 31\nline 32\n");
  EXPECT_EQ(read({.tail_lines = 5}), "line 28\nline 29\nline 30\nline 31\nline 32\n");
  EXPECT_EQ(read({.tail_lines = 0}), "");
  EXPECT_EQ(read({.tail_lines = 1000}), read({}));
}

TEST_F(LogsTest, KeepsSoManyFilesOfAnAttemptAndTwoAttempts) {
  for (int i = 0; i < 6; ++i) {
    append(0, lines(0, 40));
    ASSERT_TRUE(logs().rotate(kPlace, 0, kStart + std::chrono::seconds(i)).value());
  }
  append(0, "x\n");
  EXPECT_EQ(logs().files(kPlace, 0).size(), 3u);
  append(1, "x\n");
  EXPECT_EQ(logs().files(kPlace, 0).size(), 3u);
  append(2, "x\n");
  EXPECT_EQ(logs().files(kPlace, 0).size(), 0u);
  EXPECT_EQ(logs().files(kPlace, 1).size(), 1u);
}

// Goal: a clock that goes back costs no line: what was written last stays. Method: rotations of a board that has the time, then of one that lost it.
TEST_F(LogsTest, KeepsTheNewestFilesWhateverTheClockSays) {
  const Time lost{};  // 1970
  int n = 0;
  for (const Time at : {kStart, kStart + 1s, lost, lost, lost + 1s, kStart + 2s}) {
    append(0, lines(n, n + 40));
    n += 40;
    ASSERT_TRUE(logs().rotate(kPlace, 0, at).value());
  }
  append(0, "the end\n");
  std::string kept;
  for (int i = n - 80; i < n; ++i) kept += std::format("line {}\n", i);
  EXPECT_EQ(read({}), kept + "the end\n");
}

TEST_F(LogsTest, HonoursSinceAndLimit) {
  append(0, lines(0, 10));
  EXPECT_EQ(read({.since = kStart + 8s}), "line 8\nline 9\n");
  EXPECT_EQ(read({.limit_bytes = 9}), "line 0\nli");
}

TEST_F(LogsTest, QueryIsParsedStrictly) {
  auto target = http::Target::parse("/containerLogs/a/b/c?tailLines=5&sinceSeconds=60&follow=true&timestamps=true&limitBytes=10").value();
  auto query = LogQuery::parse(target, kStart).value();
  EXPECT_EQ(query.tail_lines, 5u);
  EXPECT_EQ(query.since, kStart - 60s);
  EXPECT_TRUE(query.follow && query.timestamps);
  EXPECT_FALSE(LogQuery::parse(http::Target::parse("/x?tailLines=-1").value(), kStart));
  EXPECT_FALSE(LogQuery::parse(http::Target::parse("/x?sinceTime=now").value(), kStart));
}

// All that a followed log still says, in one text; it ends because nothing is alive.
std::string rest_of(http::Stream& stream) {
  std::string out;
  for (;;) {
    auto chunk = rt::Loop::run_one(stream.next());
    if (!chunk || !*chunk) return out;
    out += ***chunk;
  }
}

// Goal: a followed log goes on over a rotation and ends when the container does. Method: rotate while it is followed.
TEST_F(LogsTest, FollowsOverARotation) {
  append(0, lines(0, 40));
  bool alive = true;
  auto stream = open_log_stream(files(0), {.tail_lines = 1, .follow = true}, [&] { return alive; });
  EXPECT_EQ(***rt::Loop::run_one(stream->next()), "line 39\n");
  ASSERT_TRUE(logs().rotate(kPlace, 0, kStart).value());
  append(0, lines(40, 41));
  EXPECT_EQ(***rt::Loop::run_one(stream->next()), "line 40\n");
  alive = false;
  EXPECT_FALSE(*rt::Loop::run_one(stream->next()));
}

// Goal: a reader that is slower than the rotation misses nothing. Method: rotate twice between two reads, so that the
// first of the files is removed under it (three are kept), with a line that its writer added after the first renaming.
TEST_F(LogsTest, FollowsSlowlyOverManyRotationsInOrder) {
  append(0, lines(0, 40));
  auto late = logs().open(kPlace, 0).value();
  bool alive = true;
  auto stream = open_log_stream(files(0), {.tail_lines = 1, .follow = true}, [&] { return alive; });
  EXPECT_EQ(***rt::Loop::run_one(stream->next()), "line 39\n");
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(logs().rotate(kPlace, 0, kStart + std::chrono::seconds(i)).value());
    append(0, lines(41 + i * 40, 81 + i * 40));
  }
  ASSERT_TRUE(os::write_all(late.get(), lines(40, 41)));
  alive = false;
  std::string expected;
  for (int i = 40; i < 121; ++i) expected += std::format("line {}\n", i);
  EXPECT_EQ(rest_of(*stream), expected);
}

TEST_F(LogsTest, FollowsFromBeforeTheFirstLine) {
  bool alive = true;
  auto stream = open_log_stream(files(0), {.follow = true}, [&] { return std::exchange(alive, false); });
  append(0, lines(0, 2));
  EXPECT_EQ(rest_of(*stream), "line 0\nline 1\n");
}

// A reader in the middle of a file is not disturbed by a rotation under it.
TEST_F(LogsTest, ReadsToItsEndWhatIsRotatedMeanwhile) {
  append(0, lines(0, 3000));  // more than one piece
  auto stream = open_log_stream(files(0), {}, [] { return false; });
  std::string out = ***rt::Loop::run_one(stream->next());
  ASSERT_TRUE(logs().rotate(kPlace, 0, kStart).value());
  append(0, "2026-11-23T10:00:00Z stdout F new\n");
  out += rest_of(*stream);
  EXPECT_TRUE(out.starts_with("line 0\n"));
  EXPECT_TRUE(out.ends_with("line 2999\n"));
}

}  // namespace
}  // namespace skerry::agent
