// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"

#include <sys/resource.h>

#include <algorithm>
#include <format>

#include "agent/agent_state.h"
#include "agent/identity.h"
#include "base/check.h"
#include "base/log.h"
#include "metrics/page.h"
#include "metrics/process.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

constexpr Duration kRefilledAfter = 5s, kShutdownGrace = 10s;

wasm::NativeBuild native_build(const AgentOptions& o) {
  return {.compiler = o.compile_program, .folder = o.data_folder / "native", .options = {}, .memory_bytes_max = o.compile_memory_bytes_max, .cpu_time_max = std::chrono::seconds(120)};
}

void raise_descriptor_limit() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) LOG_WARN("descriptor limit not raised", {"limit", limit.rlim_max});
}

}  // namespace

Agent::State::State(rt::Loop& l, AgentDeps d, AgentOptions o)
    : loop(l),
      deps(d),
      options(std::move(o)),
      work(loop),
      some_awake(loop),
      may_change(loop),
      table({.core = {.node_name = options.node_name, .host_ip = options.node_address}, .plan = {}, .addresses = deps.network.options().pods, .pods_max = options.pods_max},
            [this] { work.set(); }),
      entries(table.entries()),
      logs({.folder = options.data_folder / "logs", .bytes_max = options.log_bytes_max, .files_max = options.log_files_max}),
      node_api({.organizations = options.api_organizations, .users = options.api_users}, *this, logs, registry, deps.clock),
      reporter(loop, deps.api, deps.clock, deps.random, options, [this] { return node_images; }, [this] { return machine_now(); }),
      status(loop, deps.api, deps.clock, deps.random, {}),
      events(loop, deps.api, deps.clock, deps.random, {.node = options.node_name, .local_uids = std::string(kStandInUid)}),
      references(loop, deps.api, deps.clock, {}, [this] { for (auto& [uid, entry] : entries) { entry->core.on_references_changed(); mark(uid); } },
                 [this](std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr object) { store_object(kind, ns, name, std::move(object)); }),
      owners(loop, deps.api, deps.clock, {}, [this](std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr object) { store_object(kind, ns, name, std::move(object)); }),
      images(loop, deps.clock, deps.random, {.image_folder = options.image_folder, .build = native_build(options), .registry = options.registry, .registries = options.registries},
             [this](const sandbox::Command& command, std::span<const int> fds) { keeper->send(command, fds); }),
      pod_informer(loop, deps.api, deps.random, {.resource = client::kPods, .namespace_ = "", .selectors = {.label = "", .field = "spec.nodeName=" + options.node_name}, .core = {.confirm_removals = true}},
                   [this](const kube::ObjectPtr& before, const kube::ObjectPtr& after) { on_pod(before, after); }),
      service_informer(loop, deps.api, deps.random, {.resource = client::kServices, .namespace_ = "", .selectors = {}, .core = {.confirm_removals = true}},
                       [this](const kube::ObjectPtr& before, const kube::ObjectPtr& after) { on_service(before, after); }),
      slice_informer(loop, deps.api, deps.random, {.resource = client::kEndpointSlices, .namespace_ = "", .selectors = {}, .core = {.confirm_removals = true}},
                     [this](const kube::ObjectPtr& before, const kube::ObjectPtr& after) { on_slice(before, after); }),
      edge_informer(loop, deps.api, deps.random, {.resource = client::kConfigMaps, .namespace_ = "default", .selectors = {.label = "", .field = "metadata.name=edge-config"}},
                    [this](const kube::ObjectPtr& before, const kube::ObjectPtr& after) { on_edge_config(before, after); }),
      local_slices(options.node_name, service_informer.cache()),
      tasks(loop),
      pods_started(registry.counter("skerry_agent_containers_started_total", "Containers handed to the keeper")),
      exits(registry.counter("skerry_agent_container_failures_total", "Sandboxes that ended otherwise than idle or asked to")),
      requests_lost(registry.counter("skerry_agent_requests_lost_total", "Requests inside sandboxes that died")),
      connections_lost(registry.counter("skerry_agent_connections_lost_total", "Connections to sandboxes that died: a request on them, not read yet, was lost too")),
      drift(registry.counter("skerry_agent_drift_total", "Differences to the API server that the node found and repaired")),
      digests_compared(registry.counter("skerry_agent_digests_compared_total", "Comparisons of what the node holds with what the API server says")),
      checkpoint_writes(registry.counter("skerry_agent_checkpoint_writes_total", "Transactions of the node's checkpoint")),
      evictions(registry.counter("skerry_agent_evictions_total", "Pods ended for want of memory")),
      trims(registry.counter("skerry_agent_trims_total", "Sandboxes stopped early for want of memory")),
      cold_start(registry.histogram("skerry_agent_cold_start_seconds", "From the connection seen to the guest ready to answer", metrics::latency_bounds())) {
  KeeperDriver::Options keeper_options;
  keeper_options.program = options.keeper_program;
  keeper_options.socket = options.keeper_socket.empty() ? options.data_folder / "keeper.sock" : options.keeper_socket;
  keeper_options.state_folder = options.data_folder / "keeper";
  keeper_options.arguments = options.keeper_arguments;
  keeper_options.environment = options.keeper_environment;
  keeper = std::make_unique<KeeperDriver>(loop, std::move(keeper_options), KeeperDriver::Callbacks{[this](sandbox::Event event) { on_keeper(std::move(event)); }, [this] { refill(); }});
  reporter.on_digests([this](const kube::Digests& servers) { compare(servers); });
  reporter.on_node([this](const kube::ObjectPtr& node) { keep_node(node); });
  table.before_asking([this](PodEntry& entry) { tell_unrouted(entry); });
  registry.on_expose(metrics::write_process_metrics);
  registry.on_expose([this](metrics::Exposition& out) { reporter.standing().write_metrics(out); });
  reporter.standing().on_change([this](Standing standing) { on_standing(standing); });
  if (Identity* identity = deps.identity) {
    identity->on_event([this](EventText event) { events.post(std::move(event)); });
    registry.on_expose([identity](metrics::Exposition& out) { identity->write_metrics(out); });
  }
  if (deps.names != nullptr) registry.on_expose([names = deps.names](metrics::Exposition& out) { names->write_metrics(out); });
  registry.on_expose([this](metrics::Exposition& out) { images.write_metrics(out); });
  registry.on_expose([this](metrics::Exposition& out) {
    std::size_t ready = 0, awake = 0;
    for (const auto& [uid, entry] : entries) {
      ready += entry->core.ready() ? 1 : 0;
      bool any = false;
      for (std::size_t i = 0; i < entry->core.containers(); ++i) any = any || entry->core.awake(i) > 0;
      awake += any ? 1 : 0;
    }
    const auto gauge = [&](std::string_view name, std::string_view help, std::uint64_t value) {
      out.family(name, metrics::Type::Gauge, help);
      out.sample({}, value);
    };
    gauge("skerry_agent_pods", "Pods on this node", entries.size());
    gauge("skerry_agent_pods_ready", "Pods that are ready", ready);
    gauge("skerry_pods_awake", "Pods that have a process now", awake);
    gauge("skerry_agent_local_changes_waiting", "Changes made at this node that the API server has not been told or not carried out yet", intents.intents().size());
    gauge("skerry_agent_stand_ins", "Pods that this node made by itself while the API server was away", static_cast<std::uint64_t>(std::ranges::count_if(entries, [](const auto& e) { return e.second->stand_in; })));
    gauge("skerry_agent_api_connected", "1: the API server is there", reporter.reachable() ? 1 : 0);
    gauge("skerry_agent_checkpoint_bytes", "Size of the node's checkpoint", checkpoint ? checkpoint->bytes() : 0);
    gauge("skerry_agent_statuses_waiting", "Pod statuses not yet taken by the API server", status.waiting());
    out.family("skerry_agent_keeper_starts_total", metrics::Type::Counter, "Keepers that this agent started");
    out.sample({}, keeper->starts());
    out.family("skerry_agent_events_dropped_total", metrics::Type::Counter, "Events that could not be delivered");
    out.sample({}, events.dropped());
  });
}

// --- start and stop -------------------------------------------------------------------------------------------------

rt::Task<> Agent::State::start() {
  raise_descriptor_limit();
  CO_TRY_OK(os::make_folders(options.data_folder, 0700));
  auto locked = os::lock_file(options.data_folder / "agent.lock");
  if (!locked) {
    if (locked.error().code != Errc::AlreadyExists) co_return Fail(std::move(locked).error());
    co_return Fail({Errc::AlreadyExists, std::format("another agent runs on {}: stop it, or give this one its own data folder", options.data_folder.string())});
  }
  lock = std::move(*locked);
  CO_TRY_OK(os::make_folders(options.data_folder / "native", 0755));
  disk = std::make_unique<rt::BlockingPool>(rt::BlockingPool::Options{.name = "checkpoint", .threads = 1});
  CO_TRY_OK(co_await restore());
  CO_TRY_OK(co_await meet_keeper());
  logs.collect([this](std::string_view uid) { return entries.contains(std::string(uid)); });
  for (const oci::Image& image : images.list()) node_images.push_back({image.reference.text(), static_cast<std::int64_t>(image.size)});

  started = true;
  keeper->run();
  status.start();
  events.start();
  reporter.start();
  if (deps.services != nullptr)
    deps.services->on_in_sync([this] {
      for (auto& [uid, entry] : entries)
        if (entry->core.leaving()) mark(uid);
    });
  pod_informer.start();
  service_informer.start();
  slice_informer.start();
  edge_informer.start();
  const Instant t = deps.clock.instant();
  slow_at = relieve_at = t;
  minute_at = copy_at = t + 1min;
  rotate_at = t + options.log_check_period;
  tasks.spawn("pods", pump());
  tasks.spawn("ticks", run_ticks());
  if (deps.services != nullptr) tasks.spawn("load", watch_load());
  tasks.spawn("after list", reconcile_after_list());
  table.mark_all();
  LOG_INFO("agent started", {"node", options.node_name}, {"pods restored", entries.size()}, {"keeper", keeper->welcome().pid});
  co_return Result<>{};
}

rt::Task<> Agent::State::restore() {
  struct Opened {
    Checkpoint checkpoint;
    Checkpoint::Loaded loaded;
  };
  CO_TRY(auto opened, co_await disk->run<Opened>([folder = options.data_folder, database = options.checkpoint, &random = deps.random]() -> Result<Opened> {
    TRY(auto made, Checkpoint::open(folder, random, database));
    TRY(auto loaded, made.load());
    return Opened{std::move(made), std::move(loaded)};
  }));
  checkpoint.emplace(std::move(opened.checkpoint));
  if (checkpoint->emptied()) LOG_ERROR("the checkpoint was damaged and is empty now: pods come again from the API server; look at the disk", {"reason", checkpoint->restored()});
  else if (!checkpoint->restored().empty()) LOG_ERROR("the checkpoint was damaged: the node starts from its last good copy; look at the disk", {"reason", checkpoint->restored()});
  if (!checkpoint->restored().empty())
    tell_of_damage(std::format("The node's checkpoint was damaged, and it started {}; look at its disk: {}", checkpoint->emptied() ? "without any pod" : "from its last good copy", checkpoint->restored()));
  for (const std::string& lost : opened.loaded.lost) LOG_WARN("not restored", {"what", lost});
  Restored restored;
  for (const kube::ObjectPtr& object : opened.loaded.objects) {
    if (object->kind() == "Service") restored.services.push_back(object);
    else if (object->kind() == "EndpointSlice") restored.slices.push_back(object);
    else if (OwnerCache::is_owner(object->kind())) owners.restore(object);
    else if (object->kind() == "Node") {
      node_essence = essence_of(*object);
      reporter.restore(object);
    }
    else if (object->kind() != "Pod") references.restore(object);
  }
  restore_edge_config(opened.loaded);
  restored.pods = table.restore(opened.loaded, now());
  for (const std::string& problem : restored.pods.problems) LOG_WARN("pod not restored", {"reason", problem});
  carry_out(table.take_effects());
  for (const auto& [uid, entry] : entries) owners.put_pod(*entry->core.object(), OwnerCache::Came::FromCheckpoint);
  intents.set_next(static_cast<IntentId>(std::max<std::int64_t>(opened.loaded.number("next-intent-id", 1), 1)));
  for (const auto& [id, body] : opened.loaded.intents) {
    if (auto intent = Intent::restore(id, body)) intents.restore(std::move(*intent), deps.clock.instant());
    else LOG_WARN("not restored", {"what", intent.error()});
  }
  resume(opened.loaded, std::move(restored));
  co_return Result<>{};
}

// Where the last agent had read to, the watches go on: nothing is listed. What could not be read back is listed.
void Agent::State::resume(const Checkpoint::Loaded& loaded, Restored restored) {
  journal.start(loaded, restored.pods.problems.empty());
  const auto from = [&](client::Informer& informer, std::vector<kube::ObjectPtr> objects, bool whole = true) {
    // Without a revision it lists, and what it knows already is ended only when the server was asked for it by name.
    const auto revision = whole ? journal.resume(loaded, informer.options().resource.resource) : std::nullopt;
    informer.restore(std::move(objects), revision.value_or(kube::Revision{}));
  };
  from(pod_informer, std::move(restored.pods.objects), restored.pods.problems.empty());
  from(service_informer, std::move(restored.services));
  from(slice_informer, std::move(restored.slices));
  for (const auto& service : service_informer.cache()) put_service(*service);
  for (const auto& slice : slice_informer.cache()) put_slice({slice->namespace_(), slice->name()}, local_slices.put(slice));
  services_changed = false;  // what cannot be served of them was said before this start
  if (deps.names != nullptr && !service_informer.cache().empty()) deps.names->names().set_complete();
}

// What changed lately, and how far the watches have read: in one transaction.
void Agent::State::write_slowly(Instant t) {
  if (journal.collect(table.latest_objects(), revisions(), t)) work.set();
}

Journal::Revisions Agent::State::revisions() const {
  Journal::Revisions out;
  for (const client::Informer* informer : {&pod_informer, &service_informer, &slice_informer})
    out.emplace_back(informer->options().resource.resource, informer->resumable());
  return out;
}

// While this node is live on another machine, this one begins nothing and tells nobody of pods: they are the other one's. What serves goes on.
void Agent::State::on_standing(Standing standing) {
  if (deps.identity != nullptr) deps.identity->on_standing(standing);
  if (standing == Standing::Away || (standing == Standing::OtherMachine) == second) return;
  second = !second;
  status.suspend(second);
  hold_starts();
}
void Agent::State::hold_starts() { table.hold_starts(second || (!pods_listed && !edge.works_offline())); }

void Agent::State::tell_of_damage(std::string message) {
  events.post({.warning = true, .kind = "Node", .object = {.uid = options.node_name, .namespace_ = "", .name = options.node_name}, .field_path = "", .reason = "CheckpointDamaged", .message = std::move(message)});
}

// All that the checkpoint shall have: what restore() reads.
std::vector<Change> Agent::State::everything() const {
  std::vector<Change> out = table.everything();
  std::ranges::move(journal.numbers(revisions()), std::back_inserter(out));
  std::ranges::move(edge_numbers(), std::back_inserter(out));
  const auto put = [&out](const kube::ObjectPtr& object) { out.emplace_back(change::PutObject{object}); };
  // Those without state here: refused, or ended before the node knew them. What is being deleted beside is over and told.
  for (const kube::ObjectPtr& pod : pod_informer.cache())
    if (!entries.contains(pod->uid()) && !pod->deleting()) put(pod);
  for (const kube::ObjectPtr& service : service_informer.cache()) put(service);
  for (const kube::ObjectPtr& slice : slice_informer.cache()) put(slice);
  references.for_each_stored(put);
  for (const kube::ObjectPtr& owner : owners.all()) put(owner);
  if (reporter.servers_node()) put(reporter.servers_node());
  for (const auto& [id, intent] : intents.intents()) out.emplace_back(change::PutIntent{id, intent.save()});
  out.emplace_back(change::PutNumber{"next-intent-id", static_cast<std::int64_t>(intents.next())});
  return out;
}

// Adopts what a running keeper holds: nothing of it is restarted. What it does not hold goes through its start again.
rt::Task<> Agent::State::meet_keeper() {
  CO_TRY(auto found, co_await keeper->start());
  for (const auto& image : found.images) {
    std::string name = image.key;
    for (const auto& [uid, entry] : entries)
      for (std::size_t i = 0; i < entry->core.containers(); ++i)
        if (entry->core.image_key(i) == image.key) name = entry->core.plan().containers[i].image;
    images.adopt(image.key, name, image.ready);
  }
  std::size_t adopted = 0;
  for (KeeperDriver::Held& held : found.pods) {
    using Row = PodTable::Held::State;
    const sandbox::DumpedPod& pod = held.pod;
    const bool whole = pod.state != sandbox::PodState::Stopped && held.fds.size() >= 3;
    const PodTable::Held row{.id = pod.spec.id, .image_key = pod.spec.image, .awake = static_cast<std::uint32_t>(pod.workers.size()),
                             .state = !whole ? Row::Stopped : pod.state == sandbox::PodState::Stopping ? Row::Stopping : Row::Serving,
                             .listens_at = whole ? net::PodNetwork::address_of(held.fds[0].get()) : std::nullopt};
    const auto met = table.meet(row, journal.forgetful());
    if (met == PodTable::Met::Stranger) strangers.push_back(pod.spec.id);
    if (met == PodTable::Met::Drop) keeper->send(sandbox::DropPod{pod.spec.id});
    if (met != PodTable::Met::Adopted) continue;
    const auto known = table.by_keeper_id(pod.spec.id);
    ContainerRuntime& c = known->entry->containers[known->container];
    c.listener = std::move(held.fds[0]);
    c.assignment = std::move(held.fds[1]);
    c.metrics = std::move(held.fds[2]);
    if (held.fds.size() > 3) c.log = std::move(held.fds[3]);
    c.spec = pod.spec;
    c.placed = true;
    for (const auto& worker : pod.workers) c.pids.push_back(worker.pid);
    ++adopted;
  }
  for (auto& left : found.unclaimed) take_pod_back(left);
  if (!found.unclaimed.empty()) {
    images.refill();
    for (auto& left : found.unclaimed)
      if (const auto known = table.by_keeper_id(left.pod.id); known && left.fds.empty()) send_put(known->entry->containers[known->container]);
  }
  for (auto& [uid, entry] : entries) references.want(entry->core.plan());
  if (found.started || found.pods.empty()) refilled_at = deps.clock.instant() + kRefilledAfter;
  awake_changed = true;
  LOG_INFO("keeper met", {"pid", keeper->welcome().pid}, {"adopted", adopted}, {"held", found.pods.size()}, {"unclaimed", found.unclaimed.size()});
  co_return Result<>{};
}

// What a sandbox of a dead keeper held is the pod's own: its listener in our network, its assignment, its page.
Result<> Agent::State::check_taken(const PodEntry& entry, std::size_t i, const KeeperDriver::Found::Sandboxes& left) const {
  const ContainerPlan& plan = entry.core.plan().containers[i];
  const auto address = os::Ipv4::parse(entry.core.address());
  if (!address) return Fail({Errc::Invalid, "the pod has no address"});
  TRY_OK(deps.network.check_listener(left.fds[0].get(), *address, plan.port));
  TRY(const auto assignment, sandbox::read_assignment(left.fds[1].get()));
  if (assignment.pod_uid != entry.core.object()->uid() || assignment.container_name != plan.name || assignment.workers != plan.workers || assignment.image_ref != plan.image)
    return Fail({Errc::Corrupt, std::format("the assignment is of pod {}, container {}, image {}", assignment.pod_uid, assignment.container_name, assignment.image_ref)});
  TRY(const auto page, metrics::Page::map(left.fds[2].get()));
  if (page.workers() != plan.workers) return Fail({Errc::Corrupt, std::format("the metrics page is for {} workers instead of {}", page.workers(), plan.workers)});
  const std::string key(entry.core.image_key(i));
  std::error_code error;
  if (key.empty() || !std::filesystem::exists(options.data_folder / "native" / (key + ".so"), error))
    return Fail({Errc::NotFound, std::format("the native code of image {} is not on the disk", plan.image)});
  return {};
}

// Agent and keeper died, its sandboxes serve on: the pod is adopted with what they held, and afterwards put into the new keeper.
// What cannot be trusted is dropped, and its pod started as a new one. On success `left` is used up.
void Agent::State::take_pod_back(KeeperDriver::Found::Sandboxes& left) {
  table.keeper_id_seen(left.pod.id);
  const auto known = table.by_keeper_id(left.pod.id);
  const auto usable = known ? check_taken(*known->entry, known->container, left) : Result<>(Fail({Errc::NotFound, "no pod of this node has it"}));
  if (!usable) {
    LOG_WARN("sandboxes of an earlier keeper are dropped", {"id", left.pod.id}, {"sandboxes", left.pod.workers.size()}, {"reason", usable.error()});
    keeper->send(sandbox::DropPod{left.pod.id});
    return;
  }
  const auto [entry, i] = *known;
  entry->held_by_keeper = true;
  const ContainerPlan& plan = entry->core.plan().containers[i];
  ContainerRuntime& c = entry->containers[i];
  c.listener = std::move(left.fds[0]);
  c.assignment = std::move(left.fds[1]);
  c.metrics = std::move(left.fds[2]);
  left.fds.clear();
  if (auto log = logs.open(place_of(*entry, i), entry->core.restarts(i))) c.log = std::move(*log);
  else LOG_WARN("log not opened", {"reason", log.error()});
  c.spec = spec_of(left.pod.id, std::string(entry->core.image_key(i)), plan);
  c.placed = true;
  for (const auto& worker : left.pod.workers) c.pids.push_back(worker.pid);
  images.adopt(c.spec.image, plan.image, false);
  entry->core.on_adopted(i, static_cast<std::uint32_t>(left.pod.workers.size()));
  LOG_INFO("pod taken back from its sandboxes", {"pod", entry->core.object()->name()}, {"sandboxes", left.pod.workers.size()});
}

// After the first list: what the checkpoint had and the server has no more is ended.
rt::Task<> Agent::State::reconcile_after_list() {
  CO_TRY_OK(co_await pod_informer.synced().wait());
  for (const std::uint64_t id : std::exchange(strangers, {})) keeper->send(sandbox::DropPod{id});
  table.on_listed([this](std::string_view ns, std::string_view name) { return pod_informer.get(ns, name); });
  pods_listed = true;
  hold_starts();
  journal.on_asked();
  CO_TRY_OK(co_await service_informer.synced().wait());
  CO_TRY_OK(co_await slice_informer.synced().wait());
  if (deps.names != nullptr) deps.names->names().set_complete();
  // Taken away while no agent ran: an empty list is no change to an informer that knew nothing.
  CO_TRY_OK(co_await edge_informer.synced().wait());
  if (edge_informer.cache().empty()) on_edge_config(nullptr, nullptr);
  co_return Result<>{};
}

rt::Task<> Agent::State::stop(OnStop how) {
  if (!started) co_return Result<>{};
  started = false;
  if (deps.services != nullptr) deps.services->on_in_sync(nullptr);
  CO_TRY_OK(co_await tasks.stop());
  if (writes_of_objects != writes_copied) {
    CO_TRY_OK(co_await copy_checkpoint());
  }
  disk.reset();  // a write that was under way ends before the database goes
  CO_TRY_OK(co_await pod_informer.stop());
  CO_TRY_OK(co_await service_informer.stop());
  CO_TRY_OK(co_await slice_informer.stop());
  CO_TRY_OK(co_await edge_informer.stop());
  CO_TRY_OK(co_await references.stop());
  CO_TRY_OK(co_await owners.stop());
  CO_TRY_OK(co_await images.stop());
  CO_TRY_OK(co_await reporter.stop());
  CO_TRY_OK(co_await status.stop());
  CO_TRY_OK(co_await events.stop());
  if (how == OnStop::StopPods) {
    CO_TRY_OK(co_await keeper->shutdown(kShutdownGrace));
  } else {
    CO_TRY_OK(co_await keeper->stop());
  }
  LOG_INFO("agent stopped", {"pods go on", how == OnStop::KeepPods});
  co_return Result<>{};
}

// --- Services ---------------------------------------------------------------------------------------------------------

void Agent::State::store_object(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr object) {
  journal.put(kind, ns, name, std::move(object));
  work.set();
}

void Agent::State::on_service(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  const kube::Object& o = after ? *after : *before;
  journal.put_slowly("Service", o.namespace_(), o.name(), after);
  local_slices.services_changed();
  work.set();
  if (after) return put_service(*after);
  if (deps.names != nullptr) deps.names->names().remove_service(o.namespace_(), o.name());
  if (deps.services == nullptr) return;
  services_changed = true;
  deps.services->rules().remove_service(o.namespace_(), o.name());
  deps.services->changed();
}
void Agent::State::put_service(const kube::Object& service) {
  if (deps.names != nullptr) deps.names->names().put_service(service);
  if (deps.services == nullptr) return;
  services_changed = true;
  deps.services->rules().put_service(service);
  deps.services->changed();
}
void Agent::State::on_slice(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  const kube::Object& o = after ? *after : *before;
  journal.put_slowly("EndpointSlice", o.namespace_(), o.name(), after);
  const LocalSlices::Key key{o.namespace_(), o.name()};
  if (!after) local_slices.remove(key);
  put_slice(key, after ? local_slices.put(after) : nullptr);
  work.set();
}

// A slice as Services and names shall have it; null: it is gone.
void Agent::State::put_slice(const LocalSlices::Key& key, const kube::ObjectPtr& slice) {
  if (deps.names != nullptr) {
    if (slice) deps.names->names().put_slice(*slice);
    else deps.names->names().remove_slice(key.first, key.second);
  }
  if (deps.services == nullptr) return;
  services_changed = true;
  if (slice) deps.services->rules().put_slice(*slice);
  else deps.services->rules().remove_slice(key.first, key.second);
  deps.services->changed();
}

void Agent::State::update_awake() {
  awake_changed = false;
  if (deps.services == nullptr) return;
  std::set<os::Ipv4> awake;
  for (const auto& [uid, entry] : entries)
    for (std::size_t i = 0; i < entry->core.containers(); ++i)
      if (entry->core.awake(i) > 0)
        if (const auto address = os::Ipv4::parse(entry->core.address())) awake.insert(*address);
  if (!awake.empty()) some_awake.set();
  deps.services->rules().set_awake(std::move(awake));
  deps.services->changed();
}

// A pod on its way out need not go on serving once no Service sends it connections.
void Agent::State::tell_unrouted(PodEntry& entry) {
  if (deps.services == nullptr || !entry.core.leaving()) return;
  const auto address = os::Ipv4::parse(entry.core.address());
  if (address && deps.services->rules().free_of(*address)) entry.core.on_unrouted(now());
}

// --- the public face ----------------------------------------------------------------------------------------------------

Agent::Agent(rt::Loop& loop, AgentDeps deps, AgentOptions options) : state_(std::make_unique<State>(loop, deps, std::move(options))) {}
Agent::~Agent() { CHECK(!state_->started); }
rt::Task<> Agent::start() { return state_->start(); }
rt::Task<> Agent::stop(OnStop how) { return state_->stop(how); }
http::Handler& Agent::node_api() { return state_->node_api; }
LocalView& Agent::local_view() { return *state_; }
Agent::Summary Agent::summary() const {
  Summary out{.pods = state_->entries.size(), .connected = state_->reporter.reachable(), .keeper_pid = state_->keeper->welcome().pid};
  for (const auto& [uid, entry] : state_->entries) {
    out.ready += entry->core.ready() ? 1 : 0;
    for (std::size_t i = 0; i < entry->core.containers(); ++i) out.awake += entry->core.awake(i) > 0 ? 1 : 0;
  }
  return out;
}

}  // namespace skerry::agent
