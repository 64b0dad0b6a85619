// SPDX-License-Identifier: Apache-2.0
// What Kubernetes calls the strategy of a resource: which parts of an object a writer may set. Run after decode and
// before validation. The caller sets uid, creationTimestamp and resourceVersion; the functions here set the rest.
#pragma once
#include "kube/json.h"
#include "kube/resources.h"

namespace skerry::kube {

// Clears what a creator may not set (status, except of a Node; deletionTimestamp) and sets initial values: generation 1
// where the kind counts generations, a Pod's phase and QoS class, a Namespace's finalizer and phase.
void prepare_create(const ResourceType&, MutJson object);
// Keeps system-owned metadata and the status of `old`; raises generation when the spec changed.
void prepare_update(const ResourceType&, MutJson object, Json old);
// For the status subresource: everything but status (and, for a Node or Pod, what kubelet may set) stays as in `old`.
void prepare_status_update(const ResourceType&, MutJson object, Json old);

// "Guaranteed", "Burstable" or "BestEffort", from requests and limits.
std::string_view pod_qos_class(Json pod_spec);
std::string_view pod_qos_class(MutJson pod_spec);

}  // namespace skerry::kube
