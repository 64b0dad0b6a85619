// SPDX-License-Identifier: Apache-2.0
// The values that the API server fills in before it stores an object: +default markers of the schema and the defaults
// that Kubernetes has in code (docs/kinds.md). Idempotent. Addresses, ports and tokens are not defaults: who allocates
// them sets them.
#pragma once
#include "kube/json.h"
#include "kube/resources.h"

namespace skerry::kube {

void apply_defaults(const ResourceType&, MutJson object);

}  // namespace skerry::kube
