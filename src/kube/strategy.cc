// SPDX-License-Identifier: Apache-2.0
#include "kube/strategy.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kube/codec.h"
#include "kube/quantity.h"

namespace skerry::kube {
namespace {

bool has_status(const ResourceType& type) { return type.subresource("status") != nullptr; }
// Kinds whose metadata.generation counts changes of the spec.
bool counts_generations(const ResourceType& type) {
  return type.kind == "Deployment" || type.kind == "ReplicaSet" || type.kind == "EndpointSlice" || type.kind == "Pod";
}
bool starts_with_generation(const ResourceType& type) { return counts_generations(type) && type.kind != "Pod"; }

template <class J>
std::string_view qos(J spec) {
  // Only cpu and memory count, of containers and init containers.
  std::vector<std::pair<std::string_view, Quantity>> requests, limits;
  bool guaranteed = true;
  const auto add = [](auto& to, auto list) {
    std::vector<std::string_view> named;
    for (const auto [name, value] : list.members()) {
      if (name != "cpu" && name != "memory") continue;
      const auto q = Quantity::parse(value.str());
      if (!q || q->zero()) continue;
      named.push_back(name);
      const auto at = std::ranges::find(to, name, [](const auto& p) { return p.first; });
      if (at == to.end()) to.emplace_back(name, *q);
      else at->second = at->second + *q;
    }
    return named;
  };
  for (const char* list : {"containers", "initContainers"})
    for (const J c : spec[list].items()) {
      add(requests, c["resources"]["requests"]);
      if (add(limits, c["resources"]["limits"]).size() != 2) guaranteed = false;
    }
  if (requests.empty() && limits.empty()) return "BestEffort";
  if (guaranteed)
    for (const auto& [name, quantity] : requests) {
      const auto at = std::ranges::find(limits, name, [](const auto& p) { return p.first; });
      if (at == limits.end() || at->second != quantity) guaranteed = false;
    }
  return guaranteed && requests.size() == limits.size() ? "Guaranteed" : "Burstable";
}

void tolerate(MutJson spec, std::string_view key) {
  for (const MutJson t : spec["tolerations"].items()) {
    const bool key_matches = t["key"].str() == key || (t["key"].str().empty() && t["operator"].str() == "Exists");
    const bool effect_matches = t["effect"].str() == "NoExecute" || t["effect"].str().empty();
    if (key_matches && effect_matches) return;
  }
  MutJson added = spec.array("tolerations").push_object();
  added.set("key", key);
  added.set("operator", "Exists");
  added.set("effect", "NoExecute");
  added.set("tolerationSeconds", 300);
}

void admit_pod(MutJson object) {
  MutJson spec = object.object("spec");
  if (spec["serviceAccountName"].str().empty()) {
    spec.set("serviceAccountName", "default");
    spec.set("serviceAccount", "default");
  }
  if (!spec["priority"]) spec.set("priority", 0);
  if (!spec["preemptionPolicy"]) spec.set("preemptionPolicy", "PreemptLowerPriority");
  tolerate(spec, "node.kubernetes.io/not-ready");
  tolerate(spec, "node.kubernetes.io/unreachable");
  MutJson status = object.object("status");
  status.clear();
  status.set("phase", "Pending");
  status.set("qosClass", pod_qos_class(spec));
}

void admit_node(MutJson object) {
  MutJson taints = object.object("spec").array("taints");
  for (const MutJson t : taints.items())
    if (t["key"].str() == "node.kubernetes.io/not-ready" && t["effect"].str() == "NoSchedule") return;
  MutJson added = taints.push_object();
  added.set("key", "node.kubernetes.io/not-ready");
  added.set("effect", "NoSchedule");
}

void admit_service(MutJson object) {
  MutJson spec = object.object("spec");
  if (spec["type"].str() == "ExternalName") return;
  if (spec["ipFamilies"].size() == 0) spec.array("ipFamilies").push("IPv4");
  if (spec["ipFamilyPolicy"].str().empty()) spec.set("ipFamilyPolicy", "SingleStack");
}

// The named member of `object` becomes that of `old`, or goes.
void keep(MutJson object, Json old, std::string_view key) {
  if (const Json value = old[key]; value.exists() && !value.is_null()) object.set(key, value);
  else object.remove(key);
}

bool same_canonical(Field f, MutJson a, Json b) {
  if (f.type() == FieldType::Message && f.shape() == Shape::Single)
    return canonical(f.message(), a) == canonical(f.message(), b);
  return (a ? JsonEdit::copy(a) : JsonEdit()).root().equals((b ? JsonEdit::copy(b) : JsonEdit()).root());
}

// The conditions of the types that may not be changed here become those of `old`; the others stay as they are in `object`.
void keep_conditions(MutJson object, Json old, std::initializer_list<std::string_view> types) {
  const auto kept = [&](std::string_view type) { return std::ranges::find(types, type) != types.end(); };
  JsonEdit merged = JsonEdit::array();
  for (const Json c : old["status"]["conditions"].items())
    if (kept(c["type"].str())) merged.root().push(c);
  for (const MutJson c : object["status"]["conditions"].items())
    if (!kept(c["type"].str())) merged.root().push(c);
  if (merged.root().size() > 0) object.object("status").set("conditions", merged.root());
  else if (object["status"].is_object()) object.object("status").remove("conditions");
}

bool content_changed(const ResourceType& type, MutJson object, Json old) {
  const Message m = type.message();
  for (std::size_t i = 0; i < m.field_count(); ++i) {
    const Field f = m.field(i);
    if (f.has(table::kTypeMeta) || f.name() == "metadata" || f.name() == "status") continue;
    if (!same_canonical(f, object[f.name()], old[f.name()])) return true;
  }
  return false;
}

}  // namespace

std::string_view pod_qos_class(MutJson spec) { return qos(spec); }
std::string_view pod_qos_class(Json spec) { return qos(spec); }

void prepare_create(const ResourceType& type, MutJson object) {
  MutJson metadata = object.object("metadata");
  for (const char* key : {"deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink", "uid", "resourceVersion",
                          "creationTimestamp"})
    metadata.remove(key);
  if (starts_with_generation(type)) metadata.set("generation", 1);
  if (has_status(type) && type.kind != "Node" && type.kind != "Namespace") object.remove("status");
  if (type.kind == "Pod") admit_pod(object);
  if (type.kind == "Node") admit_node(object);
  if (type.kind == "Service") admit_service(object);
  if (type.kind == "Namespace") {
    MutJson status = object.object("status");
    status.clear();
    status.set("phase", "Active");
    MutJson finalizers = object.object("spec").array("finalizers");
    bool present = false;
    for (const MutJson f : finalizers.items()) present = present || f.str() == "kubernetes";
    if (!present) finalizers.push("kubernetes");
  }
}

void prepare_update(const ResourceType& type, MutJson object, Json old) {
  MutJson metadata = object.object("metadata");
  const Json old_metadata = old["metadata"];
  // An update may leave these out; if it names them, validation compares.
  for (const char* key : {"uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"})
    if (!metadata[key] || metadata[key].is_null()) keep(metadata, old_metadata, key);
  for (const char* key : {"generation", "selfLink"}) keep(metadata, old_metadata, key);
  if (has_status(type)) keep(object, old, "status");
  if (type.kind == "Namespace") keep(object, old, "spec");  // finalizers change through the finalize subresource
  if (type.kind == "CertificateSigningRequest") keep(object, old, "spec");  // it never changes
  if (type.kind == "Pod" && object["spec"].is_object())
    if (const Json qos = old["status"]["qosClass"]; qos.is_string()) object.object("status").set("qosClass", qos.str());
  if (counts_generations(type) && type.kind != "Pod" && content_changed(type, object, old))
    metadata.set("generation", old_metadata["generation"].i64(0) + 1);
}

void prepare_status_update(const ResourceType& type, MutJson object, Json old) {
  const Json old_metadata = old["metadata"];
  MutJson metadata = object.object("metadata");
  const std::string resource_version(metadata["resourceVersion"].str());
  const std::string uid(metadata["uid"].str());
  JsonEdit kept = JsonEdit::copy(old_metadata);
  // A node's agent sets labels and annotations together with the status.
  if (type.kind == "Node" || type.kind == "Pod")
    for (const char* key : {"labels", "annotations"})
      if (metadata[key].is_object()) kept.root().set(key, metadata[key]);
  if (!resource_version.empty()) kept.root().set("resourceVersion", resource_version);
  if (!uid.empty()) kept.root().set("uid", uid);
  object.set("metadata", kept.root());
  const Message m = type.message();
  for (std::size_t i = 0; i < m.field_count(); ++i) {
    const Field f = m.field(i);
    if (f.has(table::kTypeMeta) || f.name() == "metadata" || f.name() == "status") continue;
    keep(object, old, f.name());
  }
  if (type.kind == "CertificateSigningRequest") keep_conditions(object, old, {"Approved", "Denied"});
}

void prepare_approval_update(const ResourceType& type, MutJson object, Json old) {
  JsonEdit status = object["status"] ? JsonEdit::copy(object["status"]) : JsonEdit();
  prepare_update(type, object, old);
  object.set("status", status.root());
  keep(object.object("status"), old["status"], "certificate");
  keep_conditions(object, old, {"Failed"});
}

}  // namespace skerry::kube
