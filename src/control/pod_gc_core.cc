// SPDX-License-Identifier: Apache-2.0
#include "control/pod_gc_core.h"

#include <algorithm>

namespace skerry::control {

Plan PodGcCore::poll(const std::vector<PodPtr>& pods, const std::set<std::string>& nodes, Instant now) {
  Plan plan;
  const auto remove = [&](const PodPtr& pod) {
    plan.actions.push_back({.verb = Verb::Delete,
                            .resource = client::kPods,
                            .namespace_ = pod->object->namespace_(),
                            .name = pod->object->name(),
                            .uid = pod->object->uid(),
                            .grace_seconds = 0});
  };
  std::map<std::string, Instant> missed;
  std::vector<PodPtr> ended;
  for (const auto& pod : pods) {
    const std::string& node = pod->object->node_name();
    if (node.empty()) {
      if (pod->object->deleting()) remove(pod);
      continue;
    }
    if (!nodes.contains(node)) {
      const auto old = missed_.find(node);
      const Instant since = missed.try_emplace(node, old == missed_.end() ? now : old->second).first->second;
      if (now - since >= options_.quarantine) {
        remove(pod);
        continue;
      }
    }
    if (pod->finished && !pod->object->deleting()) ended.push_back(pod);
  }
  missed_ = std::move(missed);
  if (ended.size() > options_.ended_max) {
    std::ranges::sort(ended, {}, [](const PodPtr& pod) { return pod->created; });
    ended.resize(ended.size() - options_.ended_max);
    for (const auto& pod : ended) remove(pod);
  }
  return plan;
}

}  // namespace skerry::control
