// SPDX-License-Identifier: Apache-2.0
#include "apiserver/admission.h"

#include <format>

namespace skerry::apiserver {

ApiResult<> admit_namespace(const Call& call) {
  const Route& route = call.route;
  if (!call.type().namespaced) return {};
  const ObjectPtr there = call.server.store.newest(call.server.id("namespaces"), "", route.namespace_);
  if (!there) return ApiFail(kube::status_not_found("", "namespaces", route.namespace_));
  if (there->deleting()) {
    const std::string text = std::format("unable to create new content in namespace {} because it is being terminated", route.namespace_);
    Status status = kube::status_forbidden(route.group, route.resource, route.name, text);
    status.details.causes.push_back({"NamespaceTerminating", std::format("namespace {} is being terminated", route.namespace_), "metadata.namespace"});
    return ApiFail(std::move(status));
  }
  return {};
}

ApiResult<> admit_priority(MutJson pod) {
  MutJson spec = pod.object("spec");
  const std::string wanted(spec["priorityClassName"].str());
  if (wanted.empty()) return {};
  const std::int64_t priority = wanted == "system-cluster-critical" ? 2'000'000'000 : wanted == "system-node-critical" ? 2'000'001'000 : 0;
  if (priority == 0) {
    return ApiFail(kube::status_forbidden("", "pods", pod["metadata"]["name"].str(),
                                          std::format("no PriorityClass with name {} was found: only system-cluster-critical and system-node-critical are "
                                                      "served; leave priorityClassName out", wanted)));
  }
  spec.set("priority", priority);
  return {};
}

void admit_service_account(const Call& call, MutJson pod) {
  MutJson spec = pod.object("spec");
  if (spec["imagePullSecrets"].size() > 0) return;
  const ObjectPtr account = call.server.store.newest(call.server.id("serviceaccounts"), call.route.namespace_, std::string(spec["serviceAccountName"].str()));
  if (!account) return;
  const auto doc = account->parse();
  if (const Json secrets = doc.root()["imagePullSecrets"]; secrets.size() > 0) spec.set("imagePullSecrets", secrets);
}

ApiResult<> admit_runtime_class(const Call& call, MutJson pod) {
  MutJson spec = pod.object("spec");
  const std::string wanted(spec["runtimeClassName"].str());
  const auto refuse = [&](std::string_view text) {
    return ApiFail(kube::status_forbidden("", "pods", pod["metadata"]["name"].str(), std::format("pod rejected: {}", text)));
  };
  const bool has_overhead = spec["overhead"].size() > 0;
  if (wanted.empty()) {
    if (has_overhead) return refuse("Pod Overhead set without corresponding RuntimeClass defined Overhead");
    return {};
  }
  const ObjectPtr found = call.server.store.newest(call.server.id("runtimeclasses.node.k8s.io"), "", wanted);
  if (!found) return refuse(std::format("RuntimeClass \"{}\" not found", wanted));
  const auto doc = found->parse();
  const Json overhead = doc.root()["overhead"]["podFixed"];
  if (overhead.size() > 0) {
    if (has_overhead && !JsonEdit::copy(spec["overhead"]).freeze().root().equals(overhead)) {
      return refuse("Pod's Overhead doesn't match RuntimeClass's defined Overhead");
    }
    spec.set("overhead", overhead);
  } else if (has_overhead) {
    return refuse("Pod Overhead set without corresponding RuntimeClass defined Overhead");
  }
  const Json scheduling = doc.root()["scheduling"];
  for (const auto [key, value] : scheduling["nodeSelector"].members()) {
    MutJson selector = spec.object("nodeSelector");
    if (selector[key] && selector[key].str() != value.str()) {
      return refuse(std::format("conflict: runtimeClass.scheduling.nodeSelector[{0}] = {1}; pod.spec.nodeSelector[{0}] = {2}", key, value.str(),
                                selector[key].str()));
    }
    selector.set(key, value.str());
  }
  for (const Json toleration : scheduling["tolerations"].items()) {
    MutJson all = spec.array("tolerations");
    bool present = false;
    for (const MutJson t : all.items()) present = present || JsonEdit::copy(t).freeze().root().equals(toleration);
    if (!present) all.push(toleration);
  }
  return {};
}

}  // namespace skerry::apiserver
