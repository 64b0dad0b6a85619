// SPDX-License-Identifier: Apache-2.0
// EndpointSlices as this node needs them while it holds pods and runs stand-ins that the API server does not know of (ADR 0036).
// Pure: objects in, objects out; ServiceRules and Names take them like any other.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "kube/object.h"

namespace skerry::agent {

// The slice with the endpoints at these addresses neither ready nor serving. The very same object if it has none of them.
kube::ObjectPtr slice_without(const kube::ObjectPtr& slice, const std::set<std::string>& addresses);

struct LocalEndpoint {
  kube::ObjectPtr pod;
  std::string address;
  bool ready = false;
};
std::string local_slice_name(const kube::Object& service);  // "skerry-local-NAME"
// The slice of those pods that the Service selects; null: it selects none of them, or by no selector.
kube::ObjectPtr local_slice(const kube::Object& service, const std::vector<LocalEndpoint>& pods, std::string_view node);

}  // namespace skerry::agent
