// SPDX-License-Identifier: Apache-2.0
#include "control/garbage_core.h"

#include <algorithm>

#include "base/check.h"

namespace skerry::control {
namespace {

using kube::JsonEdit;
using kube::MutJson;

constexpr std::string_view kForeground = "foregroundDeletion", kOrphan = "orphan";
constexpr std::size_t kAbsentMax = 100'000;

}  // namespace

const client::ResourcePath* GarbageCore::intern(const client::ResourcePath& path) {
  const auto at = std::ranges::find(paths_, path);
  return at == paths_.end() ? &paths_.emplace_back(path) : &*at;
}

void GarbageCore::put(const client::ResourcePath& path, const ObjectPtr& object) {
  Node node{.path = intern(path), .object = object, .owners = none_, .foreground = false, .orphan = false};
  // Most objects have neither: no need to parse those.
  const kube::Text text = object->json();
  if (text->contains("\"ownerReferences\"") || (object->deleting() && text->contains("\"finalizers\""))) {
    const auto doc = kube::JsonDoc::parse(*text);
    CHECK(doc.has_value());  // it is an object's
    const Json metadata = doc->root()["metadata"];
    auto owners = owner_references(metadata);
    if (owners != *last_owners_) last_owners_ = std::make_shared<const std::vector<OwnerReference>>(std::move(owners));
    node.owners = last_owners_;
    const auto has = [&](std::string_view wanted) {
      return any_item(metadata["finalizers"], [&](Json one) { return one.str() == wanted; });
    };
    node.foreground = object->deleting() && has(kForeground);
    node.orphan = object->deleting() && has(kOrphan);
  }
  Owners before = none_;
  if (const auto old = objects_.find(object->uid()); old != objects_.end()) before = old->second.owners;
  for (const auto& owner : *before) {
    const auto at = dependents_.find(owner.uid);
    if (at == dependents_.end()) continue;
    at->second.erase(object->uid());
    if (at->second.empty()) dependents_.erase(at);
    candidates_.insert(owner.uid);
  }
  for (const auto& owner : *node.owners) {
    dependents_[owner.uid].insert(object->uid());
    if (!objects_.contains(owner.uid)) candidates_.insert(object->uid());
  }
  if (node.foreground || node.orphan) candidates_.insert(object->uid());
  if (object->deleting()) {
    for (const auto& owner : *node.owners) candidates_.insert(owner.uid);
  }
  objects_.erase(object->uid());  // its key points into the former version
  objects_.emplace(object->uid(), std::move(node));
}

void GarbageCore::remove(const kube::Object& object) {
  const auto at = objects_.find(object.uid());
  if (at != objects_.end()) {
    for (const auto& owner : *at->second.owners) {
      const auto others = dependents_.find(owner.uid);
      if (others != dependents_.end()) {
        others->second.erase(object.uid());
        if (others->second.empty()) dependents_.erase(others);
      }
      candidates_.insert(owner.uid);  // it may have waited for this one
    }
    objects_.erase(at);
  }
  if (const auto owned = dependents_.find(object.uid()); owned != dependents_.end()) {
    absent(object.uid());
    for (const std::string_view dependent : owned->second) candidates_.emplace(dependent);
  }
}

void GarbageCore::absent(const std::string& uid) {
  if (absent_.size() >= kAbsentMax) absent_.clear();
  absent_.insert(uid);
}

Action GarbageCore::without_owners(const Node& node, const std::set<std::string>& gone) const {
  JsonEdit edit;
  MutJson metadata = edit.root().object("metadata");
  metadata.set("uid", node.object->uid());
  metadata.set("resourceVersion", std::to_string(node.object->revision().value()));
  MutJson owners = metadata.array("ownerReferences");
  const auto doc = node.object->parse();
  for (const Json owner : doc.root()["metadata"]["ownerReferences"].items()) {
    if (!gone.contains(std::string(owner["uid"].str()))) owners.push(owner);
  }
  return {.verb = Verb::Patch,
          .resource = *node.path,
          .namespace_ = node.object->namespace_(),
          .name = node.object->name(),
          .body = edit.dump()};
}

Action GarbageCore::without_finalizer(const Node& node, std::string_view finalizer) const {
  JsonEdit edit;
  MutJson metadata = edit.root().object("metadata");
  metadata.set("uid", node.object->uid());
  metadata.set("resourceVersion", std::to_string(node.object->revision().value()));
  MutJson left = metadata.array("finalizers");
  const auto doc = node.object->parse();
  for (const Json one : doc.root()["metadata"]["finalizers"].items()) {
    if (one.str() != finalizer) left.push(one);
  }
  return {.verb = Verb::Patch,
          .resource = *node.path,
          .namespace_ = node.object->namespace_(),
          .name = node.object->name(),
          .body = edit.dump()};
}

GarbageCore::Verdict GarbageCore::look(const std::string& uid) const {
  Verdict verdict;
  const auto at = objects_.find(uid);
  if (at == objects_.end()) return verdict;
  const Node& node = at->second;

  if (node.orphan) {
    const auto owned = dependents_.find(uid);
    if (owned == dependents_.end()) {
      verdict.actions.push_back(without_finalizer(node, kOrphan));
      return verdict;
    }
    for (const auto& dependent : owned->second)
      verdict.actions.push_back(without_owners(objects_.at(dependent), {uid}));
    return verdict;  // the changed dependents lead back here
  }
  if (node.foreground) {
    bool blocked = false;
    if (const auto owned = dependents_.find(uid); owned != dependents_.end()) {
      for (const auto& dependent : owned->second) {
        const Node& one = objects_.at(dependent);
        const auto reference = std::ranges::find(*one.owners, uid, &OwnerReference::uid);
        blocked = blocked || reference->block_deletion;
        const bool other_owner = std::ranges::any_of(*one.owners, [&](const auto& owner) {
          return owner.uid != uid && objects_.contains(owner.uid) && !objects_.at(owner.uid).foreground;
        });
        if (other_owner) {
          verdict.actions.push_back(without_owners(one, {uid}));
        } else if (!one.object->deleting()) {
          verdict.actions.push_back({.verb = Verb::Delete,
                                     .resource = *one.path,
                                     .namespace_ = one.object->namespace_(),
                                     .name = one.object->name(),
                                     .uid = std::string(dependent),
                                     .propagation = has_dependents(dependent) ? "Foreground" : "Background"});
        }
      }
    }
    if (!blocked) verdict.actions.push_back(without_finalizer(node, kForeground));
    return verdict;
  }
  if (node.object->deleting() || node.owners->empty()) return verdict;

  std::set<std::string> gone;
  bool solid = false;
  for (const auto& owner : *node.owners) {
    if (objects_.contains(owner.uid)) {
      solid = true;  // one that waits in the foreground deletes its dependents itself
    } else if (absent_.contains(owner.uid)) {
      gone.insert(owner.uid);
    } else {
      verdict.ask.push_back({owner, node.object->namespace_()});
    }
  }
  if (!verdict.ask.empty() || gone.empty()) return verdict;
  if (solid) {
    verdict.actions.push_back(without_owners(node, gone));
  } else {
    verdict.actions.push_back({.verb = Verb::Delete,
                               .resource = *node.path,
                               .namespace_ = node.object->namespace_(),
                               .name = node.object->name(),
                               .uid = uid,
                               .propagation = "Background"});
  }
  return verdict;
}

}  // namespace skerry::control
