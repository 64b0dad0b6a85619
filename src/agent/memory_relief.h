// SPDX-License-Identifier: Apache-2.0
// Who gives memory back when the node runs short of it. A pure core, asked every few seconds: first sandboxes that may be
// idle leave early (their pods stay, and wake again), those of the least important pods first; if the pressure lasts, or
// nobody can leave early, the least important pod that is awake is ended. Critical pods are never ended.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace skerry::agent {

class MemoryRelief {
 public:
  struct Options {
    int patience = 6;           // so many rounds of leaving early, before a pod is ended
    int patience_alone = 2;     // the same where nobody can leave early
    int pause = 3;              // rounds after a pod was ended, for its memory to come back
    std::size_t share = 4;      // a quarter of those that can leave does so at once
    std::int64_t critical = 2'000'000'000;  // system-cluster-critical and above
  };
  // A pod with a process.
  struct Candidate {
    std::string uid{};
    std::int64_t priority = 0;
    bool idle_able = true;           // it falls idle by itself (skerry.dev/idle-after is not "never")
    std::uint64_t memory_bytes = 0;  // of its processes
  };
  struct Decision {
    std::vector<std::string> trim{};     // uids whose sandboxes leave now
    std::optional<std::string> evict{};  // the uid of the pod that ends
    friend bool operator==(const Decision&, const Decision&) = default;
  };
  MemoryRelief() = default;
  explicit MemoryRelief(Options options) : options_(options) {}

  Decision decide(bool pressure, std::vector<Candidate> awake);

 private:
  Options options_{};
  int rounds_ = 0;  // of pressure without an end; negative: after an eviction
};

}  // namespace skerry::agent
