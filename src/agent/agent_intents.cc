// SPDX-License-Identifier: Apache-2.0
// Changes that somebody asks of this node itself (ADR 0036): told to the API server at once, or, while it is away, made durable, done
// here, and told on return. IntentsCore decides; here it is fed, and what it says is done.
#include <algorithm>
#include <format>

#include "agent/agent_state.h"
#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "kube/quantity.h"

namespace skerry::agent {
namespace {

using Verdict = IntentsCore::Verdict;

constexpr const char *kRestartedAt = "kubectl.kubernetes.io/restartedAt", *kStandIn = "skerry.dev/stand-in";
constexpr int kConflictsMax = 5;
constexpr Duration kStatusPatience = 5s, kStatusStep = 100ms;

std::string value_of(const kube::Object& deployment, LocalChange::Field field) {
  const kube::JsonDoc doc = deployment.parse();
  if (field == LocalChange::Field::Replicas) return std::to_string(doc.root()["spec"]["replicas"].i64(1));
  return std::string(doc.root()["spec"]["template"]["metadata"]["annotations"][kRestartedAt].str());
}

Time created_at(const kube::Object& pod) {
  const kube::JsonDoc doc = pod.parse();
  return from_rfc3339(doc.root()["metadata"]["creationTimestamp"].str()).value_or(Time{});
}

struct Requests {
  std::int64_t cpu_millis = 0, memory_bytes = 0;
};
Requests requests_of(const kube::Object& pod) {
  Requests out;
  const kube::JsonDoc doc = pod.parse();
  for (const kube::Json container : doc.root()["spec"]["containers"].items()) {
    const kube::Json asked = container["resources"]["requests"];
    if (const auto cpu = kube::Quantity::parse(asked["cpu"].str("0"))) out.cpu_millis += cpu->milli_value();
    if (const auto memory = kube::Quantity::parse(asked["memory"].str("0"))) out.memory_bytes += memory->value();
  }
  return out;
}

LocalSlices::Pod::State service_state_of(const PodCore& core) {
  using enum LocalSlices::Pod::State;
  return core.ready() ? Ready : core.leaving() ? Leaving : core.starting() ? OnItsWay : core.ended() || core.held() ? Gone : NotReady;
}

// Nothing more is to be decided of it. A stand-in that ended by itself is still to be removed.
bool over(const PodEntry& entry) {
  return entry.core.ended() && (!entry.stand_in || entry.core.object()->deleting() || entry.core.vanished());
}

std::string random_word(Random& random, std::size_t length, std::string_view letters) {
  std::string out;
  while (out.size() < length) out += letters[random.below(letters.size())];
  return out;
}

}  // namespace

void set_value(kube::MutJson deployment, const LocalChange& c) {
  kube::MutJson spec = deployment.object("spec");
  if (c.field == LocalChange::Field::Replicas) spec.set("replicas", parse_int<std::int64_t>(c.value).value_or(0));
  else spec.object("template").object("metadata").object("annotations").set(kRestartedAt, c.value);
}

// --- facts ------------------------------------------------------------------------------------------------------------------

std::vector<IntentPod> Agent::State::intent_pods_of(const kube::Object& deployment) const {
  std::vector<IntentPod> out;
  for (const std::string& uid : owners.pods_of(deployment)) {
    const PodEntry* entry = table.find(uid);
    if (entry == nullptr || over(*entry)) continue;
    IntentPod pod{.uid = uid, .ready = entry->core.ready(), .held = entry->core.held(), .ended = entry->core.ended(), .created = created_at(*entry->core.object())};
    if (entry->stand_in) {
      const kube::JsonDoc doc = entry->core.object()->parse();
      pod.stand_in = parse_int<IntentId>(doc.root()["metadata"]["annotations"][kStandIn].str()).value_or(~IntentId{0});
    }
    out.push_back(std::move(pod));
  }
  std::ranges::sort(out, {}, &IntentPod::uid);
  return out;
}

// Of the Deployments that intents name, and of those that still have what an intent has left behind.
IntentsCore::Pods Agent::State::intent_pods() const {
  std::map<std::string, kube::ObjectPtr> deployments;
  for (const auto& [id, intent] : intents.intents())
    if (auto deployment = owners.find("Deployment", intent.change.namespace_, intent.change.name); deployment && deployment->uid() == intent.change.uid)
      deployments.emplace(deployment->uid(), std::move(deployment));
  IntentsCore::Pods out;
  for (const auto& [uid, entry] : entries) {
    if ((!entry->stand_in && !entry->core.held()) || over(*entry)) continue;
    if (auto deployment = owners.deployment_of(uid)) {
      deployments.emplace(deployment->uid(), deployment);
    } else {  // what it belonged to is gone: so is the intent, or it will be once the server is asked
      IntentPod orphan{.uid = uid, .stand_in = entry->stand_in ? ~IntentId{0} : 0, .ready = entry->core.ready(), .held = entry->core.held()};
      const bool wanted = std::ranges::any_of(intents.intents(), [&](const auto& one) { return one.second.held.contains(uid); });
      if (entry->stand_in || !wanted) out[""].push_back(std::move(orphan));
    }
  }
  for (const auto& [uid, deployment] : deployments) out[uid] = intent_pods_of(*deployment);
  return out;
}

std::vector<Act> Agent::State::poll_intents() {
  const bool left = std::ranges::any_of(entries, [](const auto& e) { return (e.second->stand_in || e.second->core.held()) && !over(*e.second); });
  std::vector<Act> acts = intents.poll(deps.clock.instant(), intents.empty() && !left ? IntentsCore::Pods{} : intent_pods());
  for (const Act& one : acts) {
    if (const auto* save = std::get_if<act::Save>(&one)) journal.put_intent(save->intent.id, save->intent.save());
    if (const auto* remove = std::get_if<act::Remove>(&one)) journal.remove_intent(remove->id);
  }
  return acts;
}

void Agent::State::carry_out(Act& decided) {
  const auto each = [this](const std::string& uid, auto f) {
    if (PodEntry* entry = find(uid)) {
      f(*entry);
      mark(uid);
    }
  };
  if (const auto* hold = std::get_if<act::Hold>(&decided)) {
    each(hold->uid, [&](PodEntry& e) { e.core.hold("fewer replicas were asked for at this node while the API server is away", now()); });
  } else if (const auto* release = std::get_if<act::Release>(&decided)) {
    each(release->uid, [](PodEntry& e) { e.core.release(); });
  } else if (const auto* restart = std::get_if<act::Restart>(&decided)) {
    each(restart->uid, [&](PodEntry& e) { e.core.restart(now()); });
  } else if (const auto* end = std::get_if<act::End>(&decided)) {
    table.end_stand_in(end->uid, deps.clock.now());
  } else if (const auto* make = std::get_if<act::Make>(&decided)) {
    if (const auto intent = intents.intents().find(make->id); intent != intents.intents().end()) make_stand_ins(intent->second, make->count);
  } else if (auto* again = std::get_if<act::Replay>(&decided)) {
    tasks.spawn("replay", replay(std::move(again->intent)));
  } else if (auto* tell = std::get_if<act::Tell>(&decided)) {
    const LocalChange& c = tell->change;
    if (tell->warning) LOG_WARN("a change that was made at this node does not hold", {"deployment", c.name}, {"namespace", c.namespace_}, {"reason", tell->message});
    else LOG_INFO("a change that was made at this node holds", {"deployment", c.name}, {"namespace", c.namespace_}, {"what", tell->message});
    events.post({.warning = tell->warning, .kind = "Deployment", .object = {.uid = c.uid, .namespace_ = c.namespace_, .name = c.name}, .field_path = "",
                 .reason = std::move(tell->reason), .message = std::move(tell->message)});
    owners.refresh(c.uid);
  }
}

// --- stand-ins --------------------------------------------------------------------------------------------------------------

// The pod to copy: the server's before ours, of them the youngest, which has the newest template.
const PodEntry* Agent::State::sibling_of(const kube::Object& deployment) const {
  const PodEntry* best = nullptr;
  for (const std::string& uid : owners.pods_of(deployment)) {
    const PodEntry* entry = table.find(uid);
    if (entry == nullptr || entry->core.ended()) continue;
    if (best == nullptr || (best->stand_in && !entry->stand_in) ||
        (best->stand_in == entry->stand_in && created_at(*entry->core.object()) > created_at(*best->core.object())))
      best = entry;
  }
  return best;
}

Result<> Agent::State::check_room(const kube::Object& deployment, std::int64_t stand_ins) const {
  if (stand_ins <= 0) return {};
  const PodEntry* sibling = sibling_of(deployment);
  if (sibling == nullptr)
    return Fail({Errc::NotFound, std::format("no pod of Deployment {} is left on this node to make others like it", deployment.name())});
  if (entries.size() + static_cast<std::size_t>(stand_ins) > options.pods_max)
    return Fail({Errc::Exhausted, std::format("this node has {} pods and takes {}: there is no room for {} more", entries.size(), options.pods_max, stand_ins)});
  Requests used;
  for (const auto& [uid, entry] : entries) {
    if (entry->core.ended() || entry->core.held()) continue;
    const Requests one = requests_of(*entry->core.object());
    used.cpu_millis += one.cpu_millis;
    used.memory_bytes += one.memory_bytes;
  }
  const Requests one = requests_of(*sibling->core.object());
  const NodeStatus& status_of_node = reporter.status();
  const auto cpu = kube::Quantity::parse(status_of_node.allocatable_cpu(reporter.machine())), memory = kube::Quantity::parse(status_of_node.allocatable_memory(reporter.machine()));
  CHECK(cpu && memory);  // ours
  if (used.cpu_millis + stand_ins * one.cpu_millis > cpu->milli_value() || used.memory_bytes + stand_ins * one.memory_bytes > memory->value())
    return Fail({Errc::Exhausted, std::format("{} more pods that each request {}m processors and {} bytes of memory do not fit this node, which offers {}m and {} and has given out {}m and {}",
                                              stand_ins, one.cpu_millis, one.memory_bytes, cpu->milli_value(), memory->value(), used.cpu_millis, used.memory_bytes)});
  return {};
}

void Agent::State::make_stand_ins(const Intent& intent, std::int64_t count) {
  const auto deployment = owners.find("Deployment", intent.change.namespace_, intent.change.name);
  for (std::int64_t i = 0; i < count; ++i) {
    // There was room when the change was taken up; other pods may have come since.
    const auto room = deployment ? check_room(*deployment, 1) : Result<>(Fail({Errc::NotFound, "its Deployment is not known here any more"}));
    if (!room) {
      LOG_WARN("stand-ins not made: tried again later", {"deployment", intent.change.name}, {"missing", count - i}, {"reason", room.error()});
      break;
    }
    const kube::ObjectPtr model = sibling_of(*deployment)->core.object();
    auto edit = kube::JsonEdit::copy(model->parse().root());
    kube::MutJson metadata = edit.root().object("metadata");
    const std::string name = std::format("{}-standin-{}", intent.change.name.substr(0, 48), random_word(deps.random, 5, "bcdfghjklmnpqrstvwxz2456789"));
    metadata.set("name", name);
    metadata.set("uid", std::format("{}{:016x}", kStandInUid, deps.random.next()));
    metadata.set("creationTimestamp", to_rfc3339(deps.clock.now()));
    for (const char* field : {"generateName", "resourceVersion", "managedFields", "finalizers", "selfLink"}) metadata.remove(field);
    metadata.object("annotations").set(kStandIn, std::to_string(intent.id));
    edit.root().remove("status");
    edit.root().object("status").set("phase", "Pending");
    auto made = kube::Object::from_json(edit.dump());
    CHECK(made.has_value());  // a copy of a good one
    LOG_INFO("stand-in made", {"pod", name}, {"deployment", intent.change.name}, {"intent", intent.id});
    table.add_stand_in(*made);
  }
  carry_out(table.take_effects());
}

// Services and names follow what this node knows of its pods, not what the server was told of them last.
void Agent::State::update_local_endpoints(bool pods_changed) {
  const auto line = reporter.reachable() && trusts_at == Instant{} ? LocalSlices::Line::There : LocalSlices::Line::Away;
  if (!pods_changed && !local_slices.server_spoke() && line == local_slices.line()) return;
  std::vector<LocalSlices::Pod> pods;
  pods.reserve(entries.size());
  for (const auto& [uid, entry] : entries) {
    const PodCore& core = entry->core;
    pods.push_back({.object = core.object(), .address = core.released() ? "" : core.address(), .state = service_state_of(core), .stand_in = entry->stand_in});
  }
  for (const auto& [key, slice] : local_slices.update(pods, line)) put_slice(key, slice);
}

// --- to the server ----------------------------------------------------------------------------------------------------------

// Reads the Deployment, compares, and patches with the revision that was read. Without `before`: whatever the field says now.
rt::Task<Agent::State::Sent> Agent::State::send_upstream(LocalChange c, std::optional<std::set<std::string>> from) {
  const auto judged = [](const Error& e) {
    const bool refused = e.code == Errc::Denied || e.code == Errc::Invalid || e.code == Errc::Unsupported;
    return Sent{e.code == Errc::NotFound ? Verdict::Gone : refused ? Verdict::Refused : Verdict::Unanswered, e.what};
  };
  for (int i = 0; i < kConflictsMax; ++i) {
    auto got = co_await deps.api.get(client::kDeployments, c.namespace_, c.name);
    if (!got) co_return judged(got.error());
    if ((*got)->uid() != c.uid) co_return Sent{Verdict::Gone, "another Deployment has its name"};
    const std::string there = value_of(**got, c.field);
    if (there == c.value) co_return Sent{Verdict::Held, {}};
    if (from && !from->contains(there)) co_return Sent{Verdict::Lost, there};
    kube::JsonEdit patch;
    patch.root().object("metadata").set("resourceVersion", std::to_string((*got)->revision().value()));
    set_value(patch.root(), c);
    auto done = co_await deps.api.raw("PATCH", client::kDeployments.url(c.namespace_, c.name, c.field == LocalChange::Field::Replicas ? "scale" : ""), patch.dump(), "application/merge-patch+json");
    if (done) co_return Sent{Verdict::Held, {}};
    if (done.error().code != Errc::Conflict) co_return judged(done.error());
  }
  co_return Sent{Verdict::Unanswered, "the Deployment changes all the time"};
}

rt::Task<> Agent::State::replay(Intent intent) {
  // Which pods are not ready is told first: a server that deletes some chooses by that.
  for (Duration waited{0}; status.waiting() > 0 && waited < kStatusPatience; waited += kStatusStep) CO_TRY_OK(co_await rt::sleep_for(kStatusStep));
  LOG_INFO("a change that was made at this node is told to the API server", {"deployment", intent.change.name}, {"from", intent.before}, {"to", intent.change.value});
  auto from = intent.sent;
  from.insert(intent.before);
  CO_TRY(auto sent, co_await send_upstream(intent.change, std::move(from)));
  if (sent.verdict == Verdict::Unanswered) LOG_INFO("not answered: told again later", {"deployment", intent.change.name}, {"reason", sent.text});
  // A change that is being written now was planned on what the intents are: the verdict comes after it.
  while (changing) {
    may_change.reset();
    CO_TRY_OK(co_await may_change.wait());
  }
  intents.on_replayed(intent.id, sent.verdict, std::move(sent.text), deps.clock.instant());
  work.set();
  co_return Result<>{};
}

// --- LocalView --------------------------------------------------------------------------------------------------------------

rt::Task<LocalView::Changed> Agent::State::change(LocalChange c) {
  while (changing) {
    may_change.reset();
    CO_TRY_OK(co_await may_change.wait());
  }
  struct Turn {
    explicit Turn(State& state) : s(state) { s.changing = true; }
    ~Turn() {
      s.changing = false;
      s.may_change.set();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    State& s;
  } const turn(*this);
  const kube::ObjectPtr deployment = owners.find("Deployment", c.namespace_, c.name);
  if (!deployment || deployment->uid() != c.uid || owners.pods_of(*deployment).empty())
    co_return Fail({Errc::NotFound, owners.denied() ? std::format("this node may not read which Deployments own its pods: apply deploy/kubernetes/local-api-policy.yaml, then local-api-rbac.yaml, at the control plane, or change {} there", c.name)
                                                    : std::format("no pod of Deployment {}/{} is on this node: change it at the control plane", c.namespace_, c.name)});
  std::set<std::string> passed_on;  // perhaps
  // What waits still comes first: then the new value joins it, and is told with it.
  if (reporter.reachable() && intents.waiting(c.uid, c.field) == nullptr) {
    CO_TRY(const Sent sent, co_await send_upstream(c, std::nullopt));
    if (sent.verdict == Verdict::Held) {
      auto edit = kube::JsonEdit::copy(deployment->parse().root());
      set_value(edit.root(), c);
      if (auto changed = kube::Object::from_json(edit.dump())) owners.changed(std::move(*changed));
      co_return Changed::Upstream;
    }
    owners.refresh(c.uid);
    if (sent.verdict == Verdict::Gone) co_return Fail({Errc::NotFound, std::format("the control plane does not have Deployment {}/{} any more", c.namespace_, c.name)});
    if (sent.verdict == Verdict::Refused)
      co_return Fail({Errc::Denied, std::format("the control plane does not let this node change it: {}; deploy/kubernetes/local-api-policy.yaml and local-api-rbac.yaml allow it, or change it there", sent.text)});
    LOG_INFO("the line broke while a change was passed on: it is done here", {"deployment", c.name}, {"reason", sent.text});
    passed_on.insert(c.value);
  }
  co_return co_await change_here(std::move(c), deployment, std::move(passed_on));
}

rt::Task<LocalView::Changed> Agent::State::change_here(LocalChange c, kube::ObjectPtr deployment, std::set<std::string> sent) {
  const auto pods = intent_pods_of(*deployment);
  CO_TRY(auto intent, intents.plan(c, value_of(*deployment, c.field), pods, deps.clock.now()));
  intent.sent.merge(sent);
  CO_TRY_OK(check_room(*deployment, IntentsCore::room_needed(intent, pods)));
  auto batch = std::make_shared<std::vector<Change>>();
  if (intents.drops(intent)) batch->push_back(change::RemoveIntent{intent.id});
  else batch->push_back(change::PutIntent{intent.id, intent.save()});
  batch->push_back(change::PutNumber{"next-intent-id", static_cast<std::int64_t>(std::max(intents.next(), intent.id + 1))});
  auto written = co_await write_to_disk(batch);
  if (written) ++writes_of_objects;
  if (!written) co_return Fail({Errc::Unavailable, std::format("the change cannot be kept on this node's disk, so it is not made: {}", written.error().what)});
  journal.put(std::vector<Change>(*batch));  // what the disk refused before and is written again does not come behind it
  LOG_INFO("change made at this node while the API server is away", {"deployment", c.name}, {"namespace", c.namespace_}, {"from", intent.before}, {"to", intent.change.value}, {"intent", intent.id});
  intents.accept(std::move(intent));
  work.set();
  co_return Changed::Here;
}

}  // namespace skerry::agent
