// SPDX-License-Identifier: Apache-2.0
// What Kubernetes has and this server has not: each is refused with a sentence that says what to do instead.
#include <format>
#include <string_view>

#include "apiserver/call.h"

namespace skerry::apiserver {
namespace {

struct Unserved {
  std::string_view group, resource;  // resource "": every one of the group
  std::string_view remedy;
};
constexpr std::string_view kWorkloads = "run it as a Deployment";
constexpr std::string_view kVolumes = "pods have no volumes yet: configuration comes from environment variables and ConfigMaps";
constexpr std::string_view kAccess = "who may what is built in: system:masters everything, a node what a node needs";
constexpr Unserved kUnserved[] = {
    {"", "endpoints", "read the EndpointSlices of discovery.k8s.io/v1"},
    {"", "replicationcontrollers", kWorkloads},
    {"", "podtemplates", kWorkloads},
    {"", "persistentvolumes", kVolumes},
    {"", "persistentvolumeclaims", kVolumes},
    {"", "limitranges", "give each pod its own requests and limits"},
    {"", "resourcequotas", "what a node offers is the limit: see kubectl describe node"},
    {"", "componentstatuses", "ask /readyz: kubectl get --raw '/readyz?verbose'"},
    {"", "bindings", "bind a pod through its subresource pods/NAME/binding"},
    {"", "watch", "watch with ?watch=true on the path of the resource itself"},
    {"apps", "daemonsets", kWorkloads},
    {"apps", "statefulsets", kWorkloads},
    {"apps", "controllerrevisions", "the history of a Deployment is in its ReplicaSets"},
    {"autoscaling", "", "use kubectl scale; an idle pod uses no CPU and has no process"},
    {"batch", "", "jobs are not run yet"},
    {"policy", "", "evictions are served at pods/NAME/eviction; there are no disruption budgets"},
    {"events.k8s.io", "", "read the events of v1: kubectl get events"},
    {"rbac.authorization.k8s.io", "", kAccess},
    {"authorization.k8s.io", "", kAccess},
    {"authentication.k8s.io", "", "callers prove who they are by a client certificate or a bearer token of the server's configuration"},
    {"certificates.k8s.io", "", "certificatesigningrequests of v1 are served"},
    {"networking.k8s.io", "", "reach pods through a Service of type ClusterIP or NodePort"},
    {"storage.k8s.io", "", kVolumes},
    {"scheduling.k8s.io", "", "pods have no priority classes"},
    {"apiextensions.k8s.io", "", "custom resources are not served yet"},
    {"admissionregistration.k8s.io", "", "admission webhooks and policies are not called"},
    {"apiregistration.k8s.io", "", "there are no aggregated APIs"},
    {"metrics.k8s.io", "", "the node's /metrics has the figures of each pod"},
};

}  // namespace

bool is_of_kubernetes(std::string_view group) { return group.find('.') == group.npos || group.ends_with(".k8s.io"); }

Status unserved_resource(const Route& route) {
  Status status = kube::status_unknown_path();
  std::string_view remedy;
  for (const Unserved& one : kUnserved) {
    if (one.group == route.group && (one.resource.empty() || one.resource == route.resource)) remedy = one.remedy;
  }
  bool group_served = false;
  for (const auto& served : kube::group_versions()) group_served = group_served || (served.group == route.group && served.version == route.version);
  if (remedy.empty() && group_served) return status;  // a name that nobody knows: the answer that everybody knows
  const std::string version = route.group.empty() ? route.version : std::format("{}/{}", route.group, route.version);
  status.message = std::format("{} of {} are not served by this server: {}", route.resource, version,
                               remedy.empty() ? std::string_view("kubectl api-resources lists what is served") : remedy);
  return status;
}

}  // namespace skerry::apiserver
