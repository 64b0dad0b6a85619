// SPDX-License-Identifier: Apache-2.0
// One watcher's position in a resource's history. It holds no queue of its own: who falls behind the history is dropped
// with Gone and must list again. Pulled by one coroutine at a time, on the store's loop.
#pragma once
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <optional>

#include "rt/loop.h"
#include "store/history.h"

namespace skerry::store {

class Watch;
struct WatchEvent {
  EventType type;
  kube::ObjectPtr object;
  kube::Revision revision;
  Bytes line() const;  // {"type":"…","object":…}\n, shared with the other watchers

  ChangePtr change = {};  // null: an initial object
};

// The history and its watchers, as Store keeps them for one resource.
struct WatchSource {
  History history;
  std::deque<Watch*> watchers = {};
  std::uint64_t dropped = 0;
  // After history.push(): wakes the watchers that want the newest change; the others move past it.
  void notify();
  void end(const Error&);  // all watchers fail with it
};

class Watch {
 public:
  using Filter = std::function<bool(const kube::Object&)>;
  // Use Store::watch. `initial` comes first, as Added.
  Watch(rt::Loop&, WatchSource&, Filter, std::vector<kube::ObjectPtr> initial, std::uint64_t next, kube::Revision visible);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // Nothing: `wait_max` passed. Gone: too slow, list again. Unavailable: the store stops.
  rt::Task<std::optional<WatchEvent>> next(Duration wait_max);
  // An event that is there already, without waiting.
  Result<std::optional<WatchEvent>> poll();
  // Every change up to it has been returned or did not concern this watch: for a bookmark.
  kube::Revision revision() const { return revision_; }

 private:
  friend struct WatchSource;
  std::optional<WatchEvent> judge(const ChangePtr&) const;
  WatchSource* source_;
  Filter filter_;
  std::vector<kube::ObjectPtr> initial_;
  std::size_t initial_at_ = 0;
  std::uint64_t next_;
  kube::Revision revision_;
  bool waiting_ = false;
  std::optional<Error> ended_;
  rt::asio::steady_timer timer_;
};

}  // namespace skerry::store
