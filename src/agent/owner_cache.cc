// SPDX-License-Identifier: Apache-2.0
#include "agent/owner_cache.h"

#include <set>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "kube/json.h"

namespace skerry::agent {

OwnerCache::OwnerCache(rt::Loop& loop, client::Client& api, Clock& clock, Options options, Stored stored)
    : api_(api), clock_(clock), options_(options), stored_(std::move(stored)), tasks_(loop) {}

// The owner that controls it, if it is of a kind that is followed; else an empty kind.
std::pair<OwnerCache::Key, std::string> OwnerCache::controller_of(const kube::Object& object) {
  const kube::JsonDoc doc = object.parse();
  for (const kube::Json owner : doc.root()["metadata"]["ownerReferences"].items())
    if (owner["controller"].boolean() && is_owner(owner["kind"].str()) && owner["apiVersion"].str() == "apps/v1")
      return {{std::string(owner["kind"].str()), object.namespace_(), std::string(owner["name"].str())}, std::string(owner["uid"].str())};
  return {};
}

void OwnerCache::set_object(Owner& owner, kube::ObjectPtr object) {
  owner.object = std::move(object);
  if (owner.object) std::tie(owner.above, owner.above_uid) = controller_of(*owner.object);
}

void OwnerCache::restore(kube::ObjectPtr object) {
  Key key{object->kind(), object->namespace_(), object->name()};
  Owner& owner = owners_[std::move(key)];
  owner.uid = object->uid();
  owner.due = owner.old_at = clock_.instant() + options_.fresh_for;
  set_object(owner, std::move(object));
  some_unused_ = true;
}

void OwnerCache::want(const Key& key, const std::string& uid, Instant due) {
  Owner& owner = owners_[key];
  if (owner.uid == uid && owner.object) return;
  if (owner.uid != uid && owner.object) {  // another one of this name
    owner.object = nullptr;
    stored_(std::get<0>(key), std::get<1>(key), std::get<2>(key), nullptr);
  }
  owner.uid = uid;
  owner.answered = false;
  owner.due = owner.in_flight ? std::min(owner.due, due) : due;
}

void OwnerCache::put_pod(const kube::Object& pod, Came came) {
  auto [key, uid] = controller_of(pod);
  if (std::get<0>(key).empty() || controllers_.contains(pod.uid())) return;  // a controller does not change
  if (owners_.size() >= options_.owners_max && !owners_.contains(key)) return;
  const Instant soon = clock_.instant() + options_.settle;
  want(key, uid, clock_.instant());  // an unknown one at once: the line may go at any moment
  Owner& owner = owners_[key];
  ++owner.pods;
  if (came == Came::Now) owner.due = std::min(owner.due, soon);
  controllers_.emplace(pod.uid(), std::move(key));
}

void OwnerCache::remove_pod(const std::string& uid) {
  const auto known = controllers_.find(uid);
  if (known == controllers_.end()) return;
  const auto owner = owners_.find(known->second);
  controllers_.erase(known);
  if (owner == owners_.end() || owner->second.pods == 0) return;
  --owner->second.pods;
  some_unused_ = some_unused_ || owner->second.pods == 0;
  owner->second.due = std::min(owner->second.due, clock_.instant() + options_.settle);
}

void OwnerCache::tick(Instant now, Line line) {
  forget_unused();
  if (line == Line::There) return ask(now);
  // Nodes come back by the thousand: not all with a question that can wait.
  for (auto& [key, owner] : owners_)
    if (owner.object && owner.due <= now && owner.due == owner.old_at) owner.due = owner.old_at = now + options_.late;
}

void OwnerCache::refresh(const std::string& uid) {
  for (auto& [key, owner] : owners_)
    if (owner.uid == uid) owner.due = clock_.instant();
}

void OwnerCache::changed(kube::ObjectPtr object) {
  const auto known = owners_.find({object->kind(), object->namespace_(), object->name()});
  if (known == owners_.end() || known->second.uid != object->uid()) return;
  stored_(object->kind(), object->namespace_(), object->name(), object);
  refresh(object->uid());
  set_object(known->second, std::move(object));
}

void OwnerCache::forget_unused() {
  if (!some_unused_) return;
  // While a ReplicaSet is still being asked for, nobody knows which Deployment it needs: in a rollout that is the one that is there.
  for (const auto& [key, owner] : owners_)
    if (owner.pods > 0 && !owner.object && !owner.answered) return;
  some_unused_ = false;
  std::set<Key> used;
  for (const auto& [key, owner] : owners_) {
    if (owner.pods == 0) continue;
    used.insert(key);
    if (owner.object) used.insert(owner.above);
  }
  std::erase_if(owners_, [&](const auto& entry) {
    if (used.contains(entry.first)) return false;
    if (entry.second.in_flight) {
      some_unused_ = true;
      return false;
    }
    if (entry.second.object) stored_(std::get<0>(entry.first), std::get<1>(entry.first), std::get<2>(entry.first), nullptr);
    return true;
  });
}

void OwnerCache::ask(Instant now) {
  for (auto& [key, owner] : owners_) {
    if (in_flight_ >= options_.in_flight_max) return;
    if (owner.in_flight || owner.due > now) continue;
    owner.in_flight = true;
    owner.due = Instant::max();  // what makes it due meanwhile counts after the answer
    ++in_flight_;
    tasks_.spawn("owner", fetch(key));
  }
}

rt::Task<> OwnerCache::fetch(Key key) {
  const auto& [kind, ns, name] = key;
  auto got = co_await api_.get(kind == "ReplicaSet" ? client::kReplicaSets : client::kDeployments, ns, name);
  --in_flight_;
  const auto it = owners_.find(key);
  if (it == owners_.end()) co_return Result<>{};
  Owner& owner = it->second;
  owner.in_flight = false;
  const Instant now = clock_.instant();
  const bool refused = !got && got.error().code == Errc::Denied, found = got && (*got)->uid() == owner.uid;
  owner.old_at = now + (found ? options_.fresh_for : refused ? options_.denied_for : options_.again);
  owner.due = std::min(owner.due, owner.old_at);
  owner.answered = got || refused || got.error().code == Errc::NotFound;
  if (owner.answered) some_unused_ = true;
  if (found) {
    denied_ = false;
    if (!owner.object || owner.object->revision() != (*got)->revision()) {
      set_object(owner, std::move(*got));
      stored_(kind, ns, name, owner.object);
      if (!owner.above_uid.empty()) {  // it differs, so what controls it probably does too
        want(owner.above, owner.above_uid, now);
        owners_[owner.above].due = now;
      }
    }
  } else if (refused) {
    if (!denied_) LOG_INFO("owners of pods may not be read: this node shows and scales no Deployments", {"kind", kind}, {"name", name}, {"reason", got.error()});
    denied_ = true;
  } else if (owner.answered) {  // it is gone; its pods will follow
    if (owner.object) stored_(kind, ns, name, nullptr);
    owner.object = nullptr;
  }
  ask(now);
  co_return Result<>{};
}

kube::ObjectPtr OwnerCache::find(std::string_view kind, std::string_view ns, std::string_view name) const {
  const auto it = owners_.find({std::string(kind), std::string(ns), std::string(name)});
  return it == owners_.end() ? nullptr : it->second.object;
}

std::vector<kube::ObjectPtr> OwnerCache::all() const {
  std::vector<kube::ObjectPtr> out;
  for (const auto& [key, owner] : owners_)
    if (owner.object) out.push_back(owner.object);
  return out;
}

kube::ObjectPtr OwnerCache::deployment_of(const std::string& pod_uid) const {
  const auto known = controllers_.find(pod_uid);
  if (known == controllers_.end()) return nullptr;
  const auto set = owners_.find(known->second);
  if (set == owners_.end() || !set->second.object || std::get<0>(set->first) != "ReplicaSet") return nullptr;
  const auto found = owners_.find(set->second.above);
  return found == owners_.end() || found->second.uid != set->second.above_uid ? nullptr : found->second.object;
}

std::vector<std::string> OwnerCache::pods_of(const kube::Object& deployment) const {
  std::set<Key> sets;
  for (const auto& [key, owner] : owners_)
    if (owner.object && std::get<0>(key) == "ReplicaSet" && owner.pods > 0 && owner.above_uid == deployment.uid()) sets.insert(key);
  std::vector<std::string> out;
  for (const auto& [uid, key] : controllers_)
    if (sets.contains(key)) out.push_back(uid);
  return out;
}

}  // namespace skerry::agent
