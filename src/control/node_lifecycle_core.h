// SPDX-License-Identifier: Apache-2.0
// Which nodes are alive, and what becomes of the pods of those that are not. Pure.
//
// A node lives while its Lease is renewed or its Ready condition is heard from. After `grace` without either (or after the
// Lease's own leaseDurationSeconds, where a node on a thin line asks for more, up to `grace_max`): all its conditions become Unknown and it gets the taint unreachable:NoSchedule; then unreachable:NoExecute, which makes its
// pods go after their tolerationSeconds. Time is counted from what this process saw itself: after a start, and after a
// pause in which it saw nothing (a suspended machine), every node has its whole grace again. When every node is silent
// the fault is probably ours: nobody is evicted. Otherwise nodes are given NoExecute one at a time, `eviction_pause`
// apart (longer while most are silent).
//
// An autonomous node (Options.autonomy; its annotation or label skerry.dev/autonomy=true|false decides otherwise) keeps its
// pods however long it is silent: it goes on serving them, unseen. It becomes Unknown and unreachable:NoSchedule like
// any other, but never NoExecute; its pods stay Ready, so that endpoints and ReplicaSets keep them. What it says itself
// (Ready=False) and what an operator says (a taint of his, a deletion) counts as on any other node.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "control/action.h"
#include "control/views.h"

namespace skerry::control {

class NodeLifecycleCore {
 public:
  struct Options {
    Duration grace = std::chrono::seconds(40), grace_max = std::chrono::minutes(10);
    Duration eviction_pause = std::chrono::seconds(10), eviction_pause_disrupted = std::chrono::seconds(100);
    Duration stall = std::chrono::seconds(15);      // a gap between polls that counts as our own absence
    Duration patience = std::chrono::seconds(300);  // of pods without a toleration of their own
    double disrupted = 0.55;                        // this share of nodes silent
    bool autonomy = true;                           // of nodes that do not say
  };
  NodeLifecycleCore(Options options, Random& random) : options_(options), random_(random) {}

  void put_node(const ObjectPtr&, Instant now);
  void remove_node(std::string_view name);
  void put_lease(const kube::Object& lease, Instant now);  // of kube-node-lease

  // Patches of nodes: conditions and taints. Called every few seconds.
  Plan poll(Time now, Instant instant);
  // Deletions of those of a node's pods whose time has come (by our taints and by those of an operator), and readiness taken from pods of a silent node.
  Plan pods(const kube::Object& node, const std::vector<PodPtr>& pods, Time now) const;

 private:
  struct Node {
    ObjectPtr object;
    std::string lease, heartbeat;  // as last seen: a change is a sign of life
    Instant heard{};
    Duration lease_lasts{};  // what its Lease asks for
    Duration jitter{};  // so that five thousand nodes are not judged in the same moment
  };
  bool silent(const Node&, Instant now) const;
  bool autonomous(kube::Json node) const;
  void judge(Node&, bool may_evict, bool& evicted, Time now, Instant instant, Plan& plan) const;

  Options options_;
  Random& random_;
  std::map<std::string, Node, std::less<>> nodes_;
  std::optional<Instant> polled_, last_eviction_;
};

}  // namespace skerry::control
