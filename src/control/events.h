// SPDX-License-Identifier: Apache-2.0
// Posts Events about objects, counting repetitions instead of posting them again. An Event is information: what cannot
// be posted is dropped and counted, never retried for ever. The core decides what to write; the recorder writes, one
// request at a time, behind everything else.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "base/random.h"
#include "client/client.h"
#include "control/action.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::control {

// Pure. The same note again raises the count of its Event; after ten different messages of one reason about one object
// within ten minutes further ones are combined.
class EventCore {
 public:
  struct Options {
    std::string component = "skerry";
    std::size_t known_max = 4096;  // Events remembered; the oldest is forgotten and would be posted anew
    std::size_t queue_max = 1000;  // Events with something to write
    std::size_t similar_max = 10;
    Duration similar_window = std::chrono::minutes(10);
  };
  explicit EventCore(Options options) : options_(std::move(options)) {}
  void add(const Note&, Time now, Random&);
  std::optional<Action> next();  // what to write next
  // The Event of that name is not there any more (it expired): the next note posts it anew, beginning with the last one.
  void expired(const std::string& name);
  std::uint64_t dropped() const { return dropped_; }

 private:
  struct Known {
    std::string name, namespace_, body_head;  // body_head: the JSON before the fields that change
    std::string message;
    Time first{}, last{};
    std::int64_t count = 0;
    bool posted = false, queued = false;
  };
  struct Similar {
    std::size_t messages = 0;
    Time since{};
  };
  Options options_;
  std::map<std::string, Known> known_;
  std::map<std::string, Similar> similar_;
  std::deque<std::string> order_, queue_;
  std::uint64_t dropped_ = 0;
};

class EventRecorder {
 public:
  EventRecorder(rt::Loop&, client::Client&, const Clock&, Random&, EventCore::Options);
  void start();
  rt::Task<> stop();
  void record(const Note&);

 private:
  rt::Task<> run();
  client::Client& client_;
  const Clock& clock_;
  Random& random_;
  EventCore core_;
  rt::Event work_;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::control
