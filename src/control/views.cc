// SPDX-License-Identifier: Apache-2.0
#include "control/views.h"

#include <format>

#include "base/text.h"

namespace skerry::control {

std::vector<OwnerReference> owner_references(Json metadata) {
  std::vector<OwnerReference> all;
  for (const Json owner : metadata["ownerReferences"].items()) {
    all.push_back({.api_version = std::string(owner["apiVersion"].str()),
                   .kind = std::string(owner["kind"].str()),
                   .name = std::string(owner["name"].str()),
                   .uid = std::string(owner["uid"].str()),
                   .controller = owner["controller"].boolean(),
                   .block_deletion = owner["blockOwnerDeletion"].boolean()});
  }
  return all;
}

std::optional<OwnerReference> controller_of(Json metadata) {
  for (auto& owner : owner_references(metadata)) {
    if (owner.controller) return std::move(owner);
  }
  return std::nullopt;
}

std::string controller_reference(std::string_view api_version, std::string_view kind, const kube::Object& owner) {
  return std::format(
      R"({{"apiVersion":"{}","kind":"{}","name":"{}","uid":"{}","controller":true,"blockOwnerDeletion":true}})",
      api_version, kind, owner.name(), owner.uid());
}

Json find_condition(Json object, std::string_view type) {
  for (const Json condition : object["status"]["conditions"].items()) {
    if (condition["type"].str() == type) return condition;
  }
  return {};
}

PodPtr PodView::make(const ObjectPtr& pod, const OwnerPtr& sibling) {
  auto view = std::make_shared<PodView>();
  const auto doc = pod->parse();
  const Json root = doc.root();
  view->object = pod;
  if (auto controller = controller_of(root["metadata"]))
    view->controller = sibling && *sibling == *controller ? sibling : std::make_shared<const OwnerReference>(std::move(*controller));
  view->created = from_rfc3339(root["metadata"]["creationTimestamp"].str()).value_or(Time{});
  view->finished = pod->phase() == "Succeeded" || pod->phase() == "Failed";
  const Json ready = find_condition(root, "Ready");
  view->ready = ready["status"].str() == "True";
  if (view->ready) view->ready_since = from_rfc3339(ready["lastTransitionTime"].str());
  view->ip = root["status"]["podIP"].str();
  view->deletion_cost =
      parse_int<std::int64_t>(root["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"].str())
          .value_or(0);
  for (const Json container : root["status"]["containerStatuses"].items())
    view->restarts += container["restartCount"].i64();
  return view;
}

ReplicaSetPtr ReplicaSetView::make(const ObjectPtr& replica_set) {
  auto view = std::make_shared<ReplicaSetView>();
  const auto doc = replica_set->parse();
  const Json root = doc.root();
  const Json status = root["status"];
  view->object = replica_set;
  view->controller = controller_of(root["metadata"]);
  view->created = from_rfc3339(root["metadata"]["creationTimestamp"].str()).value_or(Time{});
  view->replicas = root["spec"]["replicas"].i64(1);
  view->status_replicas = status["replicas"].i64();
  view->status_ready = status["readyReplicas"].i64();
  view->status_available = status["availableReplicas"].i64();
  view->observed = status["observedGeneration"].i64() >= root["metadata"]["generation"].i64();
  view->revision =
      parse_int<std::int64_t>(root["metadata"]["annotations"]["deployment.kubernetes.io/revision"].str()).value_or(0);
  return view;
}

}  // namespace skerry::control
