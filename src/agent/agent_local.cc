// SPDX-License-Identifier: Apache-2.0
// What the agent shows of itself to the node's own loopback (local_view.h).
#include <algorithm>

#include "agent/agent_state.h"
#include "base/text.h"
#include "kube/resources.h"
#include "kube/strategic_merge.h"

namespace skerry::agent {

// The object as the server had it, with the status that the node knows.
kube::ObjectPtr Agent::State::shown_pod(const PodEntry& entry) const {
  const kube::ObjectPtr& object = entry.core.object();
  if (object->phase() == "Succeeded" || object->phase() == "Failed") return object;
  const auto patch = kube::JsonDoc::parse(entry.core.status(now()));
  auto edit = kube::JsonEdit::copy(object->parse().root());
  if (!patch || !kube::strategic_merge(kube::find_kind("v1", "Pod")->message(), edit.root(), patch->root())) return object;
  auto made = kube::Object::from_json(edit.dump());
  return made ? std::move(*made) : object;
}

std::vector<kube::ObjectPtr> Agent::State::objects() const {
  std::vector<kube::ObjectPtr> out;
  if (auto node = reporter.node()) out.push_back(std::move(node));
  if (auto lease = reporter.lease()) out.push_back(std::move(lease));
  for (const auto& [uid, entry] : entries) out.push_back(shown_pod(*entry));
  // Those that were refused have no entry: the server has been told why.
  for (const kube::ObjectPtr& pod : pod_informer.cache())
    if (!entries.contains(pod->uid())) out.push_back(pod);
  for (const kube::ObjectPtr& object : service_informer.cache()) out.push_back(object);
  for (const kube::ObjectPtr& object : slice_informer.cache()) out.push_back(local_slices.shown(object));
  for (const auto& [key, slice] : local_slices.own()) out.push_back(slice);
  references.for_each_open([&](const kube::ObjectPtr& object) { out.push_back(object); });
  for (const kube::ObjectPtr& owner : owners.all()) out.push_back(owner->kind() == "Deployment" ? shown_deployment(owner) : owner);
  for (kube::ObjectPtr& event : events.recent()) out.push_back(std::move(event));
  return out;
}

// With what was changed here and waits, and, while the server cannot count, with what runs here.
kube::ObjectPtr Agent::State::shown_deployment(const kube::ObjectPtr& object) const {
  const Intent* replicas = intents.waiting(object->uid(), LocalChange::Field::Replicas);
  const Intent* restart = intents.waiting(object->uid(), LocalChange::Field::RestartedAt);
  if (reporter.reachable() && replicas == nullptr && restart == nullptr) return object;
  auto edit = kube::JsonEdit::copy(object->parse().root());
  kube::MutJson root = edit.root(), spec = root.object("spec"), counts = root.object("status");
  for (const Intent* waiting : {replicas, restart})
    if (waiting != nullptr) set_value(root, waiting->change);
  // Elsewhere: what the server counted last, without the pods that it had here then.
  std::int64_t here = 0, ready = 0, servers = 0, servers_ready = 0;
  for (const std::string& uid : owners.pods_of(*object)) {
    const PodEntry* entry = table.find(uid);
    if (entry == nullptr) continue;
    if (!entry->stand_in) {
      ++servers;
      const kube::JsonDoc doc = entry->core.object()->parse();
      for (const kube::Json condition : doc.root()["status"]["conditions"].items())
        servers_ready += condition["type"].str() == "Ready" && condition["status"].str() == "True" ? 1 : 0;
    }
    if (entry->core.ended() || entry->core.held()) continue;
    ++here;
    ready += entry->core.ready() ? 1 : 0;
  }
  const std::int64_t all = std::max<std::int64_t>(counts["replicas"].i64() - servers, 0) + here;
  const std::int64_t all_ready = std::max<std::int64_t>(counts["readyReplicas"].i64() - servers_ready, 0) + ready;
  const std::int64_t generation = root["metadata"]["generation"].i64(1) + (replicas != nullptr ? 1 : 0) + (restart != nullptr ? 1 : 0);
  root.object("metadata").set("generation", generation);
  counts.set("observedGeneration", generation);
  counts.set("replicas", all);
  counts.set("updatedReplicas", all);
  counts.set("readyReplicas", all_ready);
  counts.set("availableReplicas", all_ready);
  if (const std::int64_t missing = spec["replicas"].i64(1) - all_ready; missing > 0) counts.set("unavailableReplicas", missing);
  else counts.remove("unavailableReplicas");
  auto made = kube::Object::from_json(edit.dump());
  return made ? std::move(*made) : object;
}

// The labels, taints and uid that the server gave the Node, for a start without it.
void Agent::State::keep_node(const kube::ObjectPtr& node) {
  const std::size_t essence = essence_of(*node);
  if (essence == node_essence) return;
  node_essence = essence;
  store_object("Node", "", node->name(), node);
}

}  // namespace skerry::agent
