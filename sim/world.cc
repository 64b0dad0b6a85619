// SPDX-License-Identifier: Apache-2.0
#include "sim/world.h"

#include <algorithm>
#include <cstdio>
#include <format>
#include <utility>

namespace skerry::sim {

void World::after(Duration d, std::function<void()> run) { queue_.push({now() + std::max(d, Duration{0}), order_++, std::move(run)}); }

void World::after(Duration d, const LifeOf& life, std::function<void()> run) {
  after(d, [weak = life, f = std::move(run)] {
    if (const auto held = weak.lock()) f();
  });
}

void World::run_until(Instant end) {
  while (!queue_.empty() && queue_.top().when <= end) {
    auto run = std::move(const_cast<Event&>(queue_.top()).run);
    clock.advance_to(queue_.top().when);
    queue_.pop();
    ++events_;
    run();
  }
  clock.advance_to(end);
}

Duration World::between(Range r) {
  if (r.max <= r.min) return r.min;
  return r.min + Duration(static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>((r.max - r.min).count()) + 1)));
}

void World::trace(std::string text) {
  std::string line = std::format("{:>12.3f} {}", std::chrono::duration<double>(elapsed()).count(), text);
  if (print_trace) std::printf("%s\n", line.c_str());
  tail_.push_back(std::move(line));
  if (tail_.size() > kTailMax) tail_.pop_front();
}

void World::violation(std::string checker, std::string text) {
  trace(std::format("VIOLATION {}: {}", checker, text));
  if (violations_.size() < kViolationsMax) violations_.push_back({std::move(checker), std::move(text), elapsed()});
}

}  // namespace skerry::sim
