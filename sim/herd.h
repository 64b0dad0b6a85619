// SPDX-License-Identifier: Apache-2.0
// 5000 nodes lose one server at one moment and find it again at another: their InformerCores alone, and a server that answers so
// many requests a second and refuses the rest.
#pragma once
#include <cstdint>
#include <string>

#include "base/time.h"

namespace skerry::sim {

struct HerdOptions {
  std::uint64_t seed = 1;
  std::uint32_t nodes = 5000, watches = 3;
  Duration outage = 1h, observed = 5min;
  bool jitter = true;  // false: the canary, every node waits the same
};
struct Herd {
  std::uint64_t connections = 0;       // 15,000: what is to be opened again
  std::uint64_t requests = 0;          // after the return, of which none is a list
  std::uint64_t lists = 0;
  std::uint64_t peak_second = 0, peak_100ms = 0;
  Duration all_back{};                 // from the return to the last watch
  double attempts_per_second_away = 0;  // while the server is away, in the last minute
};
Herd run_herd(const HerdOptions&);
std::string to_json(const Herd&);

}  // namespace skerry::sim
