// SPDX-License-Identifier: Apache-2.0
// Deployment: one ReplicaSet for each pod template, replaced gradually (RollingUpdate) or at once (Recreate). Pure.
// The texts and reasons of conditions are contract: `kubectl rollout status` and others read them.
#pragma once
#include <functional>
#include <span>
#include <string>

#include "control/action.h"
#include "control/views.h"

namespace skerry::control {

struct DeploymentInput {
  ObjectPtr deployment;
  // At least those that this Deployment controls and those of its namespace without a controller.
  std::span<const ReplicaSetPtr> replica_sets;
  // How many pods of the ReplicaSet with this uid have not ended, those being deleted included. Asked for Recreate.
  std::function<std::int64_t(std::string_view replica_set_uid)> running_pods;
  Time now{};
};

// One step; the changes that it causes lead to the next. Its actions are meant to be done in their order.
Plan reconcile_deployment(const DeploymentInput&);

// The value of the label pod-template-hash: stable over restarts.
std::string template_hash(Json pod_template, std::int64_t collision_count);

}  // namespace skerry::control
