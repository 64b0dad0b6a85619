// SPDX-License-Identifier: Apache-2.0
// For tests only: what a test needs of the machine. Missing, it is skipped with the reason; with REQUIRE_PEERS=1, as in CI, it
// fails, so that nothing is left out unseen.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>

#define NEEDS(condition, what)                                 \
  do {                                                         \
    if (!(condition)) {                                        \
      ASSERT_EQ(std::getenv("REQUIRE_PEERS"), nullptr) << what; \
      GTEST_SKIP() << what;                                    \
    }                                                          \
  } while (false)
