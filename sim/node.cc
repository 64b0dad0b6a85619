// SPDX-License-Identifier: Apache-2.0
#include "sim/node.h"

#include <algorithm>
#include <format>
#include <utility>

#include "base/check.h"

namespace skerry::sim {
namespace {

constexpr Duration kRefilledAfter = 5s, kServerSlack = 1min, kRulesInterval = 50ms, kKeeperStart = 20ms;
constexpr std::uint8_t kPutPodCommand = 4, kStopPodCommand = 5;

std::string key_of_image(const std::string& reference) { return "key-of-" + reference; }

}  // namespace

SimNode::SimNode(Deps deps, Options options, Hooks hooks)
    : deps_(deps),
      options_(std::move(options)),
      hooks_(std::move(hooks)),
      table_({.core = {.node_name = options_.name, .host_ip = "192.0.2.7"}, .plan = {}, .addresses = options_.pods, .pods_max = 300}, [this] { kick(); }),
      status_({}, deps_.world.random()),
      pulls_({}, deps_.world.random()),
      rules_({.node = options_.name, .pods = options_.pods, .services = options_.services}),
      names_({.node = options_.name, .pods = options_.pods, .services = options_.services}) {
  const client::InformerCore::Options core{.confirm_removals = options_.canary != Canary::ListsAreBelieved};
  const auto make = [&](Resource r, auto changed) {
    watches_[static_cast<std::size_t>(r)] = std::make_unique<Watch>(Watch{r, client::InformerCore(core, deps_.world.random()), changed});
  };
  make(Resource::Pods, [this](const auto& before, const auto& after) { on_pod(before, after); });
  make(Resource::Services, [this](const auto& before, const auto& after) { on_service(before, after); });
  make(Resource::Slices, [this](const auto& before, const auto& after) { on_slice(before, after); });
  table_.before_asking([this](agent::PodEntry& entry) {
    const auto address = os::Ipv4::parse(entry.core.address());
    if (entry.core.leaving() && address && rules_.free_of(*address)) entry.core.on_unrouted(now());
  });
}

SimNode::~SimNode() = default;

std::uint64_t SimNode::lists() const {
  std::uint64_t out = 0;
  for (const auto& w : watches_) out += w->core.relists();
  return out;
}
kube::ObjectPtr SimNode::cached(Resource r, const ObjectKey& key) const {
  const auto& cache = watch(r).core.cache();
  const auto at = cache.find(client::object_key(key.namespace_, key.name));
  return at == cache.end() ? nullptr : *at;
}

// --- start ------------------------------------------------------------------------------------------------------------------

void SimNode::start() {
  deps_.world.after(deps_.disk.delay, life_, [this] {
    if (!restore()) return;
    if (!deps_.machine.keeper) {
      deps_.machine.start_keeper();
      deps_.world.after(kKeeperStart, life_, [this] {
        if (!deps_.machine.keeper) deps_.machine.start_keeper();
        meet_keeper();
        run();
      });
      return;
    }
    meet_keeper();
    run();
  });
}

bool SimNode::restore() {
  if (options_.canary == Canary::DamagesItsDisk) {
    { const auto closed = agent::Checkpoint::open(deps_.disk.folder(), deps_.world.random(), deps_.disk.options()); }  // in order: no log hides it
    deps_.disk.damage(deps_.world.random());
  }
  auto opened = agent::Checkpoint::open(deps_.disk.folder(), deps_.world.random(), deps_.disk.options());
  auto loaded = opened ? opened->load() : Result<agent::Checkpoint::Loaded>(Fail(opened.error()));
  if (!loaded) {
    hooks_.unable(loaded.error().what);
    return false;
  }
  checkpoint_.emplace(std::move(*opened));
  std::vector<kube::ObjectPtr> services, slices;
  for (const kube::ObjectPtr& object : loaded->objects) {
    if (object->kind() == "Service") services.push_back(object);
    else if (object->kind() == "EndpointSlice") slices.push_back(object);
    else if (object->kind() != "Pod") references_.restore(object);
  }
  for (const auto& service : services) {
    names_.put_service(*service);
    rules_.put_service(*service);
  }
  for (const auto& slice : slices) {
    names_.put_slice(*slice);
    rules_.put_slice(*slice);
  }
  if (!services.empty()) names_.set_complete();
  apply_rules();
  auto restored = table_.restore(*loaded, now());
  for (const std::string& problem : restored.problems) deps_.world.violation("durability", "not restored: " + problem);
  for (const std::string& lost : loaded->lost) deps_.world.violation("durability", "lost: " + lost);
  carry_out(table_.take_effects());
  resume(*loaded, std::move(restored), std::move(services), std::move(slices));
  hooks_.restored(table_, loaded->older, watch(Resource::Pods).core.revision().value() != 0);
  return true;
}

void SimNode::resume(const agent::Checkpoint::Loaded& loaded, agent::PodTable::Restored restored, std::vector<kube::ObjectPtr> services, std::vector<kube::ObjectPtr> slices) {
  journal_.start(loaded, restored.problems.empty());
  const auto from = [&](Resource r, std::vector<kube::ObjectPtr> objects, bool whole) {
    const auto revision = whole ? journal_.resume(loaded, std::string(resource_name(r))) : std::nullopt;
    if (options_.canary != Canary::ListsAreBelieved || revision) watch(r).core.restore(std::move(objects), revision.value_or(kube::Revision{}));
  };
  from(Resource::Pods, std::move(restored.objects), restored.problems.empty());
  from(Resource::Services, std::move(services), true);
  from(Resource::Slices, std::move(slices), true);
}

void SimNode::meet_keeper() {
  using Row = agent::PodTable::Held::State;
  auto found = deps_.machine.keeper->dump();
  for (const auto& image : found.images) images_put_.insert(image.key);
  for (auto& pod : found.pods) {
    const bool stopped = pod.row.state == sandbox::PodState::Stopped;
    const agent::PodTable::Held row{.id = pod.row.spec.id, .image_key = pod.row.spec.image, .awake = static_cast<std::uint32_t>(pod.row.workers.size()),
                                    .state = stopped ? Row::Stopped : pod.row.state == sandbox::PodState::Stopping ? Row::Stopping : Row::Serving,
                                    .listens_at = pod.held.listener->at.address};
    const auto met = table_.meet(row, journal_.forgetful());
    if (met == agent::PodTable::Met::Stranger) strangers_.push_back(row.id);
    if (met == agent::PodTable::Met::Drop) to_keeper(sandbox::DropPod{row.id});
    if (met != agent::PodTable::Met::Adopted) continue;
    Container& c = containers_[row.id];
    c.held = pod.held;
    c.spec = pod.row.spec;
    c.placed = true;
    for (const auto& worker : pod.row.workers) c.pids.insert(worker.pid);
  }
  bool refill_images = false;
  for (auto& left : found.unclaimed) {
    const std::uint64_t id = left.row.spec.id;
    table_.keeper_id_seen(id);
    const auto known = table_.by_keeper_id(id);
    const bool usable = known && left.held.assignment->image_ref == known->entry->core.plan().containers[known->container].image &&
                        left.held.assignment->pod_uid == known->entry->core.object()->uid() && !known->entry->core.image_key(known->container).empty() &&
                        left.held.listener->at.address.str() == known->entry->core.address();
    if (!usable) {
      to_keeper(sandbox::DropPod{id});
      continue;
    }
    known->entry->held_by_keeper = true;
    Container& c = containers_[id];
    c.held = left.held;
    c.spec = {.id = id, .image = std::string(known->entry->core.image_key(known->container)), .memory_bytes_max = 64u << 20, .workers = 1};
    c.placed = true;
    for (const auto& worker : left.row.workers) c.pids.insert(worker.pid);
    images_put_.insert(c.spec.image);
    known->entry->core.on_adopted(known->container, static_cast<std::uint32_t>(left.row.workers.size()));
    refill_images = true;
  }
  if (refill_images) {
    for (const std::string& key : images_put_) to_keeper(sandbox::PutImage{.key = key, .name = key});
    for (auto& left : found.unclaimed)
      if (const auto at = containers_.find(left.row.spec.id); at != containers_.end()) to_keeper(sandbox::PutPod{at->second.spec}, at->second.held);
  }
  for (const auto& [uid, entry] : table_.entries()) references_.want(entry->core.plan(), deps_.world.now());
  fetch_references();
  if (found.pods.empty()) refilled_at_ = deps_.world.now() + kRefilledAfter;
  awake_changed_ = true;
  deps_.world.trace(std::format("agent: {} pods restored, keeper holds {}, {} unclaimed", table_.entries().size(), found.pods.size(), found.unclaimed.size()));
}

void SimNode::run() {
  running_ = true;
  connect_keeper();
  for (auto& w : watches_) step(*w);
  const Instant t = deps_.world.now();
  slow_at_ = t;
  minute_at_ = copy_at_ = t + 1min;
  table_.mark_all();
  renew_lease();
  tick();
}

void SimNode::connect_keeper() {
  const std::uint64_t generation = ++keeper_generation_;
  deps_.machine.keeper->connect({.life = life_, .event = [this, generation](sandbox::Event e) {
    if (generation == keeper_generation_) on_keeper(std::move(e));
  }});
  // When it dies its socket says so at once, and a new one is started.
  deps_.machine.when_keeper_ends(life_, [this] {
    deps_.world.after(kKeeperStart, life_, [this] {
      if (!deps_.machine.keeper) deps_.machine.start_keeper();
      connect_keeper();
      refill();
      to_keeper(sandbox::Refilled{});
    });
  });
}

void SimNode::refill() {
  deps_.world.trace("agent: keeper refilled");
  for (const std::string& key : images_put_) to_keeper(sandbox::PutImage{.key = key, .name = key});
  for (const auto& [uid, entry] : table_.entries())
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      Container& c = containers_[entry->core.keeper_id(i).value()];
      c.pids.clear();
      entry->core.on_idle(i);
      if (!c.placed) continue;
      to_keeper(sandbox::PutPod{c.spec}, c.held);
      if (!entry->core.serving(i)) to_keeper(sandbox::StopPod{c.spec.id, static_cast<std::uint32_t>(entry->core.plan().grace / 1ms)});
    }
  awake_changed_ = true;
  kick();
}

void SimNode::to_keeper(const sandbox::Command& command, Held held) {
  deps_.world.after(50us, life_, [this, command, held = std::move(held), keeper = std::weak_ptr(deps_.machine.keeper)] {
    if (const auto alive = keeper.lock()) alive->command(command, held);
  });
}

// --- watches ----------------------------------------------------------------------------------------------------------------

void SimNode::step(Watch& w) {
  const auto action = w.core.poll(deps_.world.now());
  switch (action.act) {
    case client::InformerCore::Act::List: begin_list(w); break;
    case client::InformerCore::Act::Get: confirm(w, action); break;
    case client::InformerCore::Act::Watch: begin_watch(w, action.revision); break;
    case client::InformerCore::Act::Sleep: deps_.world.after(action.until - deps_.world.now(), life_, [this, &w] { step(w); }); break;
    case client::InformerCore::Act::Wait: break;
  }
}

void SimNode::apply(Watch& w, const client::Change& change) { w.changed(change.before, change.after); }

void SimNode::begin_list(Watch& w) {
  deps_.world.trace(std::format("agent: lists {}", resource_name(w.resource)));
  deps_.net.call<SimServer::Listed>(life_, [&server = deps_.server, r = w.resource] { return server.list(r); }, [this, &w](Result<SimServer::Listed> list) {
    if (!list) {
      w.core.on_list_failed(list.error(), deps_.world.now());
      return step(w);
    }
    const auto changes = w.core.on_list(std::move(list->items), list->revision, deps_.world.now());
    CHECK(changes.has_value());
    for (const auto& change : *changes) apply(w, change);
    on_synced(w);
    step(w);
  });
}

void SimNode::confirm(Watch& w, const client::InformerCore::Action& action) {
  const ObjectKey key{action.object->namespace_(), action.object->name()};
  deps_.net.call<kube::ObjectPtr>(life_, [&server = deps_.server, r = w.resource, key] { return server.get(r, key); }, [this, &w](Result<kube::ObjectPtr> got) {
    if (const auto change = w.core.on_got(got, deps_.world.now())) apply(w, *change);
    step(w);
  });
}

void SimNode::begin_watch(Watch& w, kube::Revision from) {
  w.open = new_life();
  w.connection = deps_.net.connect();
  const Duration timeout = options_.watch_timeout - deps_.world.between({0s, options_.watch_timeout / 4});
  SimServer::Sink sink{.client = w.open,
                       .event = [this, &w](const client::WatchEvent& event) {
                         if (const auto change = w.core.on_event(event)) apply(w, *change);
                       },
                       .end = [this, &w](const SimServer::WatchEnd& end) { end_watch(w, end.error); }};
  deps_.net.call<void>(w.open, [&server = deps_.server, r = w.resource, from, timeout, connection = w.connection, sink] { return server.watch(r, from, timeout, connection, sink); },
                       [this, &w](Result<> accepted) {
                         if (!accepted) return end_watch(w, accepted.error());
                         w.connected = true;
                         on_synced(w);
                       });
  deps_.world.after(timeout + kServerSlack, w.open, [this, &w] { end_watch(w, Error(Errc::Timeout, "the server did not end the watch")); });
}

void SimNode::end_watch(Watch& w, const std::optional<Error>& error) {
  if (!w.open) return;
  w.open.reset();
  w.connected = false;
  w.connection->closed = true;
  w.core.on_watch_ended(error, deps_.world.now());
  deps_.world.after(0s, life_, [this, &w] { step(w); });
}

void SimNode::on_synced(Watch& w) {
  if (std::exchange(w.synced, true)) return;
  deps_.world.after(0s, life_, [this] { reconcile(); });
}

// As reconcile_after_list().
void SimNode::reconcile() {
  if (watch(Resource::Pods).synced && !reconciled_) {
    reconciled_ = true;
    for (const std::uint64_t id : std::exchange(strangers_, {})) to_keeper(sandbox::DropPod{id});
    journal_.on_asked();
    table_.on_listed([this](std::string_view ns, std::string_view name) { return cached(Resource::Pods, {std::string(ns), std::string(name)}); });
  }
  if (reconciled_ && watch(Resource::Services).synced && watch(Resource::Slices).synced) names_.set_complete();
}

void SimNode::on_pod(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  table_.on_pod(before, after);
  carry_out(table_.take_effects());
}
void SimNode::on_service(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  const kube::Object& o = after ? *after : *before;
  journal_.put_slowly("Service", o.namespace_(), o.name(), after);
  if (after) {
    names_.put_service(*after);
    rules_.put_service(*after);
  } else {
    names_.remove_service(o.namespace_(), o.name());
    rules_.remove_service(o.namespace_(), o.name());
  }
  apply_rules();
}
void SimNode::on_slice(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  const kube::Object& o = after ? *after : *before;
  journal_.put_slowly("EndpointSlice", o.namespace_(), o.name(), after);
  if (after) {
    names_.put_slice(*after);
    rules_.put_slice(*after);
  } else {
    names_.remove_slice(o.namespace_(), o.name());
    rules_.remove_slice(o.namespace_(), o.name());
  }
  apply_rules();
}

void SimNode::renew_lease() {
  deps_.net.call<SimServer::Digests>(life_, [&server = deps_.server] { return server.renew_lease(); }, [this](Result<SimServer::Digests> done) {
    reachable_ = done.has_value();
    if (done && deps_.world.now() - compared_at_ >= options_.sync_interval - options_.lease_period / 2) compare(*done);
    if (!done) convergence_.forget();
    // The line is gone: connections that are open will not say so.
    if (!done)
      for (auto& w : watches_)
        if (w->open && w->synced) end_watch(*w, Error(Errc::Unavailable, "the line was lost"));
    if (done) lease_backoff_.reset();
    const Duration pause = done ? options_.lease_period : lease_backoff_.next(deps_.world.random());
    deps_.world.after(pause, life_, [this] { renew_lease(); });
  });
}

// As Agent::State::compare().
void SimNode::compare(const SimServer::Digests& servers) {
  compared_at_ = deps_.world.now();
  for (auto& w : watches_) {
    const auto r = static_cast<std::size_t>(w->resource);
    if (!w->connected || convergence_.compare(resource_name(w->resource), w->core.digest(), servers[r]) != agent::Convergence::Verdict::Drift) continue;
    ++drift_;
    deps_.world.trace(std::format("agent: {} have drifted", resource_name(w->resource)));
    if (!w->connection->dead) hooks_.drifted(resource_name(w->resource));
    w->core.list_next();
    end_watch(*w, Error(Errc::Unavailable, "drift"));
  }
}

// --- ticks ------------------------------------------------------------------------------------------------------------------

void SimNode::tick() {
  const Instant t = deps_.world.now();
  if (references_.tick(t)) {
    for (const auto& [uid, entry] : table_.entries()) entry->core.on_references_changed();
    table_.mark_all();
  }
  fetch_references();
  if (reachable_ && !was_reachable_) {
    pulls_.try_again();
    for (const auto& [uid, entry] : table_.entries()) entry->core.on_image_maybe_changed();
    table_.mark_all();
  }
  was_reachable_ = reachable_;
  if (refilled_at_ != Instant{} && t >= refilled_at_) {
    refilled_at_ = Instant{};
    to_keeper(sandbox::Refilled{});
  }
  if (t >= slow_at_) {
    slow_at_ = t + options_.slow_write_period;
    if (!journal_.waiting()) write_slowly();
  }
  if (writes_of_objects_ != writes_copied_ && t >= copy_at_ && !pumping_) {  // as Agent::State::copy_checkpoint()
    copy_at_ = t + agent::Checkpoint::kCopyPeriod;
    if (auto done = checkpoint_->copy()) writes_copied_ = writes_of_objects_;
    else deps_.world.trace("agent: no good copy: " + done.error().what);
  }
  if (t >= minute_at_) {
    minute_at_ = t + 1min;
    tick_minute();
  }
  deps_.world.after(1s, life_, [this] { tick(); });
}

void SimNode::tick_minute() {
  std::vector<const agent::PodPlan*> plans;
  for (const auto& [uid, entry] : table_.entries()) {
    plans.push_back(&entry->core.plan());
    if (!reachable_ || status_.waiting() > 0) continue;
    const auto object = cached(Resource::Pods, {entry->core.object()->namespace_(), entry->core.object()->name()});
    if (!object || !entry->core.repeat_if_otherwise(*object, now())) continue;
    ++drift_;
    deps_.world.trace(std::format("agent: status of {} is told again", object->name()));
    table_.mark(uid);
  }
  store(references_.keep_only(plans));
}

void SimNode::write_slowly() {
  agent::Journal::Revisions revisions;
  for (const auto& w : watches_) revisions.emplace_back(resource_name(w->resource), w->core.resumable());
  if (journal_.collect(table_.latest_objects(), revisions, deps_.world.now())) {
    work_ = true;
    kick();
  }
}

void SimNode::store(std::vector<agent::ReferenceCore::Store> what) {
  if (what.empty()) return;
  for (auto& one : what) journal_.put(one.kind, one.namespace_, one.name, std::move(one.object));
  work_ = true;
  kick();
}

void SimNode::fetch_references() {
  for (const auto& key : references_.poll(deps_.world.now())) {
    const ObjectKey name{std::get<1>(key), std::get<2>(key)};
    deps_.net.call<kube::ObjectPtr>(life_, [&server = deps_.server, name] { return server.get(Resource::ConfigMaps, name); }, [this, key](Result<kube::ObjectPtr> got) {
      store(references_.on_answer(key, std::move(got), deps_.world.now()).store);
      for (const auto& [uid, entry] : table_.entries()) entry->core.on_references_changed();
      table_.mark_all();
      fetch_references();
    });
  }
}

void SimNode::tell_statuses() {
  for (auto& one : status_.poll(deps_.world.now())) {
    const ObjectKey key{one.pod.namespace_, one.pod.name};
    const auto answered = [this, id = one.id](const std::optional<Error>& error) {
      status_.on_answer(id, error, deps_.world.now());
      tell_statuses();
    };
    if (one.status) {
      deps_.net.call<kube::ObjectPtr>(life_, [&server = deps_.server, key, uid = one.pod.uid, json = *one.status] { return server.patch_status(key, uid, json); },
                                      [answered](Result<kube::ObjectPtr> done) { answered(done ? std::nullopt : std::optional(done.error())); });
    } else {
      deps_.net.call<void>(life_, [&server = deps_.server, key, uid = one.pod.uid] { return server.finish_pod(key, uid); },
                           [answered](Result<> done) { answered(done ? std::nullopt : std::optional(done.error())); });
    }
  }
  const auto next = status_.deadline();
  if (!next || (status_armed_ && *status_armed_ <= *next && *status_armed_ > deps_.world.now())) return;
  status_armed_ = *next;
  deps_.world.after(*next - deps_.world.now(), life_, [this] { tell_statuses(); });
}

// As net::ServiceProxy: what changed within a moment is one batch.
void SimNode::apply_rules() {
  if (std::exchange(rules_due_, true)) return;
  deps_.world.after(kRulesInterval, life_, [this] {
    rules_due_ = false;
    if (!rules_.update()) return;
    std::map<std::string, std::vector<Endpoint>> routes;
    for (const auto& route : rules_.routes()) {
      auto& to = routes[std::format("{} {} {}", route.address.str(), route.protocol, route.port)];
      for (const auto& [address, port] : route.pods) to.push_back({address, port});
    }
    deps_.machine.routes = std::move(routes);
    rules_.applied();
    for (const auto& [uid, entry] : table_.entries())
      if (entry->core.leaving()) table_.mark(uid);
  });
}

void SimNode::update_awake() {
  awake_changed_ = false;
  std::set<os::Ipv4> awake;
  for (const auto& [uid, entry] : table_.entries())
    for (std::size_t i = 0; i < entry->core.containers(); ++i)
      if (entry->core.awake(i) > 0)
        if (const auto address = os::Ipv4::parse(entry->core.address())) awake.insert(*address);
  rules_.set_awake(std::move(awake));
  apply_rules();
}

// --- the one queue ----------------------------------------------------------------------------------------------------------

void SimNode::kick() {
  if (!running_ || std::exchange(pumping_, true)) return;
  deps_.world.after(10us, life_, [this] { pump(); });
}

// As Agent::State::pump().
void SimNode::pump() {
  work_ = false;
  if (awake_changed_) update_awake();
  auto round = table_.round(now(), references_);
  if (round.forgets) write_slowly();
  journal_.put(std::move(round.write));
  std::ranges::move(round.todo, std::back_inserter(todo_));
  if (options_.canary == Canary::ActBeforeDurable) execute(std::exchange(todo_, {}));
  auto batch = deps_.world.now() >= disk_again_ ? journal_.take() : nullptr;
  if (!batch) return finish_round();
  if (options_.canary == Canary::RevisionBeforeObjects) {
    // What is written first is how far the watches have read; the rest comes with the next write.
    std::vector<agent::Change> numbers;
    for (const auto& w : watches_)
      if (w->core.revision().value() != 0)
        numbers.push_back(agent::change::PutNumber{"revision/" + std::string(resource_name(w->resource)), static_cast<std::int64_t>(w->core.revision().value())});
    (void)checkpoint_->write(numbers);
  }
  if (options_.canary == Canary::ForgetsKeeperIds) {
    auto without = *batch;
    std::erase_if(without, [](const agent::Change& c) { return std::holds_alternative<agent::change::PutNumber>(c) && std::get<agent::change::PutNumber>(c).name == "next-keeper-id"; });
    batch = std::make_shared<const std::vector<agent::Change>>(std::move(without));
  }
  write(std::move(batch));
}

// As write_checkpoint().
void SimNode::write(agent::Journal::Batch batch) {
  deps_.world.after(deps_.disk.delay, life_, [this, batch] {
    const auto done = checkpoint_->write(*batch);
    if (!done && deps_.disk.broken() && !deps_.disk.full()) {
      hooks_.died_in_write();
      return;
    }
    if (done) {
      hooks_.written();
      journal_.on_written();
      table_.on_durable();
      if (std::ranges::any_of(*batch, [](const agent::Change& c) { return !std::holds_alternative<agent::change::PutNumber>(c); })) ++writes_of_objects_;
      disk_again_ = Instant{};
      disk_backoff_.reset();
    } else {
      deps_.world.trace("agent: the checkpoint cannot be written: " + done.error().what);
      disk_again_ = deps_.world.now() + disk_backoff_.next(deps_.world.random());
    }
    finish_round();
  });
}

void SimNode::execute(std::vector<agent::PodTable::Todo> todo) {
  for (auto& [uid, commands] : todo) {
    for (agent::Command& command : commands) execute(uid, command);
    if (const auto* entry = find(uid)) hooks_.settled(uid, entry->core.ready(), entry->core.address());
  }
}

void SimNode::finish_round() {
  execute(journal_.waiting() ? table_.take_ahead(todo_) : std::exchange(todo_, {}));
  tell_statuses();
  pumping_ = false;
  if (work_ || table_.marked()) return kick();
  auto deadline = table_.deadline();
  if (journal_.waiting() && (!deadline || disk_again_ < *deadline)) deadline = disk_again_;
  if (!deadline || (armed_ && *armed_ <= *deadline && *armed_ > deps_.world.now())) return;
  armed_ = *deadline;
  deps_.world.after(std::max<Duration>(*deadline - deps_.world.now(), 1ms), life_, [this] { kick(); });
}

void SimNode::carry_out(std::vector<agent::Effect> effects) {
  namespace effect = agent::effect;
  for (agent::Effect& one : effects) {
    if (auto* want = std::get_if<effect::Want>(&one)) {
      if (const auto* entry = find(want->uid)) references_.want(entry->core.plan(), deps_.world.now());
      fetch_references();
    } else if (auto* refused = std::get_if<effect::Refused>(&one)) {
      deps_.world.trace(std::format("agent: pod {} refused: {}", refused->pod->name(), refused->message));
      kube::JsonEdit patch;  // as Agent::State::refuse_pod()
      patch.root().object("metadata").set("uid", refused->pod->uid());
      auto out = patch.root().object("status");
      out.set("phase", refused->reason == "OutOfpods" ? "Failed" : "Pending");
      out.set("reason", refused->reason);
      out.set("message", refused->message);
      status_.post({refused->pod->uid(), refused->pod->namespace_(), refused->pod->name()}, patch.dump(), agent::StatusCore::Urgency::Now, deps_.world.now());
      tell_statuses();
    } else if (auto* finished = std::get_if<effect::Finished>(&one)) {
      status_.remove({finished->pod->uid(), finished->pod->namespace_(), finished->pod->name()}, deps_.world.now());
      tell_statuses();
    } else if (auto* gone = std::get_if<effect::Gone>(&one)) {
      status_.forget(gone->uid);
    } else if (auto* unusable = std::get_if<effect::Unusable>(&one)) {
      const auto* entry = find(unusable->pod->uid());
      watch(Resource::Pods).core.reject(unusable->pod, entry == nullptr ? nullptr : entry->core.object());
      deps_.world.trace(std::format("agent: a version of {} is not usable: {}", unusable->pod->name(), unusable->message));
    }
  }
}

// As Agent::State::execute().
void SimNode::execute(const std::string& uid, agent::Command& command) {
  namespace command_ = agent::command;
  agent::PodEntry* entry = find(uid);
  if (entry == nullptr) return;
  const agent::PodName name{uid, entry->core.object()->namespace_(), entry->core.object()->name()};
  const auto container = [&](std::size_t i) -> Container& { return containers_[entry->core.keeper_id(i).value()]; };
  if (!std::holds_alternative<command_::PostStatus>(command) && !std::holds_alternative<command_::PostEvent>(command))
    deps_.world.trace(std::format("agent: {} {}", name.name, agent::describe(command)));
  if (auto* x = std::get_if<command_::PrepareImage>(&command)) {
    references_.want(entry->core.plan(), deps_.world.now());
    fetch_references();
    prepare(uid, *x);
  } else if (auto* open = std::get_if<command_::OpenListener>(&command)) {
    auto listener = deps_.machine.listen({*os::Ipv4::parse(open->address), open->port}, uid);
    if (listener) {
      container(open->container).held.listener = std::move(*listener);
      entry->core.on_listening(open->container);
      hooks_.listening(*entry);
    } else {
      deps_.world.trace(std::format("agent: {}: {}", name.name, listener.error().what));
      entry->core.on_listen_failed(open->container, listener.error().what, now());
    }
    table_.mark(uid);
  } else if (auto* p = std::get_if<command_::Put>(&command)) {
    put(uid, *entry, *p);
  } else if (auto* stop = std::get_if<command_::Stop>(&command)) {
    to_keeper(sandbox::StopPod{stop->id.value(), static_cast<std::uint32_t>(stop->grace / 1ms)});
  } else if (auto* drop = std::get_if<command_::Drop>(&command)) {
    Container& c = container(drop->container);
    c.placed = false;
    c.pids.clear();
    to_keeper(sandbox::DropPod{drop->id.value()});
    awake_changed_ = true;
  } else if (std::holds_alternative<command_::Release>(command)) {
    for (std::size_t i = 0; i < entry->core.containers(); ++i) containers_.erase(entry->core.keeper_id(i).value());
    table_.release_address(uid);
    hooks_.released(uid);
    awake_changed_ = true;
  } else if (auto* post = std::get_if<command_::PostStatus>(&command)) {
    const bool settle = !entry->core.ready() && !entry->core.ended();
    status_.post(name, std::move(post->json), settle ? agent::StatusCore::Urgency::MaySettle : agent::StatusCore::Urgency::Now, deps_.world.now());
  } else if (std::holds_alternative<command_::Delete>(command)) {
    status_.remove(name, deps_.world.now());
  } else if (std::holds_alternative<command_::Forget>(command)) {
    for (std::size_t i = 0; i < entry->core.containers(); ++i) containers_.erase(entry->core.keeper_id(i).value());
    status_.forget(uid);
    hooks_.forgotten(uid);
    table_.forget(uid);
  }
}

void SimNode::put(const std::string& uid, agent::PodEntry& entry, agent::command::Put& put) {
  Container& c = containers_[put.id.value()];
  CHECK(c.held.listener != nullptr);
  c.spec = {.id = put.id.value(), .image = put.image_key, .memory_bytes_max = 64u << 20, .workers = put.assignment.workers};
  c.held.assignment = std::make_shared<const sandbox::Assignment>(std::move(put.assignment));
  c.placed = true;
  hooks_.placed(uid, put.container, put.id.value());
  to_keeper(sandbox::PutPod{c.spec}, c.held);
  entry.core.on_placed(put.container, now());
  awake_changed_ = true;
  table_.mark(uid);
}

// As ImageManager::work(): from the disk, or from the registry, which is beyond the same line; compiled once; loaded by the keeper.
void SimNode::prepare(const std::string& uid, const agent::command::PrepareImage& x) {
  const Instant t = deps_.world.now();
  oci::Image stored;
  stored.source = "registry";
  const bool there = deps_.images.contains(x.image);
  const auto decision = pulls_.decide(x.image, x.pull, there ? &stored : nullptr, t);
  if (decision.act == agent::PullCore::Act::Refuse) {
    deps_.world.after(1ms, life_, [this, uid, i = x.container, decision] {
      if (auto* entry = find(uid)) entry->core.on_image_failed(i, decision.reason, decision.text, now());
      table_.mark(uid);
    });
    return;
  }
  if (decision.act == agent::PullCore::Act::Use) {
    deps_.world.after(5ms, life_, [this, uid, i = x.container, image = x.image] { image_done(uid, i, image); });
    return;
  }
  deps_.net.call<void>(life_, []() -> Result<> { return {}; }, [this, uid, i = x.container, image = x.image, there](Result<> done) {
    if (done) {
      pulls_.on_answer(image, deps_.world.now());
      deps_.images.insert(image);
      deps_.world.after(200ms, life_, [this, uid, i, image] { image_done(uid, i, image); });
      return;
    }
    pulls_.on_failure(image, done.error(), deps_.world.now());
    if (there) return image_done(uid, i, image);
    if (auto* entry = find(uid)) entry->core.on_image_failed(i, "ErrImagePull", done.error().what, now());
    table_.mark(uid);
  });
}

void SimNode::image_done(const std::string& uid, std::size_t i, const std::string& image) {
  const std::string key = key_of_image(image);
  if (images_put_.insert(key).second) to_keeper(sandbox::PutImage{.key = key, .name = image});
  // The template loads meanwhile.
  deps_.world.after(50ms, life_, [this, uid, i, image, key] {
    auto* entry = find(uid);
    if (entry == nullptr || i >= entry->core.containers() || entry->core.plan().containers[i].image != image) return;
    entry->core.on_image_ready(i, std::make_shared<const agent::PreparedImage>(agent::PreparedImage{.image_id = image + "@sha256:0", .key = key}), "");
    table_.mark(uid);
  });
}

// As Agent::State::on_keeper().
void SimNode::on_keeper(sandbox::Event event) {
  const std::uint64_t id = std::visit([](const auto& e) -> std::uint64_t {
    if constexpr (requires { e.id; }) return e.id;
    return 0;
  }, event);
  const auto known = table_.by_keeper_id(id);
  if (!known) return;
  const auto [entry, i] = *known;
  const std::string uid = entry->core.object()->uid();
  Container& c = containers_[id];
  if (auto* awake = std::get_if<sandbox::PodAwake>(&event)) {
    if (c.pids.insert(awake->row.pid).second) entry->core.on_awake(i);
    awake_changed_ = work_ = true;
    kick();
  } else if (std::holds_alternative<sandbox::PodIdle>(event)) {
    c.pids.clear();
    entry->core.on_idle(i);
    awake_changed_ = work_ = true;
    kick();
  } else if (auto* exited = std::get_if<sandbox::PodExited>(&event)) {
    c.pids.erase(exited->row.pid);
    const bool unknown = exited->code == -1 && exited->signal == 0;
    if (options_.canary == Canary::CrashesLinger && exited->code != 0)
      for (const Duration later : {20s, 60s})
        deps_.world.after(later, life_, [this, uid, i] {
          if (auto* again = find(uid)) again->core.on_exited(i, {.code = 1}, now());
          table_.mark(uid);
        });
    entry->core.on_exited(i, {.code = std::max(exited->code, 0), .signal = exited->signal, .unknown = unknown, .message = exited->text}, now());
    awake_changed_ = true;
    table_.mark(uid);
  } else if (std::holds_alternative<sandbox::PodStopped>(event)) {
    c.pids.clear();
    entry->core.on_stopped(i, {}, now());
    awake_changed_ = true;
    table_.mark(uid);
  } else if (auto* refused = std::get_if<sandbox::Refused>(&event)) {
    deps_.world.trace(std::format("agent: the keeper refused: {}", refused->text));
    if (refused->command == kPutPodCommand) entry->core.on_place_failed(i, refused->text, now());
    if (refused->command == kStopPodCommand) entry->core.on_stopped(i, {}, now());
    table_.mark(uid);
  }
}

}  // namespace skerry::sim
