// SPDX-License-Identifier: Apache-2.0
// All of the control plane's controllers and the scheduler, over one client. cli builds one in `skerry server`:
//   Controllers controllers(loop, client, clock, random, {});
//   controllers.start();   …   co_await controllers.stop();
// Everything on one loop. They find the state of things in the API alone: a restart loses nothing.
#pragma once
#include <cstdint>
#include <memory>

#include "base/random.h"
#include "base/time.h"
#include "client/client.h"
#include "control/cluster.h"
#include "control/node_lifecycle_core.h"
#include "control/pod_gc_core.h"
#include "control/scheduler.h"
#include "control/signing_core.h"
#include "metrics/registry.h"
#include "rt/loop.h"

namespace skerry::control {

class Controllers {
 public:
  struct Options {
    Scheduler::Options scheduler{};
    NodeLifecycleCore::Options node_lifecycle{};
    PodGcCore::Options pod_gc{};
    SigningOptions signing{};
    Sign sign = {};                           // of node certificates; empty: nobody here signs
    std::size_t endpoints_max = 100;          // in one EndpointSlice
    std::size_t burst_max = 500;              // pods created or deleted in one step of one ReplicaSet
    Duration poll = std::chrono::seconds(5);  // of node lifecycle and pod garbage
    Cluster::Share share = {};                // in the process of the API server: its own objects, so that none lies there twice
  };
  // Loop, client, clock and random must outlive this.
  Controllers(rt::Loop&, client::Client&, const Clock&, Random&, Options);
  ~Controllers();
  Controllers(const Controllers&) = delete;
  Controllers& operator=(const Controllers&) = delete;

  void start();
  rt::Task<> stop();
  bool synced() const;          // every informer has its first list, and the controllers work
  std::uint64_t bound() const;  // pods bound since the start
  std::size_t unscheduled() const;
  // For /metrics of the process: work queues and plans of each controller, the scheduler's attempts.
  void write_metrics(metrics::Exposition&) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skerry::control
