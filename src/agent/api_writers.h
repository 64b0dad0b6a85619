// SPDX-License-Identifier: Apache-2.0
// What the node tells the API server about pods. StatusWriter: the latest status of each pod (older ones are never sent),
// then its deletion, in order per pod, a few at once, again with jittered back-off until the server took it; one at a time while
// the server is away. EventWriter: Events, one after another, repeated ones counted; they are dropped when they cannot be
// delivered: advice, not state. The last ones are kept, delivered or not, for who asks the node itself (local_view.h).
// Owner: the agent, on its loop.
#pragma once
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/backoff.h"
#include "base/random.h"
#include "base/time.h"
#include "client/client.h"
#include "kube/object.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::agent {

struct PodName {
  std::string uid, namespace_, name;
  friend bool operator==(const PodName&, const PodName&) = default;
};

class StatusWriter {
 public:
  struct Options {
    std::size_t at_once = 4;
    Duration settle = 150ms;  // a pod that is not ready yet will be in a moment: wait so long for the better news
    Duration backoff_min = 500ms, backoff_max = 30s;  // of one pod that the server does not take, and of a server that is away
  };
  enum class Urgency : std::uint8_t { Now, MaySettle };

  StatusWriter(rt::Loop&, client::Client&, Clock&, Random&, Options);
  void start();
  rt::Task<> stop() { return tasks_.stop(); }

  void post(const PodName&, std::string json, Urgency);
  void remove(const PodName&);             // after the last status, DELETE with grace 0 and this uid
  void forget(const std::string& uid);     // the object is gone
  std::size_t waiting() const { return entries_.size(); }

  struct Counters {
    std::uint64_t patches = 0, deletes = 0, failures = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  struct Entry {
    PodName pod;
    std::optional<std::string> status;
    bool remove = false, in_flight = false, forgotten = false;
    Instant due{};
    Duration backoff{0};
  };
  rt::Task<> dispatch();
  rt::Task<> send(std::shared_ptr<Entry>);
  void failed(Entry&, const Error&);
  std::shared_ptr<Entry>& entry(const PodName&);

  client::Client& api_;
  Clock& clock_;
  Random& random_;
  Options options_;
  Backoff away_;          // the server is away: one pod's status asks for all of them
  Instant not_before_{};
  std::unordered_map<std::string, std::shared_ptr<Entry>> entries_;
  std::size_t in_flight_ = 0;
  Counters counters_;
  rt::Event work_;
  rt::TaskGroup tasks_;
};

struct EventText {
  bool warning = false;
  std::string kind = "Pod";  // of the object
  PodName object;
  std::string field_path, reason, message;
  friend bool operator==(const EventText&, const EventText&) = default;
};

class EventWriter {
 public:
  struct Options {
    std::string node;
    std::size_t queue_max = 1000, recent_max = 256;  // to be sent; kept
    Duration pause = 10ms;  // between two Events: they never crowd out what matters
  };
  EventWriter(rt::Loop&, client::Client&, Clock&, Random&, Options);
  void start();
  rt::Task<> stop() { return tasks_.stop(); }
  void post(EventText);
  std::uint64_t dropped() const { return dropped_; }
  // The last Events that were said, the newest first, each as the object that the API server has or would have.
  std::vector<kube::ObjectPtr> recent() const;

 private:
  struct Said {
    EventText text;
    std::string name;  // of the Event
    std::int64_t count = 1;
    Time first{}, last{};
    bool delivered = false;  // the API server has one of this name
  };
  rt::Task<> run();
  rt::Task<> send(EventText);
  Said& note(const EventText&);
  std::string json_of(const Said&) const;

  client::Client& api_;
  Clock& clock_;
  Random& random_;
  Options options_;
  std::deque<EventText> queue_;
  std::list<Said> said_;  // newest first
  std::uint64_t dropped_ = 0;
  Backoff away_{5s, 60s};
  rt::Event work_;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::agent
