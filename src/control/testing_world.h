// SPDX-License-Identifier: Apache-2.0
// For control's tests: a tiny world of objects to which the cores' actions are applied.
#pragma once
#include <gtest/gtest.h>

#include <format>
#include <map>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "control/action.h"
#include "control/views.h"
#include "tests/golden.h"

namespace skerry::control::testing {

inline kube::ObjectPtr object(std::string json) {
  auto made = kube::Object::from_json(std::move(json));
  CHECK(made.has_value());
  return *made;
}

inline void merge(kube::MutJson target, kube::Json patch) {
  for (const auto [key, value] : patch.members()) {
    if (value.is_null()) {
      target.remove(key);
    } else if (value.is_object()) {
      merge(target.object(key), value);
    } else {
      target.set(key, value);
    }
  }
}

class World {
 public:
  Time now = Time{} + std::chrono::hours(24 * 365 * 50);

  // Stores an object as an API server does: uid, creation time, generation, revision.
  kube::ObjectPtr put(const std::string& resource, const std::string& json) {
    auto edit = kube::JsonEdit::parse(json);
    CHECK(edit.has_value());
    kube::MutJson metadata = edit->root().object("metadata");
    if (metadata["uid"].str().empty()) metadata.set("uid", std::format("uid-{}", ++uids_));
    if (metadata["creationTimestamp"].str().empty()) metadata.set("creationTimestamp", to_rfc3339(now));
    if (metadata["generation"].i64() == 0) metadata.set("generation", 1);
    metadata.set("resourceVersion", std::to_string(++revision_));
    auto made = object(edit->dump());
    objects_[resource + "/" + made->name()] = made;
    return made;
  }
  kube::ObjectPtr get(const std::string& resource, const std::string& name) const {
    const auto at = objects_.find(resource + "/" + name);
    return at == objects_.end() ? nullptr : at->second;
  }
  std::vector<kube::ObjectPtr> all(const std::string& resource) const {
    std::vector<kube::ObjectPtr> found;
    for (const auto& [key, one] : objects_) {
      if (key.starts_with(resource + "/")) found.push_back(one);
    }
    return found;
  }
  std::vector<PodPtr> pods() const {
    std::vector<PodPtr> views;
    for (const auto& pod : all("pods")) views.push_back(PodView::make(pod));
    return views;
  }
  std::vector<ReplicaSetPtr> replica_sets() const {
    std::vector<ReplicaSetPtr> views;
    for (const auto& set : all("replicasets")) views.push_back(ReplicaSetView::make(set));
    return views;
  }
  void patch(const std::string& resource, const std::string& name, const std::string& patch_json,
             Verb verb = Verb::Patch) {
    const auto old = get(resource, name);
    CHECK(old != nullptr);
    auto edit = kube::JsonEdit::parse(*old->json());
    const auto patch_doc = kube::JsonDoc::parse(patch_json);
    CHECK(patch_doc.has_value());
    merge(edit->root(), patch_doc->root());
    if (verb == Verb::Patch && patch_doc->root()["spec"]) {
      kube::MutJson metadata = edit->root()["metadata"];
      metadata.set("generation", metadata["generation"].i64() + 1);
    }
    put(resource, edit->dump());
  }
  void remove(const std::string& resource, const std::string& name) { objects_.erase(resource + "/" + name); }
  void apply(const Plan& plan) {
    for (const auto& action : plan.actions) {
      switch (action.verb) {
        case Verb::Create:
          put(action.resource.resource, action.body);
          break;
        case Verb::Patch:
        case Verb::PatchStatus:
        case Verb::PatchApproval:
          patch(action.resource.resource, action.name, action.body, action.verb);
          break;
        case Verb::Delete:
          remove(action.resource.resource, action.name);
          break;
      }
    }
  }
  // A node's work on a pod: Running and Ready, or Ready=False.
  void set_ready(const std::string& pod, bool ready, const std::string& ip = "10.42.0.9") {
    patch(
        "pods", pod,
        std::format(
            R"({{"status":{{"phase":"Running","podIP":"{}","conditions":[{{"type":"Ready","status":"{}","lastTransitionTime":"{}"}}]}}}})",
            ip, ready ? "True" : "False", to_rfc3339(now)),
        Verb::PatchStatus);
  }

 private:
  std::map<std::string, kube::ObjectPtr> objects_;
  int uids_ = 0, revision_ = 0;
};

inline std::string trace(const Plan& plan) {
  std::string text;
  for (const auto& action : plan.actions) text += action.trace() + "\n";
  for (const auto& note : plan.notes) {
    text += std::format("event {} {} {}: {}\n", note.about->name(), note.type == NoteType::Normal ? "Normal" : "Warning",
                        note.reason, note.message);
  }
  if (plan.again) text += std::format("again in {}\n", to_human(*plan.again));
  return text;
}

inline void expect_golden(const std::string& name, const std::string& text) { tests::expect_golden("src/control/testdata/" + name, text); }

}  // namespace skerry::control::testing
