// SPDX-License-Identifier: Apache-2.0
#include "agent/pod_plan.h"

#include <algorithm>
#include <array>
#include <format>

#include "kube/quantity.h"

namespace skerry::agent {
namespace {

using kube::Json;

Refusal unsupported(std::string message) { return {"Unsupported", std::move(message)}; }

// A field that is set to something other than its harmless value.
bool present(Json value) {
  if (!value || value.is_null()) return false;
  if (value.is_array() || value.is_object()) return value.size() > 0;
  if (value.is_bool()) return value.boolean();
  if (value.is_string()) return !value.str().empty();
  return true;
}

struct Rule {
  const char* field;
  const char* sentence;
};

constexpr std::array kPodRules = {
    Rule{"initContainers", "init containers are not served yet: do the work in the module's own start function"},
    Rule{"ephemeralContainers", "ephemeral containers are not served: a Wasm guest has no shell or process to attach to"},
    Rule{"hostNetwork", "hostNetwork is not served: a handler listens on its pod address; use a Service of type NodePort"},
    Rule{"hostPID", "hostPID is not served: a sandbox has a process namespace of its own"},
    Rule{"hostIPC", "hostIPC is not served: a sandbox has no IPC with the host"},
    Rule{"shareProcessNamespace", "shareProcessNamespace is not served: each Wasm container has its own process"},
    Rule{"activeDeadlineSeconds", "activeDeadlineSeconds is not served yet: leave it out"},
    Rule{"readinessGates", "readinessGates are not served yet: leave them out"},
    Rule{"hostAliases", "hostAliases are not served: a handler has no files and resolves no names"},
    Rule{"dnsConfig", "dnsConfig is not served: a handler resolves no names"},
    Rule{"setHostnameAsFQDN", "setHostnameAsFQDN is not served"},
    Rule{"resourceClaims", "resourceClaims are not served: this node has no devices to claim"},
};
constexpr std::array kContainerRules = {
    Rule{"command", "`command` is not served: the module in the image is what runs; give it arguments with `args`"},
    Rule{"workingDir", "workingDir is not served: a guest has no file system"},
    Rule{"livenessProbe", "livenessProbe is not served yet: a handler that traps is restarted by itself; remove the probe"},
    Rule{"readinessProbe", "readinessProbe is not served yet: a handler is ready when its listener is open; remove the probe"},
    Rule{"startupProbe", "startupProbe is not served yet: remove the probe"},
    Rule{"lifecycle", "lifecycle hooks are not served yet: remove `lifecycle`"},
    Rule{"volumeDevices", "volumeDevices are not served: a guest has no devices"},
    Rule{"restartPolicy", "a container's own restartPolicy is not served: set the pod's"},
    Rule{"stdin", "stdin is not served: a handler reads requests, not a terminal"},
    Rule{"tty", "tty is not served: a handler has no terminal"},
};

// securityContext of a pod or a container: what the sandbox does anyway is accepted, what it could not honour is refused.
std::optional<Refusal> judge_security(Json context, std::string_view where) {
  auto refuse = [&](std::string_view field, std::string_view why) {
    return unsupported(std::format("{}.securityContext.{}: {}", where, field, why));
  };
  for (auto [field, value] : context.members()) {
    if (!value || value.is_null()) continue;
    if (field == "runAsNonRoot" || field == "readOnlyRootFilesystem") continue;  // always so
    if (field == "privileged" || field == "allowPrivilegeEscalation") {
      if (value.boolean()) return refuse(field, "a sandbox has no privileges and cannot gain any; set it to false");
      continue;
    }
    if (field == "capabilities") {
      if (value["add"].size() > 0) return refuse("capabilities.add", "a sandbox has no capabilities; remove it");
      continue;
    }
    if (field == "seccompProfile" || field == "appArmorProfile") {
      if (value["type"].str() != "RuntimeDefault")
        return refuse(field, "only type RuntimeDefault is served: the sandbox brings its own filter");
      continue;
    }
    if (present(value) || value.is_integer())
      return refuse(field, "not served: every sandbox runs under a user id of its own, without files; remove it");
  }
  return std::nullopt;
}

constexpr std::string_view kTokenFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

// The token volume that a stock API server adds to every pod is accepted and not mounted: a handler has no files. Only what
// that server writes there counts as one; what a user put into a volume of such a name would be missed by his guest.
bool is_token_volume(Json volume, Json account) {
  const std::string_view name = volume["name"].str();
  if (name.starts_with("kube-api-access-") && volume["projected"]) {
    const auto known = [](Json source) {
      for (auto [kind, value] : source.members()) {
        if (kind == "configMap" && value["name"].str() != "kube-root-ca.crt") return false;
        if (kind == "downwardAPI" && (value["items"].size() != 1 || value["items"][std::size_t{0}].path("fieldRef.fieldPath").str() != "metadata.namespace")) return false;
        if (kind != "serviceAccountToken" && kind != "configMap" && kind != "downwardAPI") return false;
      }
      return true;
    };
    for (Json source : volume["projected"]["sources"].items())
      if (!known(source)) return false;
    return true;
  }
  // Before 1.21: ACCOUNT-token-xxxxx.
  constexpr std::size_t kSuffix = 5;
  const std::string prefix = std::string(account.str("default")) + "-token-";
  return volume["secret"] && name.starts_with(prefix) && name.size() == prefix.size() + kSuffix && volume["secret"]["secretName"].str() == name;
}

Result<std::int64_t> quantity_of(Json value, std::string_view where, bool milli) {
  std::string text(value.str());
  if (value.is_number()) text = value.dump();
  const auto q = kube::Quantity::parse(text);
  if (!q || q->negative()) return Fail({Errc::Invalid, std::format("{}: \"{}\" is not a quantity", where, text.substr(0, 64))});
  return milli ? q->milli_value() : q->value();
}

void add_unique(std::vector<std::string>& to, std::string_view name) {
  if (!name.empty() && std::ranges::find(to, name) == to.end()) to.emplace_back(name);
}

std::optional<Refusal> judge_environment(Json container, std::string_view where, PodPlan& plan) {
  for (Json entry : container["env"].items()) {
    const Json from = entry["valueFrom"];
    if (!from || from.is_null()) continue;
    if (from["configMapKeyRef"]) add_unique(plan.config_maps, from["configMapKeyRef"]["name"].str());
    else if (from["secretKeyRef"]) add_unique(plan.secrets, from["secretKeyRef"]["name"].str());
    else if (!from["fieldRef"] && !from["resourceFieldRef"])
      return unsupported(std::format("{}.env[{}].valueFrom: only configMapKeyRef, secretKeyRef, fieldRef and resourceFieldRef are served",
                                     where, entry["name"].str()));
  }
  for (Json entry : container["envFrom"].items()) {
    if (entry["configMapRef"]) add_unique(plan.config_maps, entry["configMapRef"]["name"].str());
    else if (entry["secretRef"]) add_unique(plan.secrets, entry["secretRef"]["name"].str());
    else return unsupported(std::format("{}.envFrom: only configMapRef and secretRef are served", where));
  }
  return std::nullopt;
}

std::optional<Refusal> judge_ports(Json container, std::string_view where, ContainerPlan& out) {
  const Json ports = container["ports"];
  if (ports.size() > 1)
    return unsupported(std::format("{} declares {} ports: a handler listens on one; leave the port that it serves", where, ports.size()));
  for (Json port : ports.items()) {
    if (port["hostPort"].i64() != 0)
      return unsupported(std::format("{}: hostPort is not served: use a Service of type NodePort", where));
    if (const auto protocol = port["protocol"].str("TCP"); protocol != "TCP")
      return unsupported(std::format("{}: protocol {} is not served: a handler speaks HTTP over TCP", where, protocol));
    const std::int64_t number = port["containerPort"].i64();
    if (number < 1 || number > 65535) return unsupported(std::format("{}: containerPort {} is not a port", where, number));
    out.port = static_cast<std::uint16_t>(number);
  }
  return std::nullopt;
}

Result<std::optional<Refusal>> judge_resources(Json resources, const std::string& where, const PlanOptions& options, ContainerPlan& out) {
  if (resources["claims"].size() > 0) return std::optional(unsupported(where + ": resources.claims are not served"));
  for (const char* kind : {"limits", "requests"})
    for (auto [name, value] : resources[kind].members())
      if (name != "cpu" && name != "memory" && name != "ephemeral-storage")
        return std::optional(unsupported(std::format("{}: resource {} is not offered by this node", where, name)));
  if (const Json memory = resources["limits"]["memory"]) {
    TRY(out.memory_bytes_max, quantity_of(memory, where + ".resources.limits.memory", false));
    if (out.memory_bytes_max < kMemoryBytesMin)
      return std::optional(unsupported(std::format("{}: limits.memory of {} bytes is too small: a sandbox needs at least {} bytes", where,
                                                   out.memory_bytes_max, kMemoryBytesMin)));
  }
  if (const Json cpu = resources["limits"]["cpu"]) {
    TRY(out.cpu_millis_max, quantity_of(cpu, where + ".resources.limits.cpu", true));
    const std::int64_t cores = (out.cpu_millis_max + 999) / 1000;
    out.workers = static_cast<std::uint16_t>(std::clamp<std::int64_t>(cores, 1, options.workers_max));
  }
  if (const Json cpu = resources["requests"]["cpu"]) {
    TRY(out.cpu_millis_request, quantity_of(cpu, where + ".resources.requests.cpu", true));
  } else {
    out.cpu_millis_request = out.cpu_millis_max;
  }
  return std::optional<Refusal>{};
}

Result<std::optional<Refusal>> judge_container(Json container, std::size_t index, const PlanOptions& options, PodPlan& plan) {
  ContainerPlan out;
  out.name = container["name"].str();
  out.image = container["image"].str();
  if (out.name.empty() || out.image.empty())
    return Fail({Errc::Corrupt, std::format("container {} has no {}", index, out.name.empty() ? "name" : "image")});
  const std::string where = "container " + out.name;
  const std::string_view pull = container["imagePullPolicy"].str("IfNotPresent");
  out.pull = pull == "Always" ? PullPolicy::Always : pull == "Never" ? PullPolicy::Never : PullPolicy::IfNotPresent;
  std::optional<Refusal> refusal;
  for (const Rule& rule : kContainerRules)
    if (!refusal && present(container[rule.field])) refusal = unsupported(std::format("{}: {}", where, rule.sentence));
  if (!refusal) refusal = judge_ports(container, where, out);
  if (!refusal) refusal = judge_security(container["securityContext"], where);
  if (!refusal) refusal = judge_environment(container, where, plan);
  if (!refusal) {
    TRY(refusal, judge_resources(container["resources"], where, options, out));
  }
  plan.containers.push_back(std::move(out));
  return refusal;
}

// Only the token volume may be there, and mounted where that server mounts it.
std::optional<Refusal> judge_volumes(Json spec) {
  for (Json volume : spec["volumes"].items())
    if (!is_token_volume(volume, spec["serviceAccountName"]))
      return unsupported(std::format("volume {}: volumes are not served yet: pass configuration with env or the annotation skerry.dev/config",
                                     volume["name"].str()));
  for (Json container : spec["containers"].items())
    for (Json mount : container["volumeMounts"].items())
      if (mount["mountPath"].str() != kTokenFolder)
        return unsupported(std::format("container {}: the mount at {} is not served: a handler has no files", container["name"].str(), mount["mountPath"].str()));
  return std::nullopt;
}

std::optional<Refusal> judge_same_port(const PodPlan& plan) {
  for (std::size_t i = 0; i < plan.containers.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (plan.containers[i].port == plan.containers[j].port)
        return unsupported(std::format("containers {} and {} both listen on port {}: give each its own containerPort",
                                       plan.containers[j].name, plan.containers[i].name, plan.containers[i].port));
  return std::nullopt;
}

}  // namespace

Result<PodPlan> plan_pod(const kube::Object& object, const PlanOptions& options) {
  const kube::JsonDoc doc = object.parse();
  const Json root = doc.root(), meta = root["metadata"], spec = root["spec"];
  PodPlan plan;
  plan.pod = object.identity();
  if (object.uid().empty() || object.uid().size() > 128 || object.uid().contains('/') || object.name().contains('/') || object.namespace_().contains('/') ||
      object.name().size() > 253 || object.namespace_().empty())
    return Fail({Errc::Invalid, std::format("pod {}/{}: no usable metadata.uid, namespace and name", object.namespace_(), object.name())});
  plan.deleting = object.deleting();
  plan.finished = object.phase() == "Succeeded" || object.phase() == "Failed";
  for (const Json condition : root["status"]["conditions"].items())
    if (condition["type"].str() == "PodScheduled") plan.scheduled = true;
  plan.runtime_class = spec["runtimeClassName"].str();
  plan.priority = spec["priority"].i64();
  const std::int64_t grace = object.deleting() && meta["deletionGracePeriodSeconds"].is_integer()
                                 ? meta["deletionGracePeriodSeconds"].i64()
                                 : spec["terminationGracePeriodSeconds"].i64(30);
  plan.grace = std::chrono::seconds(std::clamp<std::int64_t>(grace, 0, 24 * 3600));
  const std::string_view restart = spec["restartPolicy"].str("Always");
  plan.restart = restart == "Never" ? RestartPolicy::Never : restart == "OnFailure" ? RestartPolicy::OnFailure : RestartPolicy::Always;
  for (Json secret : spec["imagePullSecrets"].items()) add_unique(plan.pull_secrets, secret["name"].str());

  std::optional<Refusal> refusal;
  const auto judge = [&](std::optional<Refusal> found) {
    if (!refusal) refusal = std::move(found);
  };
  for (const Rule& rule : kPodRules)
    if (present(spec[rule.field])) judge(unsupported(rule.sentence));
  if (spec["hostUsers"].is_bool() && !spec["hostUsers"].boolean())
    judge(unsupported("hostUsers: false is not served: every sandbox has a user id of its own already; remove it"));
  judge(judge_volumes(spec));
  judge(judge_security(spec["securityContext"], "pod"));
  const Json containers = spec["containers"];
  if (containers.size() == 0 || containers.size() > kContainersMax)
    return Fail({containers.size() == 0 ? Errc::Corrupt : Errc::Invalid, std::format("pod {}/{}: {} containers; between 1 and {} are possible", object.namespace_(), object.name(),
                                            containers.size(), kContainersMax)});
  std::size_t index = 0;
  for (Json container : containers.items()) {
    TRY(auto found, judge_container(container, index++, options, plan));
    judge(std::move(found));
  }
  judge(judge_same_port(plan));
  if (auto annotations = parse_annotations(meta["annotations"], options.defaults)) {
    plan.annotations = std::move(*annotations);
  } else {
    judge(Refusal{annotations.error().code == Errc::Unsupported ? "Unsupported" : "InvalidAnnotation", annotations.error().what});
  }
  std::ranges::sort(plan.config_maps);
  std::ranges::sort(plan.secrets);
  if (refusal) plan.refusal = std::make_shared<const Refusal>(std::move(*refusal));
  return plan;
}

}  // namespace skerry::agent
