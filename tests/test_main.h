// SPDX-License-Identifier: Apache-2.0
// In a test that provokes an error line on purpose: `ExpectErrorLog expected("database is corrupt");`
// The test fails if an error line comes that no live ExpectErrorLog names, or if a named one never comes.
// CountLog counts the lines of any level with this text that come while it lives.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace skerry {
class ExpectErrorLog {
 public:
  explicit ExpectErrorLog(std::string part);
  ~ExpectErrorLog();
  ExpectErrorLog(const ExpectErrorLog&) = delete;
  ExpectErrorLog& operator=(const ExpectErrorLog&) = delete;
};

class CountLog {
 public:
  explicit CountLog(std::string part);
  ~CountLog();
  CountLog(const CountLog&) = delete;
  CountLog& operator=(const CountLog&) = delete;
  std::size_t lines() const;

 private:
  const std::string part_;
  std::size_t lines_ = 0;
  friend void count_line(CountLog&, std::string_view line);
};
}  // namespace skerry
