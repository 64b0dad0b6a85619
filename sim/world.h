// SPDX-License-Identifier: Apache-2.0
// Virtual time, chance, and what was noticed. One World is one run: the same seed gives the same run, to the last event.
//
//   world.after(2s, life, [] { … });   world.run_until(end);
//
// A callback that is bound to a life is not called once that life has ended: what a killed process waited for never comes.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "base/time.h"

namespace skerry::sim {

// The wall clock may be set, both ways; the monotonic one only goes on.
class SimClock final : public Clock {
 public:
  Time now() const override { return wall_; }
  Instant instant() const override { return instant_; }
  void advance_to(Instant t) {
    wall_ += t - instant_;
    instant_ = t;
  }
  void jump(Duration d) { wall_ += d; }

 private:
  Time wall_ = Time{} + std::chrono::hours(24 * 365 * 56);
  Instant instant_{};
};

using Life = std::shared_ptr<const char>;  // of a process, a connection; held by it alone: reset, it is over
using LifeOf = std::weak_ptr<const char>;  // held by all others
inline Life new_life() { return std::make_shared<const char>('\0'); }

struct Range {
  Duration min{}, max{};
};

struct Violation {
  std::string checker, text;
  Duration at{};
};

class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {}
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  SimClock clock;
  Instant now() const { return clock.instant(); }
  Duration elapsed() const { return clock.instant() - Instant{}; }

  void after(Duration, std::function<void()>);
  void after(Duration, const LifeOf&, std::function<void()>);
  void run_until(Instant);
  std::uint64_t events() const { return events_; }

  Random& random() { return random_; }
  bool chance(double probability) { return static_cast<double>(random_.below(1'000'000)) < probability * 1'000'000; }
  Duration between(Range);
  std::size_t pick(std::size_t count) { return static_cast<std::size_t>(random_.below(count)); }

  // What happened; the last lines are kept, all are printed if `print_trace`.
  void trace(std::string text);
  bool print_trace = false;
  const std::deque<std::string>& tail() const { return tail_; }

  void violation(std::string checker, std::string text);
  const std::vector<Violation>& violations() const { return violations_; }

 private:
  struct Event {
    Instant when;
    std::uint64_t order;
    std::function<void()> run;
    bool operator>(const Event& o) const { return when != o.when ? when > o.when : order > o.order; }
  };
  static constexpr std::size_t kTailMax = 400, kViolationsMax = 50;
  SeededRandom random_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
  std::uint64_t order_ = 0, events_ = 0;
  std::deque<std::string> tail_;
  std::vector<Violation> violations_;
};

}  // namespace skerry::sim
