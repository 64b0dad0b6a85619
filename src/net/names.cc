// SPDX-License-Identifier: Apache-2.0
#include "net/names.h"

#include <algorithm>
#include <format>
#include <set>

#include "base/text.h"
#include "kube/json.h"

namespace skerry::net {
namespace {

using kube::Json;

constexpr std::uint32_t kTtl = 5;
constexpr std::size_t kAliasesMax = 8;  // of one answer; longer chains are loops
constexpr std::string_view kSchemaVersion = "1.1.0";

std::string dashed(Ipv4 address) {
  std::string out = address.str();
  std::ranges::replace(out, '.', '-');
  return out;
}
std::optional<Ipv4> parse_dashed(std::string text) {
  if (text.find('.') != std::string::npos) return std::nullopt;
  std::ranges::replace(text, '-', '.');
  return Ipv4::parse(text);
}

DnsRecord address_record(std::string name, Ipv4 address) {
  return {.name = std::move(name), .type = DnsType::A, .ttl = kTtl, .data = address};
}
DnsRecord target_record(std::string name, DnsType type, std::string target) {
  return {.name = std::move(name), .type = type, .ttl = kTtl, .data = DnsTarget{std::move(target)}};
}
DnsRecord srv_record(std::string name, std::uint16_t port, std::string target) {
  return {.name = std::move(name),
          .type = DnsType::Srv,
          .ttl = kTtl,
          .data = DnsSrv{.priority = 0, .weight = 100, .port = port, .target = std::move(target)}};
}

// Weights of one priority share a hundred, as in CoreDNS.
void share_weights(std::vector<DnsRecord>& records) {
  const auto count = static_cast<std::size_t>(std::ranges::count(records, DnsType::Srv, &DnsRecord::type));
  for (DnsRecord& record : records)
    if (auto* srv = std::get_if<DnsSrv>(&record.data))
      srv->weight = static_cast<std::uint16_t>(std::max<std::size_t>(1, 100 / count));
}

bool ends_with(const std::vector<std::string>& labels, const std::vector<std::string>& end) {
  return labels.size() >= end.size() && std::equal(end.rbegin(), end.rend(), labels.rbegin());
}

}  // namespace

Names::Names(Options options) : options_(std::move(options)), zone_(label_list(options_.zone)) {}

void Names::put_service(const kube::Object& object) {
  ++options_.serial;
  Service service;
  const auto doc = object.parse();
  const Json spec = doc.root()["spec"];
  service.not_ready_too = spec["publishNotReadyAddresses"].boolean();
  if (spec["type"].str() == "ExternalName") {
    service.external_name = spec["externalName"].str();
    while (service.external_name.ends_with('.')) service.external_name.pop_back();
  } else {
    const auto cluster_ip = spec["clusterIP"].str();
    service.headless = cluster_ip == "None";
    const auto add = [&](std::string_view text) {
      const auto address = Ipv4::parse(text);
      if (address && std::ranges::find(service.addresses, *address) == service.addresses.end())
        service.addresses.push_back(*address);
    };
    add(cluster_ip);
    for (const Json ip : spec["clusterIPs"].items()) add(ip.str());
  }
  for (const Json port : spec["ports"].items()) {
    service.ports.push_back({.name = lower_case(port["name"].str()),
                             .protocol = lower_case(port["protocol"].str("TCP")),
                             .port = port_number(port["port"])});
  }
  services_.insert_or_assign(Key{object.namespace_(), object.name()}, std::move(service));
}

void Names::remove_service(std::string_view namespace_, std::string_view name) {
  ++options_.serial;
  services_.erase(Key{namespace_, name});
}

void Names::put_slice(const kube::Object& object) {
  ++options_.serial;
  Slice slice = read_slice(object, options_.node);
  for (SliceEndpoint& endpoint : slice.endpoints) endpoint.host = endpoint.host.empty() ? dashed(endpoint.address) : lower_case(endpoint.host);
  for (SlicePort& port : slice.ports) port.name = lower_case(port.name);
  slices_.insert_or_assign(Key{object.namespace_(), object.name()}, std::move(slice));
}

void Names::remove_slice(std::string_view namespace_, std::string_view name) {
  ++options_.serial;
  slices_.erase(Key{namespace_, name});
}

template <class Visit>
void Names::each_slice(const Key& key, Visit visit) const {
  for (auto at = slices_.lower_bound(Key{key.first, ""}); at != slices_.end() && at->first.first == key.first; ++at)
    if (at->second.service == key.second) visit(at->second);
}

std::string Names::service_name(const Key& key) const {
  return std::format("{}.{}.svc.{}", key.second, key.first, options_.zone);
}

DnsRecord Names::soa_of(std::string owner) const {
  return {.name = std::move(owner),
          .type = DnsType::Soa,
          .ttl = kTtl,
          .data = DnsSoa{.server = "ns.dns." + options_.zone,
                         .mailbox = "hostmaster." + options_.zone,
                         .serial = options_.serial,
                         .refresh = 7200,
                         .retry = 1800,
                         .expire = 86400,
                         .minimum = kTtl}};
}

// `relative`: the labels in front of the zone.
Names::Found Names::find(const Labels& relative, const DnsQuestion& question) const {
  Found out;
  const std::size_t count = relative.size();
  if (count == 0) {
    const std::string server = "ns.dns." + options_.zone;
    out.exists = true;
    out.records.push_back(soa_of(question.name));
    out.records.push_back(target_record(question.name, DnsType::Ns, server));
    if (question.type == DnsType::Ns) out.additional.push_back(address_record(server, options_.server));
    return out;
  }
  const std::string& top = relative.back();
  if (top == "dns-version" && count == 1) {
    out.exists = true;
    out.records.push_back(
        {.name = question.name, .type = DnsType::Txt, .ttl = kTtl, .data = DnsText{std::string(kSchemaVersion)}});
  } else if (top == "dns") {
    out.exists = count == 1 || (count == 2 && relative[0] == "ns");
    if (out.exists && count == 2) out.records.push_back(address_record(question.name, options_.server));
  } else if (top == "pod") {
    const auto address = count == 3 ? parse_dashed(relative[0]) : std::nullopt;
    out.exists = count <= 2 || (address && options_.pods.contains(*address));
    if (out.exists && address) out.records.push_back(address_record(question.name, *address));
  } else if (top == "svc") {
    if (count == 1) {
      out.exists = true;
      return out;
    }
    const std::string& ns = relative[count - 2];
    if (count == 2) {
      const auto first = services_.lower_bound(Key{ns, ""});
      out.exists = first != services_.end() && first->first.first == ns;
      return out;
    }
    return find_service({ns, relative[count - 3]}, Labels(relative.begin(), relative.end() - 3), question);
  }
  return out;
}

Names::Found Names::find_service(const Key& key, const Labels& below, const DnsQuestion& question) const {
  Found out;
  const auto known = services_.find(key);
  if (known == services_.end()) return out;
  const Service& service = known->second;
  const std::string own = service_name(key);
  if (!service.external_name.empty()) {
    if (!below.empty()) return out;
    out.exists = true;
    if (const auto address = Ipv4::parse(service.external_name))
      out.records.push_back(address_record(question.name, *address));  // as in CoreDNS
    else
      out.records.push_back(target_record(question.name, DnsType::Cname, service.external_name));
    return out;
  }
  // A host of it: an endpoint by its hostname, or the parts of _port._proto.
  if (below.size() == 1) {
    if (below[0] == "_tcp" || below[0] == "_udp" || below[0] == "_sctp") {
      const std::string protocol = below[0].substr(1);
      const auto named = [&](const SlicePort& port) { return !port.name.empty() && port.protocol == protocol; };
      if (!service.headless) {
        out.exists = std::ranges::any_of(service.ports, named);
      } else {
        each_slice(key, [&](const Slice& slice) {
          if (std::ranges::any_of(slice.endpoints, [&](const SliceEndpoint& e) { return usable(service, e); }))
            out.exists = out.exists || std::ranges::any_of(slice.ports, named);
        });
      }
      return out;
    }
    std::set<Ipv4> addresses;
    each_slice(key, [&](const Slice& slice) {
      for (const SliceEndpoint& endpoint : slice.endpoints)
        if (endpoint.host == below[0] && usable(service, endpoint)) addresses.insert(endpoint.address);
    });
    for (const Ipv4 address : addresses) out.records.push_back(address_record(question.name, address));
    out.exists = !addresses.empty();
    return out;
  }
  if (below.size() > 2) return out;
  const bool one_port = below.size() == 2;
  if (one_port && (below[0].size() < 2 || below[0][0] != '_' || below[1].size() < 2 || below[1][0] != '_')) return out;
  const auto asked = [&](const SlicePort& port) {
    return !one_port || (port.name == below[0].substr(1) && port.protocol == below[1].substr(1));
  };
  const bool srv = question.type == DnsType::Srv;
  if (!service.headless) {
    if (service.addresses.empty()) return out;  // no ClusterIP yet
    for (const SlicePort& port : service.ports)
      if (asked(port)) out.records.push_back(srv_record(question.name, port.port, own));
    out.exists = !one_port || !out.records.empty();
    if (!one_port)
      for (const Ipv4 address : service.addresses) out.records.push_back(address_record(question.name, address));
    if (srv && !out.records.empty())
      for (const Ipv4 address : service.addresses) out.additional.push_back(address_record(own, address));
    share_weights(out.records);
    return out;
  }
  std::set<Ipv4> addresses;
  std::set<std::pair<std::string, Ipv4>> hosts;
  std::set<std::pair<std::string, std::uint16_t>> targets;
  each_slice(key, [&](const Slice& slice) {
    for (const SliceEndpoint& endpoint : slice.endpoints) {
      if (!usable(service, endpoint)) continue;
      addresses.insert(endpoint.address);
      for (const SlicePort& port : slice.ports) {
        if (!asked(port)) continue;
        targets.emplace(endpoint.host, port.port);
        hosts.emplace(endpoint.host, endpoint.address);
      }
    }
  });
  out.exists = one_port ? !targets.empty() : !addresses.empty();
  if (srv) {
    for (const auto& [host, port] : targets) out.records.push_back(srv_record(question.name, port, host + "." + own));
    for (const auto& [host, address] : hosts) out.additional.push_back(address_record(host + "." + own, address));
    share_weights(out.records);
  } else if (!one_port) {
    for (const Ipv4 address : addresses) out.records.push_back(address_record(question.name, address));
  }
  return out;
}

Names::Answer Names::finish(Found found, const DnsQuestion& question, DnsRecord soa) const {
  Answer out;
  DnsAnswer& message = out.message;
  message.authoritative = true;
  if (!found.exists && !complete_) {
    message = {.code = DnsCode::ServFail};
    return out;
  }
  if (!found.exists) message.code = DnsCode::NxDomain;
  if (found.exists && question.type == DnsType::Any) {  // RFC 8482
    message.answers.push_back(
        {.name = question.name, .type = DnsType::Hinfo, .ttl = kTtl, .data = DnsHinfo{"RFC8482", ""}});
    return out;
  }
  for (DnsRecord& record : found.records) {
    if (record.type == DnsType::Cname && question.type != DnsType::Cname)
      out.follow = std::get<DnsTarget>(record.data).name;
    if (record.type == question.type || record.type == DnsType::Cname) message.answers.push_back(std::move(record));
  }
  if (message.answers.empty()) {
    message.authority.push_back(std::move(soa));
  } else {
    message.additional = std::move(found.additional);
  }
  return out;
}

// An alias of a name of this zone is answered with that name's records.
void Names::follow_inside(Answer& out, DnsQuestion question) const {
  for (std::size_t i = 0; !out.follow.empty(); ++i) {
    question.name = out.follow;
    const Labels labels = label_list(question.name);
    if (!ends_with(labels, zone_)) return;
    if (i == kAliasesMax) {
      out = {.message = {.code = DnsCode::ServFail}, .follow = {}};
      return;
    }
    Answer next =
        finish(find(Labels(labels.begin(), labels.end() - static_cast<std::ptrdiff_t>(zone_.size())), question),
               question, soa_of(options_.zone));
    out.message.code = next.message.code;
    std::ranges::move(next.message.answers, std::back_inserter(out.message.answers));
    out.message.authority = std::move(next.message.authority);
    out.follow = std::move(next.follow);
  }
}

std::optional<Names::Answer> Names::answer(const DnsQuestion& question) const {
  const Labels labels = label_list(question.name);
  if (!ends_with(labels, zone_)) return answer_reverse(labels, question);
  const auto at = labels.end() - static_cast<std::ptrdiff_t>(zone_.size());
  Answer out = finish(find(Labels(labels.begin(), at), question), question, soa_of(options_.zone));
  follow_inside(out, question);
  return out;
}

// A name under in-addr.arpa: the address, or the beginning of one, that its last labels say, and what is left of it.
std::optional<Names::Answer> Names::answer_reverse(const Labels& labels, const DnsQuestion& question) const {
  constexpr std::size_t kOctets = 4;
  if (!ends_with(labels, {"in-addr", "arpa"})) return std::nullopt;
  Ipv4 address;
  std::size_t octets = 0, left = labels.size() - 2;
  for (; left > 0 && octets < kOctets; --left, ++octets) {
    const std::string& label = labels[left - 1];
    const auto octet = parse_int<std::uint32_t>(label);
    if (!octet || *octet > 255 || (label.size() > 1 && label[0] == '0')) break;
    address.value |= *octet << (24 - 8 * octets);
  }
  const Ipv4Range asked{address, static_cast<int>(octets) * 8};
  const auto under = [&](Ipv4 one) { return asked.contains(one); };
  const auto covers = [&](Ipv4Range range) { return range.prefix <= asked.prefix && range.contains(address); };
  const bool whole = octets == kOctets && left == 0;
  const auto ours = covers(options_.pods)       ? std::optional(options_.pods)
                    : covers(options_.services) ? std::optional(options_.services)
                                                : std::nullopt;
  if (!ours && !whole) return std::nullopt;

  Found found;
  std::set<std::string> names;
  for (const auto& [key, service] : services_) {
    if (left > 0 || !std::ranges::any_of(service.addresses, under)) continue;
    found.exists = true;
    names.insert(service_name(key));
  }
  for (auto at = slices_.begin(); at != slices_.end() && left == 0 && names.empty(); ++at) {
    const auto service = services_.find(Key{at->first.first, at->second.service});
    if (service == services_.end()) continue;
    for (const SliceEndpoint& endpoint : at->second.endpoints)
      if (under(endpoint.address) && usable(service->second, endpoint)) found.exists = true;
  }
  if (whole && names.empty()) names = endpoint_names(address);
  if (!ours && names.empty()) return std::nullopt;
  if (whole)
    for (const std::string& name : names) found.records.push_back(target_record(question.name, DnsType::Ptr, name));
  // A zone ends at an octet: that which the prefix reaches into, so that a /20 is sixteen zones.
  const std::size_t zone_octets = ours ? static_cast<std::size_t>(std::min(ours->prefix, 24) + 7) / 8 : 3;
  if (ours && left == 0 && octets == zone_octets) {
    found.exists = true;
    found.records.push_back(soa_of(question.name));
    found.records.push_back(target_record(question.name, DnsType::Ns, "ns.dns." + options_.zone));
  }
  std::string zone;
  for (std::size_t i = kOctets - zone_octets; i < kOctets; ++i)
    zone += std::format("{}.", address.value >> (8 * i) & 255);
  return finish(std::move(found), question, soa_of(zone + "in-addr.arpa"));
}

// Those of the endpoints at this address, in every Service that has them.
std::set<std::string> Names::endpoint_names(Ipv4 address) const {
  std::set<std::string> out;
  for (const auto& [key, slice] : slices_) {
    const auto service = services_.find(Key{key.first, slice.service});
    if (service == services_.end()) continue;
    for (const SliceEndpoint& endpoint : slice.endpoints)
      if (endpoint.address == address && usable(service->second, endpoint))
        out.insert(endpoint.host + "." + service_name(service->first));
  }
  return out;
}

}  // namespace skerry::net
