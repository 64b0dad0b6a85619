// SPDX-License-Identifier: Apache-2.0
// The built-in admission: what a write needs to find in the cluster, and what is filled in from it. Pure decisions on the
// newest state of the store; run inside the mutation, so nothing can change between the check and the write.
#pragma once
#include "apiserver/call.h"

namespace skerry::apiserver {

// 404: the namespace does not exist; 403: it is being deleted. Cluster-scoped resources pass.
ApiResult<> admit_namespace(const Call&);
// A pod's RuntimeClass: must exist; its overhead, node selector and tolerations are merged.
ApiResult<> admit_runtime_class(const Call&, MutJson pod);
// A pod's priority class: the two that every cluster has become numbers; there are no others.
ApiResult<> admit_priority(MutJson pod);
// A pod that names no pull secrets has those of its ServiceAccount, if there is one.
void admit_service_account(const Call&, MutJson pod);
// Cluster addresses and node ports of a Service: fills in what is missing, refuses what is taken. `old` is null on creation.
ApiResult<> admit_service(const Call&, MutJson service, const ObjectPtr& old);

}  // namespace skerry::apiserver
