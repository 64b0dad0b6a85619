// SPDX-License-Identifier: Apache-2.0
#include "agent/convergence.h"

#include <gmock/gmock.h>

namespace skerry::agent {
namespace {
using enum Convergence::Verdict;

TEST(Convergence, OneDifferenceProvesNothing) {
  Convergence c;
  EXPECT_EQ(c.compare("pods", 1, 1), Same);
  EXPECT_EQ(c.compare("pods", 1, 2), Differs) << "the event may be on its way";
  EXPECT_EQ(c.compare("pods", 2, 2), Same);
  EXPECT_EQ(c.compare("pods", 2, 3), Differs) << "the former difference is over";
}

TEST(Convergence, TwoSidesThatStandStillAndDifferHaveDrifted) {
  Convergence c;
  EXPECT_EQ(c.compare("pods", 1, 2), Differs);
  EXPECT_EQ(c.compare("services", 7, 8), Differs) << "each resource for itself";
  EXPECT_EQ(c.compare("pods", 1, 2), Drift);
  EXPECT_EQ(c.compare("pods", 2, 3), Differs) << "it begins anew";
}

TEST(Convergence, WhatMovesIsWaitedForButNotForEver) {
  Convergence c({.differences_max = 4});
  EXPECT_EQ(c.compare("pods", 1, 2), Differs);
  EXPECT_EQ(c.compare("pods", 2, 3), Differs);
  EXPECT_EQ(c.compare("pods", 2, 4), Differs);
  EXPECT_EQ(c.compare("pods", 3, 5), Drift);
}

TEST(Convergence, WhatReadingAnewDoesNotMendIsNotReadAnewEachTime) {
  Convergence c({.still_max = 3});
  EXPECT_EQ(c.compare("pods", 1, 2), Differs);
  EXPECT_EQ(c.compare("pods", 1, 2), Drift);
  EXPECT_EQ(c.compare("pods", 1, 2), Still);
  EXPECT_EQ(c.compare("pods", 1, 2), Still);
  EXPECT_EQ(c.compare("pods", 1, 2), Drift) << "but now and then";
  EXPECT_EQ(c.compare("pods", 1, 2), Still);
  EXPECT_EQ(c.compare("pods", 1, 3), Differs) << "one side changed";
  EXPECT_EQ(c.compare("pods", 1, 3), Drift);
  EXPECT_EQ(c.compare("pods", 3, 3), Same);
  EXPECT_EQ(c.compare("pods", 3, 4), Differs);
}

TEST(Convergence, ALostLineStartsTheCountAnew) {
  Convergence c;
  EXPECT_EQ(c.compare("pods", 1, 2), Differs);
  c.forget();
  EXPECT_EQ(c.compare("pods", 1, 2), Differs);
}

}  // namespace
}  // namespace skerry::agent
