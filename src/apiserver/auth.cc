// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth.h"

#include <algorithm>
#include <format>
#include <set>

#include "apiserver/signing_request.h"
#include "kube/selector.h"

namespace skerry::apiserver {
namespace {

constexpr std::string_view kNodePrefix = "system:node:";
constexpr std::string_view kLeaseNamespace = "kube-node-lease";
constexpr const char* kMachineAnnotation = "skerry.dev/machine";  // of a Lease

bool in_group(const User& user, std::string_view group) { return std::ranges::find(user.groups, group) != user.groups.end(); }

// In a time that does not depend on where they differ.
bool same_secret(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ (b.empty() ? 0 : b[i % b.size()]));
  return difference == 0;
}

// `User "x" cannot get resource "pods" in API group "" in the namespace "d": REASON`
Status denied(const Call& call, std::string_view reason = {}) {
  const Route& route = call.route;
  const std::string resource = route.subresource.empty() ? route.resource : route.resource + "/" + route.subresource;
  const std::string where = route.namespace_.empty() ? "at the cluster scope" : std::format("in the namespace \"{}\"", route.namespace_);
  std::string text = std::format("User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {}", call.user.name, route.verb, resource, route.group, where);
  if (!reason.empty()) text += std::format(": {}", reason);
  return kube::status_forbidden(route.group, route.resource, route.name, text);
}
Status restricted(const Call& call, std::string_view name, std::string_view text) {
  return kube::status_forbidden(call.route.group, call.route.resource, name, text);
}

bool refers(Json pod_spec, std::string_view resource, std::string_view name) {
  bool found = false;
  for_each_reference(pod_spec, [&](std::string_view r, std::string_view n) { found = found || (r == resource && n == name); });
  return found;
}

// Does a pod that is bound to the node refer to this object?
bool related(const Call& call, std::string_view node, std::string_view name) {
  bool found = false;
  call.server.store.for_each_of_node(call.server.id("pods"), node, [&](const kube::Object& pod) {
    if (found || pod.namespace_() != call.route.namespace_ || !pod.json()->contains(name)) return;
    const auto doc = pod.parse();
    const Json spec = doc.root()["spec"];
    found = call.route.resource == "serviceaccounts" ? spec["serviceAccountName"].str() == name : refers(spec, call.route.resource, name);
  });
  return found;
}

ApiResult<> authorize_related(const Call& call, std::string_view node) {
  const std::string_view verb = call.route.verb;
  std::string name = call.route.name;
  if (verb == "list" || verb == "watch") {
    const auto selector = kube::FieldSelector::parse(call.param("fieldSelector"), call.type());
    if (selector) name = selector->required("metadata.name");
  }
  // Over all namespaces, one name would reach objects that no pod of the node refers to.
  if ((verb != "get" && verb != "list" && verb != "watch") || name.empty() || call.route.namespace_.empty()) {
    return ApiFail(denied(call, "can only read namespaced object of this type"));
  }
  // How nodes behave without their network is for all of them (docs/node.md).
  if (call.route.resource == "configmaps" && call.route.namespace_ == "default" && name == "edge-config") return {};
  if (!related(call, node, name)) return ApiFail(denied(call, std::format("no relationship found between node '{}' and this object", node)));
  return {};
}

// The owner that controls an object, if it is of that kind.
struct Controller {
  std::string name, uid;
};
std::optional<Controller> controller_of(const kube::Object& object, std::string_view kind) {
  const auto doc = object.parse();
  for (const Json owner : doc.root()["metadata"]["ownerReferences"].items()) {
    if (owner["controller"].boolean() && owner["kind"].str() == kind && owner["apiVersion"].str() == "apps/v1") return Controller{std::string(owner["name"].str()), std::string(owner["uid"].str())};
  }
  return std::nullopt;
}

// Does this ReplicaSet control a pod that is bound to the node, or this Deployment one that does?
bool owns_pod_of(const Call& call, std::string_view node) {
  const auto& store = call.server.store;
  const ObjectPtr asked = store.newest(call.id(), call.route.namespace_, call.route.name);
  if (!asked) return false;
  std::set<std::string> sets;  // those ReplicaSets by their names, then looked at once each
  const auto pods = store.list(call.server.id("pods"), {.namespace_ = call.route.namespace_, .filter = [&](const kube::Object& pod) {
                                 if (pod.node_name() != node) return false;
                                 const auto set = controller_of(pod, "ReplicaSet");
                                 if (!set) return false;
                                 if (asked->kind() == "ReplicaSet") return set->uid == asked->uid();
                                 if (!sets.insert(set->name).second) return false;
                                 const ObjectPtr object = store.newest(call.server.id("replicasets.apps"), call.route.namespace_, set->name);
                                 const auto above = object && object->uid() == set->uid ? controller_of(*object, "Deployment") : std::nullopt;
                                 return above && above->uid == asked->uid();
                               }});
  return pods && !pods->items.empty();
}

// What a node needs to show who owns its pods, and to tell what was changed at it while it was alone (ADR 0036).
ApiResult<> authorize_owner(const Call& call, std::string_view node) {
  const Route& route = call.route;
  const bool deployment = route.resource == "deployments", scale = deployment && route.subresource == "scale";
  const bool getting = route.verb == "get" && (route.subresource.empty() || scale), patching = route.verb == "patch" && deployment && (route.subresource.empty() || scale);
  if (route.name.empty() || (!getting && !patching)) return ApiFail(denied(call, "a node can only get, by name, what owns its pods, and scale or restart such Deployments"));
  if (!owns_pod_of(call, node)) return ApiFail(denied(call, std::format("no relationship found between node '{}' and this object", node)));
  return {};
}

// Of a Deployment a node changes the number (through scale) and when it was restarted.
ApiResult<> admit_restart(const Call& call, std::string_view node, Json object, const ObjectPtr& old) {
  const auto rest = [&](Json whole) {
    JsonEdit edit = JsonEdit::copy(whole);
    MutJson metadata = edit.root().object("metadata"), inner = edit.root().object("spec").object("template").object("metadata");
    for (const char* name : {"resourceVersion", "generation", "managedFields"}) metadata.remove(name);
    MutJson annotations = inner["annotations"];
    if (annotations) annotations.remove("kubectl.kubernetes.io/restartedAt");
    if (annotations && annotations.size() == 0) inner.remove("annotations");
    return kube::canonical(call.type(), edit.root());
  };
  const auto before = old->parse();
  if (rest(object) == rest(before.root())) return {};
  return ApiFail(restricted(call, old->name(), std::format("node \"{}\" can only scale a deployment, and set the annotation kubectl.kubernetes.io/restartedAt of its template", node)));
}

ApiResult<> authorize_node(const Call& call, std::string_view node) {
  const Route& route = call.route;
  const std::string_view verb = route.verb, resource = route.resource, sub = route.subresource;
  const bool reading = verb == "get" || verb == "list" || verb == "watch";
  const bool changing = verb == "update" || verb == "patch";
  if (!route.type) return ApiFail(denied(call));  // a version or name that is not served: what follows reads by its kind
  if (route.group.empty()) {
    if (resource == "nodes") {
      if (sub.empty() && (reading || verb == "create" || changing)) return {};
      if (sub == "status" && (verb == "get" || changing)) return {};
    }
    if (resource == "pods") {
      // An update of a pod passes here, and is refused by admit_node_write with the sentence that says what is allowed.
      if (sub.empty() && (reading || verb == "create" || verb == "delete" || changing)) return {};
      if (sub == "status" && (verb == "get" || changing)) return {};
    }
    if (resource == "services" && sub.empty() && reading) return {};
    if (resource == "events" && sub.empty() && (verb == "create" || changing)) return {};
    if ((resource == "secrets" || resource == "configmaps" || resource == "serviceaccounts") && sub.empty()) return authorize_related(call, node);
  }
  if (route.group == "coordination.k8s.io" && resource == "leases" && sub.empty()) {
    if (verb == "get" || verb == "create" || changing) {
      if (route.namespace_ != kLeaseNamespace) return ApiFail(denied(call, "can only access leases in the \"kube-node-lease\" system namespace"));
      if (verb != "create" && route.name != node) return ApiFail(denied(call, "can only access node lease with the same name as the requesting node"));
      return {};
    }
  }
  // A node serves cluster addresses itself, which is a work of kube-proxy and its rights elsewhere.
  if (route.group == "discovery.k8s.io" && resource == "endpointslices" && sub.empty() && reading) return {};
  if (route.group == "certificates.k8s.io" && resource == "certificatesigningrequests" && sub.empty()) {
    if (verb == "create" || (reading && reads_own_request(call))) return {};
    if (reading) return ApiFail(denied(call, "a node can only read its own requests, by name"));
  }
  if (route.group == "apps" && (resource == "replicasets" || resource == "deployments")) return authorize_owner(call, node);
  if (route.group == "node.k8s.io" && resource == "runtimeclasses" && sub.empty() && reading) return {};
  return ApiFail(denied(call));
}

bool kubelet_may_set(std::string_view label) {
  const auto slash = label.find('/');
  if (slash == label.npos) return true;
  const std::string_view domain = label.substr(0, slash);
  const auto within = [&](std::string_view d) { return domain == d || (domain.ends_with(d) && domain[domain.size() - d.size() - 1] == '.'); };
  if (within("node-restriction.kubernetes.io")) return false;
  if (!within("kubernetes.io") && !within("k8s.io")) return true;
  for (const std::string_view allowed :
       {"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type", "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"}) {
    if (label == allowed) return true;
  }
  return within("kubelet.kubernetes.io") || within("node.kubernetes.io");
}

// Labels that differ between the two and are not a node's to change, in order.
std::string forbidden_labels(Json now, Json before) {
  std::vector<std::string> bad;
  for (const auto [key, value] : now.members()) {
    if (before[key].str() == value.str() && before[key].exists()) continue;
    if (!kubelet_may_set(key)) bad.emplace_back(key);
  }
  for (const auto [key, value] : before.members()) {
    if (!now[key].exists() && !kubelet_may_set(key)) bad.emplace_back(key);
  }
  std::ranges::sort(bad);
  std::string out;
  for (const std::string& key : bad) out += (out.empty() ? "" : ", ") + key;
  return out;
}

bool same_labels(Json now, const kube::Labels& before) {
  if (now.size() != before.size()) return false;
  return std::ranges::all_of(before, [&](const auto& label) { return now[label.first].str() == label.second; });
}

// The machine that a Node reports, and that an agent of ours says in its Lease: "MACHINE ID/SYSTEM UUID"; "" if it says neither.
std::string machine_of(Json node) {
  const Json info = node["status"]["nodeInfo"];
  const std::string_view id = info["machineID"].str(), system = info["systemUUID"].str();
  return id.empty() && system.empty() ? std::string() : std::format("{}/{}", id, system);
}

// One name on two machines: while the first is heard from, the second may not take it over.
ApiResult<> admit_machine(const Call& call, std::string_view node, std::string_view machine, std::string_view registered) {
  const Server& server = call.server;
  if (registered.empty() || machine == registered || !server.store.newest(server.id("leases.coordination.k8s.io"), kLeaseNamespace, node)) return {};
  if (!server.identities.live(node, server.clock.instant())) return {};
  const std::string text = std::format("node \"{}\" is live on machine {} (machineID/systemUUID): machine {} may not report as it. Two machines use one node's credentials: "
                                       "give one of them a name and a certificate of its own, or stop the other and wait until its lease has ended",
                                       node, registered, machine.empty() ? "without an id" : machine);
  Status status = restricted(call, node, text);
  status.details.causes.push_back({std::string(kMachineConflict), text, ""});
  return ApiFail(std::move(status));
}

ApiResult<> admit_node_object(const Call& call, std::string_view node, Json object, const ObjectPtr& old) {
  const std::string_view name = object["metadata"]["name"].str();
  if (name != node) return ApiFail(restricted(call, name, std::format("node \"{}\" is not allowed to modify node \"{}\"", node, name)));
  const auto before = old ? old->parse() : kube::JsonDoc::parse("{}").value();
  if (const auto bad = forbidden_labels(object["metadata"]["labels"], before.root()["metadata"]["labels"]); !bad.empty()) {
    return ApiFail(restricted(call, name, std::format("node \"{}\" is not allowed to modify labels: {}", node, bad)));
  }
  if (old) TRY_API_OK(admit_machine(call, node, machine_of(object), machine_of(before.root())));
  if (old && call.route.subresource.empty()) {
    const Json now = object["spec"]["taints"], was = before.root()["spec"]["taints"];
    if (now.size() != was.size() || (now.size() > 0 && !now.equals(was))) {
      return ApiFail(restricted(call, name, std::format("node \"{}\" is not allowed to modify taints", node)));
    }
    // An owner that does not exist would have the garbage collector delete the node, which the node itself may not.
    const Json owners = object["metadata"]["ownerReferences"];
    if (owners.size() > 0 && !owners.equals(before.root()["metadata"]["ownerReferences"])) {
      return ApiFail(restricted(call, name, std::format("node \"{}\" is not allowed to modify owner references", node)));
    }
  }
  return {};
}

// The certificate of this connection, if it has ended: before the handshake, or since.
std::shared_ptr<const http::ClientCertificate> ended_certificate(const http::Peer& peer, Time now) {
  if (now < peer.certificate_not_after) return peer.expired_certificate;
  return std::make_shared<const http::ClientCertificate>(
      http::ClientCertificate{.common_name = peer.certificate_common_name, .organizations = peer.certificate_organizations, .serial = peer.certificate_serial, .key = peer.certificate_key,
                              .not_before = peer.certificate_not_before, .not_after = peer.certificate_not_after});
}

}  // namespace

ApiResult<User> authenticate(const Server& server, const http::Request& request) {
  if (request.peer.in_process) return User{"system:apiserver", {"system:masters", "system:authenticated"}};
  const auto known = [](User user) {
    user.groups.emplace_back("system:authenticated");
    return user;
  };
  const auto& peer = request.peer;
  const Time now = server.clock.now();
  const auto ended = ended_certificate(peer, now);
  // One that has ended may also have been replaced before it did.
  const auto replaced = [&](std::string_view node, std::string_view serial, Time not_before) -> std::optional<Status> {
    if (server.identities.judge(node, serial, not_before, now) != NodeIdentities::Judgement::Older) return std::nullopt;
    Status status = kube::status_unauthorized();
    status.message = std::format("this client certificate of node \"{}\" (begun {}) was replaced by one begun {}, which is in use: a machine that still shows the "
                                 "former holds a copy, or an old backup, of the node's credentials", node, to_rfc3339(not_before),
                                 to_rfc3339(server.identities.newest(node)->not_before));
    status.details.present = true;
    status.details.causes.push_back({std::string(kReplaced), std::string(node), ""});
    return status;
  };
  if (!peer.certificate_common_name.empty() && !ended) {
    if (const auto node = node_of(peer.certificate_common_name, peer.certificate_organizations); !node.empty() && !peer.certificate_serial.empty()) {
      if (auto status = replaced(node, peer.certificate_serial, peer.certificate_not_before)) return ApiFail(std::move(*status));
    }
    return known({peer.certificate_common_name, peer.certificate_organizations});
  }
  const std::string_view authorization = request.headers.get("Authorization");
  if (authorization.size() > 7 && (authorization.starts_with("Bearer ") || authorization.starts_with("bearer "))) {
    const std::string_view token = authorization.substr(7);
    for (const BearerToken& one : server.options.tokens) {
      if (!one.token.empty() && same_secret(one.token, token)) return known(one.user);
    }
  }
  if (ended) {
    if (const auto node = node_of(ended->common_name, ended->organizations); !node.empty()) {
      if (auto status = replaced(node, ended->serial, ended->not_before)) return ApiFail(std::move(*status));
      return known({.name = ended->common_name, .groups = {"system:nodes"}, .expired_key = ended->key, .expired_at = ended->not_after});
    }
  }
  return ApiFail(kube::status_unauthorized());
}

ApiResult<User> impersonate(User user, const http::Headers& headers) {
  User other;
  bool asked = false;
  for (const auto& [name, value] : headers.all()) {
    if (!name.starts_with('I') && !name.starts_with('i')) continue;
    std::string lower = name;
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (!lower.starts_with("impersonate-")) continue;
    asked = true;
    if (lower == "impersonate-user") {
      other.name = value;
    } else if (lower == "impersonate-group") {
      other.groups.push_back(value);
    } else {
      return ApiFail(kube::status_bad_request(std::format("{} is not served: a user has a name and groups here (--as, --as-group)", name)));
    }
  }
  if (!asked) return user;
  if (!is_master(user)) {
    return ApiFail(kube::status_forbidden("", "users", other.name,
                                          std::format("User \"{}\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope", user.name)));
  }
  if (other.name.empty()) return ApiFail(kube::status_bad_request("groups are asked for without impersonating a user: give --as too"));
  other.groups.emplace_back("system:authenticated");
  return other;
}

bool is_master(const User& user) { return in_group(user, "system:masters"); }
std::string_view node_of(std::string_view user, const std::vector<std::string>& groups) {
  const bool node = std::ranges::find(groups, "system:nodes") != groups.end() && user.starts_with(kNodePrefix);
  return node ? user.substr(kNodePrefix.size()) : std::string_view();
}
std::string_view node_of(const User& user) { return node_of(user.name, user.groups); }

ApiResult<> authorize(const Call& call) {
  if (!call.user.expired_key.empty()) return authorize_renewal(call);
  if (is_master(call.user)) return {};
  if (const std::string_view node = node_of(call.user); !node.empty()) return authorize_node(call, node);
  return ApiFail(denied(call));
}

ApiResult<> authorize_path(const User& user, std::string_view method, std::string_view path) {
  if (is_master(user)) return {};
  if (user.expired_key.empty() && (method == "GET" || method == "HEAD")) {
    for (const std::string_view open : {"/api", "/apis", "/openapi", "/version", "/readyz", "/livez", "/healthz"}) {
      if (path == open || (path.starts_with(open) && path.size() > open.size() && path[open.size()] == '/')) return {};
    }
  }
  return ApiFail(kube::status_forbidden("", "", "", std::format("User \"{}\" cannot {} path \"{}\"", user.name, method == "GET" ? "get" : "post", path)));
}

ApiResult<> admit_node_write(const Call& call, Json object, const ObjectPtr& old) {
  const std::string_view node = node_of(call.user);
  if (node.empty() || is_master(call.user)) return {};
  const std::string_view resource = call.route.resource, name = object["metadata"]["name"].str();
  if (resource == "nodes") return admit_node_object(call, node, object, old);
  if (resource == "pods") {
    if (!old) {
      return ApiFail(restricted(call, name, std::format("pod does not have \"kubernetes.io/config.mirror\" annotation, node \"{}\" can only create mirror pods, "
                                                        "and mirror pods are not served here", node)));
    }
    if (call.route.subresource != "status") {
      return ApiFail(restricted(call, name, std::format("node \"{}\" can only update the status of pods, not the pods", node)));
    }
    if (old->node_name() != node) {
      return ApiFail(restricted(call, name, std::format("node \"{}\" can only update pod status for pods with spec.nodeName set to itself", node)));
    }
    if (!same_labels(object["metadata"]["labels"], old->labels())) {
      return ApiFail(restricted(call, name, std::format("node \"{}\" cannot update labels through pod status", node)));
    }
  }
  if (resource == "deployments" && old) return admit_restart(call, node, object, old);
  if (resource == "events" && old && (old->parse().root()["source"]["host"].str() != node || object["source"]["host"].str() != node)) {
    return ApiFail(restricted(call, name, std::format("node \"{}\" can only update events whose source.host is itself", node)));
  }
  if (resource == "leases" && name != node) {
    return ApiFail(restricted(call, name, "can only access node lease with the same name as the requesting node"));
  }
  if (resource == "leases") {
    const std::string_view machine = object["metadata"]["annotations"][kMachineAnnotation].str();
    const ObjectPtr registered = machine.empty() ? nullptr : call.server.store.newest(call.server.id("nodes"), "", node);
    if (registered) TRY_API_OK(admit_machine(call, node, machine, machine_of(registered->parse().root())));
    call.server.identities.heard(node, call.server.clock.instant(), std::chrono::seconds(object["spec"]["leaseDurationSeconds"].i64(40)));
  }
  return {};
}

ApiResult<> admit_node_delete(const Call& call, const ObjectPtr& old) {
  const std::string_view node = node_of(call.user);
  if (node.empty() || is_master(call.user)) return {};
  if (call.route.resource == "pods" && old->node_name() != node) {
    return ApiFail(restricted(call, old->name(), std::format("node \"{}\" can only delete pods with spec.nodeName set to itself", node)));
  }
  return {};
}

}  // namespace skerry::apiserver
