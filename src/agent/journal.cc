// SPDX-License-Identifier: Apache-2.0
#include "agent/journal.h"

#include <algorithm>
#include <format>
#include <iterator>
#include <unordered_map>

namespace skerry::agent {
namespace {

std::string key_of(const Change& c) {
  if (const auto* x = std::get_if<change::PutPod>(&c)) return "pod " + x->object->uid();
  if (const auto* x = std::get_if<change::PutPodState>(&c)) return "pod " + x->uid;
  if (const auto* x = std::get_if<change::RemovePod>(&c)) return "pod " + x->uid;
  if (const auto* x = std::get_if<change::PutObject>(&c)) return std::format("object {}/{}/{}", x->object->kind(), x->object->namespace_(), x->object->name());
  if (const auto* x = std::get_if<change::RemoveObject>(&c)) return std::format("object {}/{}/{}", x->kind, x->namespace_, x->name);
  if (const auto* x = std::get_if<change::PutIntent>(&c)) return std::format("intent {}", x->id);
  if (const auto* x = std::get_if<change::RemoveIntent>(&c)) return std::format("intent {}", x->id);
  return "number " + std::get<change::PutNumber>(c).name;
}

// `newer` after `older` as one batch without what it supersedes: a node whose disk is full for weeks does not fill its memory too.
std::vector<Change> merged(std::vector<Change> older, std::vector<Change> newer) {
  std::unordered_map<std::string, std::size_t> at;
  std::vector<Change> out;
  for (auto* part : {&older, &newer})
    for (Change& c : *part) {
      const auto [known, fresh] = at.emplace(key_of(c), out.size());
      if (fresh) {
        out.push_back(std::move(c));
        continue;
      }
      Change& before = out[known->second];
      if (std::holds_alternative<change::RemovePod>(before)) continue;  // a uid does not come back
      auto* const state = std::get_if<change::PutPodState>(&c);
      if (auto* const pod = std::get_if<change::PutPod>(&before); state != nullptr && pod != nullptr) pod->state = std::move(state->state);
      else before = std::move(c);
    }
  return out;
}

constexpr std::string_view kForgetful = "forgetful";  // of the checkpoint's numbers
constexpr std::string_view kRevision = "revision/";   // and the resource

change::PutNumber revision_number(const std::string& resource, kube::Revision revision) {
  return {std::string(kRevision) + resource, static_cast<std::int64_t>(revision.value())};
}

}  // namespace

Journal::Batch Journal::take() {
  if (taken_) changes_ = merged(*taken_, std::move(changes_));
  taken_ = changes_.empty() ? nullptr : std::make_shared<const std::vector<Change>>(std::exchange(changes_, {}));
  return taken_;
}

void Journal::put(std::vector<Change> changes) { std::ranges::move(changes, std::back_inserter(changes_)); }

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
  put(std::move(pods));
  if (changes_.empty() && now < revisions_at_) return false;
  revisions_at_ = now + kRevisionsAtLeastEvery;
  for (const auto& [resource, revision] : revisions) {
    std::uint64_t& known = saved_[resource];
    if (revision.value() == known) continue;
    known = revision.value();
    changes_.emplace_back(revision_number(resource, revision));
  }
  return !changes_.empty();
}

std::vector<Change> Journal::numbers(const Revisions& revisions) const {
  std::vector<Change> out;
  for (const auto& [resource, revision] : revisions)
    if (revision != kube::Revision{}) out.emplace_back(revision_number(resource, revision));
  if (forgetful_) out.emplace_back(change::PutNumber{std::string(kForgetful), 1});
  return out;
}

std::optional<kube::Revision> Journal::resume(const Checkpoint::Loaded& loaded, const std::string& resource) {
  if (!loaded.lost.empty() || loaded.older) return std::nullopt;  // what could not be read back is listed
  const std::int64_t revision = loaded.number(std::string(kRevision) + resource);
  if (revision <= 0) return std::nullopt;
  saved_[resource] = static_cast<std::uint64_t>(revision);
  return kube::Revision(static_cast<std::uint64_t>(revision));
}

void Journal::start(const Checkpoint::Loaded& loaded, bool whole) {
  const bool known = loaded.number(kForgetful) != 0;
  forgetful_ = known || loaded.older || !loaded.lost.empty() || !whole;
  if (forgetful_ && !known) put_number(kForgetful, 1);
  if (loaded.older) put_number(Checkpoint::kOlder, 0);  // in one write with that, and with the ids that the table goes on from
}

void Journal::on_asked() {
  if (std::exchange(forgetful_, false)) put_number(kForgetful, 0);
}

}  // namespace skerry::agent
