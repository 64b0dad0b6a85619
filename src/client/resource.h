// SPDX-License-Identifier: Apache-2.0
// Where a resource lies under the API, and the paths of its objects.
#pragma once
#include <string>
#include <string_view>

namespace skerry::client {

struct ResourcePath {
  std::string group{};    // "" for core
  std::string version{};  // "v1"
  std::string resource{};  // "pods"
  bool namespaced = true;
  friend bool operator==(const ResourcePath&, const ResourcePath&) = default;

  // "/apis/apps/v1/namespaces/NS/deployments/NAME/SUB". An empty namespace: all of them (or cluster-scoped); an empty
  // name: the collection. Names are percent-encoded.
  std::string url(std::string_view namespace_ = {}, std::string_view name = {}, std::string_view subresource = {}) const;
};

inline const ResourcePath kNamespaces{"", "v1", "namespaces", false};
inline const ResourcePath kNodes{"", "v1", "nodes", false};
inline const ResourcePath kPods{"", "v1", "pods", true};
inline const ResourcePath kServices{"", "v1", "services", true};
inline const ResourcePath kConfigMaps{"", "v1", "configmaps", true};
inline const ResourcePath kSecrets{"", "v1", "secrets", true};
inline const ResourcePath kServiceAccounts{"", "v1", "serviceaccounts", true};
inline const ResourcePath kEvents{"", "v1", "events", true};
inline const ResourcePath kDeployments{"apps", "v1", "deployments", true};
inline const ResourcePath kReplicaSets{"apps", "v1", "replicasets", true};
inline const ResourcePath kEndpointSlices{"discovery.k8s.io", "v1", "endpointslices", true};
inline const ResourcePath kLeases{"coordination.k8s.io", "v1", "leases", true};
inline const ResourcePath kRuntimeClasses{"node.k8s.io", "v1", "runtimeclasses", false};

}  // namespace skerry::client
