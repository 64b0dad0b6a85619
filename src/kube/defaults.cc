// SPDX-License-Identifier: Apache-2.0
#include "kube/defaults.h"

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kube/strategy.h"

namespace skerry::kube {
namespace {

// "Not set" as a Go struct sees it: absent, null or the zero value.
bool unset(MutJson v) {
  switch (v.kind()) {
    case JsonKind::Missing: case JsonKind::Null: return true;
    case JsonKind::String: return v.str().empty();
    case JsonKind::Integer: return v.i64() == 0;
    default: return false;
  }
}
bool absent(MutJson v) { return v.kind() == JsonKind::Missing || v.is_null(); }

void text_default(MutJson o, std::string_view key, std::string_view value) {
  if (unset(o[key])) o.set(key, value);
}
void number_default(MutJson o, std::string_view key, int value) {  // for plain integers: 0 counts as unset
  if (unset(o[key])) o.set(key, value);
}
void pointer_default(MutJson o, std::string_view key, int value) {  // for pointers: 0 is a value
  if (absent(o[key])) o.set(key, value);
}

void volume(MutJson o) {
  if (o.size() <= 1) o.object("emptyDir");  // only its name: no source
}
void container(MutJson o) {
  if (unset(o["imagePullPolicy"])) {
    const std::string_view image = o["image"].str();
    const auto slash = image.rfind('/');
    const std::string_view last = slash == std::string_view::npos ? image : image.substr(slash + 1);
    const bool digest = image.contains('@');
    const auto colon = last.rfind(':');
    const bool latest = !digest && (colon == std::string_view::npos || last.substr(colon + 1) == "latest");
    o.set("imagePullPolicy", latest ? "Always" : "IfNotPresent");
  }
  text_default(o, "terminationMessagePath", "/dev/termination-log");
  text_default(o, "terminationMessagePolicy", "File");
}
void pod_spec(MutJson o) {
  text_default(o, "dnsPolicy", "ClusterFirst");
  text_default(o, "restartPolicy", "Always");
  if (absent(o["securityContext"])) o.object("securityContext");
  pointer_default(o, "terminationGracePeriodSeconds", 30);
  text_default(o, "schedulerName", "default-scheduler");
  // The deprecated twin.
  if (!unset(o["serviceAccountName"])) o.set("serviceAccount", std::string(o["serviceAccountName"].str()));
  else if (!unset(o["serviceAccount"])) o.set("serviceAccountName", std::string(o["serviceAccount"].str()));
  if (o["hostNetwork"].boolean())
    for (const char* list : {"containers", "initContainers"})
      for (const MutJson c : o[list].items())
        for (MutJson port : c["ports"].items())
          if (unset(port["hostPort"])) port.set("hostPort", port["containerPort"].i64());
}
void pod(MutJson o) {
  MutJson spec = o["spec"];
  if (!spec.is_object()) return;
  if (absent(spec["enableServiceLinks"])) spec.set("enableServiceLinks", true);
  for (const char* list : {"containers", "initContainers"})
    for (MutJson c : spec[list].items()) {
      const MutJson limits = c["resources"]["limits"];
      if (limits.size() == 0) continue;
      MutJson requests = c["resources"].object("requests");
      for (const auto [name, quantity] : limits.members())
        if (absent(requests[name])) requests.set(name, quantity);
    }
}
void probe(MutJson o) {
  number_default(o, "timeoutSeconds", 1);
  number_default(o, "periodSeconds", 10);
  number_default(o, "successThreshold", 1);
  number_default(o, "failureThreshold", 3);
}
void http_get(MutJson o) {
  text_default(o, "path", "/");
  text_default(o, "scheme", "HTTP");
}
void file_mode(MutJson o) { pointer_default(o, "defaultMode", 0644); }
void host_path(MutJson o) {
  if (absent(o["type"])) o.set("type", "");
}
void token_projection(MutJson o) { pointer_default(o, "expirationSeconds", 3600); }
void field_ref(MutJson o) { text_default(o, "apiVersion", "v1"); }

void service(MutJson o) {
  MutJson spec = o["spec"];
  if (!spec.is_object()) spec = o.object("spec");
  text_default(spec, "sessionAffinity", "None");
  if (spec["sessionAffinity"].str() == "None") spec.remove("sessionAffinityConfig");
  else if (spec["sessionAffinity"].str() == "ClientIP")
    pointer_default(spec.object("sessionAffinityConfig").object("clientIP"), "timeoutSeconds", 10800);
  text_default(spec, "type", "ClusterIP");
  const std::string_view type = spec["type"].str();
  for (MutJson port : spec["ports"].items()) {
    text_default(port, "protocol", "TCP");
    if (unset(port["targetPort"])) port.set("targetPort", port["port"].i64());
  }
  const bool external = type == "NodePort" || type == "LoadBalancer" || (type == "ClusterIP" && spec["externalIPs"].size() > 0);
  if (external) text_default(spec, "externalTrafficPolicy", "Cluster");
  if (type == "NodePort" || type == "LoadBalancer" || type == "ClusterIP") text_default(spec, "internalTrafficPolicy", "Cluster");
  if (type == "LoadBalancer" && absent(spec["allocateLoadBalancerNodePorts"])) spec.set("allocateLoadBalancerNodePorts", true);
}
void endpoint_port(MutJson o) {
  if (absent(o["name"])) o.set("name", "");
  text_default(o, "protocol", "TCP");
}
void secret(MutJson o) { text_default(o, "type", "Opaque"); }
void namespace_(MutJson o) {
  const std::string name(o["metadata"]["name"].str());
  if (!name.empty()) o["metadata"].object("labels").set("kubernetes.io/metadata.name", name);
  text_default(o.object("status"), "phase", "Active");
}
void node_status(MutJson o) {
  if (o["allocatable"].size() == 0 && o["capacity"].size() > 0) o.set("allocatable", o["capacity"]);
}
void deployment(MutJson o) {
  MutJson spec = o.object("spec");
  pointer_default(spec, "replicas", 1);
  MutJson strategy = spec.object("strategy");
  text_default(strategy, "type", "RollingUpdate");
  if (strategy["type"].str() == "RollingUpdate") {
    MutJson rolling = strategy.object("rollingUpdate");
    if (absent(rolling["maxUnavailable"])) rolling.set("maxUnavailable", "25%");
    if (absent(rolling["maxSurge"])) rolling.set("maxSurge", "25%");
  }
  pointer_default(spec, "revisionHistoryLimit", 10);
  pointer_default(spec, "progressDeadlineSeconds", 600);
}
void replica_set(MutJson o) { pointer_default(o.object("spec"), "replicas", 1); }

using Hook = void (*)(MutJson);
constexpr std::pair<std::string_view, Hook> kHooks[] = {
    {"k8s.io.api.apps.v1.Deployment", deployment},
    {"k8s.io.api.apps.v1.ReplicaSet", replica_set},
    {"k8s.io.api.core.v1.ConfigMapVolumeSource", file_mode},
    {"k8s.io.api.core.v1.Container", container},
    {"k8s.io.api.core.v1.DownwardAPIVolumeSource", file_mode},
    {"k8s.io.api.core.v1.EphemeralContainer", container},
    {"k8s.io.api.core.v1.HTTPGetAction", http_get},
    {"k8s.io.api.core.v1.HostPathVolumeSource", host_path},
    {"k8s.io.api.core.v1.Namespace", namespace_},
    {"k8s.io.api.core.v1.NodeStatus", node_status},
    {"k8s.io.api.core.v1.ObjectFieldSelector", field_ref},
    {"k8s.io.api.core.v1.Pod", pod},
    {"k8s.io.api.core.v1.PodSpec", pod_spec},
    {"k8s.io.api.core.v1.Probe", probe},
    {"k8s.io.api.core.v1.ProjectedVolumeSource", file_mode},
    {"k8s.io.api.core.v1.Secret", secret},
    {"k8s.io.api.core.v1.SecretVolumeSource", file_mode},
    {"k8s.io.api.core.v1.Service", service},
    {"k8s.io.api.core.v1.ServiceAccountTokenProjection", token_projection},
    {"k8s.io.api.core.v1.Volume", volume},
    {"k8s.io.api.discovery.v1.EndpointPort", endpoint_port},
};

// What is to be done for each message, found once: its hook, its fields with a +default, and whether anything below it matters.
struct Plan {
  Hook hook = nullptr;
  std::vector<std::uint8_t> marked;    // fields with a default in the schema
  std::vector<std::uint8_t> children;  // fields whose message has a plan
};
const Plan& plan_of(Message m) {
  static const std::vector<Plan> plans = [] {
    std::vector<Plan> out(message_count());
    std::vector<bool> matters(message_count());
    for (const auto& [name, hook] : kHooks)
      for (std::size_t i = 0; i < out.size(); ++i)
        if (message_at(i).name() == name) out[i].hook = hook;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const Message message = message_at(i);
      for (std::size_t f = 0; f < message.field_count(); ++f) {
        const Field field = message.field(f);
        // An empty text on a plain string changes nothing; on a pointer it does.
        const bool marked = !field.default_json().empty() && (field.default_json() != "\"\"" || field.has(table::kPointer));
        if (marked) out[i].marked.push_back(static_cast<std::uint8_t>(f));
      }
      matters[i] = out[i].hook != nullptr || !out[i].marked.empty();
    }
    const auto index = [](Message message) {
      for (std::size_t i = 0; i < message_count(); ++i)
        if (message_at(i) == message) return i;
      CHECK(false);
      return std::size_t{0};
    };
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i].children.clear();
        const Message message = message_at(i);
        for (std::size_t f = 0; f < message.field_count(); ++f) {
          const Field field = message.field(f);
          if (field.type() == FieldType::Message && matters[index(field.message())])
            out[i].children.push_back(static_cast<std::uint8_t>(f));
        }
        if (!out[i].children.empty() && !matters[i]) changed = matters[i] = true;
      }
    }
    return out;
  }();
  std::size_t low = 0, high = plans.size();
  while (high - low > 1) {  // messages are sorted by name
    const std::size_t middle = (low + high) / 2;
    if (message_at(middle).name() <= m.name()) low = middle;
    else high = middle;
  }
  return plans[low];
}

void walk(Message m, MutJson object) {
  if (!object.is_object()) return;
  const Plan& plan = plan_of(m);
  if (plan.hook != nullptr) plan.hook(object);
  for (const std::uint8_t i : plan.marked) {
    const Field f = m.field(i);
    const MutJson value = object[f.name()];
    if (f.has(table::kPointer) ? absent(value) : unset(value)) {
      auto parsed = JsonDoc::parse(f.default_json());
      CHECK(parsed.has_value());  // schema_gen wrote it
      object.set(f.name(), parsed->root());
    }
  }
  for (const std::uint8_t i : plan.children) {
    const Field f = m.field(i);
    const MutJson value = object[f.name()];
    if (!value) continue;
    if (f.shape() == Shape::Single) {
      walk(f.message(), value);
    } else if (f.shape() == Shape::List) {
      for (const MutJson element : value.items()) walk(f.message(), element);
    } else {
      for (const auto [key, element] : value.members()) walk(f.message(), element);
    }
  }
}

}  // namespace

void apply_defaults(const ResourceType& type, MutJson object) { walk(type.message(), object); }

}  // namespace skerry::kube
