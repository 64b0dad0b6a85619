// SPDX-License-Identifier: Apache-2.0
#include "agent/reference_core.h"

#include <algorithm>
#include <set>
#include <utility>

#include "kube/digest.h"

namespace skerry::agent {

std::string_view ReferenceCore::kind_name(Kind k) {
  return k == Kind::ConfigMap ? "ConfigMap" : k == Kind::Secret ? "Secret" : "RuntimeClass";
}

void ReferenceCore::restore(kube::ObjectPtr object) {
  for (Kind k : {Kind::ConfigMap, Kind::Secret, Kind::RuntimeClass})
    if (object->kind() == kind_name(k)) {
      Entry& e = entries_[{k, k == Kind::RuntimeClass ? "" : object->namespace_(), object->name()}];
      e.object = std::move(object);
      e.state = State::Present;
      return;
    }
}

References::Found ReferenceCore::find(Kind k, std::string_view ns, std::string_view name) const {
  const auto it = entries_.find({k, std::string(ns), std::string(name)});
  if (it == entries_.end()) return {};
  return {it->second.state, it->second.state == State::Present ? it->second.object : nullptr};
}

void ReferenceCore::want_one(Kind k, const std::string& ns, const std::string& name, Instant now) {
  Entry& e = entries_[{k, ns, name}];
  e.again = options_.missing_again;
  if (e.ever && e.state == State::Present && now - e.answered < 1s) return;
  if (e.ever && k == Kind::RuntimeClass && e.state == State::Present && now - e.answered < options_.fresh_for) return;
  if (e.state == State::Present && e.ever) e.state = State::Unknown;  // wait for the fresh one; an answer falls back to this
  e.wanted = true;
}

void ReferenceCore::want(const PodPlan& plan, Instant now) {
  for (const std::string& name : plan.config_maps) want_one(Kind::ConfigMap, plan.pod->namespace_, name, now);
  for (const auto* names : {&plan.secrets, &plan.pull_secrets})
    for (const std::string& name : *names) want_one(Kind::Secret, plan.pod->namespace_, name, now);
  if (!plan.runtime_class.empty()) want_one(Kind::RuntimeClass, "", plan.runtime_class, now);
}

std::vector<ReferenceCore::Key> ReferenceCore::poll(Instant now) {
  std::vector<Key> out;
  for (auto& [key, e] : entries_) {
    if (!e.wanted || e.in_flight) continue;
    if (in_flight_ >= options_.in_flight_max) break;
    e.wanted = false;
    e.in_flight = true;
    e.asked = now;
    ++in_flight_;
    out.push_back(key);
  }
  return out;
}

ReferenceCore::Answered ReferenceCore::on_answer(const Key& key, Result<kube::ObjectPtr> got, Instant now) {
  Answered out;
  const auto& [kind, ns, name] = key;
  const auto it = entries_.find(key);
  if (it == entries_.end() || !it->second.in_flight) return out;
  --in_flight_;
  Entry& e = it->second;
  const State before = e.state;
  e.in_flight = false;
  e.answered = now;
  if (got) {
    e.ever = true;
    const bool differs = !e.object || *e.object->json() != *(*got)->json();
    e.state = State::Present;
    e.object = std::move(*got);
    out.changed = differs;
    if (differs && stored(kind)) out.store.push_back({kind_name(kind), ns, name, e.object});
  } else if (got.error().code == Errc::NotFound || (got.error().code == Errc::Denied && !e.object)) {
    if (e.object) out.store.push_back({kind_name(kind), ns, name, nullptr});
    if (e.state == State::Missing) e.again = std::min(e.again * 2, options_.missing_again_max);
    e.ever = true;
    e.state = State::Missing;
    e.object = nullptr;
  } else {
    // The server is away, or denies what it gave before (its authorizer knows nothing yet after a start): what was known serves; what
    // was not known is waited for.
    e.state = e.object ? State::Present : State::Unknown;
    if (e.ever && !e.object) e.state = State::Missing;
  }
  out.changed = out.changed || e.state != before;
  return out;
}

bool ReferenceCore::compare(std::uint64_t servers, Instant now) {
  if (digest() == servers) {
    compare_pause_ = Duration{0};
    return false;
  }
  if (compare_pause_ > Duration{0} && now < compare_at_) return false;
  compare_pause_ = std::clamp<Duration>(compare_pause_ * 2, options_.differing_again, options_.differing_again_max);
  compare_at_ = now + compare_pause_;
  for (auto& [key, e] : entries_) e.wanted = true;
  return true;
}

std::uint64_t ReferenceCore::digest() const {
  kube::Digest out;
  for (const auto& [key, e] : entries_)
    if (e.object) out.add(*e.object);
  return out.value();
}

bool ReferenceCore::tick(Instant now) {
  bool changed = false;
  for (auto& [key, e] : entries_) {
    if (e.in_flight) {
      // The server takes its time: do not let pods wait that could run with what is known.
      if (e.state != State::Unknown || !e.object || now - e.asked < options_.answer_within) continue;
      e.state = State::Present;
      changed = true;
    } else if (now - e.answered >= (e.state == State::Present ? options_.known_again : e.again)) {
      e.wanted = true;  // what is present stays so until the answer
    }
  }
  return changed;
}

std::vector<ReferenceCore::Store> ReferenceCore::keep_on_disk(bool keep) {
  std::vector<Store> out;
  if (std::exchange(on_disk_, keep) == keep) return out;
  for (const auto& [key, e] : entries_) {
    const auto& [kind, ns, name] = key;
    if (e.object && kind != Kind::RuntimeClass) out.push_back({kind_name(kind), ns, name, keep ? e.object : nullptr});
  }
  return out;
}

std::vector<ReferenceCore::Store> ReferenceCore::keep_only(const std::vector<const PodPlan*>& plans) {
  std::vector<Store> out;
  std::set<Key> used;
  for (const PodPlan* plan : plans) {
    for (const std::string& name : plan->config_maps) used.insert({Kind::ConfigMap, plan->pod->namespace_, name});
    for (const auto* names : {&plan->secrets, &plan->pull_secrets})
      for (const std::string& name : *names) used.insert({Kind::Secret, plan->pod->namespace_, name});
    if (!plan->runtime_class.empty()) used.insert({Kind::RuntimeClass, "", plan->runtime_class});
  }
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (used.contains(it->first) || it->second.in_flight) {
      ++it;
      continue;
    }
    const auto& [kind, ns, name] = it->first;
    if (it->second.object) out.push_back({kind_name(kind), ns, name, nullptr});
    it = entries_.erase(it);
  }
  return out;
}

}  // namespace skerry::agent
