// SPDX-License-Identifier: Apache-2.0
// The shell of a controller: keys in, one plan at a time for each key, its actions carried out. A key is not reconciled
// again before the informers show what its last plan did, so no core ever decides from before its own decision.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/cluster.h"
#include "control/work_queue.h"

namespace skerry::control {

class Reconciler {
 public:
  enum class Order : std::uint8_t { Sequential, Parallel };
  struct Options {
    std::string name;
    std::string component = "skerry-controllers";  // of the Events about what it decides
    Order order = Order::Parallel;
    std::size_t workers = 8;        // keys at once
    std::size_t parallel_max = 64;  // requests at once for one key
    // Told of each request that was carried out; `error` is null if it succeeded.
    std::function<void(const std::string& key, const Action&, const Error* error)> on_action = {};
    Duration delay{};               // from an event to the work, so that many events make one plan
  };
  // What to do about a key ("namespace/name" or "name"), from what the cluster's informers show.
  using Handle = std::function<rt::Task<Plan>(std::string key)>;
  Reconciler(Cluster&, Options, Handle);

  void start();
  rt::Task<> stop();
  void enqueue(const std::string& key) { enqueue_after(key, options_.delay); }
  void enqueue_after(const std::string& key, Duration);
  // Since the start; and what waits or is being worked on now.
  struct Figures {
    std::uint64_t adds = 0, reconciles = 0, failures = 0, actions = 0;
    std::size_t waiting = 0, active = 0;
    Duration busy{};  // in plans and their actions, all keys added up
  };
  Figures figures() const;
  const std::string& name() const { return options_.name; }
  void enqueue(const ObjectPtr& object) { enqueue(client::object_key(object->namespace_(), object->name())); }

 private:
  struct Batch;
  struct Expected {
    std::map<std::string, std::pair<client::ResourcePath, kube::Revision>> revisions;  // by resource
    std::vector<Action> deletions;
    Instant until{};
  };
  rt::Task<> run();
  rt::Task<> handle(std::string key);
  rt::Task<> work(const std::string& key);
  rt::Task<> carry_out(const std::string& key, std::vector<Action> actions);
  rt::Task<> lane(std::shared_ptr<Batch>);
  bool caught_up(const std::string& key);
  void expect(const std::string& key, const Action&, const ObjectPtr& result);

  Cluster& cluster_;
  Options options_;
  Handle handle_;
  WorkQueue queue_;
  rt::Event work_;
  std::map<std::string, Expected> expected_;
  Figures figures_;
  rt::TaskGroup tasks_;
};

// For cores that need nothing but what is in memory.
Reconciler::Handle from_memory(std::function<Plan(const std::string& key)>);
// "namespace/name" in two; the first is empty for a cluster-scoped object.
std::pair<std::string, std::string> split_key(std::string_view key);

}  // namespace skerry::control
