// SPDX-License-Identifier: Apache-2.0
// For net's tests: questions and answers as dig would show them.
#pragma once
#include <format>
#include <map>
#include <string>

#include "net/dns_message.h"

namespace skerry::net::testing {

inline const std::map<std::string, DnsType>& types() {
  static const std::map<std::string, DnsType> all{
      {"A", DnsType::A},         {"NS", DnsType::Ns},   {"CNAME", DnsType::Cname}, {"SOA", DnsType::Soa},
      {"PTR", DnsType::Ptr},     {"TXT", DnsType::Txt}, {"AAAA", DnsType::Aaaa},   {"SRV", DnsType::Srv},
      {"HINFO", DnsType::Hinfo}, {"ANY", DnsType::Any}, {"MX", DnsType{15}}};
  return all;
}
inline std::string type_name(DnsType type) {
  for (const auto& [name, value] : types())
    if (value == type) return name;
  return std::to_string(static_cast<int>(type));
}

struct DataText {
  std::string operator()(os::Ipv4 address) const { return address.str(); }
  std::string operator()(const Ipv6Bytes& address) const {
    std::string out;
    for (const auto byte : address) out += std::format("{:02x}", byte);
    return out;
  }
  std::string operator()(const DnsTarget& target) const { return target.name; }
  std::string operator()(const DnsText& text) const { return std::format("\"{}\"", text.text); }
  std::string operator()(const DnsSrv& srv) const {
    return std::format("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target);
  }
  std::string operator()(const DnsSoa& soa) const {
    return std::format("{} {} {} {} {} {} {}", soa.server, soa.mailbox, soa.serial, soa.refresh, soa.retry, soa.expire,
                       soa.minimum);
  }
  std::string operator()(const DnsHinfo& info) const { return std::format("\"{}\" \"{}\"", info.cpu, info.system); }
};

inline std::string text_of(const DnsAnswer& answer) {
  static const std::map<DnsCode, std::string> codes{{DnsCode::NoError, "NOERROR"},   {DnsCode::FormErr, "FORMERR"},
                                                    {DnsCode::ServFail, "SERVFAIL"}, {DnsCode::NxDomain, "NXDOMAIN"},
                                                    {DnsCode::NotImp, "NOTIMP"},     {DnsCode::Refused, "REFUSED"}};
  std::string out =
      codes.at(answer.code) + (answer.authoritative ? " aa" : "") + (answer.truncated ? " tc" : "") + "\n";
  const auto section = [&](std::string_view mark, const std::vector<DnsRecord>& records) {
    for (const auto& record : records)
      out += std::format("{}{} {} {} {}\n", mark, record.name, record.ttl, type_name(record.type),
                         std::visit(DataText{}, record.data));
  };
  section("  ", answer.answers);
  section("  authority: ", answer.authority);
  section("  additional: ", answer.additional);
  return out;
}

}  // namespace skerry::net::testing
