// SPDX-License-Identifier: Apache-2.0
#include "control/node_lifecycle_core.h"

#include <algorithm>
#include <format>

namespace skerry::control {
namespace {

using kube::json_quote;
using kube::JsonEdit;
using kube::MutJson;

constexpr std::string_view kNotReady = "node.kubernetes.io/not-ready", kUnreachable = "node.kubernetes.io/unreachable";

// The taints that this controller owns: {key, effect}.
struct Wanted {
  std::string_view key, effect;
};
bool ours(std::string_view key) {
  constexpr std::string_view kOurs[] = {kNotReady,
                                        kUnreachable,
                                        "node.kubernetes.io/unschedulable",
                                        "node.kubernetes.io/memory-pressure",
                                        "node.kubernetes.io/disk-pressure",
                                        "node.kubernetes.io/pid-pressure",
                                        "node.kubernetes.io/network-unavailable"};
  return std::ranges::find(kOurs, key) != std::end(kOurs);
}

Json find_taint(Json taints, std::string_view key, std::string_view effect) {
  for (const Json taint : taints.items()) {
    if (taint["key"].str() == key && taint["effect"].str() == effect) return taint;
  }
  return {};
}

// How long this pod tolerates that taint; nothing: for ever. A pod that says nothing about it has `unless_said`: for taints of
// our own what Kubernetes' admission would have given it, for an operator's none.
std::optional<Duration> tolerated(Json tolerations, Json taint, Duration unless_said) {
  const auto key = taint["key"].str();
  std::optional<Duration> shortest = unless_said;
  bool found = false;
  for (const Json toleration : tolerations.items()) {
    const auto wanted_key = toleration["key"].str(), effect = toleration["effect"].str();
    const bool exists = toleration["operator"].str() == "Exists";
    if ((!effect.empty() && effect != "NoExecute") || (wanted_key.empty() ? !exists : wanted_key != key)) continue;
    if (!exists && toleration["value"].str() != taint["value"].str()) continue;
    std::optional<Duration> here;
    if (toleration["tolerationSeconds"].is_integer())
      here = std::chrono::seconds(std::max<std::int64_t>(0, toleration["tolerationSeconds"].i64()));
    if (!found) {
      shortest = here;
    } else if (here && (!shortest || *here < *shortest)) {
      shortest = here;
    }
    found = true;
  }
  return shortest;
}

bool has_taint(Json taints, std::string_view key, std::string_view effect) { return find_taint(taints, key, effect).exists(); }

// The node with the taints of ours that are wanted, and all others; nothing if it has them.
std::optional<std::string> taints_patch(const kube::Object& node, Json now, const std::vector<Wanted>& wanted, std::string_view time) {
  bool changed = false;
  JsonEdit edit;
  MutJson taints = edit.root().object("spec").array("taints");
  for (const Json taint : now.items()) {
    const auto key = taint["key"].str(), effect = taint["effect"].str();
    const bool keep = !ours(key) || std::ranges::any_of(wanted, [&](const Wanted& one) {
      return one.key == key && one.effect == effect;
    });
    changed = changed || !keep;
    if (!keep) continue;
    MutJson copy = taints.push_object();
    copy.assign(taint);
    // kubectl taint writes no time: from when on tolerationSeconds count.
    if (effect == "NoExecute" && taint["timeAdded"].str().empty()) {
      copy.set("timeAdded", time);
      changed = true;
    }
  }
  for (const Wanted& one : wanted) {
    if (has_taint(now, one.key, one.effect)) continue;
    MutJson taint = taints.push_object();
    taint.set("key", one.key);
    taint.set("effect", one.effect);
    taint.set("timeAdded", time);
    changed = true;
  }
  if (!changed) return std::nullopt;
  edit.root().object("metadata").set("uid", node.uid());
  return edit.dump();
}

}  // namespace

void NodeLifecycleCore::put_node(const ObjectPtr& object, Instant now) {
  const auto [at, fresh] = nodes_.try_emplace(object->name());
  Node& node = at->second;
  const auto doc = object->parse();
  std::string heartbeat = find_condition(doc.root(), "Ready").dump();
  const bool unknown = find_condition(doc.root(), "Ready")["status"].str() == "Unknown";  // we wrote that
  if (fresh || (node.heartbeat != heartbeat && !unknown) || (node.object && node.object->uid() != object->uid()))
    node.heard = now;
  if (fresh)
    node.jitter =
        Duration(static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(options_.grace.count() / 20 + 1))));
  node.heartbeat = std::move(heartbeat);
  node.object = object;
}

void NodeLifecycleCore::remove_node(std::string_view name) {
  if (const auto at = nodes_.find(name); at != nodes_.end()) nodes_.erase(at);
}

void NodeLifecycleCore::put_lease(const kube::Object& lease, Instant now) {
  const auto at = nodes_.find(lease.name());
  if (at == nodes_.end()) return;
  const auto doc = lease.parse();
  const auto renewed = doc.root()["spec"]["renewTime"].str();
  const auto seconds = doc.root()["spec"]["leaseDurationSeconds"].i64();
  at->second.lease_lasts = std::chrono::seconds(std::clamp<std::int64_t>(seconds, 0, std::chrono::ceil<std::chrono::seconds>(options_.grace_max).count()));
  if (at->second.lease == renewed) return;
  at->second.lease = renewed;
  at->second.heard = now;
}

bool NodeLifecycleCore::silent(const Node& node, Instant now) const {
  return now - node.heard > std::max(options_.grace, node.lease_lasts) + node.jitter;
}

bool NodeLifecycleCore::autonomous(Json node) const {
  constexpr const char* kAutonomy = "skerry.dev/autonomy";
  for (const char* where : {"annotations", "labels"}) {
    const auto said = node["metadata"][where][kAutonomy].str();
    if (said == "true" || said == "false") return said == "true";
  }
  return options_.autonomy;
}

Plan NodeLifecycleCore::poll(Time now, Instant instant) {
  Plan plan;
  if (polled_ && instant - *polled_ > options_.stall) {
    const Duration gap = instant - *polled_;
    for (auto& [name, node] : nodes_) node.heard = std::min(instant, node.heard + gap);
  }
  polled_ = instant;
  std::size_t quiet = 0;
  for (const auto& [name, node] : nodes_) quiet += silent(node, instant);
  const bool all = quiet == nodes_.size();
  const bool most =
      nodes_.size() > 2 && static_cast<double>(quiet) >= options_.disrupted * static_cast<double>(nodes_.size());
  const Duration pause = most ? options_.eviction_pause_disrupted : options_.eviction_pause;
  bool may_evict = !all && (!last_eviction_ || instant - *last_eviction_ >= pause);
  for (auto& [name, node] : nodes_) {
    bool evicted = false;
    judge(node, may_evict, evicted, now, instant, plan);
    if (evicted) {
      may_evict = false;
      last_eviction_ = instant;
    }
  }
  return plan;
}

void NodeLifecycleCore::judge(Node& node, bool may_evict, bool& evicted, Time now, Instant instant, Plan& plan) const {
  const auto doc = node.object->parse();
  const Json root = doc.root(), spec = root["spec"];
  const bool quiet = silent(node, instant), alone = autonomous(root);
  const std::string time = to_rfc3339(now);
  std::string ready{find_condition(root, "Ready")["status"].str()};

  if (quiet && ready != "Unknown") {
    JsonEdit edit;
    edit.root().object("metadata").set("uid", node.object->uid());
    MutJson conditions = edit.root().object("status").array("conditions");
    bool seen_ready = false;
    const auto unknown = [&](MutJson condition, std::string_view type) {
      condition.set("type", type);
      if (condition["status"].str() != "Unknown") condition.set("lastTransitionTime", time);
      condition.set("status", "Unknown");
      condition.set("reason", "NodeStatusUnknown");
      condition.set("message", "Kubelet stopped posting node status.");
      seen_ready = seen_ready || type == "Ready";
    };
    for (const Json condition : root["status"]["conditions"].items()) {
      MutJson copy = conditions.push_object();
      copy.assign(condition);
      unknown(copy, condition["type"].str());
    }
    if (!seen_ready) unknown(conditions.push_object(), "Ready");
    plan.actions.push_back(
        {.verb = Verb::PatchStatus, .resource = client::kNodes, .name = node.object->name(), .body = edit.dump()});
    plan.notes.push_back({node.object, NoteType::Normal, "NodeNotReady",
                          std::format("Node {} status is now: NodeNotReady", node.object->name())});
    if (alone) {
      plan.notes.push_back({node.object, NoteType::Normal, "NodeAutonomous",
                            std::format("Node {} is silent and autonomous (skerry.dev/autonomy): its pods stay as they are until it is heard again, "
                                        "and no new ones go there", node.object->name())});
    }
    ready = "Unknown";
  }
  // Written down by the taint alone, which a restart of this process survives.
  if (const Json taint = find_taint(spec["taints"], kUnreachable, "NoSchedule"); taint.exists() && (ready == "True" || ready == "False")) {
    const auto since = from_rfc3339(taint["timeAdded"].str());
    plan.notes.push_back({node.object, NoteType::Normal, "NodeHeardAgain",
                          std::format("Node {} is heard again{}{}", node.object->name(),
                                      since ? std::format(" after {} of silence", to_human(std::max(Duration::zero(), Duration(now - *since)))) : "",
                                      alone ? "; its pods stayed on it" : "")});
  }

  std::vector<Wanted> wanted;
  if (spec["unschedulable"].boolean()) wanted.push_back({"node.kubernetes.io/unschedulable", "NoSchedule"});
  // Who has never said anything is not ready; after its grace it is Unknown.
  const std::string_view fault = ready == "True" ? std::string_view() : ready == "Unknown" ? kUnreachable : kNotReady;
  if (!fault.empty()) wanted.push_back({fault, "NoSchedule"});
  constexpr std::pair<const char*, std::string_view> kPressures[] = {
      {"MemoryPressure", "node.kubernetes.io/memory-pressure"},
      {"DiskPressure", "node.kubernetes.io/disk-pressure"},
      {"PIDPressure", "node.kubernetes.io/pid-pressure"},
      {"NetworkUnavailable", "node.kubernetes.io/network-unavailable"}};
  for (const auto& [type, key] : kPressures) {
    if (find_condition(root, type)["status"].str() == "True") wanted.push_back({key, "NoSchedule"});
  }
  const auto has = [&](std::string_view key, std::string_view effect) { return has_taint(spec["taints"], key, effect); };
  if (!fault.empty() && !ready.empty() && !(alone && fault == kUnreachable)) {
    const bool already = has(kNotReady, "NoExecute") || has(kUnreachable, "NoExecute");
    if (already || may_evict || ready == "False") wanted.push_back({fault, "NoExecute"});
    evicted = !already && may_evict && ready != "False";
  }

  if (auto body = taints_patch(*node.object, spec["taints"], wanted, time)) {
    plan.actions.push_back({.verb = Verb::Patch, .resource = client::kNodes, .name = node.object->name(), .body = std::move(*body)});
  }
}

Plan NodeLifecycleCore::pods(const kube::Object& node, const std::vector<PodPtr>& pods, Time now) const {
  Plan plan;
  const auto doc = node.parse();
  const Json root = doc.root();
  const bool silent = find_condition(root, "Ready")["status"].str() == "Unknown";
  const bool alone = silent && autonomous(root);  // then only what an operator says moves its pods
  const bool unknown = silent && !alone;
  const bool tainted = any_item(root["spec"]["taints"], [](Json taint) { return taint["effect"].str() == "NoExecute"; });
  if (!unknown && !tainted) return plan;
  for (const auto& pod : pods) {
    if (pod->finished || pod->object->deleting()) continue;
    const auto pod_doc = pod->object->parse();
    if (unknown && pod->ready) {
      JsonEdit edit;
      edit.root().object("metadata").set("uid", pod->object->uid());
      MutJson conditions = edit.root().object("status").array("conditions");
      for (const Json condition : pod_doc.root()["status"]["conditions"].items()) {
        MutJson copy = conditions.push_object();
        copy.assign(condition);
        if (condition["type"].str() != "Ready") continue;
        copy.set("status", "False");
        copy.set("lastTransitionTime", to_rfc3339(now));
      }
      plan.actions.push_back({.verb = Verb::PatchStatus,
                              .resource = client::kPods,
                              .namespace_ = pod->object->namespace_(),
                              .name = pod->object->name(),
                              .body = edit.dump()});
    }
    for (const Json taint : root["spec"]["taints"].items()) {
      const bool own = ours(taint["key"].str());
      if (taint["effect"].str() != "NoExecute" || (own && alone)) continue;
      const auto patience = tolerated(pod_doc.root()["spec"]["tolerations"], taint, own ? options_.patience : Duration::zero());
      if (!patience) continue;
      const Time due = from_rfc3339(taint["timeAdded"].str()).value_or(now) + *patience;
      if (due <= now) {
        plan.actions.push_back({.verb = Verb::Delete,
                                .resource = client::kPods,
                                .namespace_ = pod->object->namespace_(),
                                .name = pod->object->name(),
                                .uid = pod->object->uid()});
        plan.notes.push_back(
            {pod->object, NoteType::Normal, "TaintManagerEviction",
             std::format("Marking for deletion Pod {}/{}", pod->object->namespace_(), pod->object->name())});
        break;
      }
      if (!plan.again || due - now < *plan.again) plan.again = due - now;
    }
  }
  return plan;
}

}  // namespace skerry::control
