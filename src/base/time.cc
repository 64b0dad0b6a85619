// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <format>

namespace skerry {
namespace {

std::string format_time(Time t, int digits) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(t);
  const auto fraction = (t - seconds).count();
  const auto text = std::format("{:%FT%T}", seconds);
  if (digits == 0) return text + "Z";
  if (digits == 6) return std::format("{}.{:06}Z", text, fraction / 1000);
  return std::format("{}.{:09}Z", text, fraction);
}

bool take_number(std::string_view& s, std::size_t digits, int& out) {
  if (s.size() < digits) return false;
  out = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    if (s[i] < '0' || s[i] > '9') return false;
    out = out * 10 + (s[i] - '0');
  }
  s.remove_prefix(digits);
  return true;
}

bool take(std::string_view& s, char c) {
  if (s.empty() || s.front() != c) return false;
  s.remove_prefix(1);
  return true;
}

}  // namespace

Time SystemClock::now() const { return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now()); }
Instant SystemClock::instant() const { return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now()); }

std::string to_rfc3339(Time t) { return format_time(t, 0); }
std::string to_rfc3339_micro(Time t) { return format_time(t, 6); }
std::string to_rfc3339_nano(Time t) { return format_time(t, 9); }

std::optional<Time> from_rfc3339(std::string_view s) {
  int year, month, day, hour, minute, second;
  if (!take_number(s, 4, year) || !take(s, '-') || !take_number(s, 2, month) || !take(s, '-') || !take_number(s, 2, day))
    return std::nullopt;
  if (!(take(s, 'T') || take(s, 't') || take(s, ' '))) return std::nullopt;
  if (!take_number(s, 2, hour) || !take(s, ':') || !take_number(s, 2, minute) || !take(s, ':') || !take_number(s, 2, second))
    return std::nullopt;
  std::int64_t nanos = 0;
  if (take(s, '.')) {
    std::int64_t unit = 100'000'000;
    std::size_t digits = 0;
    for (; !s.empty() && s.front() >= '0' && s.front() <= '9'; s.remove_prefix(1), ++digits, unit /= 10)
      nanos += unit * (s.front() - '0');
    if (digits == 0) return std::nullopt;
  }
  int offset = 0;
  if (!take(s, 'Z') && !take(s, 'z')) {
    if (s.empty() || (s.front() != '+' && s.front() != '-')) return std::nullopt;
    const int sign = s.front() == '+' ? 1 : -1;
    s.remove_prefix(1);
    int h, m;
    if (!take_number(s, 2, h) || !take(s, ':') || !take_number(s, 2, m) || h > 23 || m > 59) return std::nullopt;
    offset = sign * (h * 60 + m);
  }
  if (!s.empty() || hour > 23 || minute > 59 || second > 60 || year < 1678 || year > 2261) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  return Time{std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(hour) + std::chrono::minutes(minute - offset) +
              std::chrono::seconds(second) + std::chrono::nanoseconds(nanos)};
}

std::string to_human(Duration d) {
  const double ns = static_cast<double>(d.count());
  if (ns < 1e3) return std::format("{}ns", d.count());
  if (ns < 1e6) return std::format("{:.3g}µs", ns / 1e3);
  if (ns < 1e9) return std::format("{:.3g}ms", ns / 1e6);
  if (ns < 60e9) return std::format("{:.3g}s", ns / 1e9);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(d).count();
  if (seconds < 3600) return std::format("{}m{}s", seconds / 60, seconds % 60);
  return std::format("{}h{}m", seconds / 3600, seconds / 60 % 60);
}

std::optional<Duration> parse_duration(std::string_view s) {
  const bool negative = take(s, '-');
  if (s == "0") return Duration::zero();
  if (s.empty()) return std::nullopt;
  double total = 0;
  while (!s.empty()) {
    double value = 0;
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value, std::chars_format::fixed);
    if (error != std::errc{} || value < 0) return std::nullopt;
    s.remove_prefix(static_cast<std::size_t>(end - s.data()));
    double unit = 0;
    if (s.starts_with("ns")) { unit = 1; s.remove_prefix(2); }
    else if (s.starts_with("us")) { unit = 1e3; s.remove_prefix(2); }
    else if (s.starts_with("µs")) { unit = 1e3; s.remove_prefix(3); }
    else if (s.starts_with("ms")) { unit = 1e6; s.remove_prefix(2); }
    else if (s.starts_with("s")) { unit = 1e9; s.remove_prefix(1); }
    else if (s.starts_with("m")) { unit = 60e9; s.remove_prefix(1); }
    else if (s.starts_with("h")) { unit = 3600e9; s.remove_prefix(1); }
    else return std::nullopt;
    total += value * unit;
  }
  if (!std::isfinite(total) || total > 9.2e18) return std::nullopt;
  const auto count = std::llround(total);
  return Duration(negative ? -count : count);
}

}  // namespace skerry
