// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "kube/codec.h"
#include "kube/quantity.h"
#include "kube/validation_internal.h"

namespace skerry::kube::validation {
namespace {

void port_number(FieldErrors& errors, Path path, Json port) {
  if (port.i64() < 1 || port.i64() > 65535) errors.push_back(field_invalid(path, port.dump(), kPortRange));
}
void port_or_name(FieldErrors& errors, Path path, Json port) {
  if (port.is_string()) add(errors, path, port.str(), check_port_name(port.str()));
  else port_number(errors, path, port);
}

void container_ports(FieldErrors& errors, Path path, Json ports, bool host_network) {
  std::set<std::string_view> names;
  std::size_t i = 0;
  for (const Json p : ports.items()) {
    const std::string here = at(path, i++);
    if (const std::string_view name = p["name"].str(); !name.empty()) {
      if (const auto bad = check_port_name(name); !bad.empty()) add(errors, at(here, "name"), name, bad);
      else if (!names.insert(name).second) errors.push_back(field_duplicate(at(here, "name"), name));
    }
    if (p["containerPort"].i64() == 0) errors.push_back(field_required(at(here, "containerPort")));
    else port_number(errors, at(here, "containerPort"), p["containerPort"]);
    if (p["hostPort"].i64() != 0) port_number(errors, at(here, "hostPort"), p["hostPort"]);
    if (host_network && p["hostPort"].i64() != p["containerPort"].i64())
      errors.push_back(field_invalid(at(here, "containerPort"), p["containerPort"].dump(), "must match `hostPort` when `hostNetwork` is true"));
    if (p["protocol"].str().empty()) errors.push_back(field_required(at(here, "protocol")));
    else one_of(errors, at(here, "protocol"), p["protocol"], {"SCTP", "TCP", "UDP"});
  }
}

void field_ref(FieldErrors& errors, Path path, Json ref) {
  const std::string_view field = ref["fieldPath"].str();
  if (ref["apiVersion"].str().empty()) errors.push_back(field_required(at(path, "apiVersion")));
  if (field.empty()) {
    errors.push_back(field_required(at(path, "fieldPath")));
    return;
  }
  constexpr std::string_view kFields[] = {"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
                                          "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"};
  if (std::ranges::find(kFields, field) != std::end(kFields)) return;
  if ((field.starts_with("metadata.labels['") || field.starts_with("metadata.annotations['")) && field.ends_with("']")) return;
  errors.push_back(field_invalid_string(at(path, "fieldPath"), field,
                                        std::format("error converting fieldPath: field label not supported: {}", field)));
}
void key_ref(FieldErrors& errors, Path path, Json ref) {
  if (ref["name"].str().empty()) errors.push_back(field_required(at(path, "name")));
  if (ref["key"].str().empty()) errors.push_back(field_required(at(path, "key")));
  else add(errors, at(path, "key"), ref["key"].str(), check_config_key(ref["key"].str()));
}
void environment(FieldErrors& errors, Path path, Json list) {
  std::size_t i = 0;
  for (const Json e : list.items()) {
    const std::string here = at(path, i++);
    if (e["name"].str().empty()) errors.push_back(field_required(at(here, "name")));
    else add(errors, at(here, "name"), e["name"].str(), check_env_name(e["name"].str()));
    const Json from = e["valueFrom"];
    if (!from.is_object()) continue;
    const std::string where = at(here, "valueFrom");
    std::size_t sources = 0;
    using Check = void (*)(FieldErrors&, Path, Json);
    constexpr std::pair<const char*, Check> kSources[] = {{"fieldRef", field_ref}, {"configMapKeyRef", key_ref}, {"secretKeyRef", key_ref}};
    for (const auto& [member, check] : kSources)
      if (from[member].is_object()) {
        ++sources;
        check(errors, at(where, member), from[member]);
      }
    if (from["resourceFieldRef"].is_object()) {
      ++sources;
      if (from["resourceFieldRef"]["resource"].str().empty())
        errors.push_back(field_required(at(at(where, "resourceFieldRef"), "resource")));
    }
    if (sources == 0)
      errors.push_back(field_invalid_string(where, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"));
    else if (!e["value"].str().empty())
      errors.push_back(field_invalid_string(where, "", "may not be specified when `value` is not empty"));
    else if (sources > 1)
      errors.push_back(field_invalid_string(where, "", "may not have more than one field specified at a time"));
  }
}
void environment_from(FieldErrors& errors, Path path, Json list) {
  std::size_t i = 0;
  for (const Json e : list.items()) {
    const std::string here = at(path, i++);
    const bool config_map = e["configMapRef"].is_object(), secret = e["secretRef"].is_object();
    if (!config_map && !secret) errors.push_back(field_invalid_string(here, "", "must specify one of: `configMapRef` or `secretRef`"));
    if (config_map && secret) errors.push_back(field_invalid_string(here, "", "may not have more than one field specified at a time"));
    for (const char* member : {"configMapRef", "secretRef"})
      if (e[member].is_object() && e[member]["name"].str().empty()) errors.push_back(field_required(at(at(here, member), "name")));
  }
}

bool known_container_resource(std::string_view name) {
  if (name.contains('/')) return true;
  return name == "cpu" || name == "memory" || name == "ephemeral-storage" || name.starts_with("hugepages-");
}
void resources(FieldErrors& errors, Path path, Json r) {
  for (const char* list : {"limits", "requests"})
    for (const auto [name, value] : r[list].members()) {
      const std::string here = key(at(path, list), name);
      if (const auto bad = check_qualified_name(name); !bad.empty()) {
        add(errors, here, name, bad);
        continue;
      }
      if (!known_container_resource(name))
        for (const char* text : {"must be a standard resource type or fully qualified", "must be a standard resource for containers"})
          errors.push_back(field_invalid_string(here, name, text));
      const auto quantity = Quantity::parse(value.str());
      if (quantity && quantity->negative()) errors.push_back(field_invalid_string(here, value.str(), kNotNegative));
      if (quantity && name.contains('/') && quantity->milli_value() % 1000 != 0)
        errors.push_back(field_invalid_string(here, value.str(), "must be an integer"));
    }
  for (const auto [name, value] : r["requests"].members()) {
    const Json limit = r["limits"][name];
    if (!limit) continue;
    const auto requested = Quantity::parse(value.str()), allowed = Quantity::parse(limit.str());
    if (!requested || !allowed) continue;
    const bool overcommit = name == "cpu" || name == "memory" || name == "ephemeral-storage";
    if (!overcommit && *requested != *allowed)
      errors.push_back(field_invalid_string(at(path, "requests"), value.str(), std::format("must be equal to {} limit of {}", name, limit.str())));
    else if (*requested > *allowed)
      errors.push_back(field_invalid_string(at(path, "requests"), value.str(),
                                            std::format("must be less than or equal to {} limit of {}", name, limit.str())));
  }
}

void handler(FieldErrors& errors, Path path, Json h) {
  std::size_t count = 0;
  if (const Json get = h["httpGet"]; get.is_object()) {
    ++count;
    const std::string here = at(path, "httpGet");
    if (get["path"].str().empty()) errors.push_back(field_required(at(here, "path")));
    port_or_name(errors, at(here, "port"), get["port"]);
    one_of(errors, at(here, "scheme"), get["scheme"], {"HTTP", "HTTPS"});
  }
  if (h["tcpSocket"].is_object()) {
    ++count;
    port_or_name(errors, at(at(path, "tcpSocket"), "port"), h["tcpSocket"]["port"]);
  }
  if (h["exec"].is_object()) {
    ++count;
    if (h["exec"]["command"].size() == 0) errors.push_back(field_required(at(at(path, "exec"), "command")));
  }
  if (h["grpc"].is_object()) {
    ++count;
    port_number(errors, at(at(path, "grpc"), "port"), h["grpc"]["port"]);
  }
  if (count == 0) errors.push_back(field_required(path, "must specify a handler type"));
  if (count > 1) errors.push_back(field_forbidden(path, "may not specify more than 1 handler type"));
}
void probe(FieldErrors& errors, Path path, Json p, bool readiness) {
  if (!p.is_object()) return;
  handler(errors, path, p);
  for (const char* member : {"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"})
    not_negative(errors, at(path, member), p[member]);
  if (const Json grace = p["terminationGracePeriodSeconds"]; grace && grace.i64() <= 0)
    errors.push_back(field_invalid(at(path, "terminationGracePeriodSeconds"), grace.dump(), "must be greater than 0"));
  if (readiness && p["terminationGracePeriodSeconds"])
    errors.push_back(field_invalid(at(path, "terminationGracePeriodSeconds"), p["terminationGracePeriodSeconds"].dump(),
                                   "must not be set for readinessProbes"));
  if (!readiness && p["successThreshold"] && p["successThreshold"].i64() != 1)
    errors.push_back(field_invalid(at(path, "successThreshold"), p["successThreshold"].dump(), "must be 1"));
}

void volume_mounts(FieldErrors& errors, Path path, Json mounts, const std::set<std::string_view>& volumes) {
  std::set<std::string_view> paths;
  std::size_t i = 0;
  for (const Json m : mounts.items()) {
    const std::string here = at(path, i++);
    const std::string_view name = m["name"].str(), where = m["mountPath"].str();
    if (name.empty()) errors.push_back(field_required(at(here, "name")));
    else if (!volumes.contains(name))
      errors.push_back({FieldErrorType::NotFound, at(here, "name"), std::format("Not found: {}", json_quote(name))});
    if (where.empty()) errors.push_back(field_required(at(here, "mountPath")));
    if (!paths.insert(where).second) errors.push_back(field_invalid_string(at(here, "mountPath"), where, "must be unique"));
  }
}

enum class Role { Main, Init };
void container(FieldErrors& errors, Path path, Json c, Role role, const std::set<std::string_view>& volumes, bool host_network) {
  const std::string_view name = c["name"].str(), image = c["image"].str();
  if (name.empty()) errors.push_back(field_required(at(path, "name")));
  else add(errors, at(path, "name"), name, check_dns1123_label(name));
  if (image.empty()) errors.push_back(field_required(at(path, "image")));
  else if (image.front() == ' ' || image.back() == ' ')
    errors.push_back(field_invalid_string(at(path, "image"), image, "must not have leading or trailing whitespace"));
  one_of(errors, at(path, "terminationMessagePolicy"), c["terminationMessagePolicy"], {"FallbackToLogsOnError", "File"});
  container_ports(errors, at(path, "ports"), c["ports"], host_network);
  environment(errors, at(path, "env"), c["env"]);
  environment_from(errors, at(path, "envFrom"), c["envFrom"]);
  volume_mounts(errors, at(path, "volumeMounts"), c["volumeMounts"], volumes);
  one_of(errors, at(path, "imagePullPolicy"), c["imagePullPolicy"], {"Always", "IfNotPresent", "Never"});
  resources(errors, at(path, "resources"), c["resources"]);
  const bool sidecar = role == Role::Init && c["restartPolicy"].str() == "Always";
  if (role == Role::Main && c["restartPolicy"])
    errors.push_back(field_forbidden(at(path, "restartPolicy"), "may not be set for non-init containers"));
  if (role == Role::Init && !sidecar) {
    for (const char* member : {"livenessProbe", "readinessProbe", "startupProbe", "lifecycle"})
      if (c[member].is_object()) errors.push_back(field_forbidden(at(path, member), "may not be set for init containers without restartPolicy=Always"));
    return;
  }
  probe(errors, at(path, "livenessProbe"), c["livenessProbe"], false);
  probe(errors, at(path, "readinessProbe"), c["readinessProbe"], true);
  probe(errors, at(path, "startupProbe"), c["startupProbe"], false);
  for (const char* hook : {"postStart", "preStop"})
    if (const Json h = c["lifecycle"][hook]; h.is_object() && !h["sleep"].is_object()) handler(errors, at(at(path, "lifecycle"), hook), h);
}

std::set<std::string_view> volumes(FieldErrors& errors, Path path, Json list) {
  std::set<std::string_view> names;
  std::size_t i = 0;
  for (const Json v : list.items()) {
    const std::string here = at(path, i++);
    const std::string_view name = v["name"].str();
    if (name.empty()) {
      errors.push_back(field_required(at(here, "name")));
    } else if (const auto bad = check_dns1123_label(name); !bad.empty()) {
      add(errors, at(here, "name"), name, bad);
    } else if (!names.insert(name).second) {
      errors.push_back(field_duplicate(at(here, "name"), name));
    }
    std::size_t sources = 0;
    for (const auto [member, value] : v.members()) {
      if (member == "name") continue;
      if (++sources > 1) errors.push_back(field_forbidden(at(here, member), "may not specify more than 1 volume type"));
      const std::string where = at(here, member);
      if (member == "secret" && value["secretName"].str().empty()) errors.push_back(field_required(at(where, "secretName")));
      if (member == "configMap" && value["name"].str().empty()) errors.push_back(field_required(at(where, "name")));
      if (member == "hostPath" && value["path"].str().empty()) errors.push_back(field_required(at(where, "path")));
      if (const Json mode = value["defaultMode"]; mode && (mode.i64() < 0 || mode.i64() > 0777))
        errors.push_back(field_invalid(at(where, "defaultMode"), mode.dump(), "must be a number between 0 and 0777 (octal), both inclusive"));
    }
    if (sources == 0) errors.push_back(field_required(here, "must specify a volume type"));
  }
  return names;
}

void tolerations(FieldErrors& errors, Path path, Json list) {
  std::size_t i = 0;
  for (const Json t : list.items()) {
    const std::string here = at(path, i++);
    const std::string_view name = t["key"].str(), op = t["operator"].str(), value = t["value"].str(), effect = t["effect"].str();
    if (!name.empty()) add(errors, at(here, "key"), name, check_qualified_name(name));
    if (name.empty() && op != "Exists")
      errors.push_back(field_invalid_string(at(here, "operator"), op,
                                            "operator must be Exists when `key` is empty, which means \"match all values and all keys\""));
    if (t["tolerationSeconds"] && effect != "NoExecute")
      errors.push_back(field_invalid_string(at(here, "effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"));
    if (op.empty() || op == "Equal") {
      if (const auto bad = check_label_value(value); !bad.empty())
        errors.push_back(field_invalid_string(at(here, "operator"), value, join_complaints(bad, ";")));
    } else if (op == "Exists") {
      if (!value.empty()) errors.push_back(field_invalid(at(here, "operator"), t.dump(), "value must be empty when `operator` is 'Exists'"));
    } else {
      one_of(errors, at(here, "operator"), t["operator"], {"Equal", "Exists"});
    }
    if (!effect.empty()) one_of(errors, at(here, "effect"), t["effect"], {"NoSchedule", "PreferNoSchedule", "NoExecute"});
  }
}

void names(FieldErrors& errors, Path path, Json spec) {
  for (const char* member : {"nodeName", "serviceAccountName", "runtimeClassName", "priorityClassName"})
    if (const std::string_view name = spec[member].str(); !name.empty()) add(errors, at(path, member), name, check_dns1123_subdomain(name));
  for (const char* member : {"hostname", "subdomain"})
    if (const std::string_view name = spec[member].str(); !name.empty()) add(errors, at(path, member), name, check_dns1123_label(name));
}

}  // namespace

void validate_pod_spec(FieldErrors& errors, Path path, Json spec) {
  const std::set<std::string_view> known = volumes(errors, at(path, "volumes"), spec["volumes"]);
  const bool host_network = spec["hostNetwork"].boolean();
  std::set<std::string_view> seen;
  if (spec["containers"].size() == 0) errors.push_back(field_required(at(path, "containers")));
  for (const auto& [member, role] : {std::pair{"containers", Role::Main}, {"initContainers", Role::Init}}) {
    std::size_t i = 0;
    for (const Json c : spec[member].items()) {
      const std::string here = at(at(path, member), i++);
      container(errors, here, c, role, known, host_network);
      if (!c["name"].str().empty() && !seen.insert(c["name"].str()).second)
        errors.push_back(field_duplicate(at(here, "name"), c["name"].str()));
    }
  }
  if (spec["restartPolicy"].str().empty()) errors.push_back(field_required(at(path, "restartPolicy")));
  else one_of(errors, at(path, "restartPolicy"), spec["restartPolicy"], {"Always", "OnFailure", "Never"});
  if (spec["dnsPolicy"].str().empty()) errors.push_back(field_required(at(path, "dnsPolicy")));
  else one_of(errors, at(path, "dnsPolicy"), spec["dnsPolicy"], {"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"});
  validate_labels(errors, at(path, "nodeSelector"), spec["nodeSelector"]);
  if (const Json grace = spec["terminationGracePeriodSeconds"]; grace && grace.i64() < 0)
    errors.push_back(field_invalid(at(path, "terminationGracePeriodSeconds"), grace.dump(), kNotNegative));
  if (const Json deadline = spec["activeDeadlineSeconds"]; deadline && (deadline.i64() < 1 || deadline.i64() > INT32_MAX))
    errors.push_back(field_invalid(at(path, "activeDeadlineSeconds"), deadline.dump(), "must be between 1 and 2147483647, inclusive"));
  names(errors, path, spec);
  tolerations(errors, at(path, "tolerations"), spec["tolerations"]);
}

void validate_pod_update(FieldErrors& errors, Json pod, Json old) {
  const Json spec = pod["spec"], before = old["spec"];
  for (const char* list : {"containers", "initContainers"})
    if (spec[list].size() != before[list].size()) {
      errors.push_back(field_forbidden(at(std::string("spec"), list), "pod updates may not add or remove containers"));
      return;
    }
  // The old spec with what may change taken from the new one must be the new spec.
  JsonEdit allowed = JsonEdit::copy(before);
  for (const char* list : {"containers", "initContainers"})
    for (std::size_t i = 0; i < spec[list].size(); ++i) {
      const Json image = spec[list][i]["image"];
      if (image.str().empty()) errors.push_back(field_required(at(at(at(std::string("spec"), list), i), "image")));
      if (image) allowed.root()[list][i].set("image", image);
    }
  for (const char* member : {"activeDeadlineSeconds", "tolerations"}) {
    if (spec[member]) allowed.root().set(member, spec[member]);
    else allowed.root().remove(member);
  }
  for (const Json t : before["tolerations"].items()) {
    bool kept = false;
    for (const Json n : spec["tolerations"].items())
      kept = kept || (n["key"].str() == t["key"].str() && n["operator"].str() == t["operator"].str() && n["value"].str() == t["value"].str() &&
                      n["effect"].str() == t["effect"].str());
    if (!kept) {
      errors.push_back(field_forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"));
      break;
    }
  }
  tolerations(errors, "spec.tolerations", spec["tolerations"]);
  if (before["terminationGracePeriodSeconds"].i64() < 0 && spec["terminationGracePeriodSeconds"].i64() == 1)
    allowed.root().set("terminationGracePeriodSeconds", 1);
  const Message m = find_message("k8s.io.api.core.v1.PodSpec");
  if (canonical(m, allowed.root()) != canonical(m, spec))
    errors.push_back(field_forbidden(
        "spec",
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"));
}

}  // namespace skerry::kube::validation
