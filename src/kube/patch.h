// SPDX-License-Identifier: Apache-2.0
// The three patch types without server-side state: JSON patch (RFC 6902), JSON merge patch (RFC 7386), strategic merge
// patch (merge keys from the schema, $patch, $setElementOrder, $deleteFromPrimitiveList, $retainKeys).
#pragma once
#include <optional>
#include <string_view>

#include "kube/json.h"
#include "kube/resources.h"
#include "kube/status.h"

namespace skerry::kube {

enum class PatchType { Json, Merge, StrategicMerge, Apply };
std::optional<PatchType> patch_type(std::string_view content_type);  // nothing: answer 415

// The patched object, not yet decoded (codec.h: decode_patched) nor defaulted. 400: the patch cannot be read; 422: it
// cannot be applied. Apply is 501. Bounds: 10,000 operations, and the result at most 3 MiB.
ApiResult<JsonEdit> apply_patch(PatchType, Message, Json current, std::string_view patch);
inline ApiResult<JsonEdit> apply_patch(PatchType how, const ResourceType& type, Json current, std::string_view patch) {
  return apply_patch(how, type.message(), current, patch);
}

}  // namespace skerry::kube
