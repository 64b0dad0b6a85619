// SPDX-License-Identifier: Apache-2.0
// The pods of this node: which there are, which addresses and keeper ids they have, which of them want to be looked at, and
// what of it must be on the disk before anything is done for it.
//
// A pure core: no I/O, no clock, no threads. Inputs mark pods; round() asks every marked pod's core what to do and answers one
// batch to write and the commands to carry out once it is durable. Owner: agent::Agent, on its loop; the simulation drives it too.
//
//   on_pod, entries' cores (on_*), mark ──▶ round() ──▶ write (one transaction), then todo
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "agent/checkpoint.h"
#include "agent/pod_core.h"
#include "agent/pod_plan.h"
#include "net/address_pool.h"
#include "os/fd.h"
#include "sandbox/protocol.h"

namespace skerry::agent {

// What the agent holds of one container beside its core: the descriptors that fill a keeper. Untouched by the table.
struct ContainerRuntime {
  os::UniqueFd listener, assignment, metrics, log;
  sandbox::PodSpec spec;
  bool placed = false;    // in the keeper's table, or to be put into a new one
  bool trimming = false;  // stopped to free memory; put again when it has ended
  std::vector<std::int32_t> pids;
};

// A pod that this node made by itself (ADR 0036). No API server gives such a uid, so nobody else can make a pod look like one.
inline constexpr std::string_view kStandInUid = "stand-in-";

struct PodEntry {
  PodEntry(PodCore c) : core(std::move(c)), containers(core.containers()), stand_in(core.object()->uid().starts_with(kStandInUid)) {}
  PodCore core;
  std::vector<ContainerRuntime> containers;
  bool stand_in = false;        // the API server does not know it: it is told nothing of it
  bool held_by_keeper = false;  // it was adopted: it runs whatever starts are held back
  Instant told_again{};         // of its owner: before then its status is not told again for what the API server shows
  bool durable = false;         // its address and keeper ids are on the disk
  std::size_t saved = 0;        // hash of the state on the disk
  std::size_t essence = 0;      // hash of what matters of the object on the disk
};

// What the table asks of its owner at once, beside what round() answers.
namespace effect {
struct Want { std::string uid; };                                          // the objects that it refers to are to be fresh
struct Refused { kube::ObjectPtr pod; std::string reason, message; };      // tell the API server, once
struct Finished { kube::ObjectPtr pod; };                                  // nothing of it is on this node: remove the object
struct Gone { std::string uid; };                                          // the API server has it no more: nothing is to be told
struct Unusable { kube::ObjectPtr pod; std::string message; };             // a version that cannot be: the former holds, if there is one
}  // namespace effect
using Effect = std::variant<effect::Want, effect::Refused, effect::Finished, effect::Gone, effect::Unusable>;

class PodTable {
 public:
  struct Options {
    PodCore::Options core = {};
    PlanOptions plan = {};
    os::Ipv4Range addresses = {};
    std::size_t pods_max = 1100;
  };
  using Entries = std::unordered_map<std::string, std::unique_ptr<PodEntry>>;  // by uid

  // `marked` is called when there is something for round(); may be null.
  PodTable(Options, std::function<void()> marked);
  PodTable(const PodTable&) = delete;
  PodTable& operator=(const PodTable&) = delete;

  // What the checkpoint knows. `problems`: what could not be taken over, a sentence each.
  struct Restored {
    std::vector<std::string> problems;
    // The pods as the API server last showed them, for an informer that resumes; only complete if there are no problems.
    std::vector<kube::ObjectPtr> objects;
  };
  Restored restore(const Checkpoint::Loaded&, Now);

  // What a keeper holds since an earlier agent, container by container: nothing of it is restarted, unless it is another image than the
  // pod's now, or its listener is at another address than the pod's. An older copy of the checkpoint may be of a time before the pod had
  // one: then it is the listener's. `forgetful`: the checkpoint was lost; then what nobody knows serves on until the API server was asked.
  struct Held {
    std::uint64_t id = 0;
    std::string_view image_key{};
    std::uint32_t awake = 0;
    enum class State : std::uint8_t { Serving, Stopping, Stopped } state = State::Serving;
    std::optional<os::Ipv4> listens_at{};
  };
  enum class Met : std::uint8_t { Adopted, Stranger, Drop };
  Met meet(const Held&, bool forgetful);

  // The API server's word about one pod. before null: new; after null: gone.
  void on_pod(const kube::ObjectPtr& before, const kube::ObjectPtr& after);
  // A stand-in, made here; it ends by a newer version that is being deleted (end_stand_in), as other pods do.
  void add_stand_in(const kube::ObjectPtr& pod) { add(pod); }
  void end_stand_in(const std::string& uid, Time now);
  // After the first list: a pod of the checkpoint that `listed` does not know (it answers null, or another uid) is ended.
  void on_listed(const std::function<kube::ObjectPtr(std::string_view ns, std::string_view name)>& listed);
  std::vector<Effect> take_effects() { return std::exchange(effects_, {}); }

  void mark(const std::string& uid);
  void mark_all();
  bool marked() const { return !marked_.empty(); }
  // When a core wants to be asked at the latest.
  std::optional<Instant> deadline() const;

  // While held back only pods that the keeper holds are looked at: nothing is started from the checkpoint alone.
  void hold_starts(bool);

  struct Todo {
    std::string uid;
    std::vector<Command> commands;
  };
  struct Round {
    std::vector<Change> write;  // all of it durable before any of `todo`, but for take_ahead()
    std::vector<Todo> todo;
    std::size_t asked = 0;  // pods: of no other has anything changed
    // A pod leaves the disk: how far the watch has read is to be written with it, or a resumed watch would bring it back.
    bool forgets = false;
  };
  // Asks every marked pod, and those whose time has come.
  Round round(Now, const References&);
  // What all rounds so far wanted written is on the disk.
  void on_durable();
  // All that the disk shall have of it, for a checkpoint that is made anew: every pod with its state, and which keeper ids are given out.
  std::vector<Change> everything() const;
  // While the disk refuses, the containers of a pod whose address and keeper ids it has already are started, served and stopped all the
  // same: takes those commands out of `todo`. What is left tells others of it, or gives something back. Of a pod's statuses only the
  // last is left.
  std::vector<Todo> take_ahead(std::vector<Todo>& todo) const;
  // Called before a pod is asked, e.g. to tell it that no Service sends it connections any more.
  void before_asking(std::function<void(PodEntry&)> f) { before_asking_ = std::move(f); }

  // The newest versions of the pods that changed since the last call: with them on the disk a watch may resume behind them.
  std::vector<Change> latest_objects();

  void release_address(const std::string& uid) { addresses_.release(uid); }
  void forget(const std::string& uid);  // all of it; after command::Forget

  Entries& entries() { return entries_; }
  const Entries& entries() const { return entries_; }
  PodEntry* find(const std::string& uid);
  const PodEntry* find(const std::string& uid) const;
  struct Place {
    PodEntry* entry = nullptr;
    std::size_t container = 0;
  };
  std::optional<Place> by_keeper_id(std::uint64_t id) const;
  void keeper_id_seen(std::uint64_t id);  // somebody has it: it is not given out again

 private:
  void add(const kube::ObjectPtr&);
  void refuse(const kube::ObjectPtr&, std::string reason, std::string message);
  static bool same_containers(const PodPlan&, const PodPlan&);
  Result<std::optional<PodPlan>> usable(const kube::Object&, const PodEntry*) const;
  bool take_address(PodEntry&, std::optional<os::Ipv4> listens_at);
  std::optional<std::string> take_over(const Checkpoint::Pod&, Now);
  bool waits(const PodEntry& e) const { return starts_held_ && !e.held_by_keeper && !e.core.ended(); }
  void ask(PodEntry&, Now, const References&, Round&, std::vector<Command>&);

  Options options_;
  std::function<void()> on_marked_;
  std::function<void(PodEntry&)> before_asking_;
  net::AddressPool addresses_;
  Entries entries_;
  std::unordered_map<std::uint64_t, Place> by_keeper_id_;
  std::unordered_set<std::string> marked_;
  std::map<std::string, std::pair<std::string, std::string>> refused_;  // pods that cannot even be planned: uid → reason, message
  std::map<std::pair<std::string, std::string>, kube::ObjectPtr> seen_;  // namespace, name → newest version; null: gone
  std::vector<Effect> effects_;
  std::unordered_set<std::string> writing_;  // pods of rounds that are not durable yet
  std::uint64_t next_keeper_id_ = 1, saved_keeper_id_ = 0;
  bool starts_held_ = false;
};

// Hash of what of an object matters to the node: all but status, resourceVersion and managedFields.
std::size_t essence_of(const kube::Object&);

}  // namespace skerry::agent
