// SPDX-License-Identifier: Apache-2.0
#include "agent/reference_cache.h"

#include "base/log.h"

namespace skerry::agent {

ReferenceCache::ReferenceCache(rt::Loop& loop, client::Client& api, Clock& clock, Options options, Changed changed, Stored stored)
    : api_(api), clock_(clock), core_(options), changed_(std::move(changed)), stored_(std::move(stored)), tasks_(loop) {}

void ReferenceCache::want(const PodPlan& plan) {
  core_.want(plan, clock_.instant());
  fetch_wanted();
}

void ReferenceCache::tick(Instant now) {
  if (core_.tick(now)) changed_();
  fetch_wanted();
}

bool ReferenceCache::compare(std::uint64_t servers) {
  const bool asked = core_.compare(servers, clock_.instant());
  fetch_wanted();
  return asked;
}

void ReferenceCache::keep_only(const std::vector<const PodPlan*>& plans) { store(core_.keep_only(plans)); }

void ReferenceCache::store(std::vector<ReferenceCore::Store> what) {
  for (auto& one : what) stored_(one.kind, one.namespace_, one.name, std::move(one.object));
}

void ReferenceCache::fetch_wanted() {
  for (const auto& key : core_.poll(clock_.instant())) tasks_.spawn("fetch reference", fetch(key));
}

rt::Task<> ReferenceCache::fetch(ReferenceCore::Key key) {
  using Kind = ReferenceCore::Kind;
  const auto& [kind, ns, name] = key;
  const client::ResourcePath& path = kind == Kind::ConfigMap ? client::kConfigMaps : kind == Kind::Secret ? client::kSecrets : client::kRuntimeClasses;
  auto got = co_await api_.get(path, ns, name);
  if (!got) LOG_DEBUG("reference not fetched", {"kind", ReferenceCore::kind_name(kind)}, {"name", name}, {"reason", got.error()});
  auto answered = core_.on_answer(key, std::move(got), clock_.instant());
  store(std::move(answered.store));
  if (answered.changed) changed_();
  fetch_wanted();
  co_return Result<>{};
}

}  // namespace skerry::agent
