// SPDX-License-Identifier: Apache-2.0
// The pods' side of the agent: what happens to them goes into their cores, what their cores decide is made durable and done.
#include <algorithm>
#include <format>

#include "agent/agent_state.h"
#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "metrics/page.h"
#include "os/fd.h"

namespace skerry::agent {
namespace {
constexpr std::uint8_t kPutPodCommand = 4, kStopPodCommand = 5;  // their place in sandbox::Command, counted from 1
constexpr Duration kToldSoon = 1s, kToldAgain = 10s;  // at most so often: somebody may hold against it

bool shows_ready(const kube::Object& pod) {
  const kube::JsonDoc doc = pod.parse();
  for (const kube::Json condition : doc.root()["status"]["conditions"].items())
    if (condition["type"].str() == "Ready") return condition["status"].str() == "True";
  return true;  // nobody has said anything yet
}
}  // namespace

sandbox::PodSpec spec_of(std::uint64_t id, std::string image_key, const ContainerPlan& plan) {
  return {.id = id,
          .image = std::move(image_key),
          .memory_bytes_max = static_cast<std::uint64_t>(plan.memory_bytes_max),
          .cpu_millis_max = static_cast<std::uint32_t>(std::min<std::int64_t>(plan.cpu_millis_max, 1'000'000)),
          .cpu_millis_requested = static_cast<std::uint32_t>(std::min<std::int64_t>(plan.cpu_millis_request, 1'000'000)),
          .workers = plan.workers};
}

// --- inputs -----------------------------------------------------------------------------------------------------------

void Agent::State::on_pod(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  table.on_pod(before, after);
  carry_out(table.take_effects());
  // A server that heard nothing of this node for a while may have marked its pods unready: their Services miss them until it is told otherwise.
  PodEntry* entry = after ? find(after->uid()) : nullptr;
  if (entry == nullptr || !entry->core.ready() || shows_ready(*after) || deps.clock.instant() < entry->told_again) return;
  entry->told_again = deps.clock.instant() + kToldAgain;
  minute_at = std::min(minute_at, deps.clock.instant() + kToldSoon);  // all of them: it has marked the others too
}

void Agent::State::carry_out(std::vector<Effect> effects) {
  for (Effect& effect : effects) {
    if (auto* want = std::get_if<effect::Want>(&effect)) {
      if (const PodEntry* entry = find(want->uid)) {
        references.want(entry->core.plan());
        owners.put_pod(*entry->core.object(), entry->stand_in ? OwnerCache::Came::FromCheckpoint : OwnerCache::Came::Now);
      }
    } else if (auto* refused = std::get_if<effect::Refused>(&effect)) {
      refuse_pod(std::move(*refused));
    } else if (auto* finished = std::get_if<effect::Finished>(&effect)) {
      status.remove({finished->pod->uid(), finished->pod->namespace_(), finished->pod->name()});
    } else if (auto* gone = std::get_if<effect::Gone>(&effect)) {
      status.forget(gone->uid);
    } else if (auto* unusable = std::get_if<effect::Unusable>(&effect)) {
      const PodEntry* entry = find(unusable->pod->uid());
      pod_informer.reject(unusable->pod, entry == nullptr ? nullptr : entry->core.object());
      LOG_WARN("a version of a pod is not usable: the former holds", {"pod", unusable->pod->name()}, {"reason", unusable->message});
    }
  }
}

void Agent::State::refuse_pod(effect::Refused refused) {
  const PodName name{refused.pod->uid(), refused.pod->namespace_(), refused.pod->name()};
  LOG_WARN("pod refused", {"pod", name.name}, {"namespace", name.namespace_}, {"reason", refused.message});
  kube::JsonEdit patch;
  patch.root().object("metadata").set("uid", name.uid);
  kube::MutJson out = patch.root().object("status");
  // No room is final, as with a kubelet: who made the pod makes another. What is not served may be served by a later version.
  out.set("phase", refused.reason == "OutOfpods" ? "Failed" : "Pending");
  out.set("reason", refused.reason);
  out.set("message", refused.message);
  status.post(name, patch.dump(), StatusWriter::Urgency::Now);
  events.post({.warning = true, .object = name, .field_path = "", .reason = std::move(refused.reason), .message = std::move(refused.message)});
}

// Of the Secrets that the pod pulls with; what is none of the two types is left out, as kubelet does.
std::vector<std::string> Agent::State::docker_configs(const PodEntry& entry) const {
  std::vector<std::string> out;
  for (const std::string& name : entry.core.plan().pull_secrets) {
    const auto found = references.secret(entry.core.object()->namespace_(), name);
    if (!found.object) continue;
    const kube::JsonDoc doc = found.object->parse();
    const std::string_view type = doc.root()["type"].str();
    const std::string_view key = type == "kubernetes.io/dockerconfigjson" ? ".dockerconfigjson" : type == "kubernetes.io/dockercfg" ? ".dockercfg" : "";
    if (key.empty()) continue;
    if (auto text = from_base64(doc.root()["data"][key].str())) out.push_back(std::move(*text));
  }
  return out;
}

void Agent::State::on_pulling(const std::string& uid, std::size_t container) {
  PodEntry* entry = find(uid);
  if (entry == nullptr || container >= entry->core.containers()) return;
  entry->core.on_image_pulling(container);
  mark(uid);
}

void Agent::State::on_image(const std::string& uid, std::size_t container, const ImageManager::Outcome& outcome) {
  PodEntry* entry = find(uid);
  if (entry == nullptr || container >= entry->core.containers()) return;
  if (outcome.image) entry->core.on_image_ready(container, *outcome.image, outcome.event_text, outcome.warning);
  else entry->core.on_image_failed(container, outcome.reason, outcome.image.error().what, now());
  mark(uid);
}

void Agent::State::on_exited(PodEntry& entry, std::size_t i, sandbox::PodExited exited) {
  ContainerRuntime& c = entry.containers[i];
  std::erase(c.pids, exited.row.pid);
  if (exited.code != 0 || exited.signal != 0) exits.add();
  Exit exit{.code = std::max(exited.code, 0), .signal = exited.signal, .out_of_memory = exited.oom_killed,
            .unknown = exited.code == -1 && exited.signal == 0, .requests_lost = exited.requests_lost, .message = std::move(exited.text)};
  if (c.trimming && exit.signal == 9 && !exit.out_of_memory) exit.signal = 0;  // our own kill
  entry.core.on_exited(i, std::move(exit), now());
  awake_changed = true;
  mark(entry.core.object()->uid());
}

void Agent::State::on_keeper(sandbox::Event event) {
  if (auto* x = std::get_if<sandbox::ImageReady>(&event)) return images.on_ready(x->key);
  if (auto* x = std::get_if<sandbox::ImageFailed>(&event)) {
    images.on_failed(x->key, x->text);
    for (auto& [uid, entry] : entries)
      for (std::size_t i = 0; i < entry->core.containers(); ++i)
        if (entry->core.serving(i) && entry->core.image_key(i) == x->key) {
          entry->core.on_image_failed(i, "InvalidImage", x->text, now());
          mark(uid);
        }
    return;
  }
  // Also of pods that are known no more, or are not the keeper's any more.
  if (auto* exited = std::get_if<sandbox::PodExited>(&event)) {
    requests_lost.add(exited->requests_lost);
    connections_lost.add(exited->connections_lost);
  }
  if (auto* gone = std::get_if<sandbox::SandboxLost>(&event)) {
    requests_lost.add(gone->requests_lost);
    connections_lost.add(gone->connections_lost);
    return;
  }
  const std::uint64_t id = std::visit([](const auto& e) -> std::uint64_t {
    if constexpr (requires { e.id; }) return e.id;
    return 0;
  }, event);
  const auto known = table.by_keeper_id(id);
  if (!known) return;
  const auto [entry, i] = *known;
  const std::string& uid = entry->core.object()->uid();
  ContainerRuntime& c = entry->containers[i];
  if (auto* x = std::get_if<sandbox::PodAwake>(&event)) {
    if (std::ranges::find(c.pids, x->row.pid) == c.pids.end()) {
      c.pids.push_back(x->row.pid);
      entry->core.on_awake(i);
    }
    if (x->cold_start_us > 0) cold_start.observe(std::chrono::microseconds(x->cold_start_us));
    awake_changed = true;
    work.set();
  } else if (std::get_if<sandbox::PodIdle>(&event) != nullptr) {
    c.pids.clear();
    entry->core.on_idle(i);
    awake_changed = true;
    work.set();
  } else if (auto* exited = std::get_if<sandbox::PodExited>(&event)) {
    on_exited(*entry, i, std::move(*exited));
  } else if (std::get_if<sandbox::PodStopped>(&event) != nullptr) {
    c.pids.clear();
    if (c.trimming) {
      c.trimming = false;
      entry->core.on_idle(i);
      if (entry->core.serving(i)) send_put(c);
      else entry->core.on_stopped(i, {}, now());
    } else {
      entry->core.on_stopped(i, {}, now());
    }
    awake_changed = true;
    mark(uid);
  } else if (auto* held = std::get_if<sandbox::PodHeld>(&event)) {
    LOG_INFO("pod held back by the keeper", {"pod", entry->core.object()->name()}, {"failures", held->failures}, {"for", std::chrono::milliseconds(held->delay_ms)});
  } else if (auto* refused_by = std::get_if<sandbox::Refused>(&event)) {
    LOG_WARN("the keeper refused", {"pod", entry->core.object()->name()}, {"reason", refused_by->text});
    if (refused_by->command == kPutPodCommand) entry->core.on_place_failed(i, refused_by->text, now());
    if (refused_by->command == kStopPodCommand) entry->core.on_stopped(i, {}, now());
    mark(uid);
  }
}

// A new keeper: images first, then every container that was in the old one's table; sandboxes that live are claimed by id.
void Agent::State::refill() {
  images.refill();
  for (auto& [uid, entry] : entries)
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      ContainerRuntime& c = entry->containers[i];
      c.trimming = false;
      c.pids.clear();
      entry->core.on_idle(i);  // the new keeper says who is awake
      if (!c.placed) continue;
      send_put(c);
      if (!entry->core.serving(i)) keeper->send(sandbox::StopPod{c.spec.id, static_cast<std::uint32_t>(entry->core.plan().grace / 1ms)});
    }
  awake_changed = true;
  work.set();
}

namespace {
std::optional<Instant> earlier(std::optional<Instant> a, std::optional<Instant> b) { return a && b ? std::min(*a, *b) : a ? a : b; }
}  // namespace

// --- decisions and their execution ----------------------------------------------------------------------------------------

// Durable when it returns. A database that is damaged while the agent lives costs nothing: the agent holds all that was in it.
rt::Task<> Agent::State::write_to_disk(Journal::Batch batch) {
  const auto write = [this, batch]() -> Result<> { return checkpoint->write(*batch); };
  auto done = co_await disk->run<void>(write);
  if (!done && done.error().code == Errc::Corrupt) {
    const Error damage = done.error();
    const auto all = std::make_shared<const std::vector<Change>>(everything());
    CO_TRY_OK(co_await disk->run<void>([this, all]() -> Result<> { return checkpoint->remake(*all); }));
    LOG_ERROR("the checkpoint was damaged: it was made anew from what the node holds; look at the disk", {"folder", options.data_folder.string()}, {"changes", all->size()}, {"reason", damage});
    tell_of_damage("The node's checkpoint was damaged and made anew from what the node holds; look at its disk: " + damage.what);
    done = co_await disk->run<void>(write);
  }
  // An older copy that knows of no change made here, or of one that is over, would lose what was acknowledged, or tell it again.
  const auto is_intent = [](const Change& c) { return std::holds_alternative<change::PutIntent>(c) || std::holds_alternative<change::RemoveIntent>(c); };
  if (done && std::ranges::any_of(*batch, is_intent)) copy_at = std::min(copy_at, deps.clock.instant() + options.slow_write_period);
  co_return done;
}

// One try; where it fails the next is due at disk_again. The refusal and its end are told once.
rt::Task<> Agent::State::write_checkpoint(Journal::Batch batch) {
  auto done = co_await write_to_disk(batch);
  const bool refused = !disk_trouble.empty();
  disk_trouble = done ? "" : done.error().what;
  if (done) {
    journal.on_written();
    table.on_durable();
    disk_again = Instant{};
    disk_backoff.reset();
    checkpoint_writes.add();
    if (std::ranges::any_of(*batch, [](const Change& c) { return !std::holds_alternative<change::PutNumber>(c); })) ++writes_of_objects;
  } else {
    disk_again = deps.clock.instant() + disk_backoff.next(deps.random);
  }
  if (refused != done.has_value()) co_return Result<>{};  // nothing new
  if (done) LOG_INFO("the checkpoint can be written again: what waited is begun", {"changes", batch->size()});
  else LOG_ERROR("the checkpoint cannot be written: no new pod is started, what is here goes on; make room on the disk, or replace it if it fails", {"folder", options.data_folder.string()}, {"reason", disk_trouble});
  events.post({.warning = !done, .kind = "Node", .object = {.uid = options.node_name, .namespace_ = "", .name = options.node_name}, .field_path = "",
               .reason = done ? "CheckpointWritable" : "CheckpointNotWritable",
               .message = done ? "The node's checkpoint can be written again" : "No new pod is started, what is here goes on: " + disk_trouble});
  reporter.status().set_disk_trouble(done ? "" : "the node's checkpoint cannot be written: " + disk_trouble);
  reporter.touch();
  co_return Result<>{};
}

// Durable before acted upon. Nothing new is begun while the disk refuses; what is on it already is started and stopped all the same.
rt::Task<> Agent::State::pump() {
  std::vector<PodTable::Todo> todo;
  std::vector<Act> acts;
  for (;;) {
    if (!work.is_set() && !table.marked()) {
      if (const auto until = earlier(table.deadline(), journal.waiting() ? disk_again : intents.deadline())) {
        CO_TRY_OK(co_await work.wait_for(std::clamp<Duration>(*until - deps.clock.instant(), 1ms, 60s)));
      } else {
        CO_TRY_OK(co_await work.wait());
      }
    }
    work.reset();
    if (awake_changed) update_awake();
    if (!journal.waiting()) acts = poll_intents();
    auto round = table.round(now(), references);
    if (round.forgets) write_slowly(deps.clock.instant());
    journal.put(std::move(round.write));
    std::ranges::move(round.todo, std::back_inserter(todo));
    if (deps.clock.instant() >= disk_again)
      if (auto batch = journal.take()) CO_TRY_OK(co_await write_checkpoint(std::move(batch)));
    for (auto& [uid, commands] : journal.waiting() ? table.take_ahead(todo) : std::exchange(todo, {}))
      for (Command& command : commands) execute(uid, command);
    // While the disk refuses, only what says nothing new about an intent.
    if (!journal.waiting() || std::ranges::none_of(acts, [](const Act& one) { return std::holds_alternative<act::Save>(one); }))
      for (Act& one : std::exchange(acts, {})) carry_out(one);
    update_local_endpoints(round.asked > 0);
  }
}

LogPlace Agent::State::place_of(const PodEntry& entry, std::size_t i) const {
  const PodPlan& plan = entry.core.plan();
  return {plan.pod->namespace_, plan.pod->name, plan.pod->uid, plan.containers[i].name};
}
PodName Agent::State::name_of(const PodEntry& entry) const {
  const kube::Object& o = *entry.core.object();
  return {o.uid(), o.namespace_(), o.name()};
}

void Agent::State::send_put(ContainerRuntime& c) {
  const int fds[] = {c.listener.get(), c.assignment.get(), c.metrics.get(), c.log.get()};
  keeper->send(sandbox::PutPod{.spec = c.spec}, std::span(fds, c.log ? 4 : 3));
}

Result<> Agent::State::put(PodEntry& entry, command::Put& put) {
  ContainerRuntime& c = entry.containers[put.container];
  TRY(const int assignment, sandbox::seal_assignment(put.assignment));
  c.assignment.reset(assignment);
  if (!c.metrics || c.spec.workers != put.assignment.workers) {
    TRY(const int page, metrics::create_page(put.assignment.workers));
    c.metrics.reset(page);
  }
  TRY(c.log, logs.open(place_of(entry, put.container), put.attempt));
  c.spec = spec_of(put.id.value(), put.image_key, entry.core.plan().containers[put.container]);
  c.placed = true;
  c.trimming = false;
  send_put(c);
  return {};
}

void Agent::State::execute(const std::string& uid, Command& command) {
  PodEntry* entry = find(uid);
  if (entry == nullptr) return;
  if (auto* x = std::get_if<command::PrepareImage>(&command)) {
    references.want(entry->core.plan());
    images.prepare({.reference = x->image, .pull = x->pull, .wagi = x->wagi, .docker_configs = docker_configs(*entry)},
                   {.pulling = [this, uid, container = x->container] { on_pulling(uid, container); },
                    .done = [this, uid, container = x->container](const ImageManager::Outcome& outcome) { on_image(uid, container, outcome); }});
  } else if (auto* open = std::get_if<command::OpenListener>(&command)) {
    ContainerRuntime& c = entry->containers[open->container];
    const auto address = os::Ipv4::parse(open->address);
    CHECK(address.has_value());
    auto socket = deps.network.listen(*address, open->port);
    if (socket) {
      c.listener = std::move(*socket);
      entry->core.on_listening(open->container);
    } else {
      entry->core.on_listen_failed(open->container, socket.error().what, now());
    }
    mark(uid);
  } else if (auto* p = std::get_if<command::Put>(&command)) {
    auto done = put(*entry, *p);
    if (done) {
      pods_started.add();
      entry->core.on_placed(p->container, now());
    } else {
      entry->core.on_place_failed(p->container, done.error().what, now());
    }
    mark(uid);
  } else if (auto* relog = std::get_if<command::Relog>(&command)) {
    ContainerRuntime& c = entry->containers[relog->container];
    auto file = logs.open(place_of(*entry, relog->container), relog->attempt);
    if (!file) {
      LOG_WARN("log not opened", {"reason", file.error()});
      return;
    }
    c.log = std::move(*file);
    const int fd = c.log.get();
    keeper->send(sandbox::Relog{relog->id.value()}, std::span(&fd, 1));
  } else if (auto* stop_pod = std::get_if<command::Stop>(&command)) {
    keeper->send(sandbox::StopPod{stop_pod->id.value(), static_cast<std::uint32_t>(stop_pod->grace / 1ms)});
  } else if (auto* close = std::get_if<command::CloseListener>(&command)) {
    entry->containers[close->container].listener.reset();
  } else if (auto* drop = std::get_if<command::Drop>(&command)) {
    ContainerRuntime& c = entry->containers[drop->container];
    c.placed = false;
    c.pids.clear();
    keeper->send(sandbox::DropPod{drop->id.value()});
    awake_changed = true;
  } else if (std::get_if<command::Release>(&command) != nullptr) {
    for (ContainerRuntime& c : entry->containers) c = ContainerRuntime{};
    table.release_address(uid);
    awake_changed = true;
  } else if (auto* post = std::get_if<command::PostStatus>(&command)) {
    if (entry->stand_in) return;
    const bool settle = !entry->core.ready() && !entry->core.ended();
    status.post(name_of(*entry), std::move(post->json), settle ? StatusWriter::Urgency::MaySettle : StatusWriter::Urgency::Now);
  } else if (auto* event = std::get_if<command::PostEvent>(&command)) {
    events.post({.warning = event->type == command::PostEvent::Type::Warning, .object = name_of(*entry),
                 .field_path = std::format("spec.containers{{{}}}", event->container), .reason = std::move(event->reason), .message = std::move(event->message)});
  } else if (std::get_if<command::Delete>(&command) != nullptr) {
    if (entry->stand_in) entry->core.on_vanished();  // nobody else has its object
    else status.remove(name_of(*entry));
    if (entry->stand_in) mark(uid);
  } else if (std::get_if<command::Forget>(&command) != nullptr) {
    forget(uid);
  }
}

void Agent::State::forget(const std::string& uid) {
  const PodEntry* entry = find(uid);
  if (entry == nullptr) return;
  if (auto removed = logs.remove(entry->core.object()->namespace_(), entry->core.object()->name(), uid); !removed)
    LOG_WARN("logs not removed", {"reason", removed.error()});
  status.forget(uid);
  owners.remove_pod(uid);
  table.forget(uid);
}

// --- NodeView -------------------------------------------------------------------------------------------------------------

std::vector<ContainerView> Agent::State::containers() const {
  std::vector<ContainerView> out;
  out.reserve(entries.size());
  for (const auto& [uid, entry] : entries)
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      const ContainerRuntime& c = entry->containers[i];
      out.push_back({.place = place_of(*entry, i), .attempt = entry->core.restarts(i), .awake = entry->core.awake(i), .serving = entry->core.serving(i), .waiting = std::string(entry->core.waiting(i)),
                     .metrics_fd = c.metrics.get(), .pids = c.pids, .started = std::nullopt});
    }
  return out;
}
std::optional<std::uint32_t> Agent::State::attempt(const std::string& uid, std::string_view container) const {
  const PodEntry* entry = table.find(uid);
  if (entry == nullptr) return std::nullopt;
  const PodCore& core = entry->core;
  for (std::size_t i = 0; i < core.containers(); ++i)
    if (core.plan().containers[i].name == container) return core.over(i) ? std::nullopt : std::optional(core.restarts(i));
  return std::nullopt;
}
std::vector<kube::ObjectPtr> Agent::State::pods() const {
  std::vector<kube::ObjectPtr> out;
  for (const auto& [uid, entry] : entries) out.push_back(entry->core.object());
  return out;
}
std::string Agent::State::health() const {
  if (!started) return "the agent is not running";
  if (!disk_trouble.empty()) return "the checkpoint cannot be written: " + disk_trouble;
  if (!keeper->connected()) return "no keeper: idle pods do not wake; a new one is being started";
  return "";
}

}  // namespace skerry::agent
