// SPDX-License-Identifier: Apache-2.0
// Deployments, ReplicaSets and Services.
#include <algorithm>
#include <set>

#include "base/text.h"
#include "kube/selector.h"
#include "kube/validation_internal.h"

namespace skerry::kube::validation {
namespace {

std::string int_or_string(Json v) { return v.is_string() ? std::string(v.str()) : v.dump(); }

// Of maxSurge and maxUnavailable. Answers the number, of a percentage too, for the check that not both are zero.
std::int64_t amount(FieldErrors& errors, Path path, Json v) {
  if (v.is_string()) {
    if (const auto bad = check_percent(v.str()); !bad.empty()) {
      for (const std::string& text : bad) errors.push_back(field_invalid(path, v.str(), text));
      return -1;
    }
    return parse_int<std::int64_t>(v.str().substr(0, v.str().size() - 1)).value_or(INT64_MAX);
  }
  if (v.i64() < 0) errors.push_back(field_invalid(path, v.dump(), kNotNegative));
  return v.i64();
}

void strategy(FieldErrors& errors, Path path, Json s) {
  const std::string_view type = s["type"].str();
  const Json rolling = s["rollingUpdate"];
  if (type == "Recreate") {
    if (rolling.is_object())
      errors.push_back(field_forbidden(at(path, "rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'"));
    return;
  }
  if (type != "RollingUpdate") {
    one_of(errors, at(path, "type"), s["type"], {"Recreate", "RollingUpdate"});
    return;
  }
  const std::string where = at(path, "rollingUpdate");
  if (!rolling.is_object()) {
    errors.push_back(field_required(where, "this should be defaulted and never be nil"));
    return;
  }
  const std::int64_t unavailable = amount(errors, at(where, "maxUnavailable"), rolling["maxUnavailable"]);
  const std::int64_t surge = amount(errors, at(where, "maxSurge"), rolling["maxSurge"]);
  if (unavailable == 0 && surge == 0)
    errors.push_back(field_invalid(at(where, "maxUnavailable"), int_or_string(rolling["maxUnavailable"]), "may not be 0 when `maxSurge` is 0"));
  if (rolling["maxUnavailable"].is_string() && unavailable > 100)
    errors.push_back(field_invalid(at(where, "maxUnavailable"), rolling["maxUnavailable"].str(), "must not be greater than 100%"));
}

void pod_template(FieldErrors& errors, Path path, Json pod, Json selector_json) {
  const auto selector = LabelSelector::from_object(selector_json);
  if (!selector) return;  // reported with the selector
  const Json labels = pod["metadata"]["labels"];
  if (!selector->everything() && !selector->matches(labels))
    errors.push_back(field_invalid(at(path, "metadata.labels"), go_map(labels), "`selector` does not match template `labels`"));
  validate_labels(errors, at(path, "labels"), labels);
  validate_annotations(errors, at(path, "annotations"), pod["metadata"]["annotations"]);
  validate_pod_spec(errors, at(path, "spec"), pod["spec"]);
  const std::string_view restart = pod["spec"]["restartPolicy"].str();
  if (restart == "OnFailure" || restart == "Never")
    errors.push_back(field_not_supported(at(path, "spec.restartPolicy"), restart, {"Always"}));
  if (pod["spec"]["activeDeadlineSeconds"])
    errors.push_back(field_forbidden(at(path, "spec.activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"));
}

bool external(std::string_view type) { return type == "NodePort" || type == "LoadBalancer"; }

void service_port(FieldErrors& errors, Path path, Json p, bool name_required, std::set<std::string_view>& names, bool headless) {
  const std::string_view name = p["name"].str();
  if (name.empty()) {
    if (name_required) errors.push_back(field_required(at(path, "name")));
  } else {
    add(errors, at(path, "name"), name, check_dns1123_label(name));
    if (!names.insert(name).second) errors.push_back(field_duplicate(at(path, "name"), name));
  }
  const std::int64_t port = p["port"].i64();
  if (port < 1 || port > 65535) errors.push_back(field_invalid(at(path, "port"), p["port"].exists() ? p["port"].dump() : "0", kPortRange));
  if (p["protocol"].str().empty()) errors.push_back(field_required(at(path, "protocol")));
  else one_of(errors, at(path, "protocol"), p["protocol"], {"SCTP", "TCP", "UDP"});
  const Json target = p["targetPort"];
  if (target.is_string()) add(errors, at(path, "targetPort"), target.str(), check_port_name(target.str()));
  else if (!headless && (target.i64() < 1 || target.i64() > 65535))
    errors.push_back(field_invalid(at(path, "targetPort"), target.exists() ? target.dump() : "0", kPortRange));
}

}  // namespace

void validate_workload(FieldErrors& errors, const ResourceType& type, Json object) {
  const Json spec = object["spec"];
  const std::string path = "spec";
  not_negative(errors, at(path, "replicas"), spec["replicas"]);
  not_negative(errors, at(path, "minReadySeconds"), spec["minReadySeconds"]);
  const Json selector = spec["selector"];
  if (!selector.is_object()) {
    errors.push_back(field_required(at(path, "selector")));
  } else {
    validate_label_selector(errors, at(path, "selector"), selector);
    if (selector["matchLabels"].size() + selector["matchExpressions"].size() == 0)
      errors.push_back(field_invalid(at(path, "selector"), selector.dump(), "empty selector is invalid for deployment"));
  }
  pod_template(errors, at(path, "template"), spec["template"], selector);
  if (type.kind != "Deployment") return;
  strategy(errors, at(path, "strategy"), spec["strategy"]);
  not_negative(errors, at(path, "revisionHistoryLimit"), spec["revisionHistoryLimit"]);
  if (const Json deadline = spec["progressDeadlineSeconds"]; deadline) {
    not_negative(errors, at(path, "progressDeadlineSeconds"), deadline);
    if (deadline.i64() <= spec["minReadySeconds"].i64())
      errors.push_back(field_invalid(at(path, "progressDeadlineSeconds"), deadline.dump(), "must be greater than minReadySeconds"));
  }
}

void validate_service(FieldErrors& errors, Json service) {
  const Json spec = service["spec"];
  const std::string path = "spec";
  const std::string_view type = spec["type"].str(), cluster_ip = spec["clusterIP"].str();
  const bool headless = cluster_ip == "None";
  if (spec["ports"].size() == 0 && !headless && type != "ExternalName") errors.push_back(field_required(at(path, "ports")));
  std::set<std::string_view> names;
  std::set<std::string> pairs, node_ports;
  std::size_t i = 0;
  for (const Json p : spec["ports"].items()) {
    const std::string here = at(at(path, "ports"), i++);
    service_port(errors, here, p, spec["ports"].size() > 1, names, headless);
    if (!pairs.insert(std::format("{}/{}", p["port"].i64(), p["protocol"].str())).second)
      errors.push_back(field_duplicate(here, std::format("{}/{}", p["port"].i64(), p["protocol"].str())));
    const Json node_port = p["nodePort"];
    if (node_port.i64() == 0) continue;
    if (!external(type)) errors.push_back(field_forbidden(at(here, "nodePort"), std::format("may not be used when `type` is '{}'", type)));
    else if (!node_ports.insert(std::format("{}/{}", node_port.i64(), p["protocol"].str())).second)
      errors.push_back(field_duplicate(at(here, "nodePort"), node_port.dump()));
  }
  validate_labels(errors, at(path, "selector"), spec["selector"]);
  if (spec["sessionAffinity"].str().empty()) errors.push_back(field_required(at(path, "sessionAffinity")));
  else one_of(errors, at(path, "sessionAffinity"), spec["sessionAffinity"], {"ClientIP", "None"});
  if (type.empty()) errors.push_back(field_required(at(path, "type")));
  else one_of(errors, at(path, "type"), spec["type"], {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"});
  if (type == "ExternalName") {
    if (spec["externalName"].str().empty()) errors.push_back(field_required(at(path, "externalName")));
    else add(errors, at(path, "externalName"), spec["externalName"].str(), check_dns1123_subdomain(spec["externalName"].str()));
    if (!cluster_ip.empty()) errors.push_back(field_forbidden(at(path, "clusterIP"), "may not be set for ExternalName services"));
  } else if (!cluster_ip.empty() && !headless && !is_ip(cluster_ip)) {
    errors.push_back(field_invalid_string(at(path, "clusterIPs[0]"), cluster_ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
  }
  if (headless && type != "ClusterIP" && type != "ExternalName")
    errors.push_back(field_invalid_string(at(path, "clusterIPs[0]"), cluster_ip,
                                          std::format("may not be set to 'None' for {} services", type)));
  i = 0;
  for (const Json ip : spec["externalIPs"].items()) {
    const std::string here = at(at(path, "externalIPs"), i++);
    if (!is_ip(ip.str()))
      errors.push_back(field_invalid_string(here, ip.str(), "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
  }
  if (const Json policy = spec["externalTrafficPolicy"]; !policy.str().empty()) {
    if (!external(type) && spec["externalIPs"].size() == 0)
      errors.push_back(field_invalid_string(at(path, "externalTrafficPolicy"), policy.str(), "may only be set for externally-accessible services"));
    else one_of(errors, at(path, "externalTrafficPolicy"), policy, {"Cluster", "Local"});
  }
  one_of(errors, at(path, "internalTrafficPolicy"), spec["internalTrafficPolicy"], {"Cluster", "Local"});
}

void validate_service_update(FieldErrors& errors, Json service, Json old) {
  const std::string_view before = old["spec"]["clusterIP"].str(), now = service["spec"]["clusterIP"].str();
  const bool was_external_name = old["spec"]["type"].str() == "ExternalName", is_external_name = service["spec"]["type"].str() == "ExternalName";
  if (!was_external_name && !is_external_name && !before.empty() && before != now)
    errors.push_back(field_invalid("spec.clusterIPs[0]", std::format("[]string{{{}}}", json_quote(now)), "may not change once set"));
}

}  // namespace skerry::kube::validation
