// SPDX-License-Identifier: Apache-2.0
// What the agent shows of itself to the node's own loopback (local_view.h).
#include <format>

#include "agent/agent_state.h"
#include "base/log.h"
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
  for (const auto* informer : {&service_informer, &slice_informer})
    for (const kube::ObjectPtr& object : informer->cache()) out.push_back(object);
  for (const auto* restored : {&restored_services, &restored_slices})  // emptied once the informers know more
    for (const kube::ObjectPtr& object : *restored) out.push_back(object);
  references.for_each_open([&](const kube::ObjectPtr& object) { out.push_back(object); });
  for (kube::ObjectPtr& owner : owners.all()) out.push_back(std::move(owner));
  for (kube::ObjectPtr& event : events.recent()) out.push_back(std::move(event));
  return out;
}

rt::Task<LocalView::Changed> Agent::State::change(LocalChange) { co_return Fail({Errc::Unsupported, "not yet"}); }

// The labels, taints and uid that the server gave the Node, for a start without it.
void Agent::State::keep_node(const kube::ObjectPtr& node) {
  const std::size_t essence = essence_of(*node);
  if (essence == node_essence) return;
  node_essence = essence;
  store_object("Node", "", node->name(), node);
}

}  // namespace skerry::agent
