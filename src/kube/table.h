// SPDX-License-Identifier: Apache-2.0
// meta.k8s.io/v1 Table: the columns and cells that `kubectl get` prints, as a modern API server makes them.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "base/time.h"
#include "kube/object.h"
#include "kube/resources.h"
#include "kube/status.h"

namespace skerry::kube {

enum class IncludeObject { None, Metadata, Object };
ApiResult<IncludeObject> parse_include_object(std::string_view query_value);  // "" is Metadata

struct ListPosition {
  Revision revision;            // metadata.resourceVersion
  std::string continue_token;   // "" at the end
  std::int64_t remaining = 0;   // remainingItemCount; 0 is not written
};

std::string table_json(const ResourceType&, std::span<const ObjectPtr>, const ListPosition&, IncludeObject, Time now);
// One object, for a get or a watch event. A watch sends columnDefinitions with its first event only.
enum class Columns { Written, Omitted };
std::string table_json(const ResourceType&, const Object&, IncludeObject, Time now, Columns = Columns::Written);

// Go's duration.HumanDuration: "3m10s", "5d2h"; "<invalid>" when negative. Used by AGE and LAST SEEN.
std::string human_duration(Duration);

}  // namespace skerry::kube
