// SPDX-License-Identifier: Apache-2.0
#include "control/replicaset_core.h"

#include <algorithm>
#include <format>
#include <map>
#include <optional>
#include <tuple>

#include "kube/selector.h"

namespace skerry::control {
namespace {

using kube::JsonDoc;
using kube::JsonEdit;
using kube::MutJson;

constexpr std::string_view kApiVersion = "apps/v1", kKind = "ReplicaSet";

std::string pod_json(const kube::Object& replica_set, Json spec, Random& random) {
  const Json pod_template = spec["template"];
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("apiVersion", "v1");
  root.set("kind", "Pod");
  MutJson metadata = root.object("metadata");
  const std::string stem = replica_set.name().substr(0, 57) + "-";
  metadata.set("name", stem + make_name_suffix(random, 5));
  metadata.set("generateName", stem);
  metadata.set("namespace", replica_set.namespace_());
  for (const char* field : {"labels", "annotations", "finalizers"}) {
    if (const Json value = pod_template["metadata"][field]; value.size() > 0) metadata.set(field, value);
  }
  const auto reference = JsonDoc::parse(controller_reference(kApiVersion, kKind, replica_set));
  metadata.array("ownerReferences").push(reference->root());
  root.set("spec", pod_template["spec"]);
  return edit.dump();
}

// metadata.ownerReferences of `pod` with this ReplicaSet as its controller, or without it.
enum class Ownership : std::uint8_t { Adopt, Release };
Action ownership(const PodView& pod, const kube::Object& replica_set, Ownership change) {
  JsonEdit edit;
  MutJson metadata = edit.root().object("metadata");
  metadata.set("uid", pod.object->uid());
  MutJson owners = metadata.array("ownerReferences");
  const auto doc = pod.object->parse();
  for (const Json owner : doc.root()["metadata"]["ownerReferences"].items()) {
    if (owner["uid"].str() != replica_set.uid()) owners.push(owner);
  }
  if (change == Ownership::Adopt)
    owners.push(JsonDoc::parse(controller_reference(kApiVersion, kKind, replica_set))->root());
  return {.verb = Verb::Patch,
          .resource = client::kPods,
          .namespace_ = pod.object->namespace_(),
          .name = pod.object->name(),
          .body = edit.dump()};
}

// Sorted so that those to delete come first.
void rank(std::vector<PodPtr>& pods) {
  std::map<std::string, int> on_node;
  for (const auto& pod : pods) ++on_node[pod->object->node_name()];
  const auto phase = [](const PodView& pod) {
    return pod.object->phase() == "Pending" || pod.object->phase().empty() ? 0 : pod.object->phase() == "Unknown" ? 1 : 2;
  };
  const auto key = [&](const PodPtr& pod) {
    const auto newest_first = [](Time time) { return -time.time_since_epoch().count(); };
    return std::tuple(!pod->object->node_name().empty(), phase(*pod), pod->ready, pod->deletion_cost,
                      -on_node[pod->object->node_name()], newest_first(pod->ready_since.value_or(pod->created)),
                      -pod->restarts, newest_first(pod->created), std::string_view(pod->object->name()));
  };
  std::ranges::sort(pods, [&](const PodPtr& a, const PodPtr& b) { return key(a) < key(b); });
}

// Sets or removes the condition ReplicaFailure: `,"conditions":[…]` for the status, or nothing if it is as it should be. The
// text stays that of the first failure: each attempt would word it otherwise, by the names of its pods.
std::optional<std::string> failure_conditions(Json replica_set, std::string_view failure, Time now) {
  const bool said = find_condition(replica_set, kReplicaFailure).exists();
  if (said == !failure.empty()) return std::nullopt;
  JsonEdit edit;
  MutJson all = edit.root().array("conditions");
  for (const Json condition : replica_set["status"]["conditions"].items()) {
    if (condition["type"].str() != kReplicaFailure) all.push(condition);
  }
  if (!failure.empty()) {
    MutJson added = all.push_object();
    added.set("type", kReplicaFailure);
    added.set("status", "True");
    added.set("lastTransitionTime", to_rfc3339(now));
    added.set("reason", "FailedCreate");
    added.set("message", failure);
  }
  return std::format(R"(,"conditions":{})", all.dump());
}

// The status, if it is another than the stored one; when a pod that is ready will be available.
void report(const ReplicaSetInput& input, Json root, const std::vector<PodPtr>& active, Plan& plan) {
  const kube::Object& replica_set = *input.replica_set;
  const Json spec = root["spec"], old = root["status"];
  const auto have = static_cast<std::int64_t>(active.size());
  const auto template_labels = kube::LabelSelector::from_map(spec["template"]["metadata"]["labels"]);
  const Duration min_ready = std::chrono::seconds(spec["minReadySeconds"].i64());
  std::int64_t labeled = 0, ready = 0, available = 0;
  for (const auto& pod : active) {
    labeled += template_labels.matches(pod->object->labels());
    ready += pod->ready;
    if (pod->available(input.now, min_ready)) {
      ++available;
    } else if (pod->ready && pod->ready_since) {
      const Duration left = *pod->ready_since + min_ready - input.now;
      if (!plan.again || left < *plan.again) plan.again = left;
    }
  }
  const std::int64_t generation = root["metadata"]["generation"].i64();
  const auto conditions = failure_conditions(root, input.create_failure, input.now);
  if (old["replicas"].i64(-1) != have || old["fullyLabeledReplicas"].i64() != labeled ||
      old["readyReplicas"].i64() != ready || old["availableReplicas"].i64() != available ||
      old["observedGeneration"].i64() < generation || conditions) {
    plan.actions.push_back(
        {.verb = Verb::PatchStatus,
         .resource = client::kReplicaSets,
         .namespace_ = replica_set.namespace_(),
         .name = replica_set.name(),
         .body = std::format(
             R"({{"metadata":{{"uid":"{}"}},"status":{{"replicas":{},"fullyLabeledReplicas":{},"readyReplicas":{},"availableReplicas":{},"observedGeneration":{}{}}}}})",
             replica_set.uid(), have, labeled, ready, available, generation, conditions.value_or(""))});
  }
}

}  // namespace

Plan reconcile_replica_set(const ReplicaSetInput& input, Random& random) {
  Plan plan;
  const kube::Object& replica_set = *input.replica_set;
  const auto doc = replica_set.parse();
  const Json root = doc.root(), spec = root["spec"];
  const auto selector = kube::LabelSelector::from_object(spec["selector"]);
  if (!selector || selector->everything()) {
    plan.notes.push_back({input.replica_set, NoteType::Warning, "InvalidSelector",
                          selector ? "an empty selector would match every pod" : selector.error().message});
    return plan;
  }

  std::vector<PodPtr> active;
  for (const auto& pod : input.pods) {
    const bool mine = pod->controller && pod->controller->uid == replica_set.uid();
    const bool matches = selector->matches(pod->object->labels());
    if (mine && !matches) {
      if (!replica_set.deleting()) plan.actions.push_back(ownership(*pod, replica_set, Ownership::Release));
    } else if (!mine && !pod->controller && matches && pod->active() && !replica_set.deleting()) {
      plan.actions.push_back(ownership(*pod, replica_set, Ownership::Adopt));
      active.push_back(pod);
    } else if (mine && pod->active()) {
      active.push_back(pod);
    }
  }

  const std::int64_t wanted = spec["replicas"].i64(1);
  const auto have = static_cast<std::int64_t>(active.size());
  const auto burst = static_cast<std::int64_t>(input.burst_max);
  if (!replica_set.deleting() && have < wanted) {
    for (std::int64_t i = 0; i < std::min(wanted - have, burst); ++i) {
      plan.actions.push_back({.verb = Verb::Create,
                              .resource = client::kPods,
                              .namespace_ = replica_set.namespace_(),
                              .body = pod_json(replica_set, spec, random)});
    }
    if (wanted - have > burst) plan.again = Duration::zero();
  } else if (!replica_set.deleting() && have > wanted) {
    std::vector<PodPtr> ranked = active;
    rank(ranked);
    ranked.resize(static_cast<std::size_t>(std::min(have - wanted, burst)));
    for (const auto& pod : ranked) {
      plan.actions.push_back({.verb = Verb::Delete,
                              .resource = client::kPods,
                              .namespace_ = pod->object->namespace_(),
                              .name = pod->object->name(),
                              .uid = pod->object->uid()});
      plan.notes.push_back(
          {input.replica_set, NoteType::Normal, "SuccessfulDelete", "Deleted pod: " + pod->object->name()});
    }
    if (have - wanted > burst) plan.again = Duration::zero();
  }

  report(input, root, active, plan);
  return plan;
}

}  // namespace skerry::control
