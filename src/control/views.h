// SPDX-License-Identifier: Apache-2.0
// What the controllers read of pods and ReplicaSets, parsed once for each version of the object.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "kube/object.h"

namespace skerry::control {

using kube::Json;
using kube::ObjectPtr;

struct OwnerReference {
  std::string api_version, kind, name, uid;
  bool controller = false, block_deletion = false;
  friend bool operator==(const OwnerReference&, const OwnerReference&) = default;
};
using OwnerPtr = std::shared_ptr<const OwnerReference>;  // shared by siblings

// Json's containers are no std ranges.
template <class Predicate>
bool any_item(Json array, Predicate predicate) {
  for (const Json item : array.items()) {
    if (predicate(item)) return true;
  }
  return false;
}

std::vector<OwnerReference> owner_references(Json metadata);
// The one with controller: true, or nothing.
std::optional<OwnerReference> controller_of(Json metadata);
// {"apiVersion":…,"kind":…,"name":…,"uid":…,"controller":true,"blockOwnerDeletion":true}
std::string controller_reference(std::string_view api_version, std::string_view kind, const kube::Object& owner);

// Of ReplicaSets and Deployments: pods cannot be made, and why.
inline constexpr std::string_view kReplicaFailure = "ReplicaFailure";
// The condition of that type in status.conditions, or Missing.
Json find_condition(Json object, std::string_view type);

struct PodView {
  ObjectPtr object;
  OwnerPtr controller;  // null: none
  Time created{};
  bool finished = false;  // Succeeded or Failed
  bool ready = false;
  std::optional<Time> ready_since;
  std::string ip;
  std::int64_t deletion_cost = 0;
  std::int64_t restarts = 0;

  // `sibling`: a controller that it may share, or null.
  static std::shared_ptr<const PodView> make(const ObjectPtr& pod, const OwnerPtr& sibling = nullptr);
  bool active() const { return !finished && !object->deleting(); }
  bool available(Time now, Duration min_ready) const {
    return ready && (min_ready == Duration::zero() || (ready_since && *ready_since + min_ready <= now));
  }
};
using PodPtr = std::shared_ptr<const PodView>;

struct ReplicaSetView {
  ObjectPtr object;
  std::optional<OwnerReference> controller;
  Time created{};
  std::int64_t replicas = 1;  // of the spec
  std::int64_t status_replicas = 0, status_ready = 0, status_available = 0;
  std::int64_t revision = 0;  // deployment.kubernetes.io/revision
  bool observed = false;      // status.observedGeneration has caught up

  static std::shared_ptr<const ReplicaSetView> make(const ObjectPtr& replica_set);
};
using ReplicaSetPtr = std::shared_ptr<const ReplicaSetView>;

}  // namespace skerry::control
