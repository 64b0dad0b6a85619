// SPDX-License-Identifier: Apache-2.0
// Points and lengths of time. Cores take `now` as an argument; shells ask a Clock; only cli builds the real one.
#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace skerry {

using namespace std::chrono_literals;
using Duration = std::chrono::nanoseconds;
// Wall time (UTC), as Kubernetes objects carry it. It can jump: never measure a length with it.
using Time = std::chrono::time_point<std::chrono::system_clock, Duration>;
// Monotonic time, for deadlines, back-off and lengths.
using Instant = std::chrono::time_point<std::chrono::steady_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time now() const = 0;
  virtual Instant instant() const = 0;
};
class SystemClock final : public Clock {
 public:
  Time now() const override;
  Instant instant() const override;
};
// For tests: moves only when told.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(Time start = Time{} + std::chrono::hours(24 * 365 * 50)) : now_(start) {}
  Time now() const override { return now_; }
  Instant instant() const override { return instant_; }
  void advance(Duration d) { now_ += d; instant_ += d; }
  void jump(Duration d) { now_ += d; }  // the wall clock is set; monotonic time goes on

 private:
  Time now_;
  Instant instant_{};
};

std::string to_rfc3339(Time);        // 2026-11-23T00:00:00Z (metav1.Time)
std::string to_rfc3339_micro(Time);  // 2026-11-23T00:00:00.000000Z (metav1.MicroTime)
std::string to_rfc3339_nano(Time);   // 2026-11-23T00:00:00.000000000Z (CRI log lines)
std::optional<Time> from_rfc3339(std::string_view);  // any fraction, Z or ±hh:mm
std::string to_human(Duration);      // 850µs, 12.3ms, 4.2s, 3m10s
// Go's duration syntax as Kubernetes annotations use it: 300ms, 1.5s, 2m30s, 1h. Empty if malformed or out of range.
std::optional<Duration> parse_duration(std::string_view);

}  // namespace skerry
