// SPDX-License-Identifier: Apache-2.0
#include "net/slice.h"

#include <algorithm>

namespace skerry::net {

using kube::Json;

std::uint16_t port_number(Json value) {
  const auto number = value.i64();
  return number > 0 && number < 65536 ? static_cast<std::uint16_t>(number) : std::uint16_t{0};
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

Slice read_slice(const kube::Object& object, std::string_view node) {
  Slice out;
  const auto doc = object.parse();
  const Json root = doc.root();
  out.service = object.label("kubernetes.io/service-name");
  if (root["addressType"].str() != "IPv4") return out;
  for (const Json endpoint : root["endpoints"].items()) {
    const auto where = endpoint["nodeName"].str();
    if (!where.empty() && where != node) continue;
    const auto address = os::Ipv4::parse(endpoint["addresses"][std::size_t{0}].str());
    if (!address) continue;
    const Json conditions = endpoint["conditions"];
    const bool ready = conditions["ready"].boolean(true);
    out.endpoints.push_back({.address = *address,
                             .host = std::string(endpoint["hostname"].str()),
                             .ready = ready,
                             .serving = conditions["serving"].boolean(ready)});
  }
  for (const Json port : root["ports"].items()) {
    if (const auto number = port_number(port["port"]); number != 0)
      out.ports.push_back({.name = std::string(port["name"].str()), .protocol = lower_case(port["protocol"].str("TCP")), .port = number});
  }
  return out;
}

}  // namespace skerry::net
