// SPDX-License-Identifier: Apache-2.0
// Strategic merge patch: the merge rules come from the schema's patchStrategy and patchMergeKey, and from the directives in the
// patch. The order of merged lists is that of k8s.io/apimachinery/pkg/util/strategicpatch.
#pragma once
#include "kube/json.h"
#include "kube/schema.h"

namespace skerry::kube {

// Merges into `original`. Invalid: the patch itself is malformed (400); Unsupported: it cannot be applied (422).
Result<> strategic_merge(Message, MutJson original, Json patch);

}  // namespace skerry::kube
