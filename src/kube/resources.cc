// SPDX-License-Identifier: Apache-2.0
#include "kube/resources.h"

#include <algorithm>
#include <array>
#include <format>

namespace skerry::kube {
namespace {

using namespace std::literals;

constexpr std::array kAllVerbs{"create"sv, "delete"sv, "deletecollection"sv, "get"sv, "list"sv, "patch"sv, "update"sv, "watch"sv};
constexpr std::array kNamespaceVerbs{"create"sv, "delete"sv, "get"sv, "list"sv, "patch"sv, "update"sv, "watch"sv};
constexpr std::array kReadWrite{"get"sv, "patch"sv, "update"sv};
constexpr std::array kCreate{"create"sv};
constexpr std::array kGet{"get"sv};
constexpr std::array kUpdate{"update"sv};
constexpr std::array kAll{"all"sv};


constexpr Subresource kSigningRequestSubs[] = {{"approval", "certificates.k8s.io", "v1", "CertificateSigningRequest", kReadWrite},
                                               {"status", "certificates.k8s.io", "v1", "CertificateSigningRequest", kReadWrite}};
constexpr Subresource kDeploymentSubs[] = {{"scale", "autoscaling", "v1", "Scale", kReadWrite},
                                           {"status", "apps", "v1", "Deployment", kReadWrite}};
constexpr Subresource kReplicaSetSubs[] = {{"scale", "autoscaling", "v1", "Scale", kReadWrite},
                                           {"status", "apps", "v1", "ReplicaSet", kReadWrite}};
constexpr Subresource kNamespaceSubs[] = {{"finalize", "", "v1", "Namespace", kUpdate}, {"status", "", "v1", "Namespace", kReadWrite}};
constexpr Subresource kNodeSubs[] = {{"status", "", "v1", "Node", kReadWrite}};
constexpr Subresource kPodSubs[] = {{"binding", "", "v1", "Binding", kCreate},
                                    {"eviction", "policy", "v1", "Eviction", kCreate},
                                    {"log", "", "v1", "Pod", kGet},
                                    {"status", "", "v1", "Pod", kReadWrite}};
constexpr Subresource kServiceSubs[] = {{"status", "", "v1", "Service", kReadWrite}};

constexpr std::array kCm{"cm"sv}, kCsr{"csr"sv}, kEv{"ev"sv}, kNs{"ns"sv}, kNo{"no"sv}, kPo{"po"sv}, kSa{"sa"sv}, kSvc{"svc"sv}, kDeploy{"deploy"sv},
    kRs{"rs"sv};

// The order is that of discovery: the core group, then the others by name; resources by name.
constexpr ResourceType kResources[] = {
    {"", "v1", "v1", "configmaps", "configmap", "ConfigMap", "ConfigMapList", true, "k8s.io.api.core.v1.ConfigMap",
     "k8s.io.api.core.v1.ConfigMapList", kCm, {}, kAllVerbs, {}, "qFsyl6wFWjQ="},
    {"", "v1", "v1", "events", "event", "Event", "EventList", true, "k8s.io.api.core.v1.Event", "k8s.io.api.core.v1.EventList", kEv, {},
     kAllVerbs, {}, "r2yiGXH7wu8="},
    {"", "v1", "v1", "namespaces", "namespace", "Namespace", "NamespaceList", false, "k8s.io.api.core.v1.Namespace",
     "k8s.io.api.core.v1.NamespaceList", kNs, {}, kNamespaceVerbs, kNamespaceSubs, "Q3oi5N2YM8M="},
    {"", "v1", "v1", "nodes", "node", "Node", "NodeList", false, "k8s.io.api.core.v1.Node", "k8s.io.api.core.v1.NodeList", kNo, {},
     kAllVerbs, kNodeSubs, "XwShjMxG9Fs="},
    {"", "v1", "v1", "pods", "pod", "Pod", "PodList", true, "k8s.io.api.core.v1.Pod", "k8s.io.api.core.v1.PodList", kPo, kAll, kAllVerbs,
     kPodSubs, "xPOwRZ+Yhw8="},
    {"", "v1", "v1", "secrets", "secret", "Secret", "SecretList", true, "k8s.io.api.core.v1.Secret", "k8s.io.api.core.v1.SecretList", {},
     {}, kAllVerbs, {}, "S6u1pOWzb84="},
    {"", "v1", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount", "ServiceAccountList", true,
     "k8s.io.api.core.v1.ServiceAccount", "k8s.io.api.core.v1.ServiceAccountList", kSa, {}, kAllVerbs, {}, "pbx9ZvyFpBE="},
    {"", "v1", "v1", "services", "service", "Service", "ServiceList", true, "k8s.io.api.core.v1.Service",
     "k8s.io.api.core.v1.ServiceList", kSvc, kAll, kAllVerbs, kServiceSubs, "0/CO1lhkEBI="},
    {"apps", "v1", "apps/v1", "deployments", "deployment", "Deployment", "DeploymentList", true, "k8s.io.api.apps.v1.Deployment",
     "k8s.io.api.apps.v1.DeploymentList", kDeploy, kAll, kAllVerbs, kDeploymentSubs, "8aSe+NMegvE="},
    {"apps", "v1", "apps/v1", "replicasets", "replicaset", "ReplicaSet", "ReplicaSetList", true, "k8s.io.api.apps.v1.ReplicaSet",
     "k8s.io.api.apps.v1.ReplicaSetList", kRs, kAll, kAllVerbs, kReplicaSetSubs, "P1RzHs8/mWQ="},
    {"certificates.k8s.io", "v1", "certificates.k8s.io/v1", "certificatesigningrequests", "certificatesigningrequest",
     "CertificateSigningRequest", "CertificateSigningRequestList", false, "k8s.io.api.certificates.v1.CertificateSigningRequest",
     "k8s.io.api.certificates.v1.CertificateSigningRequestList", kCsr, {}, kAllVerbs, kSigningRequestSubs, "95fRKMXA+00="},
    {"coordination.k8s.io", "v1", "coordination.k8s.io/v1", "leases", "lease", "Lease", "LeaseList", true,
     "k8s.io.api.coordination.v1.Lease", "k8s.io.api.coordination.v1.LeaseList", {}, {}, kAllVerbs, {}, "gqkMMb/YqFM="},
    {"discovery.k8s.io", "v1", "discovery.k8s.io/v1", "endpointslices", "endpointslice", "EndpointSlice", "EndpointSliceList", true,
     "k8s.io.api.discovery.v1.EndpointSlice", "k8s.io.api.discovery.v1.EndpointSliceList", {}, {}, kAllVerbs, {}, "Nx3SIv6I0mE="},
    {"node.k8s.io", "v1", "node.k8s.io/v1", "runtimeclasses", "runtimeclass", "RuntimeClass", "RuntimeClassList", false,
     "k8s.io.api.node.v1.RuntimeClass", "k8s.io.api.node.v1.RuntimeClassList", {}, {}, kAllVerbs, {}, "WQTu1GL3T2Q="},
};

constexpr GroupVersion kGroupVersions[] = {
    {"", "v1"}, {"apps", "v1"}, {"certificates.k8s.io", "v1"}, {"coordination.k8s.io", "v1"}, {"discovery.k8s.io", "v1"}, {"node.k8s.io", "v1"}};

}  // namespace

const Subresource* ResourceType::subresource(std::string_view wanted) const {
  const auto at = std::ranges::find(subresources, wanted, &Subresource::name);
  return at == subresources.end() ? nullptr : &*at;
}
bool ResourceType::has_verb(std::string_view verb) const { return std::ranges::find(verbs, verb) != verbs.end(); }
std::string ResourceType::qualified() const {
  return group.empty() ? std::string(resource) : std::format("{}.{}", resource, group);
}

std::span<const ResourceType> resources() { return kResources; }
std::span<const GroupVersion> group_versions() { return kGroupVersions; }

const ResourceType* find_resource(std::string_view group, std::string_view version, std::string_view resource) {
  for (const ResourceType& r : kResources)
    if (r.resource == resource && r.group == group && r.version == version) return &r;
  return nullptr;
}
const ResourceType* find_kind(std::string_view group, std::string_view version, std::string_view kind) {
  for (const ResourceType& r : kResources)
    if (r.kind == kind && r.group == group && r.version == version) return &r;
  return nullptr;
}
const ResourceType* find_kind(std::string_view api_version, std::string_view kind) {
  for (const ResourceType& r : kResources)
    if (r.kind == kind && r.api_version == api_version) return &r;
  return nullptr;
}

constexpr BodyType kDeleteOptions{"meta.k8s.io", "v1", "DeleteOptions", "k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions"};
constexpr BodyType kBinding{"", "v1", "Binding", "k8s.io.api.core.v1.Binding"};
constexpr BodyType kEviction{"policy", "v1", "Eviction", "k8s.io.api.policy.v1.Eviction"};
constexpr BodyType kScale{"autoscaling", "v1", "Scale", "k8s.io.api.autoscaling.v1.Scale"};
constexpr BodyType kTokenRequest{"authentication.k8s.io", "v1", "TokenRequest", "k8s.io.api.authentication.v1.TokenRequest"};
constexpr BodyType kTokenReview{"authentication.k8s.io", "v1", "TokenReview", "k8s.io.api.authentication.v1.TokenReview"};
constexpr BodyType kSelfSubjectReview{"authentication.k8s.io", "v1", "SelfSubjectReview",
                                      "k8s.io.api.authentication.v1.SelfSubjectReview"};
constexpr BodyType kSelfSubjectAccessReview{"authorization.k8s.io", "v1", "SelfSubjectAccessReview",
                                            "k8s.io.api.authorization.v1.SelfSubjectAccessReview"};
constexpr BodyType kSelfSubjectRulesReview{"authorization.k8s.io", "v1", "SelfSubjectRulesReview",
                                           "k8s.io.api.authorization.v1.SelfSubjectRulesReview"};
constexpr BodyType kSubjectAccessReview{"authorization.k8s.io", "v1", "SubjectAccessReview",
                                        "k8s.io.api.authorization.v1.SubjectAccessReview"};

}  // namespace skerry::kube
