// SPDX-License-Identifier: Apache-2.0
// Counters, gauges and histograms with labels, and the Prometheus text format 0.0.4.
// No global registry: who owns a Registry hands it down. Not thread-safe: one per loop. References that it gives stay
// valid as long as it lives. Names, labels and bounds are the program's own: a malformed one is a bug (CHECK).
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"

namespace skerry::metrics {

using Labels = std::vector<std::pair<std::string, std::string>>;  // name, value; values are any UTF-8

class CounterValue {  // not Counter: page.h has an enumeration of that name
 public:
  void add(std::uint64_t n = 1) { value_ += n; }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0;
};

class Gauge {
 public:
  void set(double value) { value_ = value; }
  void add(double n) { value_ += n; }
  double value() const { return value_; }

 private:
  double value_ = 0;
};

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);  // upper bounds, ascending, without +Inf
  // From counts kept elsewhere: buckets are not cumulative, one more than bounds.
  Histogram(std::vector<double> bounds, std::vector<std::uint64_t> buckets, double sum)
      : bounds_(std::move(bounds)), buckets_(std::move(buckets)), sum_(sum) {
    for (const std::uint64_t n : buckets_) count_ += n;
  }
  void observe(double value);
  void observe(Duration length) { observe(std::chrono::duration<double>(length).count()); }  // in seconds
  std::uint64_t count() const { return count_; }
  double sum() const { return sum_; }
  const std::vector<double>& bounds() const { return bounds_; }
  const std::vector<std::uint64_t>& buckets() const {
    return buckets_;
  }  // not cumulative; the last is above all bounds

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> buckets_;
  std::uint64_t count_ = 0;
  double sum_ = 0;
};

// 100 µs to 10 s.
std::vector<double> latency_bounds();

enum class Type : std::uint8_t { Counter, Gauge, Histogram };

// Writes the text format: family() once for each name, then its samples.
class Exposition {
 public:
  void family(std::string_view name, Type type, std::string_view help);
  void sample(const Labels& labels, double value);
  void sample(const Labels& labels, std::uint64_t value);
  void sample(const Labels& labels, const Histogram& value);
  std::string finish() && { return std::move(text_); }

 private:
  void line(std::string_view suffix, const Labels& labels, std::string_view extra_label, std::string_view value);
  std::string text_, name_;
};

inline constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

class Registry {
 public:
  explicit Registry(std::size_t series_max = 10'000) : series_max_(series_max) {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // The series of this name and labels, made at the first call. The same name must come with the same type. Beyond
  // series_max a series is shared by all that came too late, is not exposed, and is counted.
  CounterValue& counter(std::string_view name, std::string_view help, Labels labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, Labels labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, std::vector<double> bounds, Labels labels = {});
  // Families that are computed when they are asked for; `write` must use names that nobody else uses.
  void on_expose(std::function<void(Exposition&)> write) { computed_.push_back(std::move(write)); }

  std::string expose() const;

 private:
  template <class T>
  struct Series {
    std::deque<T> values;
    std::map<Labels, T*> by_labels;
  };
  struct Family {
    Type type;
    std::string help;
    Series<CounterValue> counters;
    Series<Gauge> gauges;
    Series<Histogram> histograms;
  };
  Family& family(std::string_view name, Type type, std::string_view help);
  template <class T, class... Args>
  T& series(Series<T>& in, Series<T>& overflow, Labels labels, Args&&... args);

  std::size_t series_max_, series_ = 0;
  std::uint64_t dropped_ = 0;
  std::map<std::string, Family, std::less<>> families_;
  std::map<std::string, Family, std::less<>> overflow_;
  std::vector<std::function<void(Exposition&)>> computed_;
};

}  // namespace skerry::metrics
