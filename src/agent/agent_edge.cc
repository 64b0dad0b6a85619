// SPDX-License-Identifier: Apache-2.0
// How the node behaves without its network: edge-config obeyed, and what it holds compared with what the API server says.
#include <algorithm>
#include <format>
#include <utility>

#include "agent/agent_state.h"
#include "base/log.h"

namespace skerry::agent {
namespace {

// In the checkpoint's numbers: the values in force, so that a wrong one of the ConfigMap does not bring a default back after a start.
constexpr std::string_view kOfflineMode = "edge-config/offline_mode", kLocalStorage = "edge-config/local_storage", kSyncInterval = "edge-config/sync_interval_ms";
constexpr std::int64_t kNotSaid = 2;  // of offline_mode: there is no such key

}  // namespace

void Agent::State::restore_edge_config(const Checkpoint::Loaded& loaded) {
  if (const std::int64_t offline = loaded.number(kOfflineMode, kNotSaid); offline != kNotSaid) edge.offline_mode = offline != 0;
  edge.local_storage = loaded.number(kLocalStorage, 1) != 0;
  const Duration interval = std::chrono::milliseconds(loaded.number(kSyncInterval, 0));
  if (interval >= EdgeConfig::kSyncMin && interval <= EdgeConfig::kSyncMax) edge.sync_interval = interval;
  references.keep_on_disk(edge.local_storage);
  reporter.compare_every(edge.sync_interval);
  reporter.status().set_autonomy(edge.offline_mode);
  hold_starts();
  if (edge.works_offline()) return;
  // As a plain kubelet: what runs goes on, and nothing is started on the word of the disk alone.
  LOG_INFO("edge-config says offline_mode false: pods are started once the API server was reached");
}

void Agent::State::on_edge_config(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  auto read = read_edge_config(after.get(), edge);
  const kube::Object* const named = after ? after.get() : before.get();  // null: there is none, and nobody saw it go
  for (const std::string& problem : read.problems) {
    if (std::ranges::find(edge_problems, problem) != edge_problems.end()) continue;
    LOG_WARN("edge-config has a wrong value", {"reason", problem});
    events.post({.warning = true, .kind = "ConfigMap", .object = {.uid = named->uid(), .namespace_ = named->namespace_(), .name = named->name()}, .field_path = "",
                 .reason = "InvalidEdgeConfig", .message = std::format("Node {}: {}", options.node_name, problem)});
  }
  edge_problems = std::move(read.problems);
  if (read.config == edge) return;
  LOG_INFO("edge-config changed", {"offline_mode", read.config.works_offline()}, {"local_storage", read.config.local_storage}, {"sync_interval", read.config.sync_interval});
  const EdgeConfig former = std::exchange(edge, read.config);
  if (edge.offline_mode != former.offline_mode) {
    reporter.status().set_autonomy(edge.offline_mode);
    reporter.touch_metadata();
  }
  references.keep_on_disk(edge.local_storage);
  reporter.compare_every(edge.sync_interval);
  if (!edge.local_storage && former.local_storage) copy_at = deps.clock.instant() + options.slow_write_period;  // the good copy has them too
  journal.put(edge_numbers());
  work.set();
}

std::vector<Change> Agent::State::edge_numbers() const {
  return {change::PutNumber{std::string(kOfflineMode), edge.offline_mode ? std::int64_t{*edge.offline_mode} : kNotSaid},
          change::PutNumber{std::string(kLocalStorage), edge.local_storage ? 1 : 0}, change::PutNumber{std::string(kSyncInterval), edge.sync_interval / 1ms}};
}

// What the watches told against what the server holds. A watch that is down is no drift: it resumes.
void Agent::State::compare(const kube::Digests& servers) {
  const auto told = [&](std::string_view resource) { return std::ranges::find(servers, resource, &std::pair<std::string, std::uint64_t>::first); };
  const std::pair<std::string_view, client::Informer*> watched[] = {{"pods", &pod_informer}, {"services", &service_informer}, {"endpointslices", &slice_informer}, {"edge-config", &edge_informer}};
  for (const auto& [resource, informer] : watched) {
    const auto there = told(resource);
    if (there == servers.end() || !informer->connected()) continue;
    digests_compared.add();
    if (convergence.compare(resource, informer->digest(), there->second) != Convergence::Verdict::Drift) continue;
    drift.add();
    LOG_WARN("what the node holds has drifted from what the API server says: it is listed anew", {"resource", resource});
    informer->relist();
  }
  // What pods refer to is comparable where both sides speak of the same pods. There is no watch of these: a difference is how a change
  // arrives, and no drift.
  const auto pods = told("pods"), refer = told("references");
  if (pods == servers.end() || refer == servers.end() || pods->second != pod_informer.digest()) return;
  forget_references();
  digests_compared.add();
  if (references.compare(refer->second)) LOG_INFO("ConfigMaps, Secrets or RuntimeClasses of this node's pods have changed: they are read again");
}

}  // namespace skerry::agent
