// SPDX-License-Identifier: Apache-2.0
#include "net/service_rules.h"

#include <algorithm>
#include <format>

#include "base/check.h"
#include "kube/json.h"

namespace skerry::net {
namespace {

using kube::Json;
using kube::json_quote;

constexpr std::string_view kServicesMap = "services", kNodePortsMap = "node-ports";

// FNV-1a: a chain's name must be short and the same after a restart, not secret.
std::string chain_name(std::string_view namespace_, std::string_view service, std::string_view protocol,
                       std::uint16_t port) {
  const std::string text = std::format("{}/{}/{}/{}", namespace_, service, protocol, port);
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return std::format("svc-{:016x}", hash);
}

// One batch under construction.
class Batch {
 public:
  explicit Batch(std::string_view table) : table_(json_quote(table)) {}
  void add(std::string_view verb, std::string_view what, std::string_view rest = {}) {
    text_ += std::format(R"({}{{"{}":{{"{}":{{"family":"ip","table":{}{}{}}}}}}})", separator(), verb, what, table_,
                         rest.empty() ? "" : ",", rest);
  }
  void table(std::string_view verb) {
    text_ += std::format(R"({}{{"{}":{{"table":{{"family":"ip","name":{}}}}}}})", separator(), verb, table_);
  }
  void chain(std::string_view name, std::string_view rest = {}) {
    add("add", "chain", std::format(R"("name":"{}"{}{})", name, rest.empty() ? "" : ",", rest));
  }
  void rule(std::string_view chain, std::string_view expression) {
    add("add", "rule", std::format(R"("chain":"{}","expr":[{}])", chain, expression));
  }
  std::string finish() && { return text_ + "]}\n"; }

 private:
  std::string_view separator() {
    if (first_) {
      first_ = false;
      return "\n";
    }
    return ",\n";
  }
  std::string table_;
  std::string text_ = R"({"nftables":[)";
  bool first_ = true;
};

constexpr std::string_view kDestination = R"({"payload":{"protocol":"ip","field":"daddr"}})";
constexpr std::string_view kProtocol = R"({"meta":{"key":"l4proto"}})";
constexpr std::string_view kPort = R"({"payload":{"protocol":"th","field":"dport"}})";

std::string match(std::string_view op, std::string_view left, std::string_view right) {
  return std::format(R"({{"match":{{"op":"{}","left":{},"right":{}}}}})", op, left, right);
}
std::string prefix(Ipv4Range range) {
  return std::format(R"({{"prefix":{{"addr":"{}","len":{}}}}})", range.first.str(), range.prefix);
}

// The elements of a map that go to these chains, as one command; nothing for none.
void elements(Batch& batch, std::string_view verb, std::string_view map,
              const std::vector<std::pair<std::string, std::string>>& all) {
  constexpr std::size_t kAtOnce = 500;
  for (std::size_t from = 0; from < all.size(); from += kAtOnce) {
    std::string list;
    for (std::size_t i = from; i < std::min(all.size(), from + kAtOnce); ++i) {
      list += std::format(R"({}[{},{{"goto":{{"target":"{}"}}}}])", i == from ? "" : ",", all[i].first, all[i].second);
    }
    batch.add(verb, "element", std::format(R"("name":"{}","elem":[{}])", map, list));
  }
}

}  // namespace

ServiceRules::ServiceRules(Options options) : options_(std::move(options)) { CHECK(options_.idle_offer > 0); }

void ServiceRules::put_service(const kube::Object& object) {
  Service service;
  const auto doc = object.parse();
  const Json spec = doc.root()["spec"];
  const auto refuse = [&](std::string message) { service.problems.emplace_back("Unsupported", std::move(message)); };
  const auto add_address = [&](std::string_view text, std::string_view field) {
    if (const auto address = Ipv4::parse(text)) {
      service.addresses.push_back(*address);
    } else {
      refuse(std::format("{} {} is not an IPv4 address; this node serves IPv4 Services", field, text));
    }
  };
  if (spec["type"].str() != "ExternalName") {
    const auto cluster_ip = spec["clusterIP"].str();
    const bool headless = cluster_ip == "None" || cluster_ip.empty();
    if (!headless) {
      add_address(cluster_ip, "spec.clusterIP");
      for (const Json ip : spec["externalIPs"].items()) add_address(ip.str(), "spec.externalIPs");
    }
    for (const Json port : spec["ports"].items()) {
      if (headless) break;
      const auto protocol = port["protocol"].str("TCP");
      if (protocol != "TCP" && protocol != "UDP") {
        refuse(std::format("port {}: protocol {} is not served; use TCP or UDP", port["port"].i64(), protocol));
        continue;
      }
      const Port made{.name = std::string(port["name"].str()),
                      .protocol = protocol == "TCP" ? "tcp" : "udp",
                      .port = port_number(port["port"]),
                      .node_port = port_number(port["nodePort"])};
      if (made.port == 0) continue;
      service.ports.push_back(made);
    }
    service.affinity = spec["sessionAffinity"].str() == "ClientIP";
  }
  services_.insert_or_assign(Key{object.namespace_(), object.name()}, std::move(service));
}

void ServiceRules::remove_service(std::string_view namespace_, std::string_view name) {
  services_.erase(Key{namespace_, name});
}

void ServiceRules::put_slice(const kube::Object& object) {
  slices_.insert_or_assign(Key{object.namespace_(), object.name()}, read_slice(object, options_.node));
}

void ServiceRules::remove_slice(std::string_view namespace_, std::string_view name) {
  slices_.erase(Key{namespace_, name});
}

void ServiceRules::set_awake(std::set<Ipv4> pods) { awake_ = std::move(pods); }
void ServiceRules::set_busy(std::set<Ipv4> pods) { busy_ = std::move(pods); }

std::vector<ServiceRules::Endpoint> ServiceRules::candidates(const Key& key, const Service& service,
                                                             const Port& port) const {
  std::set<Endpoint> ready, serving;
  const auto end = slices_.end();
  for (auto at = slices_.lower_bound(Key{key.first, ""}); at != end && at->first.first == key.first; ++at) {
    const Slice& slice = at->second;
    if (slice.service != key.second) continue;
    for (const SlicePort& offered : slice.ports) {
      if (offered.name != port.name) continue;
      for (const auto& endpoint : slice.endpoints) {
        if (endpoint.ready) ready.insert({endpoint.address, offered.port});
        if (endpoint.serving) serving.insert({endpoint.address, offered.port});
      }
    }
  }
  const std::set<Endpoint>& usable = ready.empty() ? serving : ready;
  std::vector<Endpoint> chosen;
  const auto take = [&](std::size_t most, auto wanted) {
    for (const auto& endpoint : usable) {
      if (most == 0 || chosen.size() >= options_.endpoints_max) return;
      if (!wanted(endpoint.address)) continue;
      chosen.push_back(endpoint);
      --most;
    }
  };
  if (service.affinity) {
    take(usable.size(), [](Ipv4) { return true; });
    return chosen;
  }
  take(usable.size(), [&](Ipv4 pod) { return awake_.contains(pod) && !busy_.contains(pod); });
  if (!chosen.empty()) return chosen;
  take(usable.size(), [&](Ipv4 pod) { return awake_.contains(pod); });
  take(options_.idle_offer, [&](Ipv4 pod) { return !awake_.contains(pod); });
  return chosen;
}

ServiceRules::Plan ServiceRules::plan() const {
  Plan plan;
  if (options_.names) {
    for (const std::string_view protocol : {"tcp", "udp"}) {
      const std::string name = std::format("names-{}", protocol);
      plan.chains[name] =
          match("==", kProtocol, json_quote(protocol)) +
          std::format(R"(,{{"dnat":{{"family":"ip","addr":"{}","port":53}}}})", options_.names->server.str());
      plan.services.emplace(std::format(R"({{"concat":["{}","{}",53]}})", options_.names->address.str(), protocol),
                            name);
    }
  }
  for (const auto& [key, service] : services_) {
    for (const auto& port : service.ports) {
      const auto endpoints = candidates(key, service, port);
      if (endpoints.empty()) continue;  // no chain: the service range refuses, and a NodePort has no listener
      std::string targets;
      for (std::size_t i = 0; i < endpoints.size(); ++i) {
        targets += std::format(R"({}[{},{{"concat":["{}",{}]}}])", i == 0 ? "" : ",", i, endpoints[i].address.str(),
                               endpoints[i].port);
      }
      for (const auto& endpoint : endpoints) plan.pods.insert(endpoint.address);
      const std::string choose =
          service.affinity
              ? std::format(R"({{"jhash":{{"mod":{},"expr":{{"payload":{{"protocol":"ip","field":"saddr"}}}}}}}})",
                            endpoints.size())
              : std::format(R"({{"numgen":{{"mode":"random","mod":{},"offset":0}}}})", endpoints.size());
      const std::string name = chain_name(key.first, key.second, port.protocol, port.port);
      plan.chains[name] =
          match("==", kProtocol, json_quote(port.protocol)) +
          std::format(R"(,{{"dnat":{{"family":"ip","addr":{{"map":{{"key":{},"data":{{"set":[{}]}}}}}}}}}})", choose,
                      targets);
      for (const Ipv4 address : service.addresses) {
        plan.services.try_emplace(
            std::format(R"({{"concat":["{}","{}",{}]}})", address.str(), port.protocol, port.port), name);
      }
      if (port.node_port != 0)
        plan.node_ports.try_emplace(std::format(R"({{"concat":["{}",{}]}})", port.protocol, port.node_port), name);
    }
  }
  return plan;
}

std::string ServiceRules::full(const Plan& plan) const {
  Batch batch(options_.table);
  batch.table("add");  // so that deleting it cannot fail
  batch.table("delete");
  batch.table("add");
  batch.add(
      "add", "map",
      std::format(R"("name":"{}","type":["ipv4_addr","inet_proto","inet_service"],"map":"verdict")", kServicesMap));
  batch.add("add", "map",
            std::format(R"("name":"{}","type":["inet_proto","inet_service"],"map":"verdict")", kNodePortsMap));
  batch.chain("dispatch");
  batch.chain("refuse");
  batch.chain("prerouting", R"("type":"nat","hook":"prerouting","prio":-100,"policy":"accept")");
  batch.chain("output", R"("type":"nat","hook":"output","prio":-100,"policy":"accept")");
  batch.chain("postrouting", R"("type":"nat","hook":"postrouting","prio":100,"policy":"accept")");
  batch.chain("filter-forward", R"("type":"filter","hook":"forward","prio":-1,"policy":"accept")");
  batch.chain("filter-output", R"("type":"filter","hook":"output","prio":-1,"policy":"accept")");
  batch.rule("dispatch", std::format(R"({{"vmap":{{"key":{{"concat":[{},{},{}]}},"data":"@{}"}}}})", kDestination,
                                     kProtocol, kPort, kServicesMap));
  batch.rule("dispatch", match("==", R"({"fib":{"result":"type","flags":["daddr"]}})", R"("local")") + "," +
                             match("!=", kDestination, prefix({Ipv4{127u << 24}, 8})) + "," +
                             std::format(R"({{"vmap":{{"key":{{"concat":[{},{}]}},"data":"@{}"}}}})", kProtocol, kPort,
                                         kNodePortsMap));
  batch.rule("prerouting", R"({"jump":{"target":"dispatch"}})");
  batch.rule("output", R"({"jump":{"target":"dispatch"}})");
  const std::string source = R"({"payload":{"protocol":"ip","field":"saddr"}})";
  batch.rule("postrouting", match("==", source, prefix(options_.pods)) + "," +
                                match("==", kDestination, prefix(options_.pods)) + "," +
                                match("in", R"({"ct":{"key":"status"}})", R"("dnat")") + R"(,{"masquerade":null})");
  batch.rule("refuse", match("==", kProtocol, R"("tcp")") + R"(,{"reject":{"type":"tcp reset"}})");
  batch.rule("refuse", R"({"reject":{"type":"icmp","expr":"port-unreachable"}})");
  const std::string refuse = match("==", kDestination, prefix(options_.services)) + R"(,{"jump":{"target":"refuse"}})";
  batch.rule("filter-forward", refuse);
  batch.rule("filter-output", refuse);
  for (const auto& [name, rule] : plan.chains) batch.chain(name);
  for (const auto& [name, rule] : plan.chains) batch.rule(name, rule);
  elements(batch, "add", kServicesMap, {plan.services.begin(), plan.services.end()});
  elements(batch, "add", kNodePortsMap, {plan.node_ports.begin(), plan.node_ports.end()});
  return std::move(batch).finish();
}

std::string ServiceRules::difference(const Plan& from, const Plan& to) const {
  Batch batch(options_.table);
  using Elements = std::map<std::string, std::string>;
  // Elements of `a` that `b` lacks or has otherwise.
  const auto missing = [](const Elements& a, const Elements& b) {
    std::vector<std::pair<std::string, std::string>> all;
    std::ranges::set_difference(a, b, std::back_inserter(all));
    return all;
  };
  for (const auto& [name, rule] : to.chains) {
    if (!from.chains.contains(name)) batch.chain(name);
  }
  elements(batch, "delete", kServicesMap, missing(from.services, to.services));
  elements(batch, "delete", kNodePortsMap, missing(from.node_ports, to.node_ports));
  for (const auto& [name, rule] : from.chains) {
    if (const auto kept = to.chains.find(name); kept == to.chains.end() || kept->second != rule) {
      batch.add("flush", "chain", std::format(R"("name":"{}")", name));
      if (kept == to.chains.end()) batch.add("delete", "chain", std::format(R"("name":"{}")", name));
    }
  }
  for (const auto& [name, rule] : to.chains) {
    if (const auto old = from.chains.find(name); old == from.chains.end() || old->second != rule)
      batch.rule(name, rule);
  }
  elements(batch, "add", kServicesMap, missing(to.services, from.services));
  elements(batch, "add", kNodePortsMap, missing(to.node_ports, from.node_ports));
  return std::move(batch).finish();
}

std::optional<std::string> ServiceRules::update() {
  Plan wanted = plan();
  if (applied_ && *applied_ == wanted) return std::nullopt;
  std::string batch = applied_ ? difference(*applied_, wanted) : full(wanted);
  offered_ = std::move(wanted);
  return batch;
}

void ServiceRules::applied() { applied_ = offered_; }
void ServiceRules::lost() { applied_.reset(); }

bool ServiceRules::free_of(Ipv4 pod) const {
  if (!applied_ || applied_->pods.contains(pod)) return false;
  for (const auto& [key, slice] : slices_)
    for (const auto& endpoint : slice.endpoints)
      if (endpoint.ready && endpoint.address == pod) return false;
  return true;
}

std::vector<ServiceRules::Route> ServiceRules::routes() const {
  std::vector<Route> out;
  for (const auto& [key, service] : services_) {
    for (const auto& port : service.ports) {
      const auto endpoints = candidates(key, service, port);
      if (endpoints.empty()) continue;
      for (const Ipv4 address : service.addresses) {
        Route& route = out.emplace_back(Route{.address = address, .protocol = port.protocol, .port = port.port});
        for (const auto& endpoint : endpoints) route.pods.emplace_back(endpoint.address, endpoint.port);
      }
    }
  }
  std::ranges::sort(out);
  return out;
}

std::string ServiceRules::removal() const {
  Batch batch(options_.table);
  batch.table("add");
  batch.table("delete");
  return std::move(batch).finish();
}

std::vector<ServiceRules::Problem> ServiceRules::problems() const {
  std::vector<Problem> all;
  std::map<std::uint32_t, std::vector<Key>> node_ports;
  for (const auto& [key, service] : services_) {
    for (const auto& [reason, message] : service.problems) all.push_back({key.first, key.second, reason, message});
    for (const auto& port : service.ports) {
      if (port.node_port != 0) node_ports[(port.protocol == "tcp" ? 0u : 1u << 16) | port.node_port].push_back(key);
      if (candidates(key, service, port).size() >= options_.endpoints_max) {
        all.push_back({key.first, key.second, "TooManyEndpoints",
                       std::format("port {}: only {} pods of this node get traffic, which is the limit", port.port,
                                   options_.endpoints_max)});
      }
    }
  }
  for (const auto& [number, users] : node_ports) {
    for (std::size_t i = 1; i < users.size(); ++i) {
      if (users[i] == users[0]) continue;
      all.push_back({users[i].first, users[i].second, "PortAlreadyAllocated",
                     std::format("node port {} belongs to Service {}/{} already", number & 0xffff, users[0].first,
                                 users[0].second)});
    }
  }
  std::ranges::sort(all);
  return all;
}

}  // namespace skerry::net
