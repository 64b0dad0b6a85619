// SPDX-License-Identifier: Apache-2.0
// Metadata, and the kinds whose rules are few. Pods and workloads: validation_pod.cc, validation_workload.cc.
#include "kube/validation.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "kube/codec.h"
#include "kube/validation_internal.h"

namespace skerry::kube {
namespace validation {
namespace {

constexpr std::size_t kAnnotationBytesMax = 256 * 1024;
constexpr std::size_t kDataBytesMax = 1024 * 1024;

enum class NameForm { Subdomain, Label, Dns1035 };
NameForm name_form(const ResourceType& type) {
  if (type.kind == "Namespace") return NameForm::Label;
  if (type.kind == "Service") return NameForm::Dns1035;
  return NameForm::Subdomain;
}
Complaints check_name(NameForm form, std::string_view name) {
  switch (form) {
    case NameForm::Label: return check_dns1123_label(name);
    case NameForm::Dns1035: return check_dns1035_label(name);
    case NameForm::Subdomain: break;
  }
  return check_dns1123_subdomain(name);
}

void owner_references(FieldErrors& errors, Path path, Json list) {
  std::string controller;
  for (const Json ref : list.items()) {
    const std::string_view version = ref["apiVersion"].str();
    if (version.empty() || version.ends_with('/'))
      errors.push_back(field_invalid_string(at(path, "apiVersion"), version, "version must not be empty"));
    for (const char* member : {"kind", "name", "uid"})
      if (ref[member].str().empty()) errors.push_back(field_invalid_string(at(path, member), "", std::format("{} must not be empty", member)));
    if (!ref["controller"].boolean()) continue;
    const std::string name = std::format("{}/{}", ref["kind"].str(), ref["name"].str());
    if (!controller.empty())
      errors.push_back(field_invalid(path, list.dump(), std::format("Only one reference can have Controller set to true. Found \"true\" in "
                                                                    "references for {} and {}", controller, name)));
    else controller = name;
  }
}

void data_keys(FieldErrors& errors, Json object, std::initializer_list<std::string_view> members) {
  std::size_t bytes = 0;
  std::set<std::string_view> seen;
  for (const std::string_view member : members)
    for (const auto [name, value] : object[member].members()) {
      const std::string path = key(std::string(member), name);
      add(errors, path, name, check_config_key(name));
      if (!seen.insert(name).second && member == "binaryData")
        errors.push_back(field_invalid_string(path, name, "duplicate of key present in data"));
      bytes += value.str().size();
    }
  if (bytes > kDataBytesMax) errors.push_back(field_too_long("", kDataBytesMax));
}
void immutable_data(FieldErrors& errors, Json object, Json old, std::initializer_list<std::string_view> members) {
  if (!old["immutable"].boolean()) return;
  if (!object["immutable"].boolean())
    errors.push_back(field_forbidden("immutable", "field is immutable when `immutable` is set"));
  for (const std::string_view member : members) {
    const Json a = object[member], b = old[member];
    if (!a.equals(b) && (a.size() != 0 || b.size() != 0))
      errors.push_back(field_forbidden(std::string(member), "field is immutable when `immutable` is set"));
  }
}

void lease(FieldErrors& errors, Json spec) {
  const Json duration = spec["leaseDurationSeconds"];
  if (duration && duration.i64() <= 0) errors.push_back(field_invalid("spec.leaseDurationSeconds", duration.dump(), "must be greater than 0"));
  if (const Json n = spec["leaseTransitions"]; n && n.i64() < 0)
    errors.push_back(field_invalid("spec.leaseTransitions", n.dump(), kNotNegative));
}

void runtime_class(FieldErrors& errors, Json object) {
  if (object["handler"].str().empty()) {
    errors.push_back(field_required("handler"));
    return;
  }
  add(errors, "handler", object["handler"].str(), check_dns1123_label(object["handler"].str()));
}

void endpoint_slice(FieldErrors& errors, Json o) {
  if (o["addressType"].str().empty()) errors.push_back(field_required("addressType"));
  else one_of(errors, "addressType", o["addressType"], {"FQDN", "IPv4", "IPv6"});
  if (o["endpoints"].size() > 1000)
    errors.push_back({FieldErrorType::TooMany, "endpoints", std::format("Too many: {}: must have at most 1000 items", o["endpoints"].size())});
  if (o["ports"].size() > 20000)
    errors.push_back({FieldErrorType::TooMany, "ports", std::format("Too many: {}: must have at most 20000 items", o["ports"].size())});
  std::size_t i = 0;
  for (const Json e : o["endpoints"].items()) {
    const std::string path = at(std::string("endpoints"), i++);
    if (e["addresses"].size() == 0) errors.push_back(field_required(at(path, "addresses"), "must contain at least 1 address"));
    std::size_t k = 0;
    for (const Json a : e["addresses"].items()) {
      const std::string address_path = at(at(path, "addresses"), k++);
      if (o["addressType"].str() == "IPv4" && !is_ipv4(a.str()))
        errors.push_back(field_invalid_string(address_path, a.str(), "must be an IPv4 address"));
      if (o["addressType"].str() == "IPv6" && !is_ipv6(a.str()))
        errors.push_back(field_invalid_string(address_path, a.str(), "must be an IPv6 address"));
    }
  }
  std::set<std::string_view> names;
  i = 0;
  for (const Json p : o["ports"].items()) {
    const std::string path = at(std::string("ports"), i++);
    if (!names.insert(p["name"].str()).second) errors.push_back(field_duplicate(at(path, "name"), p["name"].str()));
    if (!p["name"].str().empty()) add(errors, at(path, "name"), p["name"].str(), check_dns1123_label(p["name"].str()));
    one_of(errors, at(path, "protocol"), p["protocol"], {"SCTP", "TCP", "UDP"});
    if (const Json n = p["port"]; n && (n.i64() < 1 || n.i64() > 65535)) errors.push_back(field_invalid(at(path, "port"), n.dump(), kPortRange));
  }
}

void node(FieldErrors& errors, Json o) {
  std::set<std::string> seen;
  std::size_t i = 0;
  for (const Json t : o["spec"]["taints"].items()) {
    const std::string path = at(std::string("metadata.taints"), i++);
    add(errors, at(path, "key"), t["key"].str(), check_qualified_name(t["key"].str()));
    if (const auto bad = check_label_value(t["value"].str()); !bad.empty())
      errors.push_back(field_invalid_string(at(path, "value"), t["value"].str(), join_complaints(bad, ";")));
    if (t["effect"].str().empty()) errors.push_back(field_required(at(path, "effect")));
    else one_of(errors, at(path, "effect"), t["effect"], {"NoSchedule", "PreferNoSchedule", "NoExecute"});
    if (!seen.insert(std::format("{}:{}", t["key"].str(), t["effect"].str())).second)
      errors.push_back(field_duplicate(path, std::format("{}:{}", t["key"].str(), t["effect"].str())));
  }
}

void event(FieldErrors& errors, Json o) {
  const std::string_view about = o["involvedObject"]["namespace"].str();
  const std::string_view own = o["metadata"]["namespace"].str();
  // An event about a cluster-scoped object lives in "default" (or anywhere, for new-style events).
  if (!about.empty() && about != own)
    errors.push_back(field_invalid_string("involvedObject.namespace", about, "does not match event.namespace"));
}

// Rules of a kind that hold both for a new and for a changed object.
void validate_kind(FieldErrors& errors, const ResourceType& type, Json o) {
  const std::string_view kind = type.kind;
  if (kind == "Pod") validate_pod_spec(errors, "spec", o["spec"]);
  else if (kind == "Deployment" || kind == "ReplicaSet") validate_workload(errors, type, o);
  else if (kind == "Service") validate_service(errors, o);
  else if (kind == "ConfigMap") data_keys(errors, o, {"data", "binaryData"});
  else if (kind == "Secret") data_keys(errors, o, {"data"});
  else if (kind == "Node") node(errors, o);
  else if (kind == "Lease") lease(errors, o["spec"]);
  else if (kind == "RuntimeClass") runtime_class(errors, o);
  else if (kind == "EndpointSlice") endpoint_slice(errors, o);
  else if (kind == "Event") event(errors, o);
  else if (kind == "CertificateSigningRequest") validate_signing_request(errors, o["spec"]);
}

void immutable(FieldErrors& errors, Path path, Json value, Json old) {
  if (value.equals(old) || (value.str().empty() && old.str().empty() && !value.is_object() && !old.is_object())) return;
  errors.push_back(field_invalid(path, value.exists() ? value.dump() : "null", kImmutable));
}

}  // namespace

void add(FieldErrors& errors, Path field, std::string_view value, const Complaints& complaints) {
  for (const std::string& c : complaints) errors.push_back(field_invalid_string(field, value, c));
}
bool one_of(FieldErrors& errors, Path field, Json value, std::initializer_list<std::string_view> allowed) {
  if (!value.exists() || std::ranges::find(allowed, value.str()) != allowed.end()) return true;
  errors.push_back(field_not_supported(field, value.str(), std::vector<std::string>(allowed.begin(), allowed.end())));
  return false;
}
void not_negative(FieldErrors& errors, Path field, Json value) {
  if (value && value.i64() < 0) errors.push_back(field_invalid(field, value.dump(), kNotNegative));
}
std::string go_map(Json strings) {
  std::string out = "map[string]string{";
  for (const auto [name, value] : strings.members()) {
    if (out.back() != '{') out += ", ";
    out += std::format("{}:{}", json_quote(name), json_quote(value.str()));
  }
  return out + "}";
}

void validate_labels(FieldErrors& errors, Path path, Json labels) {
  for (const auto [name, value] : labels.members()) {
    add(errors, path, name, check_qualified_name(name));
    add(errors, path, value.str(), check_label_value(value.str()));
  }
}
void validate_annotations(FieldErrors& errors, Path path, Json annotations) {
  std::size_t bytes = 0;
  for (const auto [name, value] : annotations.members()) {
    std::string lowered(name);
    std::ranges::transform(lowered, lowered.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    add(errors, path, name, check_qualified_name(lowered));
    bytes += name.size() + value.str().size();
  }
  if (bytes > kAnnotationBytesMax) errors.push_back(field_too_long(path, kAnnotationBytesMax));
}

void validate_label_selector(FieldErrors& errors, Path path, Json selector) {
  validate_labels(errors, at(path, "matchLabels"), selector["matchLabels"]);
  std::size_t i = 0;
  for (const Json e : selector["matchExpressions"].items()) {
    const std::string where = at(at(path, "matchExpressions"), i++);
    const std::string_view op = e["operator"].str();
    if (op == "In" || op == "NotIn") {
      if (e["values"].size() == 0)
        errors.push_back(field_required(at(where, "values"), "must be specified when `operator` is 'In' or 'NotIn'"));
    } else if (op == "Exists" || op == "DoesNotExist") {
      if (e["values"].size() > 0)
        errors.push_back(field_forbidden(at(where, "values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
    } else {
      errors.push_back(field_invalid_string(at(where, "operator"), op, "not a valid selector operator"));
    }
    add(errors, at(where, "key"), e["key"].str(), check_qualified_name(e["key"].str()));
    std::size_t k = 0;
    for (const Json v : e["values"].items()) add(errors, at(at(where, "values"), k++), v.str(), check_label_value(v.str()));
  }
}

void validate_meta(FieldErrors& errors, const ResourceType& type, Json metadata) {
  const std::string path = "metadata";
  const NameForm form = name_form(type);
  if (std::string base(metadata["generateName"].str()); !base.empty()) {
    const std::string shown = base;
    if (base.size() > 1 && base.back() == '-') base = base.substr(0, base.size() - 2) + "a";  // what follows decides
    add(errors, at(path, "generateName"), shown, check_name(form, base));
  }
  const std::string_view name = metadata["name"].str();
  if (name.empty()) errors.push_back(field_required(at(path, "name"), "name or generateName is required"));
  else add(errors, at(path, "name"), name, check_name(form, name));
  const std::string_view ns = metadata["namespace"].str();
  if (type.namespaced) {
    if (ns.empty()) errors.push_back(field_required(at(path, "namespace")));
    else add(errors, at(path, "namespace"), ns, check_dns1123_label(ns));
  } else if (!ns.empty()) {
    errors.push_back(field_forbidden(at(path, "namespace"), "not allowed on this type"));
  }
  validate_labels(errors, at(path, "labels"), metadata["labels"]);
  validate_annotations(errors, at(path, "annotations"), metadata["annotations"]);
  owner_references(errors, at(path, "ownerReferences"), metadata["ownerReferences"]);
  bool orphan = false, foreground = false;
  for (const Json f : metadata["finalizers"].items()) {
    add(errors, at(path, "finalizers"), f.str(), check_qualified_name(f.str()));
    orphan = orphan || f.str() == "orphan";
    foreground = foreground || f.str() == "foregroundDeletion";
  }
  if (orphan && foreground)
    errors.push_back(field_invalid(at(path, "finalizers"), metadata["finalizers"].dump(),
                                   "finalizer orphan and foregroundDeletion cannot be both set"));
}

void validate_meta_update(FieldErrors& errors, Json metadata, Json old) {
  const std::string path = "metadata";
  if (old["deletionTimestamp"].is_string()) {
    std::string extra;
    for (const Json f : metadata["finalizers"].items()) {
      bool known = false;
      for (const Json o : old["finalizers"].items()) known = known || o.str() == f.str();
      if (!known) extra += (extra.empty() ? "" : ", ") + json_quote(f.str());
    }
    if (!extra.empty())
      errors.push_back(field_forbidden(
          at(path, "finalizers"),
          std::format("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}", extra)));
  }
  if (metadata["resourceVersion"].str().empty())
    errors.push_back(field_invalid(at(path, "resourceVersion"), "\"\"", "must be specified for an update"));
  for (const char* member : {"name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"})
    immutable(errors, at(path, member), metadata[member], old[member]);
  validate_labels(errors, at(path, "labels"), metadata["labels"]);
  validate_annotations(errors, at(path, "annotations"), metadata["annotations"]);
  owner_references(errors, at(path, "ownerReferences"), metadata["ownerReferences"]);
}

}  // namespace validation

using namespace validation;

FieldErrors validate_create(const ResourceType& type, Json object) {
  FieldErrors errors;
  validate_meta(errors, type, object["metadata"]);
  validate_kind(errors, type, object);
  return errors;
}

FieldErrors validate_update(const ResourceType& type, Json object, Json old) {
  FieldErrors errors;
  validate_meta_update(errors, object["metadata"], old["metadata"]);
  if (type.kind == "Pod") {
    validate_pod_update(errors, object, old);
    return errors;
  }
  validate_kind(errors, type, object);
  if (type.kind == "Deployment" || type.kind == "ReplicaSet") {
    if (!object["spec"]["selector"].equals(old["spec"]["selector"]))
      errors.push_back(field_invalid("spec.selector", object["spec"]["selector"].dump(), kImmutable));
  } else if (type.kind == "Service") {
    validate_service_update(errors, object, old);
  } else if (type.kind == "ConfigMap") {
    immutable_data(errors, object, old, {"data", "binaryData"});
  } else if (type.kind == "Secret") {
    immutable_data(errors, object, old, {"data"});
    if (object["type"].str() != old["type"].str()) errors.push_back(field_invalid_string("type", object["type"].str(), kImmutable));
  } else if (type.kind == "RuntimeClass") {
    if (object["handler"].str() != old["handler"].str())
      errors.push_back(field_invalid_string("handler", object["handler"].str(), kImmutable));
  } else if (type.kind == "EndpointSlice") {
    if (object["addressType"].str() != old["addressType"].str())
      errors.push_back(field_invalid_string("addressType", object["addressType"].str(), kImmutable));
  } else if (type.kind == "CertificateSigningRequest") {
    validate_signing_request_update(errors, object, old, ChangedBy::Update);
  } else if (type.kind == "Node") {
    if (const std::string_view was = old["spec"]["providerID"].str(); !was.empty() && object["spec"]["providerID"].str() != was)
      errors.push_back(field_forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid"));
  }
  return errors;
}

FieldErrors validate_status_update(const ResourceType& type, Json object, Json old) {
  FieldErrors errors;
  validate_meta_update(errors, object["metadata"], old["metadata"]);
  const Json status = object["status"];
  if (type.kind == "Deployment" || type.kind == "ReplicaSet")
    for (const char* member : {"replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "fullyLabeledReplicas", "observedGeneration"})
      not_negative(errors, at(std::string("status"), member), status[member]);
  if (type.kind == "Pod") one_of(errors, "status.phase", status["phase"], {"Failed", "Pending", "Running", "Succeeded", "Unknown"});
  if (type.kind == "CertificateSigningRequest") validate_signing_request_update(errors, object, old, ChangedBy::Status);
  return errors;
}

FieldErrors validate_approval_update(const ResourceType&, Json object, Json old) {
  FieldErrors errors;
  validate_meta_update(errors, object["metadata"], old["metadata"]);
  validate_signing_request_update(errors, object, old, ChangedBy::Approval);
  return errors;
}

FieldErrors validate_scale(Json scale) {
  FieldErrors errors;
  const std::string_view name = scale["metadata"]["name"].str();
  if (name.empty()) errors.push_back(field_required("metadata.name", "name or generateName is required"));
  not_negative(errors, "spec.replicas", scale["spec"]["replicas"]);
  return errors;
}

}  // namespace skerry::kube
