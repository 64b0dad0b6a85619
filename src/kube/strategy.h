// SPDX-License-Identifier: Apache-2.0
// What Kubernetes calls the strategy of a resource: which parts of an object a writer may set, and what the admission
// plugins that are always on add. Run after decoding and defaults, before validation. The caller sets name, namespace,
// uid, creationTimestamp and resourceVersion.
#pragma once
#include "kube/json.h"
#include "kube/resources.h"

namespace skerry::kube {

// Clears what a creator may not set (status, except of a Node and Namespace; system-owned metadata) and sets initial values:
// generation 1 where the kind counts generations; a Pod's phase, QoS class, service account, priority and the tolerations of
// not-ready and unreachable nodes for 300 s; a Namespace's finalizer and phase; a Node's not-ready taint; a Service's address
// family.
void prepare_create(const ResourceType&, MutJson object);
// Keeps system-owned metadata and the status of `old`; raises generation when the spec changed.
void prepare_update(const ResourceType&, MutJson object, Json old);
// For the status subresource: everything but the status (and, of a Node or Pod, labels and annotations of metadata) stays as in
// `old`.
void prepare_status_update(const ResourceType&, MutJson object, Json old);

// For the approval subresource of a CertificateSigningRequest: everything but the conditions that decide (and others unknown) stays.
void prepare_approval_update(const ResourceType&, MutJson object, Json old);

// "Guaranteed", "Burstable" or "BestEffort", from requests and limits.
std::string_view pod_qos_class(MutJson pod_spec);
std::string_view pod_qos_class(Json pod_spec);

}  // namespace skerry::kube
