// SPDX-License-Identifier: Apache-2.0
// Randomness as an input: cores take a Random&, tests seed it. SystemRandom is the kernel's (for secrets and uids).
#pragma once
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>

namespace skerry {

class Random {
 public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;
  // Uniform enough in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
};
class SystemRandom final : public Random {
 public:
  std::uint64_t next() override;
};
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t next() override { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

std::string make_uuid(Random&);                       // version 4, as metadata.uid
std::string make_name_suffix(Random&, std::size_t);   // Kubernetes' alphabet for generated names: no vowels, no 0 1 3

}  // namespace skerry
