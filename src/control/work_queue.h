// SPDX-License-Identifier: Apache-2.0
// Keys that wait for work: each at most once, never two workers on one key, failures back off. Pure.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/time.h"

namespace skerry::control {

class WorkQueue {
 public:
  struct Options {
    Duration backoff_min = std::chrono::milliseconds(50), backoff_max = std::chrono::seconds(60);
  };
  explicit WorkQueue(Options options) : options_(options) {}
  WorkQueue() : WorkQueue(Options{}) {}

  // Due at `when`, or earlier if it was already. While a worker has the key: again, after done().
  void add(const std::string& key, Instant when);
  // A key that is due; it belongs to the caller until done() or failed().
  std::optional<std::string> take(Instant now);
  void done(const std::string& key);
  void failed(const std::string& key, Instant now);
  // When the next key is due; nothing: none waits.
  std::optional<Instant> next() const;
  std::size_t waiting() const { return due_.size(); }
  std::size_t active() const { return active_.size(); }

 private:
  Options options_;
  std::map<std::string, Instant> due_;                    // waiting
  std::set<std::pair<Instant, std::string>> order_;       // the same, by time
  std::map<std::string, std::optional<Instant>> active_;  // with a worker; and when it is due again
  std::map<std::string, int> failures_;
};

}  // namespace skerry::control
