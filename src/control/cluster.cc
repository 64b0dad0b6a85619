// SPDX-License-Identifier: Apache-2.0
#include "control/cluster.h"

#include <algorithm>

#include "base/check.h"
#include "kube/resources.h"

namespace skerry::control {
Cluster::Cluster(rt::Loop& loop, client::Client& client, const Clock& clock, Random& random, EventCore::Options events, Share share)
    : loop_(loop),
      client_(client),
      clock_(clock),
      random_(random),
      events_(loop, client, clock, random, std::move(events)) {
  for (const kube::ResourceType& type : kube::resources()) {
    if (type.resource == "events") continue;
    auto one = std::make_unique<Watched>();
    one->path = {std::string(type.group), std::string(type.version), std::string(type.resource), type.namespaced};
    if (share) one->share = [share, path = one->path](const kube::Object& object) { return share(path, object); };
    Watched& at = *one;
    one->informer = std::make_unique<client::Informer>(
        loop, client, random, client::Informer::Options{.resource = one->path, .core = {.share = one->share}},
        [this, &at](const ObjectPtr& before, const ObjectPtr& after) { changed(at, before, after); });
    watched_.push_back(std::move(one));
  }
}

Cluster::Watched& Cluster::watched(const client::ResourcePath& path) {
  const auto at = std::ranges::find_if(watched_, [&](const auto& one) { return one->path == path; });
  CHECK(at != watched_.end());
  return **at;
}
const Cluster::Watched& Cluster::watched(const client::ResourcePath& path) const {
  return const_cast<Cluster*>(this)->watched(path);
}

bool Cluster::watches(const client::ResourcePath& path) const {
  return std::ranges::any_of(watched_, [&](const auto& one) { return one->path == path; });
}

void Cluster::subscribe(const client::ResourcePath& path, OnChange on_change) {
  watched(path).subscribers.push_back(std::move(on_change));
}
void Cluster::subscribe_all(OnAnyChange on_change) { any_subscribers_.push_back(std::move(on_change)); }

void Cluster::start() {
  events_.start();
  for (const auto& one : watched_) one->informer->start();
}

rt::Task<> Cluster::synced() {
  for (const auto& one : watched_) CO_TRY_OK(co_await one->informer->synced().wait());
  co_return Result<>{};
}

rt::Task<> Cluster::stop() {
  for (const auto& one : watched_) CO_TRY_OK(co_await one->informer->stop());
  CO_TRY_OK(co_await events_.stop());
  co_return Result<>{};
}

void Cluster::changed(Watched& at, const ObjectPtr& before, const ObjectPtr& after) {
  if (at.path == client::kPods) {
    index_pod(before, after);
  } else if (at.path == client::kReplicaSets) {
    if (before) replica_sets_.erase(client::object_key(before->namespace_(), before->name()));
    if (after)
      replica_sets_.insert_or_assign(client::object_key(after->namespace_(), after->name()), ReplicaSetView::make(after));
  }
  for (const auto& subscriber : at.subscribers) subscriber(before, after);
  for (const auto& subscriber : any_subscribers_) subscriber(at.path, before, after);
}

std::vector<PodPtr> Cluster::all_of(const PodIndex& index, std::string_view key) {
  const auto at = index.find(key);
  return at == index.end() ? std::vector<PodPtr>() : std::vector<PodPtr>(at->second.begin(), at->second.end());
}

void Cluster::drop(PodIndex& index, std::string_view key, const PodPtr& pod) {
  const auto at = index.find(key);
  if (at == index.end()) return;
  at->second.erase(pod);
  if (at->second.empty()) index.erase(at);
}

void Cluster::index_pod(const ObjectPtr& before, const ObjectPtr& after) {
  if (before) {
    if (const auto old = pods_.find(std::string_view(client::object_key(before->namespace_(), before->name()))); old != pods_.end()) {
      const PodPtr view = *old;
      if (view->controller) {
        drop(by_controller_, view->controller->uid, view);
      } else {
        drop(without_controller_, before->namespace_(), view);
      }
      drop(by_node_, before->node_name(), view);
      pods_.erase(old);
    }
  }
  if (after) {
    const PodPtr view = PodView::make(after, last_controller_);
    pods_.insert(view);
    if (view->controller) {
      last_controller_ = view->controller;
      by_controller_[view->controller->uid].insert(view);
    } else {
      without_controller_[after->namespace_()].insert(view);
    }
    if (!after->node_name().empty()) by_node_[after->node_name()].insert(view);
  }
}

ObjectPtr Cluster::get(const client::ResourcePath& path, std::string_view namespace_, std::string_view name) const {
  return watched(path).informer->get(namespace_, name);
}
const client::Cache& Cluster::all(const client::ResourcePath& path) const { return watched(path).informer->cache(); }
kube::Revision Cluster::revision(const client::ResourcePath& path) const { return watched(path).informer->revision(); }

std::vector<PodPtr> Cluster::pods_of_controller(std::string_view uid) const { return all_of(by_controller_, uid); }
std::vector<PodPtr> Cluster::pods_without_controller(std::string_view namespace_) const {
  return all_of(without_controller_, namespace_);
}
std::vector<PodPtr> Cluster::pods_of_node(std::string_view node) const { return all_of(by_node_, node); }
std::vector<PodPtr> Cluster::pods_of_namespace(std::string_view namespace_) const {
  const std::string prefix = std::string(namespace_) + "/";
  std::vector<PodPtr> found;
  for (auto at = pods_.lower_bound(std::string_view(prefix)); at != pods_.end() && (*at)->object->namespace_() == namespace_; ++at)
    found.push_back(*at);
  return found;
}
std::vector<ReplicaSetPtr> Cluster::replica_sets_of_namespace(std::string_view namespace_) const {
  const std::string prefix = std::string(namespace_) + "/";
  std::vector<ReplicaSetPtr> found;
  for (auto at = replica_sets_.lower_bound(prefix); at != replica_sets_.end() && at->first.starts_with(prefix); ++at)
    found.push_back(at->second);
  return found;
}
PodPtr Cluster::pod(std::string_view namespace_, std::string_view name) const {
  const auto at = pods_.find(std::string_view(client::object_key(namespace_, name)));
  return at == pods_.end() ? nullptr : *at;
}

rt::Task<ObjectPtr> Cluster::execute(Action action) {
  switch (action.verb) {
    case Verb::Create:
      co_return co_await client_.create(action.resource, action.namespace_, std::move(action.body));
    case Verb::Patch: {
      auto done = co_await client_.patch(action.resource, action.namespace_, action.name, client::PatchType::Merge,
                                         std::move(action.body));
      if (!done && done.error().code == Errc::NotFound) co_return ObjectPtr();
      co_return done;
    }
    case Verb::PatchStatus: {
      auto done = co_await client_.patch_status(action.resource, action.namespace_, action.name,
                                                client::PatchType::Merge, std::move(action.body));
      if (!done && done.error().code == Errc::NotFound) co_return ObjectPtr();
      co_return done;
    }
    case Verb::PatchApproval: {
      auto done = co_await client_.raw("PATCH", action.resource.url(action.namespace_, action.name, "approval"), std::move(action.body), "application/merge-patch+json");
      if (!done && done.error().code == Errc::NotFound) co_return ObjectPtr();
      if (!done) co_return Fail(done.error());
      co_return kube::Object::from_json(std::move(*done));
    }
    case Verb::Delete: {
      auto done = co_await client_.remove(
          action.resource, action.namespace_, action.name,
          {.grace_seconds = action.grace_seconds, .uid = action.uid, .propagation = action.propagation});
      // Conflict: another object of that name is there now.
      if (!done && (done.error().code == Errc::NotFound || done.error().code == Errc::Conflict)) co_return ObjectPtr();
      co_return done;
    }
  }
  co_return Fail({Errc::Internal, "an action without a verb"});
}

}  // namespace skerry::control
