// SPDX-License-Identifier: Apache-2.0
// What the node tells the API server about pods. StatusWriter: the latest status of each pod (older ones are never sent),
// then its deletion; what is sent when, status_core.h decides. EventWriter: Events, one after another, repeated ones counted;
// they are dropped when they cannot be delivered: advice, not state. The last ones are kept, delivered or not, for who asks the
// node itself (local_view.h).
// Owner: the agent, on its loop.
#pragma once
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "agent/status_core.h"
#include "base/backoff.h"
#include "base/random.h"
#include "base/time.h"
#include "client/client.h"
#include "kube/object.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::agent {

class StatusWriter {
 public:
  using Options = StatusCore::Options;
  using Urgency = StatusCore::Urgency;
  using Counters = StatusCore::Counters;

  StatusWriter(rt::Loop&, client::Client&, Clock&, Random&, Options);
  void start();
  rt::Task<> stop() { return tasks_.stop(); }

  void post(const PodName&, std::string json, Urgency);
  void remove(const PodName&);             // after the last status, DELETE with grace 0 and this uid
  void forget(const std::string& uid);     // the object is gone
  void suspend(bool suspended) {
    core_.suspend(suspended);
    work_.set();
  }
  std::size_t waiting() const { return core_.waiting(); }
  bool waits(const std::string& uid) const { return core_.waits(uid); }
  const Counters& counters() const { return core_.counters(); }

 private:
  rt::Task<> dispatch();
  rt::Task<> send(StatusCore::Send);

  client::Client& api_;
  Clock& clock_;
  StatusCore core_;
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
    std::string local_uids = {};  // Events about objects whose uid begins so stay here: no API server knows those; "": none do
    std::size_t queue_max = 1000, recent_max = 256;  // to be sent; kept
    Duration pause = 10ms;  // between two Events: they never crowd out what matters
    Duration away_min = 5s, away_max = 60s;  // while the server is away
    int tries_max = 3;      // of an Event: some are said once only
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
  Backoff away_;
  rt::Event work_;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::agent
