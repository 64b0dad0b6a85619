// SPDX-License-Identifier: Apache-2.0
#include "agent/journal.h"

namespace skerry::agent {

void Journal::put(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr object) {
  if (object) changes_.push_back(change::PutObject{std::move(object)});
  else changes_.push_back(change::RemoveObject{std::string(kind), std::string(ns), std::string(name)});
}

void Journal::put_number(std::string_view name, std::int64_t value) { changes_.push_back(change::PutNumber{std::string(name), value}); }

void Journal::put_slowly(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr object) {
  slow_[{std::string(kind), std::string(ns), std::string(name)}] = std::move(object);
}

bool Journal::collect(std::vector<Change> pods, const Revisions& revisions, Instant now) {
  for (auto& [key, object] : std::exchange(slow_, {})) put(std::get<0>(key), std::get<1>(key), std::get<2>(key), std::move(object));
  for (Change& change : pods) changes_.push_back(std::move(change));
  if (changes_.empty() && now < revisions_at_) return false;
  revisions_at_ = now + kRevisionsAtLeastEvery;
  for (const auto& [resource, revision] : revisions) {
    std::uint64_t& known = saved_[resource];
    if (revision.value() == known) continue;
    known = revision.value();
    changes_.push_back(change::PutNumber{"revision/" + resource, static_cast<std::int64_t>(revision.value())});
  }
  return !changes_.empty();
}

std::optional<kube::Revision> Journal::resume(const Checkpoint::Loaded& loaded, const std::string& resource) {
  if (!loaded.lost.empty()) return std::nullopt;  // what could not be read back is listed
  const std::int64_t revision = loaded.number("revision/" + resource);
  if (revision <= 0) return std::nullopt;
  saved_[resource] = static_cast<std::uint64_t>(revision);
  return kube::Revision(static_cast<std::uint64_t>(revision));
}

}  // namespace skerry::agent
