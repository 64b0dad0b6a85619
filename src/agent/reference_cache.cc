// SPDX-License-Identifier: Apache-2.0
#include "agent/reference_cache.h"

#include <set>

#include "base/log.h"

namespace skerry::agent {

ReferenceCache::ReferenceCache(rt::Loop& loop, client::Client& api, Clock& clock, Options options, Changed changed, Stored stored)
    : api_(api), clock_(clock), options_(options), changed_(std::move(changed)), stored_(std::move(stored)), tasks_(loop) {}

std::string_view ReferenceCache::kind_name(Kind k) {
  return k == Kind::ConfigMap ? "ConfigMap" : k == Kind::Secret ? "Secret" : "RuntimeClass";
}

void ReferenceCache::restore(kube::ObjectPtr object) {
  for (Kind k : {Kind::ConfigMap, Kind::Secret, Kind::RuntimeClass})
    if (object->kind() == kind_name(k)) {
      Entry& e = entries_[{k, k == Kind::RuntimeClass ? "" : object->namespace_(), object->name()}];
      e.object = std::move(object);
      e.state = State::Present;
      return;
    }
}

References::Found ReferenceCache::find(Kind k, std::string_view ns, std::string_view name) const {
  const auto it = entries_.find({k, std::string(ns), std::string(name)});
  if (it == entries_.end()) return {};
  return {it->second.state, it->second.state == State::Present ? it->second.object : nullptr};
}

void ReferenceCache::want_one(Kind k, const std::string& ns, const std::string& name) {
  Entry& e = entries_[{k, ns, name}];
  const Instant now = clock_.instant();
  if (e.ever && e.state == State::Present && now - e.answered < 1s) return;
  if (e.ever && k == Kind::RuntimeClass && e.state == State::Present && now - e.answered < options_.fresh_for) return;
  if (e.state == State::Present && e.ever) e.state = State::Unknown;  // wait for the fresh one; fetch() falls back to this
  e.wanted = true;
}

void ReferenceCache::want(const PodPlan& plan) {
  for (const std::string& name : plan.config_maps) want_one(Kind::ConfigMap, plan.pod->namespace_, name);
  for (const auto* names : {&plan.secrets, &plan.pull_secrets})
    for (const std::string& name : *names) want_one(Kind::Secret, plan.pod->namespace_, name);
  if (!plan.runtime_class.empty()) want_one(Kind::RuntimeClass, "", plan.runtime_class);
  fetch_wanted();
}

void ReferenceCache::fetch_wanted() {
  for (auto& [key, e] : entries_) {
    if (!e.wanted || e.in_flight) continue;
    if (in_flight_ >= options_.in_flight_max) return;
    e.wanted = false;
    e.in_flight = true;
    e.asked = clock_.instant();
    ++in_flight_;
    tasks_.spawn("fetch reference", fetch(key));
  }
}

rt::Task<> ReferenceCache::fetch(Key key) {
  const auto& [kind, ns, name] = key;
  const client::ResourcePath& path = kind == Kind::ConfigMap ? client::kConfigMaps : kind == Kind::Secret ? client::kSecrets : client::kRuntimeClasses;
  auto got = co_await api_.get(path, ns, name);
  --in_flight_;
  const auto it = entries_.find(key);
  if (it != entries_.end()) {
    Entry& e = it->second;
    e.in_flight = false;
    e.answered = clock_.instant();
    if (got) {
      e.ever = true;
      const bool differs = !e.object || *e.object->json() != *(*got)->json();
      e.state = State::Present;
      e.object = std::move(*got);
      if (differs) stored_(kind_name(kind), ns, name, e.object);
    } else if (got.error().code == Errc::NotFound || got.error().code == Errc::Denied) {
      if (e.object) stored_(kind_name(kind), ns, name, nullptr);
      e.ever = true;
      e.state = State::Missing;
      e.object = nullptr;
    } else {
      // The server is away: what was known serves; what was not known is waited for.
      e.state = e.object ? State::Present : State::Unknown;
      if (e.ever && !e.object) e.state = State::Missing;
      LOG_DEBUG("reference not fetched", {"kind", kind_name(kind)}, {"name", name}, {"reason", got.error()});
    }
    changed_();
  }
  fetch_wanted();
  co_return Result<>{};
}

void ReferenceCache::tick(Instant now) {
  for (auto& [key, e] : entries_) {
    if (e.in_flight) {
      // The server takes its time: do not let pods wait that could run with what is known.
      if (e.state == State::Unknown && e.object && now - e.asked >= options_.answer_within) {
        e.state = State::Present;
        changed_();
      }
      continue;
    }
    if (e.state != State::Present && now - e.answered >= options_.missing_again) e.wanted = true;
  }
  fetch_wanted();
}

void ReferenceCache::keep_only(const std::vector<const PodPlan*>& plans) {
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
    if (it->second.object) stored_(kind_name(kind), ns, name, nullptr);
    it = entries_.erase(it);
  }
}

void ReferenceCache::for_each_open(const std::function<void(const kube::ObjectPtr&)>& visit) const {
  for (const auto& [key, e] : entries_)
    if (std::get<Kind>(key) != Kind::Secret && e.object) visit(e.object);
}

}  // namespace skerry::agent
