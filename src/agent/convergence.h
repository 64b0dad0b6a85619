// SPDX-License-Identifier: Apache-2.0
// Has what the node holds drifted from what the API server says? A pure core, fed with both sides' digests of a resource
// (docs/wire/digest.md), about once a minute. What is on its way makes them differ for a moment, so one difference proves nothing: it is
// drift when both sides stood still since the last comparison and still differ, or when `differences_max` in a row differed. What reading
// anew did not mend is not read anew at each comparison: Still, until one side changes, or `still_max` comparisons have passed.
// Owner: the agent, on its loop.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace skerry::agent {

class Convergence {
 public:
  struct Options {
    std::uint32_t differences_max = 5, still_max = 60;
  };
  Convergence() : Convergence(Options{}) {}
  explicit Convergence(Options options) : options_(options) {}

  enum class Verdict : std::uint8_t { Same, Differs, Drift, Still };
  // After Drift the resource is to be read anew.
  Verdict compare(std::string_view resource, std::uint64_t own, std::uint64_t servers);
  // The line was lost: what was compared before says nothing.
  void forget() { last_.clear(); }

 private:
  struct Last {
    std::uint64_t own = 0, servers = 0;
    std::uint32_t differences = 0;  // in a row; after Drift: how often they stood still since
    bool told = false;              // Drift
  };
  Options options_;
  std::map<std::string, Last, std::less<>> last_;  // of those that differed
};

}  // namespace skerry::agent
