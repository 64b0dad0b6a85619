// SPDX-License-Identifier: Apache-2.0
#include "control/scheduler_core.h"

#include <algorithm>
#include <cmath>
#include <format>

#include "base/text.h"
#include "control/views.h"
#include "kube/quantity.h"

namespace skerry::control {
namespace {

std::int64_t quantity(Json value, bool milli) {
  // Kubernetes allows numbers where it expects quantities; the API server has made them strings.
  const auto parsed = kube::Quantity::parse(value.is_string() ? std::string(value.str()) : value.dump());
  if (!parsed) return 0;
  return milli ? parsed->milli_value() : parsed->value();
}

Resources parse_resources(Json list) {
  Resources all;
  for (const auto [name, value] : list.members()) {
    if (name == "cpu") {
      all.cpu = quantity(value, true);
    } else if (name == "memory") {
      all.memory = quantity(value, false);
    } else if (name == "ephemeral-storage") {
      all.storage = quantity(value, false);
    } else if (name != "pods") {
      all.other[std::string(name)] = quantity(value, false);
    }
  }
  return all;
}

Resources larger(const Resources& a, const Resources& b) {
  Resources most = a;
  most.cpu = std::max(a.cpu, b.cpu);
  most.memory = std::max(a.memory, b.memory);
  most.storage = std::max(a.storage, b.storage);
  for (const auto& [name, value] : b.other) most.other[name] = std::max(most.other[name], value);
  return most;
}

bool tolerates(Json tolerations, std::string_view key, std::string_view value, std::string_view effect) {
  for (const Json toleration : tolerations.items()) {
    if (const auto wanted = toleration["effect"].str(); !wanted.empty() && wanted != effect) continue;
    const auto wanted_key = toleration["key"].str();
    const bool exists = toleration["operator"].str() == "Exists";
    if (wanted_key.empty()) {
      if (exists) return true;
      continue;
    }
    if (wanted_key != key) continue;
    if (exists || toleration["value"].str() == value) return true;
  }
  return false;
}

std::optional<std::string_view> label_of(const kube::Labels& labels, std::string_view key) {
  const auto at =
      std::ranges::lower_bound(labels, key, {}, [](const auto& pair) -> std::string_view { return pair.first; });
  if (at == labels.end() || at->first != key) return std::nullopt;
  return at->second;
}

bool matches_expression(Json expression, std::optional<std::string_view> value) {
  const auto op = expression["operator"].str();
  const auto listed = [&] { return any_item(expression["values"], [&](Json one) { return one.str() == *value; }); };
  if (op == "Exists") return value.has_value();
  if (op == "DoesNotExist") return !value;
  if (op == "In") return value && listed();
  if (op == "NotIn") return !value || !listed();
  const auto have = value ? parse_int<std::int64_t>(*value) : std::nullopt;
  const auto bound = parse_int<std::int64_t>(expression["values"][std::size_t{0}].str());
  if (!have || !bound) return false;
  return op == "Gt" ? *have > *bound : op == "Lt" && *have < *bound;
}

// A node selector term; an empty one matches nothing.
bool matches_term(Json term, const kube::Labels& labels, std::string_view node_name) {
  if (term["matchExpressions"].size() == 0 && term["matchFields"].size() == 0) return false;
  for (const Json expression : term["matchExpressions"].items()) {
    if (!matches_expression(expression, label_of(labels, expression["key"].str()))) return false;
  }
  for (const Json expression : term["matchFields"].items()) {
    if (expression["key"].str() != "metadata.name" || !matches_expression(expression, node_name)) return false;
  }
  return true;
}

std::vector<std::string> host_ports(Json pod_spec) {
  std::vector<std::string> ports;
  const bool host_network = pod_spec["hostNetwork"].boolean();
  for (const Json container : pod_spec["containers"].items()) {
    for (const Json port : container["ports"].items()) {
      const std::int64_t number = port["hostPort"].i64(host_network ? port["containerPort"].i64() : 0);
      if (number == 0) continue;
      const auto ip = port["hostIP"].str();
      ports.push_back(std::format("{}/{}/{}", port["protocol"].str("TCP"), ip.empty() ? "0.0.0.0" : ip, number));
    }
  }
  return ports;
}

bool port_taken(const std::map<std::string, int>& used, const std::string& wanted) {
  if (used.contains(wanted)) return true;
  const auto parts = split(wanted, '/');
  for (const auto& [port, users] : used) {
    const auto other = split(port, '/');
    if (other[0] == parts[0] && other[2] == parts[2] && (other[1] == "0.0.0.0" || parts[1] == "0.0.0.0")) return true;
  }
  return false;
}

std::string owner_of(Json metadata) {
  const auto controller = controller_of(metadata);
  return controller ? controller->uid : std::string();
}

}  // namespace

void Resources::add(const Resources& more, int sign) {
  cpu += sign * more.cpu;
  memory += sign * more.memory;
  storage += sign * more.storage;
  for (const auto& [name, value] : more.other) other[name] += sign * value;
}

Resources pod_requests(Json pod_spec) {
  Resources sum, init, sidecars;
  for (const Json container : pod_spec["containers"].items())
    sum.add(parse_resources(container["resources"]["requests"]), 1);
  for (const Json container : pod_spec["initContainers"].items()) {
    Resources one = parse_resources(container["resources"]["requests"]);
    if (container["restartPolicy"].str() == "Always") {
      sidecars.add(one, 1);
    } else {
      one.add(sidecars, 1);
      init = larger(init, one);
    }
  }
  sum.add(sidecars, 1);
  Resources all = larger(sum, init);
  all.add(parse_resources(pod_spec["overhead"]), 1);
  return all;
}

struct SchedulerCore::Wish {
  Json spec;
  Json required;  // nodeSelectorTerms
  Resources requests;
  std::vector<std::string> ports;
  std::string owner;
};

SchedulerCore::Node& SchedulerCore::node(std::string_view name) {
  const auto at = nodes_.find(name);
  if (at != nodes_.end()) return at->second;
  Node& made = nodes_[std::string(name)];
  made.name = name;
  return made;
}

void SchedulerCore::put_node(const kube::Object& object) {
  Node& changed = node(object.name());
  const auto doc = object.parse();
  const Json spec = doc.root()["spec"], allocatable = doc.root()["status"]["allocatable"];
  changed.known = true;
  changed.labels = object.labels();
  changed.unschedulable = spec["unschedulable"].boolean() || object.deleting();
  changed.taints.clear();
  for (const Json taint : spec["taints"].items()) {
    changed.taints.push_back(
        {std::string(taint["key"].str()), std::string(taint["value"].str()), std::string(taint["effect"].str())});
  }
  changed.allocatable = parse_resources(allocatable);
  changed.pods_max = quantity(allocatable["pods"], false);
}

void SchedulerCore::remove_node(std::string_view name) {
  const auto at = nodes_.find(name);
  if (at == nodes_.end()) return;
  if (at->second.pods == 0) {
    nodes_.erase(at);
  } else {
    at->second.known = false;
  }
}

void SchedulerCore::place(std::string_view uid, Placed placed) {
  Node& on = node(placed.node);
  on.requested.add(placed.requests, 1);
  ++on.pods;
  for (const auto& port : placed.ports) ++on.ports[port];
  if (!placed.owner.empty()) ++on.owners[placed.owner];
  placed_.insert_or_assign(std::string(uid), std::move(placed));
}

void SchedulerCore::release(std::string_view uid) {
  const auto at = placed_.find(std::string(uid));
  if (at == placed_.end()) return;
  const Placed& placed = at->second;
  Node& on = node(placed.node);
  on.requested.add(placed.requests, -1);
  --on.pods;
  for (const auto& port : placed.ports) {
    if (--on.ports[port] == 0) on.ports.erase(port);
  }
  if (!placed.owner.empty() && --on.owners[placed.owner] == 0) on.owners.erase(placed.owner);
  if (!on.known && on.pods == 0) nodes_.erase(on.name);
  placed_.erase(at);
}

void SchedulerCore::put_pod(const kube::Object& pod) {
  const bool ended = pod.phase() == "Succeeded" || pod.phase() == "Failed";
  const auto known = placed_.find(pod.uid());
  if (pod.node_name().empty()) return;  // not placed yet, or assumed by us: its binding is on its way
  if (!ended && known != placed_.end() && known->second.node == pod.node_name()) {
    known->second.assumed = false;
    return;  // requests cannot change
  }
  release(pod.uid());
  if (ended) return;
  const auto doc = pod.parse();
  const Json spec = doc.root()["spec"];
  place(pod.uid(), {.node = pod.node_name(),
                  .requests = pod_requests(spec),
                  .ports = host_ports(spec),
                  .owner = owner_of(doc.root()["metadata"])});
}

void SchedulerCore::remove_pod(std::string_view uid) { release(uid); }

void SchedulerCore::forget(std::string_view uid) {
  const auto at = placed_.find(std::string(uid));
  if (at != placed_.end() && at->second.assumed) release(uid);
}

std::optional<SchedulerCore::Usage> SchedulerCore::usage(std::string_view name) const {
  const auto at = nodes_.find(name);
  if (at == nodes_.end()) return std::nullopt;
  return Usage{at->second.requested, at->second.pods};
}

std::optional<std::string> SchedulerCore::obstacle(const Node& on, const Wish& wish) const {
  const Json tolerations = wish.spec["tolerations"];
  if (on.unschedulable && !tolerates(tolerations, "node.kubernetes.io/unschedulable", "", "NoSchedule"))
    return "node(s) were unschedulable";
  for (const Taint& taint : on.taints) {
    if (taint.effect == "PreferNoSchedule" || tolerates(tolerations, taint.key, taint.value, taint.effect)) continue;
    return std::format("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value);
  }
  for (const auto [key, value] : wish.spec["nodeSelector"].members()) {
    if (label_of(on.labels, key) != value.str()) return "node(s) didn't match Pod's node affinity/selector";
  }
  if (wish.required && !any_item(wish.required, [&](Json term) { return matches_term(term, on.labels, on.name); })) {
    return "node(s) didn't match Pod's node affinity/selector";
  }
  for (const auto& port : wish.ports) {
    if (port_taken(on.ports, port)) return "node(s) didn't have free ports for the requested pod ports";
  }
  // Several resources may be short: all are named, as kube-scheduler does. Joined by a line end for schedule().
  std::string short_of;
  const auto lacks = [&](std::string_view what) {
    short_of += std::format("{}{}", short_of.empty() ? "" : "\n", what);
  };
  if (on.pods + 1 > on.pods_max) lacks("Too many pods");
  const auto check = [&](std::int64_t wanted, std::int64_t used, std::int64_t offered, std::string_view name) {
    if (wanted > 0 && used + wanted > offered) lacks(std::format("Insufficient {}", name));
  };
  check(wish.requests.cpu, on.requested.cpu, on.allocatable.cpu, "cpu");
  check(wish.requests.memory, on.requested.memory, on.allocatable.memory, "memory");
  check(wish.requests.storage, on.requested.storage, on.allocatable.storage, "ephemeral-storage");
  for (const auto& [name, wanted] : wish.requests.other) {
    const auto used = on.requested.other.find(name), offered = on.allocatable.other.find(name);
    check(wanted, used == on.requested.other.end() ? 0 : used->second,
          offered == on.allocatable.other.end() ? 0 : offered->second, name);
  }
  if (!short_of.empty()) return short_of;
  return std::nullopt;
}

namespace {
double affinity_weight(Json spec, const kube::Labels& labels, std::string_view name) {
  double sum = 0;
  for (const Json preferred :
       spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].items()) {
    if (matches_term(preferred["preference"], labels, name)) sum += static_cast<double>(preferred["weight"].i64());
  }
  return sum;
}
}  // namespace

double SchedulerCore::score(const Node& on, const Wish& wish, double affinity_most, int owner_most,
                            int taints_most) const {
  const auto fraction = [](std::int64_t used, std::int64_t offered) {
    return offered <= 0 ? 1.0 : std::min(1.0, static_cast<double>(used) / static_cast<double>(offered));
  };
  // A pod without requests counts a little, as in kube-scheduler, so that such pods spread too.
  const double cpu = fraction(on.requested.cpu + std::max<std::int64_t>(wish.requests.cpu, 100), on.allocatable.cpu);
  const double memory =
      fraction(on.requested.memory + std::max<std::int64_t>(wish.requests.memory, 200 << 20), on.allocatable.memory);
  double total = 100 * (1 - (cpu + memory) / 2) + 100 * (1 - std::abs(cpu - memory));
  if (affinity_most > 0) total += 100 * affinity_weight(wish.spec, on.labels, on.name) / affinity_most;
  if (owner_most > 0) {
    const auto same = on.owners.find(wish.owner);
    const int count = same == on.owners.end() ? 0 : same->second;
    total += 200.0 * (owner_most - count) / owner_most;
  }
  if (taints_most > 0) {
    const auto bad = std::ranges::count_if(on.taints, [&](const Taint& taint) {
      return taint.effect == "PreferNoSchedule" &&
             !tolerates(wish.spec["tolerations"], taint.key, taint.value, taint.effect);
    });
    total += 300.0 * static_cast<double>(taints_most - bad) / taints_most;
  }
  return total;
}

SchedulerCore::Decision SchedulerCore::schedule(const kube::Object& pod) {
  const auto doc = pod.parse();
  const Json spec = doc.root()["spec"], affinity = spec["affinity"];
  Wish wish{.spec = spec,
            .required = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"],
            .requests = pod_requests(spec),
            .ports = host_ports(spec),
            .owner = owner_of(doc.root()["metadata"])};
  for (const char* kind : {"podAffinity", "podAntiAffinity"}) {
    if (affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"].size() > 0) {
      return {.node = {},
              .message = std::format(
                  "Unsupported: required {} is not served by this scheduler; use node labels and nodeAffinity", kind)};
    }
  }
  for (const Json constraint : spec["topologySpreadConstraints"].items()) {
    if (constraint["whenUnsatisfiable"].str() != "ScheduleAnyway") {
      return {.node = {},
              .message =
                  "Unsupported: topologySpreadConstraints with DoNotSchedule are not served by this scheduler; use "
                  "ScheduleAnyway"};
    }
  }

  std::map<std::string, int> reasons;
  std::vector<const Node*> feasible;
  int seen = 0;
  auto at = nodes_.lower_bound(next_start_);
  for (std::size_t i = 0; i < nodes_.size() && feasible.size() < options_.feasible_max; ++i, ++at) {
    if (at == nodes_.end()) at = nodes_.begin();
    if (!at->second.known) continue;
    ++seen;
    const auto why = obstacle(at->second, wish);
    if (!why) {
      feasible.push_back(&at->second);
    } else {
      for (const auto part : split(*why, '\n')) ++reasons[std::string(part)];
    }
  }
  if (nodes_.size() > options_.feasible_max) next_start_ = at == nodes_.end() ? std::string() : at->first;
  if (seen == 0) return {.node = {}, .message = "no nodes available to schedule pods"};
  if (feasible.empty()) {
    std::vector<std::string> parts;
    for (const auto& [reason, count] : reasons) parts.push_back(std::format("{} {}", count, reason));
    std::ranges::sort(parts);
    std::string text;
    for (const auto& part : parts) text += (text.empty() ? "" : ", ") + part;
    return {
        .node = {},
        .message = std::format("0/{} nodes are available: {}. preemption: not served by this scheduler.", seen, text)};
  }

  double affinity_most = 0;
  int owner_most = 0, taints_most = 0;
  for (const Node* on : feasible) {
    if (affinity) affinity_most = std::max(affinity_most, affinity_weight(spec, on->labels, on->name));
    if (const auto same = on->owners.find(wish.owner); same != on->owners.end())
      owner_most = std::max(owner_most, same->second);
    taints_most = std::max(taints_most, static_cast<int>(std::ranges::count(
                                            on->taints, std::string_view("PreferNoSchedule"), &Taint::effect)));
  }
  const Node* best = nullptr;
  double best_score = 0;
  for (const Node* on : feasible) {  // the first of equals: the rotating start spreads them
    const double value = feasible.size() == 1 ? 0 : score(*on, wish, affinity_most, owner_most, taints_most);
    if (best == nullptr || value > best_score) {
      best = on;
      best_score = value;
    }
  }
  Decision decision{.node = best->name, .message = {}};
  release(pod.uid());
  place(pod.uid(), {.node = decision.node,
                  .requests = std::move(wish.requests),
                  .ports = std::move(wish.ports),
                  .owner = std::move(wish.owner),
                  .assumed = true});
  return decision;
}

}  // namespace skerry::control
