// SPDX-License-Identifier: Apache-2.0
// In a test that provokes an error line on purpose: `ExpectErrorLog expected("database is corrupt");`
// The test fails if an error line comes that no live ExpectErrorLog names, or if a named one never comes.
#pragma once
#include <string>

namespace skerry {
class ExpectErrorLog {
 public:
  explicit ExpectErrorLog(std::string part);
  ~ExpectErrorLog();
  ExpectErrorLog(const ExpectErrorLog&) = delete;
  ExpectErrorLog& operator=(const ExpectErrorLog&) = delete;
};
}  // namespace skerry
