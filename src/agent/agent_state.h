// SPDX-License-Identifier: Apache-2.0
// The agent's inside; only agent.cc and agent_*.cc include it. One loop, no locks.
//
//   informers, keeper, images, timers ── on_* ──▶ PodTable (a PodCore each) ──┐
//   pump(): one checkpoint write for all marked pods, then the commands ◀─────┘ round()
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/agent.h"
#include "agent/api_writers.h"
#include "agent/busy_pods.h"
#include "agent/checkpoint.h"
#include "agent/convergence.h"
#include "agent/edge_config.h"
#include "agent/image_manager.h"
#include "agent/intents_core.h"
#include "agent/journal.h"
#include "agent/keeper_driver.h"
#include "agent/local_slices.h"
#include "agent/local_view.h"
#include "agent/logs.h"
#include "agent/memory_relief.h"
#include "agent/node_api.h"
#include "agent/node_reporter.h"
#include "agent/owner_cache.h"
#include "agent/pod_table.h"
#include "agent/reference_cache.h"
#include "base/backoff.h"
#include "client/informer.h"
#include "metrics/registry.h"
#include "net/name_server.h"
#include "net/pod_network.h"
#include "net/service_proxy.h"
#include "rt/blocking_pool.h"
#include "rt/task_group.h"

namespace skerry::agent {

struct Agent::State final : public NodeView, public LocalView {
  State(rt::Loop&, AgentDeps, AgentOptions);

  // agent.cc
  rt::Task<> start();
  rt::Task<> stop(OnStop);
  rt::Task<> restore();
  rt::Task<> meet_keeper();
  void take_pod_back(KeeperDriver::Found::Sandboxes&);
  Result<> check_taken(const PodEntry&, std::size_t container, const KeeperDriver::Found::Sandboxes&) const;
  rt::Task<> reconcile_after_list();
  struct Restored {
    PodTable::Restored pods{};
    std::vector<kube::ObjectPtr> services{}, slices{};
  };
  void resume(const Checkpoint::Loaded&, Restored);
  void write_slowly(Instant);
  Journal::Revisions revisions() const;
  std::vector<Change> everything() const;
  void tell_of_damage(std::string message);
  void on_standing(Standing);
  void hold_starts();
  void on_service(const kube::ObjectPtr& before, const kube::ObjectPtr& after);
  void on_slice(const kube::ObjectPtr& before, const kube::ObjectPtr& after);
  void store_object(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr);
  void update_awake();
  void tell_unrouted(PodEntry&);

  // agent_edge.cc
  void restore_edge_config(const Checkpoint::Loaded&);
  void on_edge_config(const kube::ObjectPtr& before, const kube::ObjectPtr& after);
  std::vector<Change> edge_numbers() const;
  void compare(const kube::Digests&);

  // agent_ticks.cc
  rt::Task<> run_ticks();
  void tick(Instant now);
  void tick_minute();
  void tell_if_otherwise(PodEntry&, const kube::Object& shown);
  void forget_references();
  rt::Task<> copy_checkpoint();
  MachineFacts machine_now() const;
  std::vector<MemoryRelief::Candidate> relief_candidates() const;
  void relieve_memory();
  void rotate_logs(Time now);
  rt::Task<> watch_load();
  void look_for_busy();
  void tell_service_problems();

  // agent_pods.cc
  void on_pod(const kube::ObjectPtr& before, const kube::ObjectPtr& after);
  void carry_out(std::vector<Effect>);
  void refuse_pod(effect::Refused);
  void on_keeper(sandbox::Event);
  std::vector<std::string> docker_configs(const PodEntry&) const;
  void on_pulling(const std::string& uid, std::size_t container);
  void on_exited(PodEntry&, std::size_t container, sandbox::PodExited);
  void on_image(const std::string& uid, std::size_t container, const ImageManager::Outcome&);
  void refill();
  void mark(const std::string& uid) { table.mark(uid); }
  rt::Task<> pump();
  rt::Task<> write_checkpoint(Journal::Batch);
  rt::Task<> write_to_disk(Journal::Batch);
  void execute(const std::string& uid, Command&);
  Result<> put(PodEntry&, command::Put&);
  void send_put(ContainerRuntime&);
  void forget(const std::string& uid);
  LogPlace place_of(const PodEntry&, std::size_t container) const;
  PodName name_of(const PodEntry&) const;
  PodEntry* find(const std::string& uid) { return table.find(uid); }
  Now now() const { return {deps.clock.now(), deps.clock.instant()}; }

  // NodeView
  std::vector<ContainerView> containers() const override;
  std::optional<std::uint32_t> attempt(const std::string& uid, std::string_view container) const override;
  std::vector<kube::ObjectPtr> pods() const override;
  const MachineFacts& machine() const override { return reporter.machine(); }
  const std::string& node_name() const override { return options.node_name; }
  std::string health() const override;

  // LocalView: agent_local.cc
  std::vector<kube::ObjectPtr> objects() const override;
  rt::Task<Changed> change(LocalChange) override;
  kube::ObjectPtr shown_pod(const PodEntry&) const;
  kube::ObjectPtr shown_deployment(const kube::ObjectPtr&) const;
  void keep_node(const kube::ObjectPtr&);

  // agent_intents.cc: changes that are made here (ADR 0036)
  struct Sent {
    IntentsCore::Verdict verdict;
    std::string text;
  };
  // `from`: what the server may have; nothing: whatever it has is replaced.
  rt::Task<Sent> send_upstream(LocalChange, std::optional<std::set<std::string>> from);
  rt::Task<> replay(Intent);
  rt::Task<Changed> change_here(LocalChange, kube::ObjectPtr deployment, std::set<std::string> sent);
  Result<> check_room(const kube::Object& deployment, std::int64_t stand_ins) const;
  const PodEntry* sibling_of(const kube::Object& deployment) const;
  IntentsCore::Pods intent_pods() const;
  std::vector<IntentPod> intent_pods_of(const kube::Object& deployment) const;
  std::vector<Act> poll_intents();
  void carry_out(Act&);
  void make_stand_ins(const Intent&, std::int64_t count);
  void update_local_endpoints(bool pods_changed);
  void put_service(const kube::Object&);
  void put_slice(const LocalSlices::Key&, const kube::ObjectPtr& slice);

  rt::Loop& loop;
  AgentDeps deps;
  AgentOptions options;
  bool started = false;

  metrics::Registry registry;
  std::unique_ptr<rt::BlockingPool> disk;
  std::optional<Checkpoint> checkpoint;
  os::UniqueFd lock;
  std::uint64_t writes_of_objects = 0, writes_copied = 0;  // to the checkpoint; those that its last good copy has
  bool copying = false;
  Instant copy_at{};
  std::string disk_trouble;  // why the checkpoint cannot be written, or empty
  Instant disk_again{};      // then: when it is tried again
  Backoff disk_backoff{200ms, 5s};
  rt::Event work, some_awake, may_change;
  bool changing = false;  // one change of change() at a time; may_change is set when it ends
  PodTable table;
  PodTable::Entries& entries;  // the table's
  LogFolder logs;
  NodeApi node_api;
  mutable NodeReporter reporter;  // it notes when a condition was seen first, also for who only reads
  StatusWriter status;
  EventWriter events;
  ReferenceCache references;
  OwnerCache owners;
  ImageManager images;
  std::unique_ptr<KeeperDriver> keeper;
  client::Informer pod_informer, service_informer, slice_informer, edge_informer;

  IntentsCore intents{{}};
  LocalSlices local_slices;

  Journal journal;  // for the next write; Services and slices: every few seconds
  std::size_t node_essence = 0;  // of the Node on the disk
  std::vector<std::uint64_t> strangers;  // keeper ids of an earlier agent's pods of which nothing is known here
  bool second = false;  // another machine is this node, as the API server sees it
  bool awake_changed = false, pods_listed = false, was_reachable = false;
  std::vector<NodeImage> node_images;
  Instant trusts_at{};  // the line came back: when the server's slices count again; nothing: they do
  Instant slow_at{}, minute_at{}, collect_at{}, relieve_at{}, rotate_at{}, refilled_at{};
  MemoryRelief relief;
  BusyPods busy;
  std::set<std::string> busy_now;  // uids
  bool services_changed = false;
  std::set<net::ServiceRules::Problem> problems_said;
  Convergence convergence;
  EdgeConfig edge;
  std::vector<std::string> edge_problems;  // of the present edge-config
  rt::TaskGroup tasks;

  metrics::CounterValue &pods_started, &exits, &requests_lost, &connections_lost, &drift, &digests_compared, &checkpoint_writes, &evictions, &trims;
  metrics::Histogram& cold_start;
};

void set_value(kube::MutJson deployment, const LocalChange&);  // the one field that it changes

// A container as the keeper is told of it.
sandbox::PodSpec spec_of(std::uint64_t id, std::string image_key, const ContainerPlan&);

}  // namespace skerry::agent
