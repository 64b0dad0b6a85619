// SPDX-License-Identifier: Apache-2.0
#include "metrics/registry.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <format>

#include "base/check.h"

namespace skerry::metrics {
namespace {

bool valid_name(std::string_view name, bool colons) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::ranges::all_of(name, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (colons && c == ':');
  });
}

std::string escape(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return std::format("{}", value);  // the shortest text that reads back the same
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), buckets_(bounds_.size() + 1) {
  CHECK(std::ranges::is_sorted(bounds_, std::less_equal<>{}) || bounds_.size() < 2);
}

void Histogram::observe(double value) {
  const auto at = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  ++buckets_[static_cast<std::size_t>(at)];
  ++count_;
  sum_ += value;
}

std::vector<double> latency_bounds() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
}

void Exposition::family(std::string_view name, Type type, std::string_view help) {
  CHECK(valid_name(name, true));
  name_ = name;
  constexpr std::string_view kTypes[] = {"counter", "gauge", "histogram"};
  text_ += std::format("# HELP {} {}\n# TYPE {} {}\n", name, escape(help, false), name,
                       kTypes[static_cast<std::size_t>(type)]);
}

void Exposition::line(std::string_view suffix, const Labels& labels, std::string_view extra_label,
                      std::string_view value) {
  text_ += name_;
  text_ += suffix;
  if (!labels.empty() || !extra_label.empty()) {
    char separator = '{';
    for (const auto& [label, content] : labels) {
      CHECK(valid_name(label, false));
      text_ += std::format("{}{}=\"{}\"", separator, label, escape(content, true));
      separator = ',';
    }
    if (!extra_label.empty()) text_ += std::format("{}le=\"{}\"", separator, extra_label);
    text_ += '}';
  }
  text_ += ' ';
  text_ += value;
  text_ += '\n';
}

void Exposition::sample(const Labels& labels, double value) { line("", labels, "", number(value)); }
void Exposition::sample(const Labels& labels, std::uint64_t value) { line("", labels, "", std::to_string(value)); }
void Exposition::sample(const Labels& labels, const Histogram& value) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < value.bounds().size(); ++i) {
    total += value.buckets()[i];
    line("_bucket", labels, number(value.bounds()[i]), std::to_string(total));
  }
  line("_bucket", labels, "+Inf", std::to_string(value.count()));
  line("_sum", labels, "", number(value.sum()));
  line("_count", labels, "", std::to_string(value.count()));
}

Registry::Family& Registry::family(std::string_view name, Type type, std::string_view help) {
  CHECK(valid_name(name, true));
  const auto at = families_.find(name);
  if (at == families_.end()) return families_.emplace(name, Family{type, std::string(help), {}, {}, {}}).first->second;
  CHECK(at->second.type == type);
  return at->second;
}

template <class T, class... Args>
T& Registry::series(Series<T>& in, Series<T>& overflow, Labels labels, Args&&... args) {
  std::ranges::sort(labels);
  if (const auto at = in.by_labels.find(labels); at != in.by_labels.end()) return *at->second;
  if (series_ >= series_max_) {
    ++dropped_;
    if (overflow.values.empty()) overflow.values.emplace_back(std::forward<Args>(args)...);
    return overflow.values.front();
  }
  ++series_;
  T& made = in.values.emplace_back(std::forward<Args>(args)...);
  in.by_labels.emplace(std::move(labels), &made);
  return made;
}

CounterValue& Registry::counter(std::string_view name, std::string_view help, Labels labels) {
  return series(family(name, Type::Counter, help).counters, overflow_[std::string(name)].counters, std::move(labels));
}
Gauge& Registry::gauge(std::string_view name, std::string_view help, Labels labels) {
  return series(family(name, Type::Gauge, help).gauges, overflow_[std::string(name)].gauges, std::move(labels));
}
Histogram& Registry::histogram(std::string_view name, std::string_view help, std::vector<double> bounds,
                               Labels labels) {
  return series(family(name, Type::Histogram, help).histograms, overflow_[std::string(name)].histograms,
                std::move(labels), std::move(bounds));
}

std::string Registry::expose() const {
  Exposition out;
  for (const auto& [name, family] : families_) {
    if (family.counters.by_labels.empty() && family.gauges.by_labels.empty() && family.histograms.by_labels.empty())
      continue;
    out.family(name, family.type, family.help);
    for (const auto& [labels, value] : family.counters.by_labels) out.sample(labels, value->value());
    for (const auto& [labels, value] : family.gauges.by_labels) out.sample(labels, value->value());
    for (const auto& [labels, value] : family.histograms.by_labels) out.sample(labels, *value);
  }
  for (const auto& write : computed_) write(out);
  if (dropped_ > 0) {
    out.family("skerry_metrics_dropped_series_total", Type::Counter,
               "Look-ups of series beyond the limit of this process.");
    out.sample({}, dropped_);
  }
  return std::move(out).finish();
}

}  // namespace skerry::metrics
