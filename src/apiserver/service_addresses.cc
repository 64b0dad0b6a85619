// SPDX-License-Identifier: Apache-2.0
// Cluster addresses and node ports: allocated by looking at all Services, so nothing but the Services themselves has to
// be kept or repaired.
#include <format>
#include <set>

#include "apiserver/admission.h"
#include "apiserver/service_addresses.h"
#include "base/text.h"

namespace skerry::apiserver {

std::optional<std::uint32_t> parse_ipv4(std::string_view text) {
  std::uint32_t out = 0;
  const auto parts = split(text, '.');
  if (parts.size() != 4) return std::nullopt;
  for (const std::string_view part : parts) {
    const auto n = parse_int<std::uint32_t>(part);
    if (!n || *n > 255 || part.size() > 3 || (part.size() > 1 && part[0] == '0')) return std::nullopt;
    out = out << 8 | *n;
  }
  return out;
}
std::string format_ipv4(std::uint32_t a) { return std::format("{}.{}.{}.{}", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255); }

Result<Range> parse_range(std::string_view cidr) {
  const auto slash = cidr.find('/');
  const auto base = parse_ipv4(cidr.substr(0, slash));
  const auto bits = slash == cidr.npos ? std::nullopt : parse_int<unsigned>(cidr.substr(slash + 1));
  if (!base || !bits || *bits < 8 || *bits > 30) {
    return Fail({Errc::Invalid, std::format("{} is no IPv4 range for Services: write it like 10.43.0.0/16, with /8 to /30", cidr)});
  }
  const std::uint32_t mask = ~std::uint32_t{0} << (32 - *bits);
  return Range{*base & mask, mask};
}

namespace {

struct Used {
  std::set<std::uint32_t> addresses;
  std::set<std::pair<std::int64_t, std::string>> ports;  // with protocol
};

Used used_by_others(const Call& call, std::string_view namespace_, std::string_view name) {
  Used used;
  call.server.store.for_each_newest(call.server.id("services"), [&](const kube::Object& object) {
    if (object.namespace_() == namespace_ && object.name() == name) return;
    const auto doc = object.parse();
    const Json spec = doc.root()["spec"];
    for (const Json ip : spec["clusterIPs"].items()) {
      if (const auto address = parse_ipv4(ip.str())) used.addresses.insert(*address);
    }
    if (const auto address = parse_ipv4(spec["clusterIP"].str())) used.addresses.insert(*address);
    for (const Json port : spec["ports"].items()) {
      if (port["nodePort"].i64() != 0) used.ports.emplace(port["nodePort"].i64(), port["protocol"].str("TCP"));
    }
  });
  return used;
}

// Random, so that a deleted Service's address does not come back at once; then the next free one.
std::optional<std::uint32_t> choose(Random& random, std::uint32_t count, const std::function<bool(std::uint32_t)>& is_free) {
  if (count == 0) return std::nullopt;
  const auto start = static_cast<std::uint32_t>(random.below(count));
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t candidate = (start + i) % count;
    if (is_free(candidate)) return candidate;
  }
  return std::nullopt;
}

// Values that an update leaves out stay as they are.
void keep_allocated(MutJson spec, Json old) {
  if (old["type"].str("ClusterIP") == "ExternalName" || spec["type"].str() == "ExternalName") return;
  if (spec["clusterIP"].str().empty() && spec["clusterIPs"].size() == 0) {
    spec.set("clusterIP", old["clusterIP"].str());
    spec.set("clusterIPs", old["clusterIPs"]);
  }
  const bool node_ports = spec["type"].str() == "NodePort" || spec["type"].str() == "LoadBalancer";
  if (!node_ports) return;
  for (MutJson port : spec["ports"].items()) {
    if (port["nodePort"].i64() != 0) continue;
    for (const Json before : old["ports"].items()) {
      if (before["port"].i64() == port["port"].i64() && before["protocol"].str("TCP") == port["protocol"].str("TCP") &&
          before["nodePort"].i64() != 0) {
        port.set("nodePort", before["nodePort"].i64());
      }
    }
  }
}

}  // namespace

ApiResult<> admit_service(const Call& call, MutJson service, const ObjectPtr& old) {
  MutJson spec = service.object("spec");
  const std::string name(service["metadata"]["name"].str());
  if (old) keep_allocated(spec, old->parse().root()["spec"]);
  const std::string type(spec["type"].str("ClusterIP"));
  const auto refuse = [&](kube::FieldError error) { return ApiFail(invalid(call.type(), name, {std::move(error)})); };
  if (type == "ExternalName") return {};
  std::optional<Used> used;
  const auto others = [&]() -> const Used& {
    if (!used) used = used_by_others(call, call.route.namespace_, name);
    return *used;
  };
  // The cluster address.
  std::string ip(spec["clusterIP"].str());
  if (ip.empty() && spec["clusterIPs"].size() > 0) ip = spec["clusterIPs"][std::size_t{0}].str();
  const std::uint32_t base = call.server.service_base, mask = call.server.service_mask;
  if (ip.empty()) {
    // Without the network's, the API's own, and the broadcast address; and that of the node's name servers.
    const auto is_free = [&](std::uint32_t n) { return base + 2 + n != call.server.cluster_dns && !others().addresses.contains(base + 2 + n); };
    const auto chosen = choose(call.server.random, ~mask - 2, is_free);
    if (!chosen) return ApiFail(kube::status_internal("failed to allocate a serviceIP: range is full"));
    ip = format_ipv4(base + 2 + *chosen);
  } else if (ip != "None" && (!old || old->parse().root()["spec"]["clusterIP"].str() != ip)) {
    const auto address = parse_ipv4(ip);
    const auto complain = [&](std::string_view why) {
      return refuse(kube::field_invalid("spec.clusterIPs", std::format("[]string{{\"{}\"}}", ip), std::format("failed to allocate IP {}: {}", ip, why)));
    };
    if (!address || (*address & mask) != base || *address == base || *address == (base | ~mask)) {
      return complain(std::format("the provided IP is not in the valid range. The range of valid IPs is {}", call.server.options.service_cidr));
    }
    if (others().addresses.contains(*address)) return complain("provided IP is already allocated");
  }
  spec.set("clusterIP", ip);
  MutJson ips = spec.array("clusterIPs");
  if (ips.size() == 0) ips.push(ip);
  // Node ports.
  if (type != "NodePort" && type != "LoadBalancer") {
    for (MutJson port : spec["ports"].items()) port.remove("nodePort");
    return {};
  }
  const std::int64_t least = call.server.options.node_port_min, most = call.server.options.node_port_max;
  std::set<std::pair<std::int64_t, std::string>> mine;
  std::size_t index = 0;
  for (const MutJson port : spec["ports"].items()) {
    const std::int64_t wanted = port["nodePort"].i64();
    const std::string field = std::format("spec.ports[{}].nodePort", index++);
    if (wanted == 0) continue;
    const std::pair<std::int64_t, std::string> key(wanted, port["protocol"].str("TCP"));
    if (wanted < least || wanted > most) {
      return refuse(kube::field_invalid(field, std::to_string(wanted),
                                        std::format("provided port is not in the valid range. The range of valid ports is {}-{}", least, most)));
    }
    if (others().ports.contains(key) || !mine.insert(key).second) {
      return refuse(kube::field_invalid(field, std::to_string(wanted), "provided port is already allocated"));
    }
  }
  for (MutJson port : spec["ports"].items()) {
    if (port["nodePort"].i64() != 0) continue;
    const std::string protocol(port["protocol"].str("TCP"));
    const auto chosen = choose(call.server.random, static_cast<std::uint32_t>(most - least + 1), [&](std::uint32_t n) {
      const std::pair<std::int64_t, std::string> key(least + n, protocol);
      return !others().ports.contains(key) && !mine.contains(key);
    });
    if (!chosen) return ApiFail(kube::status_internal("failed to allocate a nodePort: range is full"));
    port.set("nodePort", least + *chosen);
    mine.emplace(least + *chosen, protocol);
  }
  return {};
}

}  // namespace skerry::apiserver
