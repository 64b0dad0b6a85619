// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"

#include <sys/resource.h>

#include <algorithm>
#include <format>

#include "agent/agent_state.h"
#include "base/check.h"
#include "base/log.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

constexpr Duration kTick = 1s, kSlowWrites = 5s, kRotate = 10s, kRefilledAfter = 5s, kShutdownGrace = 10s;

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
      core_options{.node_name = options.node_name, .host_ip = options.node_address},
      addresses(deps.network.options().pods),
      logs({.folder = options.data_folder / "logs", .bytes_max = options.log_bytes_max, .files_max = options.log_files_max}),
      node_api({.organizations = options.api_organizations, .users = options.api_users}, *this, logs, registry, deps.clock),
      reporter(loop, deps.api, deps.clock, deps.random, options, [this] { return node_images; }),
      status(loop, deps.api, deps.clock, {}),
      events(loop, deps.api, deps.clock, deps.random, {.node = options.node_name}),
      references(loop, deps.api, deps.clock, {}, [this] { for (auto& [uid, entry] : entries) { entry->core.on_references_changed(); mark(uid); } },
                 [this](std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr object) { store_object(kind, ns, name, std::move(object)); }),
      images(loop, {.image_folder = options.image_folder, .build = native_build(options)},
             [this](const sandbox::Command& command, std::span<const int> fds) { keeper->send(command, fds); }),
      pod_informer(loop, deps.api, deps.random, {.resource = client::kPods, .namespace_ = "", .selectors = {.label = "", .field = "spec.nodeName=" + options.node_name}},
                   [this](const kube::ObjectPtr& before, const kube::ObjectPtr& after) { on_pod(before, after); }),
      service_informer(loop, deps.api, deps.random, {.resource = client::kServices, .namespace_ = "", .selectors = {}},
                       [this](const kube::ObjectPtr& before, const kube::ObjectPtr& after) { on_service(before, after); }),
      slice_informer(loop, deps.api, deps.random, {.resource = client::kEndpointSlices, .namespace_ = "", .selectors = {}},
                     [this](const kube::ObjectPtr& before, const kube::ObjectPtr& after) { on_slice(before, after); }),
      work(loop),
      tasks(loop),
      pods_started(registry.counter("skerry_agent_containers_started_total", "Containers handed to the keeper")),
      exits(registry.counter("skerry_agent_container_failures_total", "Sandboxes that ended otherwise than idle or asked to")),
      requests_lost(registry.counter("skerry_agent_requests_lost_total", "Requests inside sandboxes that died")),
      drift(registry.counter("skerry_agent_drift_total", "Differences to the API server that the node found and repaired")),
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
    gauge("skerry_agent_api_connected", "1: the API server is there", reporter.reachable() ? 1 : 0);
    gauge("skerry_agent_checkpoint_bytes", "Size of the node's checkpoint", checkpoint ? static_cast<std::uint64_t>(checkpoint->bytes()) : 0);
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
  pod_informer.start();
  service_informer.start();
  slice_informer.start();
  const Instant t = deps.clock.instant();
  slow_at = t + kSlowWrites;
  minute_at = t + 1min;
  rotate_at = t + kRotate;
  tasks.spawn("pods", pump());
  tasks.spawn("ticks", run_ticks());
  tasks.spawn("after list", reconcile_after_list());
  mark_all();
  LOG_INFO("agent started", {"node", options.node_name}, {"pods restored", entries.size()}, {"keeper", keeper->welcome().pid});
  co_return Result<>{};
}

rt::Task<> Agent::State::restore() {
  struct Opened {
    Checkpoint checkpoint;
    Checkpoint::Loaded loaded;
  };
  CO_TRY(auto opened, co_await disk->run<Opened>([folder = options.data_folder, &random = deps.random]() -> Result<Opened> {
    TRY(auto made, Checkpoint::open(folder, random));
    TRY(auto loaded, made.load());
    return Opened{std::move(made), std::move(loaded)};
  }));
  checkpoint.emplace(std::move(opened.checkpoint));
  if (!checkpoint->restored().empty()) LOG_ERROR("the checkpoint was damaged and is empty now: pods come again from the API server", {"reason", checkpoint->restored()});
  for (const std::string& lost : opened.loaded.lost) LOG_WARN("not restored", {"what", lost});
  next_keeper_id = static_cast<std::uint64_t>(std::max<std::int64_t>(opened.loaded.number("next-keeper-id", 1), 1));
  saved_keeper_id = next_keeper_id;
  for (kube::ObjectPtr& object : opened.loaded.objects) {
    if (object->kind == "Service") restored_services.push_back(object);
    else if (object->kind == "EndpointSlice") restored_slices.push_back(object);
    else references.restore(std::move(object));
  }
  if (deps.services != nullptr) {
    for (const auto& service : restored_services) deps.services->rules().put_service(*service);
    for (const auto& slice : restored_slices) deps.services->rules().put_slice(*slice);
    deps.services->changed();
  }
  for (Checkpoint::Pod& pod : opened.loaded.pods) {
    auto plan = plan_pod(*pod.object, plan_options);
    auto doc = kube::JsonDoc::parse(pod.state);
    if (!plan || !doc) {
      LOG_WARN("pod not restored", {"pod", pod.object->name}, {"reason", plan ? doc.error() : plan.error()});
      continue;
    }
    auto core = PodCore::restore(core_options, pod.object, std::move(*plan), doc->root(), now());
    if (!core) {
      LOG_WARN("pod not restored", {"pod", pod.object->name}, {"reason", core.error()});
      continue;
    }
    auto entry = std::make_unique<PodEntry>(std::move(*core));
    if (!entry->core.address().empty()) {
      const auto address = os::Ipv4::parse(entry->core.address());
      if (!address || !addresses.reserve(pod.object->uid, *address)) {
        LOG_WARN("pod not restored: its address is taken or not of this node's range", {"pod", pod.object->name}, {"address", entry->core.address()});
        continue;
      }
    }
    entry->saved = std::hash<std::string>{}(pod.state);
    entry->essence = essence_of(*pod.object);
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      by_keeper_id[entry->core.keeper_id(i).value()] = {pod.object->uid, i};
      next_keeper_id = std::max(next_keeper_id, entry->core.keeper_id(i).value() + 1);
    }
    entries[pod.object->uid] = std::move(entry);
  }
  co_return Result<>{};
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
    const auto known = by_keeper_id.find(held.pod.spec.id);
    PodEntry* entry = known == by_keeper_id.end() ? nullptr : find(known->second.first);
    const bool alive = held.pod.state != sandbox::PodState::Stopping && held.pod.state != sandbox::PodState::Stopped;
    next_keeper_id = std::max(next_keeper_id, held.pod.spec.id + 1);
    if (entry == nullptr || !alive || held.fds.size() < 3) {
      keeper->send(sandbox::DropPod{held.pod.spec.id});
      continue;
    }
    const std::size_t i = known->second.second;
    ContainerRuntime& c = entry->containers[i];
    c.listener = std::move(held.fds[0]);
    c.assignment = std::move(held.fds[1]);
    c.metrics = std::move(held.fds[2]);
    if (held.fds.size() > 3) c.log = std::move(held.fds[3]);
    c.spec = held.pod.spec;
    c.placed = true;
    for (const auto& worker : held.pod.workers) c.pids.push_back(worker.pid);
    entry->core.on_adopted(i, static_cast<std::uint32_t>(held.pod.workers.size()));
    ++adopted;
  }
  for (auto& [uid, entry] : entries) references.want(entry->core.plan());
  if (found.started || found.pods.empty()) refilled_at = deps.clock.instant() + kRefilledAfter;
  awake_changed = true;
  LOG_INFO("keeper met", {"pid", keeper->welcome().pid}, {"adopted", adopted}, {"held", found.pods.size()});
  co_return Result<>{};
}

// After the first list: what the checkpoint had and the server has no more is ended.
rt::Task<> Agent::State::reconcile_after_list() {
  CO_TRY_OK(co_await pod_informer.synced().wait());
  for (auto& [uid, entry] : entries) {
    const auto object = pod_informer.get(entry->core.object()->namespace_, entry->core.object()->name);
    if (object && object->uid == uid) continue;
    entry->core.on_vanished();
    mark(uid);
  }
  pods_listed = true;
  CO_TRY_OK(co_await service_informer.synced().wait());
  CO_TRY_OK(co_await slice_informer.synced().wait());
  for (const auto& service : restored_services)
    if (!service_informer.get(service->namespace_, service->name)) on_service(service, nullptr);
  for (const auto& slice : restored_slices)
    if (!slice_informer.get(slice->namespace_, slice->name)) on_slice(slice, nullptr);
  restored_services.clear();
  restored_slices.clear();
  co_return Result<>{};
}

rt::Task<> Agent::State::stop(OnStop how) {
  if (!started) co_return Result<>{};
  started = false;
  CO_TRY_OK(co_await tasks.stop());
  disk.reset();  // a write that was under way ends before the database goes
  CO_TRY_OK(co_await pod_informer.stop());
  CO_TRY_OK(co_await service_informer.stop());
  CO_TRY_OK(co_await slice_informer.stop());
  CO_TRY_OK(co_await references.stop());
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
  if (object) changes.push_back(change::PutObject{std::move(object)});
  else changes.push_back(change::RemoveObject{std::string(kind), std::string(ns), std::string(name)});
  work.set();
}

void Agent::State::on_service(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  const kube::Object& o = after ? *after : *before;
  slow_changes[{"Service", o.namespace_, o.name}] = after;
  if (deps.services == nullptr) return;
  if (after) deps.services->rules().put_service(*after);
  else deps.services->rules().remove_service(o.namespace_, o.name);
  deps.services->changed();
}
void Agent::State::on_slice(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  const kube::Object& o = after ? *after : *before;
  slow_changes[{"EndpointSlice", o.namespace_, o.name}] = after;
  if (deps.services == nullptr) return;
  if (after) deps.services->rules().put_slice(*after);
  else deps.services->rules().remove_slice(o.namespace_, o.name);
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
  deps.services->rules().set_awake(std::move(awake));
  deps.services->changed();
}

// --- now and then -----------------------------------------------------------------------------------------------------

rt::Task<> Agent::State::run_ticks() {
  for (;;) {
    CO_TRY_OK(co_await rt::sleep_for(kTick));
    tick(deps.clock.instant());
  }
}

void Agent::State::tick(Instant t) {
  references.tick(t);
  if (images.changed()) {
    node_images.clear();
    for (const oci::Image& image : images.list()) node_images.push_back({image.reference.text(), static_cast<std::int64_t>(image.size)});
    reporter.touch();
    for (auto& [uid, entry] : entries) {
      entry->core.on_image_maybe_changed();
      mark(uid);
    }
  }
  if (refilled_at != Instant{} && t >= refilled_at) {
    refilled_at = Instant{};
    keeper->send(sandbox::Refilled{});
  }
  if (t >= slow_at) {
    slow_at = t + kSlowWrites;
    for (auto& [key, object] : slow_changes) store_object(std::get<0>(key), std::get<1>(key), std::get<2>(key), object);
    slow_changes.clear();
    relieve_memory(t);
  }
  if (t >= rotate_at) {
    rotate_at = t + kRotate;
    rotate_logs(deps.clock.now());
  }
  if (t >= minute_at) {
    minute_at = t + 1min;
    tick_minute();
  }
}

// Convergence is checked, not assumed: what the server shows of our pods against what we know.
void Agent::State::tick_minute() {
  std::vector<const PodPlan*> plans;
  std::set<std::string> keys;
  for (auto& [uid, entry] : entries) {
    plans.push_back(&entry->core.plan());
    for (std::size_t i = 0; i < entry->core.containers(); ++i) keys.emplace(entry->core.image_key(i));
    const auto object = pod_informer.get(entry->core.object()->namespace_, entry->core.object()->name);
    if (!object || object->uid != uid || !reporter.reachable() || status.waiting() > 0) continue;
    const kube::JsonDoc doc = object->parse();
    const kube::Json shown = doc.root()["status"];
    bool ready = false;
    for (kube::Json condition : shown["conditions"].items())
      if (condition["type"].str() == "Ready") ready = condition["status"].str() == "True";
    if (entry->core.ended() || (ready == entry->core.ready() && shown["podIP"].str() == entry->core.address())) continue;
    drift.add();
    LOG_WARN("pod status at the API server differs: told again", {"pod", object->name}, {"namespace", object->namespace_});
    entry->core.repeat_status();
    mark(uid);
  }
  references.keep_only(plans);
  images.sweep([&](const std::string& key) { return keys.contains(key); }, deps.clock.instant());
}

// Under pressure sandboxes that can be idle leave early, those of the least important pods first; if that does not help for
// a while, the least important pod that keeps waking up is ended.
void Agent::State::relieve_memory(Instant) {
  const MachineFacts facts = read_machine(options.data_folder.string());
  if (!reporter.status().memory_pressure(facts)) {
    pressure_ticks = 0;
    return;
  }
  ++pressure_ticks;
  reporter.touch();
  std::vector<PodEntry*> awake;
  for (auto& [uid, entry] : entries)
    for (std::size_t i = 0; i < entry->core.containers(); ++i)
      if (entry->core.serving(i) && entry->core.awake(i) > 0 && !entry->containers[i].trimming) {
        awake.push_back(entry.get());
        break;
      }
  std::ranges::sort(awake, [](const PodEntry* a, const PodEntry* b) {
    return std::pair(a->core.plan().priority, a->core.object()->uid) < std::pair(b->core.plan().priority, b->core.object()->uid);
  });
  const std::string available = std::format("{} MiB of memory are available on the node", facts.memory_available_bytes >> 20);
  if (pressure_ticks > 6 && !awake.empty()) {
    PodEntry& victim = *awake.front();
    evictions.add();
    victim.core.evict(std::format("The node was low on memory ({}) and stopping idle sandboxes did not help", available), now());
    mark(victim.core.object()->uid);
    pressure_ticks = 3;
    return;
  }
  std::size_t budget = std::max<std::size_t>(1, awake.size() / 4);
  for (PodEntry* entry : awake) {
    if (budget-- == 0) break;
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      if (entry->core.awake(i) == 0 || entry->containers[i].trimming) continue;
      entry->containers[i].trimming = true;
      trims.add();
      keeper->send(sandbox::StopPod{entry->core.keeper_id(i).value(), 5000});
    }
    events.post({.warning = true, .object = name_of(*entry), .field_path = "", .reason = "MemoryPressure",
                 .message = std::format("Its sandbox leaves early: {}. It wakes again at the next request", available)});
  }
}

void Agent::State::rotate_logs(Time t) {
  for (auto& [uid, entry] : entries)
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      ContainerRuntime& c = entry->containers[i];
      if (!c.placed || !c.log) continue;
      const LogPlace place = place_of(*entry, i);
      auto rotated = logs.rotate(place, entry->core.restarts(i), t);
      if (!rotated) LOG_WARN("log not rotated", {"reason", rotated.error()});
      if (!rotated || !*rotated) continue;
      auto file = logs.open(place, entry->core.restarts(i));
      if (!file) {
        LOG_WARN("log not opened", {"reason", file.error()});
        continue;
      }
      c.log = std::move(*file);
      const int fd = c.log.get();
      keeper->send(sandbox::Relog{c.spec.id}, std::span(&fd, 1));
    }
}

// --- the public face ----------------------------------------------------------------------------------------------------

Agent::Agent(rt::Loop& loop, AgentDeps deps, AgentOptions options) : state_(std::make_unique<State>(loop, deps, std::move(options))) {}
Agent::~Agent() { CHECK(!state_->started); }
rt::Task<> Agent::start() { return state_->start(); }
rt::Task<> Agent::stop(OnStop how) { return state_->stop(how); }
http::Handler& Agent::node_api() { return state_->node_api; }
Agent::Summary Agent::summary() const {
  Summary out{.pods = state_->entries.size(), .connected = state_->reporter.reachable(), .keeper_pid = state_->keeper->welcome().pid};
  for (const auto& [uid, entry] : state_->entries) {
    out.ready += entry->core.ready() ? 1 : 0;
    for (std::size_t i = 0; i < entry->core.containers(); ++i) out.awake += entry->core.awake(i) > 0 ? 1 : 0;
  }
  return out;
}

}  // namespace skerry::agent
