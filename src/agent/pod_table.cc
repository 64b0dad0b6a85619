// SPDX-License-Identifier: Apache-2.0
#include "agent/pod_table.h"

#include <algorithm>
#include <format>
#include <ranges>
#include <unordered_map>

#include "base/check.h"

namespace skerry::agent {
namespace {
// An older copy does not know which ids were given out since it was made: the next ones lie far beyond them.
constexpr std::uint64_t kGivenOutSince = 1'000'000'000;
}  // namespace

std::size_t essence_of(const kube::Object& object) {
  const kube::JsonDoc doc = object.parse();
  kube::JsonEdit edit = kube::JsonEdit::copy(doc.root());
  kube::MutJson root = edit.root();
  root.remove("status");
  if (kube::MutJson meta = root["metadata"]) {
    meta.remove("resourceVersion");
    meta.remove("managedFields");
  }
  return std::hash<std::string>{}(edit.dump());
}

PodTable::PodTable(Options options, std::function<void()> marked)
    : options_(std::move(options)), on_marked_(std::move(marked)), addresses_(options_.addresses) {}

// --- what there is --------------------------------------------------------------------------------------------------------

PodEntry* PodTable::find(const std::string& uid) {
  const auto it = entries_.find(uid);
  return it == entries_.end() ? nullptr : it->second.get();
}
const PodEntry* PodTable::find(const std::string& uid) const {
  const auto it = entries_.find(uid);
  return it == entries_.end() ? nullptr : it->second.get();
}
std::optional<PodTable::Place> PodTable::by_keeper_id(std::uint64_t id) const {
  const auto it = by_keeper_id_.find(id);
  return it == by_keeper_id_.end() ? std::nullopt : std::optional(it->second);
}
void PodTable::keeper_id_seen(std::uint64_t id) { next_keeper_id_ = std::max(next_keeper_id_, id + 1); }

void PodTable::mark(const std::string& uid) {
  marked_.insert(uid);
  if (on_marked_) on_marked_();
}
void PodTable::mark_all() {
  for (const auto& [uid, entry] : entries_) marked_.insert(uid);
  if (on_marked_) on_marked_();
}
void PodTable::hold_starts(bool held) {
  if (std::exchange(starts_held_, held) && !held) mark_all();
}

void PodTable::forget(const std::string& uid) {
  const auto it = entries_.find(uid);
  if (it == entries_.end()) return;
  for (std::size_t i = 0; i < it->second->core.containers(); ++i) by_keeper_id_.erase(it->second->core.keeper_id(i).value());
  addresses_.release(uid);
  entries_.erase(it);
}

// --- from the checkpoint --------------------------------------------------------------------------------------------------

// Nothing, or why this pod could not be taken over.
std::optional<std::string> PodTable::take_over(const Checkpoint::Pod& pod, Now now) {
  const auto failed = [&](std::string_view why) { return std::format("pod {}/{}: {}", pod.object->namespace_(), pod.object->name(), why); };
  auto plan = plan_pod(*pod.object, options_.plan);
  if (!plan) return failed(plan.error().what);
  auto doc = kube::JsonDoc::parse(pod.state);
  if (!doc) return failed(doc.error().what);
  auto core = PodCore::restore(options_.core, pod.object, std::move(*plan), doc->root(), now);
  if (!core) return failed(core.error().what);
  auto entry = std::make_unique<PodEntry>(std::move(*core));
  // What has ended gave its address back, and another may have it since.
  if (!entry->core.address().empty() && !entry->core.released()) {
    const auto address = os::Ipv4::parse(entry->core.address());
    if (!address || !addresses_.reserve(pod.object->uid(), *address)) return failed(std::format("its address {} is taken or not of this node's range", entry->core.address()));
  }
  entry->saved = std::hash<std::string>{}(pod.state);
  entry->essence = essence_of(*pod.object);
  entry->durable = !entry->core.address().empty();
  for (std::size_t i = 0; i < entry->core.containers(); ++i) {
    by_keeper_id_[entry->core.keeper_id(i).value()] = {entry.get(), i};
    keeper_id_seen(entry->core.keeper_id(i).value());
  }
  entries_[pod.object->uid()] = std::move(entry);
  return std::nullopt;
}

PodTable::Restored PodTable::restore(const Checkpoint::Loaded& loaded, Now now) {
  Restored out;
  next_keeper_id_ = static_cast<std::uint64_t>(std::max<std::int64_t>(loaded.number("next-keeper-id", 1), 1));
  saved_keeper_id_ = next_keeper_id_;
  if (loaded.older) next_keeper_id_ += kGivenOutSince;
  for (const Checkpoint::Pod& pod : loaded.pods) {
    if (auto problem = take_over(pod, now)) out.problems.push_back(std::move(*problem));
    else if (const PodEntry* entry = find(pod.object->uid()); !entry->core.vanished() && !entry->stand_in) out.objects.push_back(pod.object);
  }
  for (const kube::ObjectPtr& object : loaded.objects) {
    if (object->kind() != "Pod") continue;
    out.objects.push_back(object);
    add(object);
  }
  return out;
}

// Whether this listener can be the pod's.
bool PodTable::take_address(PodEntry& entry, std::optional<os::Ipv4> listens_at) {
  if (!listens_at) return !entry.core.address().empty();
  if (!entry.core.address().empty()) return listens_at->str() == entry.core.address();
  if (!addresses_.reserve(entry.core.object()->uid(), *listens_at)) return false;
  entry.core.on_address(listens_at->str());
  return true;
}

PodTable::Met PodTable::meet(const Held& held, bool forgetful) {
  keeper_id_seen(held.id);
  const auto known = by_keeper_id(held.id);
  if (!known) return forgetful && held.state == Held::State::Serving ? Met::Stranger : Met::Drop;
  if (held.state == Held::State::Stopped) return Met::Drop;
  const auto [entry, i] = *known;
  if (!take_address(*entry, held.listens_at)) return Met::Drop;
  entry->held_by_keeper = true;
  const bool outdated = entry->core.image_key(i) != held.image_key;
  entry->core.on_adopted(i, held.awake, held.state == Held::State::Stopping ? PodCore::Held::Stopping : outdated ? PodCore::Held::Outdated : PodCore::Held::Serving);
  return Met::Adopted;
}

// --- the API server's word ------------------------------------------------------------------------------------------------

void PodTable::on_pod(const kube::ObjectPtr& before, const kube::ObjectPtr& after) {
  const kube::Object& named = after ? *after : *before;
  PodEntry* entry = after ? find(after->uid()) : nullptr;
  std::optional<PodPlan> newer;
  if (after) {
    auto plan = usable(*after, entry);
    if (!plan) {
      effects_.emplace_back(effect::Unusable{after, plan.error().what});
      return;
    }
    newer = std::move(*plan);
  }
  seen_[{named.namespace_(), named.name()}] = after;
  if (before && (!after || after->uid() != before->uid())) {
    refused_.erase(before->uid());
    if (PodEntry* old = find(before->uid())) {
      old->core.on_vanished();
      effects_.emplace_back(effect::Gone{before->uid()});
      mark(before->uid());
    }
  }
  if (!after) return;
  if (entry != nullptr && !same_containers(*newer, entry->core.plan())) {  // nothing was begun: begin with this
    forget(after->uid());
    entry = nullptr;
  }
  if (entry == nullptr) return add(after);
  entry->core.on_desired(after, std::move(*newer));
  mark(after->uid());
}

bool PodTable::same_containers(const PodPlan& a, const PodPlan& b) {
  return std::ranges::equal(a.containers, b.containers, {}, &ContainerPlan::name, &ContainerPlan::name);
}

// A version that cannot be: no API server says so that is in its right mind, and on the disk it would cost us the pod at the next start.
Result<std::optional<PodPlan>> PodTable::usable(const kube::Object& pod, const PodEntry* entry) const {
  if (pod.node_name() != options_.core.node_name)
    return Fail({Errc::Invalid, std::format("it is bound to the node \"{}\", and this is \"{}\"", pod.node_name(), options_.core.node_name)});
  auto plan = plan_pod(pod, options_.plan);
  if (!plan && (entry != nullptr || plan.error().code == Errc::Corrupt)) return Fail(std::move(plan).error());
  if (entry == nullptr) return plan ? std::optional(std::move(*plan)) : std::nullopt;  // unknown so far: add() says what is wrong
  const PodPlan& present = entry->core.plan();
  if (!same_containers(*plan, present) && !entry->core.address().empty())
    return Fail({Errc::Invalid, "its containers are others than before"});
  if (present.deleting && !plan->deleting) return Fail({Errc::Invalid, "it was deleted before, which nobody can take back"});
  return std::optional(std::move(*plan));
}

// A pod that cannot be taken at all is told so, and goes when it is deleted.
void PodTable::refuse(const kube::ObjectPtr& object, std::string reason, std::string message) {
  if (object->deleting()) {
    effects_.emplace_back(effect::Finished{object});
    return;
  }
  if (!refused_.emplace(object->uid(), std::pair(reason, message)).second) return;
  effects_.emplace_back(effect::Refused{object, std::move(reason), std::move(message)});
}

void PodTable::add(const kube::ObjectPtr& object) {
  if (object->phase() == "Succeeded" || object->phase() == "Failed") {  // it ended before we knew it
    if (object->deleting()) effects_.emplace_back(effect::Finished{object});
    return;
  }
  auto plan = plan_pod(*object, options_.plan);
  if (!plan) return refuse(object, "Unsupported", plan.error().what);
  if (entries_.size() >= options_.pods_max) return refuse(object, "OutOfpods", std::format("This node runs {} pods already, which is its limit", entries_.size()));
  std::vector<KeeperId> ids;
  for (std::size_t i = 0; i < plan->containers.size(); ++i) ids.emplace_back(next_keeper_id_++);
  const auto& entry = entries_[object->uid()] = std::make_unique<PodEntry>(PodCore(options_.core, object, std::move(*plan), ids));
  for (std::size_t i = 0; i < ids.size(); ++i) by_keeper_id_[ids[i].value()] = {entry.get(), i};
  effects_.emplace_back(effect::Want{object->uid()});
  mark(object->uid());
}

void PodTable::end_stand_in(const std::string& uid, Time now) {
  PodEntry* entry = find(uid);
  if (entry == nullptr || !entry->stand_in || entry->core.object()->deleting()) return;
  auto edit = kube::JsonEdit::copy(entry->core.object()->parse().root());
  edit.root().object("metadata").set("deletionTimestamp", to_rfc3339(now));
  auto leaving = kube::Object::from_json(edit.dump());
  CHECK(leaving.has_value());  // only a time was added to a good one
  auto plan = plan_pod(**leaving, options_.plan);
  if (plan) entry->core.on_desired(std::move(*leaving), std::move(*plan));
  else entry->core.on_vanished();
  mark(uid);
}

void PodTable::on_listed(const std::function<kube::ObjectPtr(std::string_view, std::string_view)>& listed) {
  for (auto& [uid, entry] : entries_) {
    if (entry->stand_in) continue;
    const auto object = listed(entry->core.object()->namespace_(), entry->core.object()->name());
    if (object && object->uid() == uid) continue;
    entry->core.on_vanished();
    mark(uid);
  }
}

// --- rounds ---------------------------------------------------------------------------------------------------------------

std::optional<Instant> PodTable::deadline() const {
  std::optional<Instant> first;
  for (const auto& [uid, entry] : entries_) {
    if (waits(*entry)) continue;
    if (const auto at = entry->core.deadline(); at && (!first || *at < *first)) first = at;
  }
  return first;
}

void PodTable::ask(PodEntry& entry, Now now, const References& references, Round& out, std::vector<Command>& commands) {
  if (before_asking_) before_asking_(entry);
  // An address is only a number until it is on the disk: it is chosen here, so that it is written with the rest.
  for (int round = 0; round < 4; ++round) {
    bool again = false;
    for (Command& command : entry.core.poll(now, references)) {
      if (std::holds_alternative<command::AllocateAddress>(command)) {
        auto address = addresses_.allocate(entry.core.object()->uid());
        if (address) entry.core.on_address(address->str());
        else entry.core.on_address_failed(address.error().what, now);
        again = true;
      } else {
        commands.push_back(std::move(command));
      }
    }
    if (!again) break;
  }
  const std::string& uid = entry.core.object()->uid();
  if (std::ranges::any_of(commands, [](const Command& c) { return std::holds_alternative<command::Forget>(c); })) {
    out.write.push_back(change::RemovePod{uid});
    out.forgets = true;
    return;
  }
  std::string state = entry.core.save();
  const std::size_t essence = essence_of(*entry.core.object()), saved = std::hash<std::string>{}(state);
  if (essence != entry.essence) out.write.push_back(change::PutPod{entry.core.object(), std::move(state)});
  else if (saved != entry.saved) out.write.push_back(change::PutPodState{uid, std::move(state)});
  entry.essence = essence;
  entry.saved = saved;
  if (!entry.durable && !entry.core.address().empty()) writing_.insert(uid);
}

PodTable::Round PodTable::round(Now now, const References& references) {
  Round out;
  for (const auto& [uid, entry] : entries_)
    if (const auto at = entry->core.deadline(); at && *at <= now.mono) marked_.insert(uid);
  for (const std::string& uid : std::exchange(marked_, {})) {
    PodEntry* entry = find(uid);
    if (entry == nullptr || waits(*entry)) continue;
    std::vector<Command> commands;
    ++out.asked;
    ask(*entry, now, references, out, commands);
    if (!commands.empty()) out.todo.push_back({uid, std::move(commands)});
  }
  if (next_keeper_id_ != saved_keeper_id_) {
    saved_keeper_id_ = next_keeper_id_;
    out.write.push_back(change::PutNumber{"next-keeper-id", static_cast<std::int64_t>(next_keeper_id_)});
  }
  return out;
}

void PodTable::on_durable() {
  for (const std::string& uid : std::exchange(writing_, {}))
    if (PodEntry* entry = find(uid)) entry->durable = true;
}

std::vector<Change> PodTable::everything() const {
  std::vector<Change> out{change::PutNumber{"next-keeper-id", static_cast<std::int64_t>(next_keeper_id_)}};
  for (const auto& [uid, entry] : entries_)
    if (!entry->core.forgotten()) out.emplace_back(change::PutPod{entry->core.object(), entry->core.save()});
  return out;
}

std::vector<PodTable::Todo> PodTable::take_ahead(std::vector<Todo>& todo) const {
  const auto waits = [](const Command& c) {
    return std::holds_alternative<command::PostStatus>(c) || std::holds_alternative<command::Release>(c) || std::holds_alternative<command::Delete>(c) ||
           std::holds_alternative<command::Forget>(c);
  };
  std::vector<Todo> out, left;
  // What comes again is not kept twice, and of Events the newest: the disk may be full for weeks.
  constexpr std::size_t kEventsMax = 16;
  std::unordered_map<std::string, std::size_t> kept;  // newest first
  const auto first = [&](const std::string& uid, const Command& c) {
    if (std::holds_alternative<command::PostStatus>(c)) return kept[uid + " status"]++ == 0;
    if (const auto* image = std::get_if<command::PrepareImage>(&c)) return kept[std::format("{} image {}", uid, image->container)]++ == 0;
    if (std::holds_alternative<command::PostEvent>(c)) return kept[uid + " events"]++ < kEventsMax;
    return true;
  };
  for (Todo& one : std::exchange(todo, {}) | std::views::reverse) {
    const PodEntry* entry = find(one.uid);
    Todo ahead{one.uid, {}}, later{one.uid, {}};
    for (Command& c : one.commands) {
      if (entry != nullptr && entry->durable && !waits(c)) ahead.commands.push_back(std::move(c));
      else if (first(one.uid, c)) later.commands.push_back(std::move(c));
    }
    if (!ahead.commands.empty()) out.push_back(std::move(ahead));
    if (!later.commands.empty()) left.push_back(std::move(later));
  }
  std::ranges::reverse(out);
  std::ranges::reverse(left);
  todo = std::move(left);
  return out;
}

std::vector<Change> PodTable::latest_objects() {
  std::vector<Change> out;
  for (auto& [key, object] : std::exchange(seen_, {})) {
    PodEntry* entry = object ? find(object->uid()) : nullptr;
    // What is refused, or ended before we knew it, has no state; an informer that resumes must know of it all the same.
    if (entry == nullptr && object) {
      out.push_back(change::PutObject{object});
      continue;
    }
    out.push_back(change::RemoveObject{"Pod", key.first, key.second});
    if (entry == nullptr || entry->core.forgotten()) continue;
    std::string state = entry->core.save();
    entry->saved = std::hash<std::string>{}(state);
    entry->essence = essence_of(*entry->core.object());
    out.push_back(change::PutPod{object, std::move(state)});
  }
  return out;
}

}  // namespace skerry::agent
