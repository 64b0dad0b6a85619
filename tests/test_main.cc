// SPDX-License-Identifier: Apache-2.0
#include "tests/test_main.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <mutex>
#include <utility>
#include <vector>

#include "base/log.h"

namespace skerry {
namespace {

struct Expected {
  std::string part;
  bool seen = false;
};
std::mutex mutex;
std::vector<Expected> expected_lines;
std::vector<CountLog*> counted;

}  // namespace

void count_line(CountLog& count, std::string_view line) { count.lines_ += line.contains(count.part_) ? 1 : 0; }

namespace {

void on_line(LogLevel level, std::string_view line) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
  const std::lock_guard lock(mutex);
  for (CountLog* count : counted) count_line(*count, line);
  if (level != LogLevel::Error) return;
  for (auto& expected : expected_lines) {
    if (line.find(expected.part) == std::string_view::npos) continue;
    expected.seen = true;
    return;
  }
  ADD_FAILURE() << "unexpected error in the log: " << line;
}

class SinkPerTest : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override { set_log_sink(on_line); }
};

}  // namespace

ExpectErrorLog::ExpectErrorLog(std::string part) {
  const std::lock_guard lock(mutex);
  expected_lines.push_back({std::move(part)});
}
ExpectErrorLog::~ExpectErrorLog() {
  const std::lock_guard lock(mutex);
  EXPECT_TRUE(expected_lines.back().seen) << "no error in the log with: " << expected_lines.back().part;
  expected_lines.pop_back();
}

CountLog::CountLog(std::string part) : part_(std::move(part)) {
  const std::lock_guard lock(mutex);
  counted.push_back(this);
}
CountLog::~CountLog() {
  const std::lock_guard lock(mutex);
  std::erase(counted, this);
}
std::size_t CountLog::lines() const {
  const std::lock_guard lock(mutex);
  return lines_;
}

}  // namespace skerry

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  ::testing::UnitTest::GetInstance()->listeners().Append(new skerry::SinkPerTest);
  return RUN_ALL_TESTS();
}
