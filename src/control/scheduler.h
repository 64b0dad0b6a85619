// SPDX-License-Identifier: Apache-2.0
// The shell of the scheduler: pods without a node in, bindings out. All that is due is decided in one pass and bound in
// parallel. A pod that fits nowhere gets the condition PodScheduled=False and an Event, and is tried again when a node
// or the load of one changes (not before its back-off of 1 to 10 s has run out), and once a minute.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/cluster.h"
#include "control/scheduler_core.h"

namespace skerry::control {

class Scheduler {
 public:
  struct Options {
    std::string name = "default-scheduler";  // pods that name another one are left alone
    std::size_t batch_max = 1000;            // decisions in one pass
    std::size_t parallel_max = 64;           // bindings at once
    Duration backoff_min = std::chrono::seconds(1), backoff_max = std::chrono::seconds(10);
    Duration retry = std::chrono::seconds(60);
  };
  Scheduler(Cluster&, Options);
  void start();  // once the cluster has synced: a half-known cluster must not be filled
  rt::Task<> stop();
  std::size_t waiting() const { return waiting_.size(); }
  std::uint64_t bound() const { return bound_; }
  std::uint64_t unschedulable() const { return unschedulable_; }  // attempts that found no node
  std::uint64_t failed() const { return failed_; }                // bindings that the API refused

 private:
  struct Waiting {
    ObjectPtr pod;
    std::int64_t priority = 0;
    Time created{};
    Instant due{}, tried{};
    int attempts = 0;
    std::string message;  // why it fitted nowhere, as posted
  };
  struct Binding {
    ObjectPtr pod;
    std::string node;
  };
  struct Batch;
  void on_pod(const ObjectPtr& before, const ObjectPtr& after);
  void on_node(const ObjectPtr& before, const ObjectPtr& after);
  void room_may_have_come();
  rt::Task<> run();
  rt::Task<> lane(std::shared_ptr<Batch>);
  rt::Task<> bind(Binding);
  rt::Task<> report(ObjectPtr pod, std::string reason, std::string message);
  void postpone(Waiting&);

  Cluster& cluster_;
  Options options_;
  SchedulerCore core_;
  std::map<std::string, Waiting> waiting_;  // by uid
  std::uint64_t bound_ = 0, unschedulable_ = 0, failed_ = 0;
  bool started_ = false;
  rt::Event work_;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::control
