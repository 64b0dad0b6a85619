// SPDX-License-Identifier: Apache-2.0
// The agent's cores, wired as src/agent/agent.cc and agent_pods.cc wire them, on virtual time and the model's machine, disk and line:
// PodTable, Journal, Checkpoint (real SQLite), an InformerCore each for pods, Services and EndpointSlices, ReferenceCore, StatusCore,
// PullCore, ServiceRules, Names. One SimNode is one agent process; destroying it is kill -9.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/checkpoint.h"
#include "agent/convergence.h"
#include "agent/journal.h"
#include "agent/pod_table.h"
#include "agent/pull_core.h"
#include "agent/reference_core.h"
#include "agent/status_core.h"
#include "client/informer_core.h"
#include "net/names.h"
#include "net/service_rules.h"
#include "sim/disk.h"
#include "sim/machine.h"
#include "sim/net.h"
#include "sim/server.h"
#include "sim/world.h"

namespace skerry::sim {

// Deliberate mistakes, for the tests of the checkers.
enum class Canary : std::uint8_t { None, ActBeforeDurable, RevisionBeforeObjects, ListsAreBelieved, ForgetsKeeperIds, DamagesItsDisk, CrashesLinger };

// Which images the machine has; they survive a reboot.
using ImagesOnDisk = std::set<std::string>;

class SimNode {
 public:
  struct Options {
    std::string name = "edge-1";
    os::Ipv4Range pods{{10u << 24 | 42u << 16}, 24};
    os::Ipv4Range services{{10u << 24 | 43u << 16}, 16};
    Canary canary = Canary::None;
    Duration watch_timeout = 5min, lease_period = 10s, slow_write_period = 5s, sync_interval = 60s;
  };
  struct Deps {
    World& world;
    SimNet& net;
    SimServer& server;
    Machine& machine;
    SimDisk& disk;
    ImagesOnDisk& images;
  };
  // What the checkers are told.
  struct Hooks {
    std::function<void(const agent::PodTable&, bool older, bool resumed)> restored;
    std::function<void()> written;                                               // something is durable
    std::function<void(std::string_view resource)> drifted;                      // found by the digests, and not because the line was cut unseen
    std::function<void(const agent::PodEntry&)> listening;                       // acted upon: the address answers
    std::function<void(const std::string& uid, std::size_t container, std::uint64_t id)> placed;
    std::function<void(const std::string& uid)> released, forgotten;
    std::function<void(const std::string& uid, bool ready, const std::string& address)> settled;  // after each round
    std::function<void()> died_in_write;
    std::function<void(std::string_view)> unable;                                // the agent cannot start; it ends
  };

  SimNode(Deps, Options, Hooks);
  ~SimNode();
  SimNode(const SimNode&) = delete;
  SimNode& operator=(const SimNode&) = delete;
  void start();

  const agent::PodTable& table() const { return table_; }
  const net::ServiceRules& rules() const { return rules_; }
  const net::Names& names() const { return names_; }
  bool running() const { return running_; }
  bool reachable() const { return reachable_; }
  bool idle() const { return !pumping_ && status_.waiting() == 0; }  // nothing is to be told or done now
  std::uint64_t lists() const;  // since the start
  kube::ObjectPtr cached(Resource, const ObjectKey&) const;
  std::size_t cached(Resource r) const { return watch(r).core.cache().size(); }
  std::uint64_t drift() const { return drift_; }

 private:
  struct Watch {
    Resource resource;
    client::InformerCore core;
    std::function<void(const kube::ObjectPtr&, const kube::ObjectPtr&)> changed;
    Life open{};  // of what is under way
    SimNet::ConnectionPtr connection{};
    bool synced = false, connected = false;
  };
  Watch& watch(Resource r) { return *watches_[static_cast<std::size_t>(r)]; }
  const Watch& watch(Resource r) const { return *watches_[static_cast<std::size_t>(r)]; }
  agent::Now now() const { return {deps_.world.clock.now(), deps_.world.now()}; }
  agent::PodEntry* find(const std::string& uid) { return table_.find(uid); }

  // start
  bool restore();
  void resume(const agent::Checkpoint::Loaded&, agent::PodTable::Restored, std::vector<kube::ObjectPtr> services, std::vector<kube::ObjectPtr> slices);
  void meet_keeper();
  void run();
  void connect_keeper();
  void refill();
  // watches
  void step(Watch&);
  void begin_list(Watch&);
  void begin_watch(Watch&, kube::Revision);
  void confirm(Watch&, const client::InformerCore::Action&);
  void end_watch(Watch&, const std::optional<Error>&);
  void apply(Watch&, const client::Change&);
  void on_synced(Watch&);
  void reconcile();
  void on_pod(const kube::ObjectPtr&, const kube::ObjectPtr&);
  void on_service(const kube::ObjectPtr&, const kube::ObjectPtr&);
  void on_slice(const kube::ObjectPtr&, const kube::ObjectPtr&);
  void renew_lease();
  void compare(const SimServer::Digests&);
  // ticks
  void tick();
  void tick_minute();
  void write_slowly();
  void fetch_references();
  void store(std::vector<agent::ReferenceCore::Store>);
  void tell_statuses();
  void apply_rules();
  // pods
  void kick();
  void pump();
  void write(agent::Journal::Batch);
  void execute(std::vector<agent::PodTable::Todo>);
  void finish_round();
  void carry_out(std::vector<agent::Effect>);
  void execute(const std::string& uid, agent::Command&);
  void put(const std::string& uid, agent::PodEntry&, agent::command::Put&);
  void prepare(const std::string& uid, const agent::command::PrepareImage&);
  void image_done(const std::string& uid, std::size_t container, const std::string& image);
  void on_keeper(sandbox::Event);
  void update_awake();
  void to_keeper(const sandbox::Command&, Held = {});

  Deps deps_;
  Options options_;
  Hooks hooks_;
  Life life_ = new_life();
  std::optional<agent::Checkpoint> checkpoint_;
  agent::PodTable table_;
  agent::Journal journal_;
  agent::ReferenceCore references_{{}};
  agent::StatusCore status_;
  agent::PullCore pulls_;
  agent::Convergence convergence_;
  net::ServiceRules rules_;
  net::Names names_;
  std::array<std::unique_ptr<Watch>, 3> watches_;
  std::vector<std::uint64_t> strangers_;
  // What ContainerRuntime is to the agent: what is held of each container, by keeper id.
  struct Container {
    Held held;
    sandbox::PodSpec spec;
    bool placed = false;
    std::set<std::int32_t> pids{};
  };
  std::map<std::uint64_t, Container> containers_;
  std::set<std::string> images_put_;
  std::vector<agent::PodTable::Todo> todo_;
  Instant disk_again_{};
  Backoff disk_backoff_{200ms, 5s};
  bool running_ = false, pumping_ = false, work_ = false, awake_changed_ = false, reachable_ = false, was_reachable_ = false, reconciled_ = false;
  bool rules_due_ = false;
  std::uint64_t keeper_generation_ = 0, drift_ = 0;
  Backoff lease_backoff_{1s, 30s};
  Instant compared_at_{}, slow_at_{}, minute_at_{}, copy_at_{}, refilled_at_{};
  std::uint64_t writes_of_objects_ = 0, writes_copied_ = 0;
  std::optional<Instant> armed_, status_armed_;
};

}  // namespace skerry::sim
