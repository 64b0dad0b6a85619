// SPDX-License-Identifier: Apache-2.0
#include "sim/truth.h"

#include <algorithm>
#include <format>

namespace skerry::sim {

// --- durability and once ------------------------------------------------------------------------------------------------------

void Truth::on_restored(const agent::PodTable& table, bool older) {
  if (older) {
    ++restores_;
    if (!damage_ahead_) world_.violation("durability", "the agent starts from an older copy, and the disk was not damaged since the last write");
    damaged_ = true;
    for (const auto& [uid, pod] : pods_) excused_.insert(uid);
    server_.forget_told();
    return;
  }
  for (const auto& [uid, pod] : pods_) {
    if (excused_.contains(uid)) continue;
    const agent::PodEntry* entry = table.find(uid);
    if (entry == nullptr) {
      world_.violation("durability", std::format("pod {} was acted upon and is not known after a restart", uid));
      continue;
    }
    if (!pod.address.empty() && entry->core.address() != pod.address)
      world_.violation("durability", std::format("pod {} had {} and has {} after a restart", uid, pod.address, entry->core.address()));
    for (const auto& [container, id] : pod.ids)
      if (container >= entry->core.containers() || entry->core.keeper_id(container).value() != id)
        world_.violation("durability", std::format("container {} of pod {} has another keeper id after a restart", container, uid));
  }
}

void Truth::on_listening(const agent::PodEntry& entry) {
  const std::string& uid = entry.core.object()->uid();
  Pod& pod = pods_[uid];
  if (!pod.address.empty() && pod.address != entry.core.address() && !excused_.contains(uid))
    world_.violation("durability", std::format("pod {} changed its address from {} to {}", uid, pod.address, entry.core.address()));
  pod.address = entry.core.address();
  pod.app = entry.core.object()->label("app");
  for (const auto& [other, it] : pods_)
    if (other != uid && it.address == pod.address && !excused_.contains(other) && !excused_.contains(uid))
      world_.violation("once", std::format("pods {} and {} have the address {}", uid, other, pod.address));
}

void Truth::on_placed(const std::string& uid, std::size_t container, std::uint64_t id) {
  pods_[uid].ids[container] = id;
  pods_[uid].ending.erase(id);
  const auto [at, fresh] = id_owner_.emplace(id, uid);
  if (fresh || at->second == uid) return;
  if (!damaged_) world_.violation("once", std::format("keeper id {} of pod {} is given to pod {}", id, at->second, uid));
  at->second = uid;
}

void Truth::on_forgotten(const std::string& uid) {
  pods_.erase(uid);
  excused_.erase(uid);
  server_.forget_told(uid);
}

void Truth::on_settled(const std::string& uid, bool ready, const std::string& address) {
  Pod& pod = pods_[uid];
  pod.routed = pod.routed && ready;
  pod.ready = ready;
  if (ready) pod.address = address;
}

void Truth::on_started(const SimSandbox& s) {
  ++starts_;
  const sandbox::Assignment& a = *s.held.assignment;
  for (const auto& [pid, other] : processes_) {
    if (other.uid != a.pod_uid || other.container != a.container_name) continue;
    if (other.id != s.id) world_.violation("once", std::format("container {} of pod {} runs as {} and as {}", a.container_name, a.pod_uid, other.id, s.id));
    else if (other.worker == s.worker) world_.violation("once", std::format("container {} of pod {} runs twice", a.container_name, a.pod_uid));
  }
  processes_[s.pid] = {a.pod_uid, a.container_name, s.id, s.worker};
}

void Truth::on_ended(const SimSandbox& s, EndReason why) {
  processes_.erase(s.pid);
  if (why != EndReason::Crash) return;
  if (const auto pod = pods_.find(s.held.assignment->pod_uid); pod != pods_.end()) ++pod->second.crashes;
}

void Truth::on_told_backwards(const std::string& uid, const std::string& what) {
  if (!excused_.contains(uid)) world_.violation("durability", std::format("the server was told of pod {}: {}", uid, what));
}

void Truth::on_drifted(std::string_view resource) {
  if (server_.counters().nonsense == 0) world_.violation("convergence", std::format("the {} have drifted, and the server has said nothing wrong", resource));
}

// --- reason -----------------------------------------------------------------------------------------------------------------

bool Truth::may_end(const std::string& uid) const {
  const auto at = server_.facts().find(uid);
  return at == server_.facts().end() || at->second.ever_deleting || at->second.ever_gone || at->second.images.size() > 1;
}

// Crashes, and newer images; nothing: its history was lost.
std::optional<std::int64_t> Truth::restart_reasons(const std::string& uid) const {
  const auto pod = pods_.find(uid);
  const auto facts = server_.facts().find(uid);
  if (pod == pods_.end() || facts == server_.facts().end() || excused_.contains(uid)) return std::nullopt;
  return pod->second.crashes + static_cast<std::int64_t>(facts->second.images.size()) - 1;
}

void Truth::on_commanded(const std::string& uid, std::uint64_t id, std::string_view command) {
  ++stops_;
  if (may_end(uid) || excused_.contains(uid) || damaged_) return;
  if (const auto at = pods_.find(uid); at != pods_.end()) {
    Pod& pod = at->second;
    if (pod.ending.contains(id)) return;
    if (pod.ends < pod.crashes) {
      ++pod.ends;
      pod.ending.insert(id);
      return;
    }
  }
  world_.violation("reason", std::format("{} of container {} of pod {}, which the API server wants to run", command, id, uid));
}

// --- availability -----------------------------------------------------------------------------------------------------------

bool Truth::expected_to_serve(const std::string& uid) const {
  const auto at = pods_.find(uid);
  if (at == pods_.end() || !at->second.ready || at->second.address.empty()) return false;
  const auto facts = server_.facts().find(uid);
  return facts != server_.facts().end() && !facts->second.ever_deleting && !facts->second.ever_gone && facts->second.images.size() == 1;
}

std::vector<Endpoint> Truth::ready_pods() const {
  std::vector<Endpoint> out;
  for (const auto& [uid, pod] : pods_)
    if (expected_to_serve(uid)) out.push_back({*os::Ipv4::parse(pod.address), agent::kDefaultPort});
  return out;
}

bool Truth::service_expected(const std::string& app) const {
  return std::ranges::any_of(pods_, [&](const auto& one) { return one.second.app == app && one.second.routed && expected_to_serve(one.first); });
}

void Truth::look_at_routes(const Machine& machine) {
  std::set<std::string> led_to;
  for (const auto& [name, to] : machine.routes)
    for (const Endpoint& pod : to) led_to.insert(pod.address.str());
  for (auto& [uid, pod] : pods_) pod.routed = pod.ready && (pod.routed || led_to.contains(pod.address));
}

// --- convergence ------------------------------------------------------------------------------------------------------------

void Truth::check_convergence(const SimNode& node, const Machine& machine) {
  const auto differs = [&](std::string text) { world_.violation("convergence", std::move(text)); };
  std::set<std::string> wanted;
  for (const auto& [key, pod] : server_.all(Resource::Pods)) {
    wanted.insert(pod->uid());
    if (pod->phase() == "Succeeded" || pod->phase() == "Failed") continue;
    const agent::PodEntry* entry = node.table().find(pod->uid());
    if (entry == nullptr) {
      differs(std::format("pod {} of the server is not on the node", key.name));
      continue;
    }
    if (pod->deleting()) {
      differs(std::format("pod {} is still being deleted", key.name));
      continue;
    }
    const auto doc = pod->parse();
    const auto status = doc.root()["status"];
    bool ready = false;
    for (const auto condition : status["conditions"].items())
      if (condition["type"].str() == "Ready") ready = condition["status"].str() == "True";
    if (!entry->core.ready()) differs(std::format("pod {} is not ready: {}", key.name, entry->core.waiting(0)));
    if (ready != entry->core.ready()) differs(std::format("pod {}: the server shows ready {}", key.name, ready));
    if (status["podIP"].str() != entry->core.address()) differs(std::format("pod {}: the server shows {}, it has {}", key.name, status["podIP"].str(), entry->core.address()));
    if (status["containerStatuses"][std::size_t{0}]["restartCount"].i64() != entry->core.restarts(0))
      differs(std::format("pod {}: the server shows {} restarts of {}", key.name, status["containerStatuses"][std::size_t{0}]["restartCount"].i64(), entry->core.restarts(0)));
    if (const auto reasons = restart_reasons(pod->uid()); reasons && entry->core.restarts(0) > *reasons)
      world_.violation("reason", std::format("pod {} was restarted {} times, for which there are {} reasons", key.name, entry->core.restarts(0), *reasons));
    if (doc.root()["spec"]["containers"][std::size_t{0}]["image"].str() != entry->core.plan().containers[0].image) differs(std::format("pod {} has an old image", key.name));
  }
  for (const auto& [uid, entry] : node.table().entries())
    if (!wanted.contains(uid)) differs(std::format("pod {} is on the node and not at the server", entry->core.object()->name()));
  for (const auto& [pid, process] : processes_)
    if (!wanted.contains(process.uid)) differs(std::format("a process of pod {} lives, which the server does not have", process.uid));
  for (const auto& [pid, sandbox] : machine.sandboxes()) {
    const agent::PodEntry* entry = node.table().find(sandbox->held.assignment->pod_uid);
    if (entry != nullptr && sandbox->held.assignment->image_ref != entry->core.plan().containers[0].image)
      differs(std::format("pod {} runs {} instead of {}", entry->core.object()->name(), sandbox->held.assignment->image_ref, entry->core.plan().containers[0].image));
  }
  for (const Resource r : {Resource::Services, Resource::Slices}) {
    for (const auto& [key, object] : server_.all(r)) {
      const auto cached = node.cached(r, key);
      if (!cached) differs(std::format("{} {} is not known to the node", resource_name(r), key.name));
      else if (cached->revision() != object->revision()) differs(std::format("{} {}: the node has another version", resource_name(r), key.name));
    }
    if (node.cached(r) != server_.all(r).size()) differs(std::format("the node has {} {} instead of {}", node.cached(r), resource_name(r), server_.all(r).size()));
  }
  // Rules made from the server's objects lead nowhere else than the node's own do.
  net::ServiceRules fresh({.node = "edge-1"});
  for (const auto& [key, object] : server_.all(Resource::Services)) fresh.put_service(*object);
  for (const auto& [key, object] : server_.all(Resource::Slices)) fresh.put_slice(*object);
  std::set<os::Ipv4> awake;
  for (const auto& [pid, sandbox] : machine.sandboxes()) awake.insert(sandbox->held.listener->at.address);
  fresh.set_awake(awake);
  std::map<std::string, std::vector<Endpoint>> routes;
  for (const auto& route : fresh.routes())
    for (const auto& [address, port] : route.pods) routes[std::format("{} {} {}", route.address.str(), route.protocol, route.port)].push_back({address, port});
  for (const auto& [name, to] : routes)
    if (const auto at = machine.routes.find(name); at == machine.routes.end() || at->second != to) differs("the rules of " + name + " are not those of the server's objects");
  if (machine.routes.size() != routes.size()) differs(std::format("{} routes instead of {}", machine.routes.size(), routes.size()));
  for (const auto& [key, service] : server_.all(Resource::Services)) {
    const auto doc = service->parse();
    const auto answer = node.names().answer({.name = std::format("{}.{}.svc.cluster.local", key.name, key.namespace_), .type = net::DnsType::A});
    if (!answer || answer->message.code != net::DnsCode::NoError || answer->message.answers.empty()) differs(std::format("the name of {} does not resolve", key.name));
    else if (std::get<os::Ipv4>(answer->message.answers[0].data).str() != doc.root()["spec"]["clusterIP"].str()) differs(std::format("the name of {} is another address", key.name));
  }
}

}  // namespace skerry::sim
