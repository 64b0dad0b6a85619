// SPDX-License-Identifier: Apache-2.0
// Posts Events about objects, counting repetitions instead of posting them again. An Event is information: what cannot
// be posted is dropped and counted, never retried for ever. The core decides what to write; the recorder writes, one
// request at a time, behind everything else.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

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
  // The Event that this was to count up is not there any more (it expired): posts it anew, with what the action said last.
  void expired(const Action&);
  std::uint64_t dropped() const { return dropped_; }

 private:
  using Key = std::uint64_t;  // hash of what makes notes the same
  // Thousands are remembered, most for one note: small.
  struct Known {
    std::shared_ptr<const kube::Identity> about;
    std::string kind, api_version, reason, component;
    std::string message;  // empty, unless it is queued
    kube::Revision revision;
    std::uint64_t suffix = 0;  // of the Event's name
    Time first{}, last{};
    std::int64_t count = 0;
    NoteType type{};
    bool posted = false, queued = false;
    std::string name() const;
    std::string namespace_() const { return about->namespace_.empty() ? "default" : about->namespace_; }
  };
  struct Similar {
    std::size_t messages = 0;
    Time since{};
  };
  std::string body(const Known&) const;
  void queue(Key, Known&);
  Options options_;
  std::unordered_map<Key, Known> known_;
  std::unordered_map<Key, Similar> similar_;
  std::deque<Key> order_, queue_;
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
