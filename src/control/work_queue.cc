// SPDX-License-Identifier: Apache-2.0
#include "control/work_queue.h"

#include <algorithm>

#include "base/check.h"

namespace skerry::control {

void WorkQueue::add(const std::string& key, Instant when) {
  if (const auto busy = active_.find(key); busy != active_.end()) {
    if (!busy->second || when < *busy->second) busy->second = when;
    return;
  }
  const auto [at, fresh] = due_.emplace(key, when);
  if (!fresh) {
    if (at->second <= when) return;
    order_.erase({at->second, key});
    at->second = when;
  }
  order_.emplace(when, key);
}

std::optional<std::string> WorkQueue::take(Instant now) {
  if (order_.empty() || order_.begin()->first > now) return std::nullopt;
  std::string key = order_.begin()->second;
  order_.erase(order_.begin());
  due_.erase(key);
  active_.emplace(key, std::nullopt);
  return key;
}

void WorkQueue::done(const std::string& key) {
  const auto busy = active_.find(key);
  CHECK(busy != active_.end());
  const auto again = busy->second;
  active_.erase(busy);
  failures_.erase(key);
  if (again) add(key, *again);
}

void WorkQueue::failed(const std::string& key, Instant now) {
  CHECK(active_.erase(key) == 1);
  const int failures = std::min(failures_[key]++, 30);
  add(key, now + std::min(options_.backoff_max, options_.backoff_min * (std::int64_t{1} << failures)));
}

std::optional<Instant> WorkQueue::next() const {
  if (order_.empty()) return std::nullopt;
  return order_.begin()->first;
}

}  // namespace skerry::control
