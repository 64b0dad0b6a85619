// SPDX-License-Identifier: Apache-2.0
// Golden files: what a test said, compared with what it said before. UPDATE_GOLDEN=1 rewrites them; read the difference then.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace skerry::tests {

// `file`: below the project's top, e.g. "src/net/testdata/table.txt".
inline void expect_golden(const std::string& file, const std::string& text) {
  const std::string path = std::string(SKERRY_SOURCE_DIR) + "/" + file;
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << text;
    return;
  }
  std::ifstream in(path);
  std::stringstream expected;
  expected << in.rdbuf();
  EXPECT_EQ(text, expected.str()) << "golden " << path;
}

}  // namespace skerry::tests
