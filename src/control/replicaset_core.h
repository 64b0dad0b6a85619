// SPDX-License-Identifier: Apache-2.0
// ReplicaSet: as many active pods as spec.replicas says. Pure.
#pragma once
#include <span>

#include "base/random.h"
#include "control/action.h"
#include "control/views.h"

namespace skerry::control {

struct ReplicaSetInput {
  ObjectPtr replica_set;
  // At least: every pod that this ReplicaSet controls, and every pod of the namespace without a controller that its
  // selector may match. They must show all that was done for this ReplicaSet before.
  std::span<const PodPtr> pods;
  Time now{};
  std::string_view create_failure{};  // why its last pod could not be made; empty: it could
  std::size_t burst_max = 500;  // creations and deletions in one plan; the next plan does the rest
};

// Adopts, releases, creates and deletes pods and reports status. Which pods go first: those without a node, pending,
// not ready, of lower deletion cost, on nodes that hold more of them, ready for a shorter time, restarted more often,
// newest.
Plan reconcile_replica_set(const ReplicaSetInput&, Random&);

}  // namespace skerry::control
