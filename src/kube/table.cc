// SPDX-License-Identifier: Apache-2.0
#include "kube/table.h"

#include <algorithm>
#include <array>
#include <format>
#include <set>
#include <vector>

#include "kube/json_text.h"
#include "kube/selector.h"
#include "kube/validation.h"

namespace skerry::kube {
namespace {

struct Column {
  std::string_view name, type;
  int priority = 0;
  std::string_view format = "";
};
constexpr Column kName{"Name", "string", 0, "name"};
constexpr Column kAge{"Age", "string"};
constexpr Column kContainers{"Containers", "string", 1}, kImages{"Images", "string", 1}, kSelector{"Selector", "string", 1};

// Collects the cells of one row; each in the order of the columns.
class Cells {
 public:
  Cells(std::string& out, Time now) : out_(out), now_(now) { out_ += "\"cells\":["; }
  void text(std::string_view value) {
    comma();
    append_quoted(out_, value);
  }
  void text_or(std::string_view value, std::string_view otherwise) { text(value.empty() ? otherwise : value); }
  void number(std::int64_t value) {
    comma();
    out_ += std::to_string(value);
  }
  void age(Json timestamp) { text(since(timestamp)); }
  std::string since(Json timestamp) const {
    const auto t = from_rfc3339(timestamp.str());
    return t ? since(*t) : "<unknown>";
  }
  std::string since(Time t) const { return human_duration(now_ - t); }
  void done() { out_ += ']'; }

 private:
  void comma() {
    if (out_.back() != '[') out_ += ',';
  }
  std::string& out_;
  Time now_;
};

std::string joined(Json list, std::string_view member, std::string_view separator = ",") {
  std::string out;
  for (const Json item : list.items()) {
    if (!out.empty()) out += separator;
    out += member.empty() ? item.str() : item[member].str();
  }
  return out;
}
std::string format_labels(Json labels) {
  std::vector<std::string> parts;
  for (const auto [key, value] : labels.members()) parts.push_back(std::format("{}={}", key, value.str()));
  std::ranges::sort(parts);
  std::string out;
  for (const std::string& p : parts) out += (out.empty() ? "" : ",") + p;
  return out.empty() ? "<none>" : out;
}
std::string format_selector(Json selector) {
  const auto parsed = LabelSelector::from_object(selector);
  if (!parsed) return "<error>";
  const std::string text = parsed->to_string();
  return text.empty() ? "<none>" : text;
}
// The first three, and how many more.
std::string with_more(const std::vector<std::string>& all) {
  std::string out;
  for (std::size_t i = 0; i < all.size() && i < 3; ++i) out += (i == 0 ? "" : ",") + all[i];
  if (all.size() > 3) return std::format("{} + {} more...", out, all.size() - 3);
  return out.empty() ? "<unset>" : out;
}

// ---- pods

struct PodState {
  std::string reason;
  std::int64_t ready = 0, restarts = 0;
  std::optional<Time> last_restart;
};
std::string ended(Json terminated) {
  if (const std::string_view reason = terminated["reason"].str(); !reason.empty()) return std::string(reason);
  if (const std::int64_t signal = terminated["signal"].i64(); signal != 0) return std::format("Signal:{}", signal);
  return std::format("ExitCode:{}", terminated["exitCode"].i64());
}
void note_restart(PodState& state, Json status) {
  const auto t = from_rfc3339(status["lastState"]["terminated"]["finishedAt"].str());
  if (t && (!state.last_restart || *state.last_restart < *t)) state.last_restart = t;
}
bool condition_is(Json status, std::string_view type, std::string_view value) {
  for (const Json c : status["conditions"].items())
    if (c["type"].str() == type) return c["status"].str() == value;
  return false;
}

// True: init containers are still at work, and the reason says so.
bool init_state(Json spec, Json status, PodState& state, std::int64_t& sidecar_restarts) {
  std::size_t i = 0;
  for (const Json s : status["initContainerStatuses"].items()) {
    const std::size_t index = i++;
    const bool sidecar = spec["initContainers"][index]["restartPolicy"].str() == "Always";
    state.restarts += s["restartCount"].i64();
    if (sidecar) sidecar_restarts += s["restartCount"].i64();
    note_restart(state, s);
    const Json terminated = s["state"]["terminated"], waiting = s["state"]["waiting"];
    if (terminated.is_object() && terminated["exitCode"].i64() == 0) continue;
    if (sidecar && s["started"].boolean()) {
      if (s["ready"].boolean()) ++state.ready;
      continue;
    }
    const std::string_view reason = waiting["reason"].str();
    if (terminated.is_object()) state.reason = "Init:" + ended(terminated);
    else if (!reason.empty() && reason != "PodInitializing") state.reason = std::format("Init:{}", reason);
    else state.reason = std::format("Init:{}/{}", index, spec["initContainers"].size());
    return true;
  }
  return false;
}

PodState pod_state(Json pod) {
  const Json status = pod["status"], spec = pod["spec"];
  PodState state;
  const std::string_view phase = status["phase"].str();
  state.reason = status["reason"].str(phase);
  for (const Json c : status["conditions"].items())
    if (c["type"].str() == "PodScheduled" && c["reason"].str() == "SchedulingGated") state.reason = "SchedulingGated";
  std::int64_t sidecar_restarts = 0;
  const bool initializing = init_state(spec, status, state, sidecar_restarts);
  if (!initializing || condition_is(status, "Initialized", "True")) {
    state.restarts = sidecar_restarts;
    bool running = false;
    const Json statuses = status["containerStatuses"];
    for (std::size_t i = statuses.size(); i-- > 0;) {
      const Json s = statuses[i];
      state.restarts += s["restartCount"].i64();
      note_restart(state, s);
      const Json waiting = s["state"]["waiting"], terminated = s["state"]["terminated"];
      if (!waiting["reason"].str().empty()) {
        state.reason = waiting["reason"].str();
      } else if (terminated.is_object()) {
        state.reason = ended(terminated);
      } else if (s["ready"].boolean() && s["state"]["running"].is_object()) {
        running = true;
        ++state.ready;
      }
    }
    if (state.reason == "Completed" && running) state.reason = condition_is(status, "Ready", "True") ? "Running" : "NotReady";
  }
  if (pod["metadata"]["deletionTimestamp"].is_string()) {
    if (status["reason"].str() == "NodeLost") state.reason = "Unknown";
    else if (phase != "Succeeded" && phase != "Failed") state.reason = "Terminating";
  }
  return state;
}

void pod_row(Json pod, Cells& cells) {
  const PodState state = pod_state(pod);
  const Json spec = pod["spec"], status = pod["status"];
  std::size_t total = spec["containers"].size();
  for (const Json c : spec["initContainers"].items())
    if (c["restartPolicy"].str() == "Always") ++total;
  cells.text(pod["metadata"]["name"].str());
  cells.text(std::format("{}/{}", state.ready, total));
  cells.text(state.reason);
  if (state.restarts != 0 && state.last_restart)
    cells.text(std::format("{} ({} ago)", state.restarts, cells.since(*state.last_restart)));
  else
    cells.text(std::to_string(state.restarts));
  cells.age(pod["metadata"]["creationTimestamp"]);
  cells.text_or(status["podIPs"][std::size_t{0}]["ip"].str(status["podIP"].str()), "<none>");
  cells.text_or(spec["nodeName"].str(), "<none>");
  cells.text_or(status["nominatedNodeName"].str(), "<none>");
  const Json gates = spec["readinessGates"];
  if (gates.size() == 0) return cells.text("<none>");
  std::size_t open = 0;
  for (const Json g : gates.items()) open += condition_is(status, g["conditionType"].str(), "True") ? 1U : 0U;
  cells.text(std::format("{}/{}", open, gates.size()));
}

// ---- the others

void deployment_row(Json o, Cells& cells) {
  const Json status = o["status"], pod = o["spec"]["template"]["spec"];
  cells.text(o["metadata"]["name"].str());
  cells.text(std::format("{}/{}", status["readyReplicas"].i64(), o["spec"]["replicas"].i64()));
  cells.number(status["updatedReplicas"].i64());
  cells.number(status["availableReplicas"].i64());
  cells.age(o["metadata"]["creationTimestamp"]);
  cells.text(joined(pod["containers"], "name"));
  cells.text(joined(pod["containers"], "image"));
  cells.text(format_selector(o["spec"]["selector"]));
}
void replica_set_row(Json o, Cells& cells) {
  const Json status = o["status"], pod = o["spec"]["template"]["spec"];
  cells.text(o["metadata"]["name"].str());
  cells.number(o["spec"]["replicas"].i64());
  cells.number(status["replicas"].i64());
  cells.number(status["readyReplicas"].i64());
  cells.age(o["metadata"]["creationTimestamp"]);
  cells.text(joined(pod["containers"], "name"));
  cells.text(joined(pod["containers"], "image"));
  cells.text(format_selector(o["spec"]["selector"]));
}
std::string external_ip(Json o) {
  const Json spec = o["spec"];
  const std::string_view type = spec["type"].str();
  const std::string external = joined(spec["externalIPs"], "");
  if (type == "ExternalName") return std::string(spec["externalName"].str());
  if (type == "LoadBalancer") {
    std::string balancers;
    for (const Json i : o["status"]["loadBalancer"]["ingress"].items())
      balancers += (balancers.empty() ? "" : ",") + std::string(i["ip"].str(i["hostname"].str()));
    if (!external.empty()) balancers += (balancers.empty() ? "" : ",") + external;
    return balancers.empty() ? "<pending>" : balancers;
  }
  return external.empty() ? "<none>" : external;
}
void service_row(Json o, Cells& cells) {
  const Json spec = o["spec"];
  cells.text(o["metadata"]["name"].str());
  cells.text(spec["type"].str());
  cells.text_or(spec["clusterIPs"][std::size_t{0}].str(spec["clusterIP"].str()), "<none>");
  cells.text(external_ip(o));
  std::string ports;
  for (const Json p : spec["ports"].items()) {
    if (!ports.empty()) ports += ',';
    if (p["nodePort"].i64() > 0) ports += std::format("{}:{}/{}", p["port"].i64(), p["nodePort"].i64(), p["protocol"].str());
    else ports += std::format("{}/{}", p["port"].i64(), p["protocol"].str());
  }
  cells.text_or(ports, "<none>");
  cells.age(o["metadata"]["creationTimestamp"]);
  cells.text(format_labels(spec["selector"]));
}
void node_row(Json o, Cells& cells) {
  const Json status = o["status"], info = status["nodeInfo"];
  std::string state;
  for (const Json c : status["conditions"].items())
    if (c["type"].str() == "Ready") state = c["status"].str() == "True" ? "Ready" : "NotReady";
  if (state.empty()) state = "Unknown";
  if (o["spec"]["unschedulable"].boolean()) state += ",SchedulingDisabled";
  std::set<std::string> roles;
  constexpr std::string_view kRole = "node-role.kubernetes.io/";
  for (const auto [key, value] : o["metadata"]["labels"].members()) {
    if (key.starts_with(kRole) && key.size() > kRole.size()) roles.emplace(key.substr(kRole.size()));
    else if (key == "kubernetes.io/role" && !value.str().empty()) roles.emplace(value.str());
  }
  std::string role_text;
  for (const std::string& r : roles) role_text += (role_text.empty() ? "" : ",") + r;
  const auto address = [&](std::string_view type) {
    for (const Json a : status["addresses"].items())
      if (a["type"].str() == type) return a["address"].str();
    return std::string_view();
  };
  cells.text(o["metadata"]["name"].str());
  cells.text(state);
  cells.text_or(role_text, "<none>");
  cells.age(o["metadata"]["creationTimestamp"]);
  cells.text(info["kubeletVersion"].str());
  cells.text_or(address("InternalIP"), "<none>");
  cells.text_or(address("ExternalIP"), "<none>");
  cells.text_or(info["osImage"].str(), "<unknown>");
  cells.text_or(info["kernelVersion"].str(), "<unknown>");
  cells.text_or(info["containerRuntimeVersion"].str(), "<unknown>");
}
void event_row(Json o, Cells& cells) {
  const auto lower = [](std::string_view text) {
    std::string out(text);
    for (char& c : out)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return out;
  };
  const std::string first = cells.since(o["firstTimestamp"].is_string() ? o["firstTimestamp"] : o["eventTime"]);
  std::string last = o["lastTimestamp"].is_string() ? cells.since(o["lastTimestamp"]) : first;
  std::int64_t count = std::max<std::int64_t>(1, o["count"].i64());
  if (const Json series = o["series"]; series.is_object()) {
    last = cells.since(series["lastObservedTime"]);
    count = series["count"].i64();
  }
  const Json about = o["involvedObject"];
  std::string target = lower(about["kind"].str());
  if (!about["name"].str().empty()) target += std::format("/{}", about["name"].str());
  std::string source(o["source"]["component"].str());
  if (source.empty()) source = o["reportingComponent"].str();
  if (const std::string_view host = o["source"]["host"].str(o["reportingInstance"].str()); !host.empty()) source += std::format(", {}", host);
  std::string_view message = o["message"].str();
  while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) message.remove_suffix(1);
  cells.text(last);
  cells.text(o["type"].str());
  cells.text(o["reason"].str());
  cells.text(target);
  cells.text(about["fieldPath"].str());
  cells.text(source);
  cells.text(message);
  cells.text(first);
  cells.number(count);
  cells.text(o["metadata"]["name"].str());
}
void namespace_row(Json o, Cells& cells) {
  cells.text(o["metadata"]["name"].str());
  cells.text(o["status"]["phase"].str());
  cells.age(o["metadata"]["creationTimestamp"]);
}
void config_map_row(Json o, Cells& cells) {
  cells.text(o["metadata"]["name"].str());
  cells.number(static_cast<std::int64_t>(o["data"].size() + o["binaryData"].size()));
  cells.age(o["metadata"]["creationTimestamp"]);
}
void secret_row(Json o, Cells& cells) {
  cells.text(o["metadata"]["name"].str());
  cells.text(o["type"].str());
  cells.number(static_cast<std::int64_t>(o["data"].size()));
  cells.age(o["metadata"]["creationTimestamp"]);
}
void service_account_row(Json o, Cells& cells) {
  cells.text(o["metadata"]["name"].str());
  cells.number(static_cast<std::int64_t>(o["secrets"].size()));
  cells.age(o["metadata"]["creationTimestamp"]);
}
void signing_request_row(Json o, Cells& cells) {
  const Json spec = o["spec"], status = o["status"];
  const auto has = [&](std::string_view type) {
    for (const Json c : status["conditions"].items())
      if (c["type"].str() == type) return true;
    return false;
  };
  cells.text(o["metadata"]["name"].str());
  cells.age(o["metadata"]["creationTimestamp"]);
  cells.text_or(spec["signerName"].str(), "<none>");
  cells.text(spec["username"].str());
  cells.text(spec["expirationSeconds"] ? human_duration(std::chrono::seconds(spec["expirationSeconds"].i64())) : "<none>");
  std::string condition = has("Denied") ? "Denied" : has("Approved") ? "Approved" : "Pending";
  if (has("Failed")) condition += ",Failed";
  if (!status["certificate"].str().empty()) condition += ",Issued";
  cells.text(condition);
}
void lease_row(Json o, Cells& cells) {
  cells.text(o["metadata"]["name"].str());
  cells.text(o["spec"]["holderIdentity"].str());
  cells.age(o["metadata"]["creationTimestamp"]);
}
void runtime_class_row(Json o, Cells& cells) {
  cells.text(o["metadata"]["name"].str());
  cells.text(o["handler"].str());
  cells.age(o["metadata"]["creationTimestamp"]);
}
void endpoint_slice_row(Json o, Cells& cells) {
  std::vector<std::string> ports, addresses;
  for (const Json p : o["ports"].items()) ports.push_back(p["port"].is_integer() ? std::to_string(p["port"].i64()) : "*");
  for (const Json e : o["endpoints"].items())
    for (const Json a : e["addresses"].items()) addresses.emplace_back(a.str());
  cells.text(o["metadata"]["name"].str());
  cells.text(o["addressType"].str());
  cells.text(with_more(ports));
  cells.text(with_more(addresses));
  cells.age(o["metadata"]["creationTimestamp"]);
}

struct Printer {
  std::string_view kind;
  std::span<const Column> columns;
  void (*row)(Json, Cells&);
};
constexpr Column kPodColumns[] = {kName, {"Ready", "string"}, {"Status", "string"}, {"Restarts", "string"}, kAge, {"IP", "string", 1},
                                  {"Node", "string", 1}, {"Nominated Node", "string", 1}, {"Readiness Gates", "string", 1}};
constexpr Column kDeploymentColumns[] = {kName, {"Ready", "string"}, {"Up-to-date", "string"}, {"Available", "string"}, kAge, kContainers,
                                         kImages, kSelector};
constexpr Column kReplicaSetColumns[] = {kName, {"Desired", "integer"}, {"Current", "integer"}, {"Ready", "integer"}, kAge, kContainers,
                                         kImages, kSelector};
constexpr Column kServiceColumns[] = {kName, {"Type", "string"}, {"Cluster-IP", "string"}, {"External-IP", "string"}, {"Port(s)", "string"},
                                      kAge, kSelector};
constexpr Column kNodeColumns[] = {kName, {"Status", "string"}, {"Roles", "string"}, kAge, {"Version", "string"}, {"Internal-IP", "string", 1},
                                   {"External-IP", "string", 1}, {"OS-Image", "string", 1}, {"Kernel-Version", "string", 1},
                                   {"Container-Runtime", "string", 1}};
constexpr Column kEventColumns[] = {{"Last Seen", "string"}, {"Type", "string"}, {"Reason", "string"}, {"Object", "string"},
                                    {"Subobject", "string", 1}, {"Source", "string", 1}, {"Message", "string"}, {"First Seen", "string", 1},
                                    {"Count", "string", 1}, {"Name", "string", 1, "name"}};
constexpr Column kNamespaceColumns[] = {kName, {"Status", "string"}, kAge};
constexpr Column kConfigMapColumns[] = {kName, {"Data", "string"}, kAge};
constexpr Column kSecretColumns[] = {kName, {"Type", "string"}, {"Data", "string"}, kAge};
constexpr Column kServiceAccountColumns[] = {kName, {"Secrets", "string"}, kAge};
constexpr Column kSigningRequestColumns[] = {kName, kAge, {"SignerName", "string"}, {"Requestor", "string"}, {"RequestedDuration", "string"},
                                             {"Condition", "string"}};
constexpr Column kLeaseColumns[] = {kName, {"Holder", "string"}, kAge};
constexpr Column kRuntimeClassColumns[] = {kName, {"Handler", "string"}, kAge};
constexpr Column kEndpointSliceColumns[] = {kName, {"AddressType", "string"}, {"Ports", "string"}, {"Endpoints", "string"}, kAge};
constexpr Column kPlainColumns[] = {kName, kAge};
void plain_row(Json o, Cells& cells) {
  cells.text(o["metadata"]["name"].str());
  cells.age(o["metadata"]["creationTimestamp"]);
}
constexpr Printer kPrinters[] = {{"Pod", kPodColumns, pod_row},
                                 {"Deployment", kDeploymentColumns, deployment_row},
                                 {"ReplicaSet", kReplicaSetColumns, replica_set_row},
                                 {"Service", kServiceColumns, service_row},
                                 {"Node", kNodeColumns, node_row},
                                 {"Event", kEventColumns, event_row},
                                 {"Namespace", kNamespaceColumns, namespace_row},
                                 {"ConfigMap", kConfigMapColumns, config_map_row},
                                 {"Secret", kSecretColumns, secret_row},
                                 {"ServiceAccount", kServiceAccountColumns, service_account_row},
                                 {"CertificateSigningRequest", kSigningRequestColumns, signing_request_row},
                                 {"Lease", kLeaseColumns, lease_row},
                                 {"RuntimeClass", kRuntimeClassColumns, runtime_class_row},
                                 {"EndpointSlice", kEndpointSliceColumns, endpoint_slice_row}};
constexpr Printer kPlain{"", kPlainColumns, plain_row};

const Printer& printer_of(const ResourceType& type) {
  const auto at = std::ranges::find(kPrinters, type.kind, &Printer::kind);
  return at == std::end(kPrinters) ? kPlain : *at;
}

void put_columns(std::string& out, const Printer& printer) {
  out += "\"columnDefinitions\":[";
  for (const Column& c : printer.columns) {
    if (out.back() != '[') out += ',';
    out += std::format(R"({{"name":"{}","type":"{}","format":"{}","description":"","priority":{}}})", c.name, c.type, c.format, c.priority);
  }
  out += ']';
}

void put_row(std::string& out, const Printer& printer, const Object& object, IncludeObject include, Time now) {
  const JsonDoc doc = object.parse();
  const Json root = doc.root();
  out += '{';
  Cells cells(out, now);
  printer.row(root, cells);
  cells.done();
  if (object.kind() == "Pod" && (object.phase() == "Succeeded" || object.phase() == "Failed"))
    out += std::format(R"(,"conditions":[{{"type":"Completed","status":"True","reason":"{}","message":"{}"}}])", object.phase(),
                       object.phase() == "Failed" ? "The pod failed." : "The pod has completed successfully.");
  if (include == IncludeObject::Object) {
    out += ",\"object\":";
    out += *object.json();
  } else if (include == IncludeObject::Metadata) {
    out += R"(,"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":)";
    out += root["metadata"].dump();
    out += '}';
  } else {
    out += ",\"object\":null";
  }
  out += '}';
}

void put_head(std::string& out, Revision revision, const std::string& token, std::int64_t remaining) {
  out += R"({"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":")";
  out += std::to_string(revision.value());
  out += '"';
  if (!token.empty()) {
    out += ",\"continue\":";
    append_quoted(out, token);
  }
  if (remaining > 0) out += std::format(",\"remainingItemCount\":{}", remaining);
  out += "},";
}

}  // namespace

ApiResult<IncludeObject> parse_include_object(std::string_view value) {
  if (value.empty() || value == "Metadata") return IncludeObject::Metadata;
  if (value == "None") return IncludeObject::None;
  if (value == "Object") return IncludeObject::Object;
  return ApiFail(status_bad_request(
      std::format("unrecognized includeObject value {}: use None, Metadata or Object", json_quote(value))));
}

std::string table_json(const ResourceType& type, std::span<const ObjectPtr> objects, const ListPosition& position, IncludeObject include,
                       Time now) {
  const Printer& printer = printer_of(type);
  std::string out;
  out.reserve(1024 + objects.size() * 512);
  put_head(out, position.revision, position.continue_token, position.remaining);
  put_columns(out, printer);
  out += ",\"rows\":[";
  for (const ObjectPtr& object : objects) {
    if (out.back() != '[') out += ',';
    put_row(out, printer, *object, include, now);
  }
  out += "]}";
  return out;
}

std::string table_json(const ResourceType& type, const Object& object, IncludeObject include, Time now, Columns columns) {
  const Printer& printer = printer_of(type);
  std::string out;
  put_head(out, object.revision(), "", 0);
  if (columns == Columns::Written) put_columns(out, printer);
  else out += "\"columnDefinitions\":null";
  out += ",\"rows\":[";
  put_row(out, printer, object, include, now);
  out += "]}";
  return out;
}

std::string human_duration(Duration d) {
  const std::int64_t seconds = d.count() / 1'000'000'000;
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return std::format("{}s", seconds);
  const std::int64_t minutes = seconds / 60, hours = seconds / 3600;
  const auto two = [](std::int64_t a, char unit_a, std::int64_t b, char unit_b) {
    return b == 0 ? std::format("{}{}", a, unit_a) : std::format("{}{}{}{}", a, unit_a, b, unit_b);
  };
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return std::format("{}m", minutes);
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return std::format("{}h", hours);
  if (hours < 24 * 8) return two(hours / 24, 'd', hours % 24, 'h');
  if (hours < 24 * 365 * 2) return std::format("{}d", hours / 24);
  if (hours < 24 * 365 * 8) return two(hours / 24 / 365, 'y', hours / 24 % 365, 'd');
  return std::format("{}y", hours / 24 / 365);
}

}  // namespace skerry::kube
