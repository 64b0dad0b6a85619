// SPDX-License-Identifier: Apache-2.0
#include "cli/api_service.h"

#include <arpa/inet.h>

#include <format>

#include "os/ipv4.h"

namespace skerry::cli {
namespace {

constexpr const char *kName = "kubernetes", *kNamespace = "default";

// Whether another machine, or a pod, reaches this one by that address.
bool leads_here(const std::string& address) {
  in_addr parsed{};
  if (inet_pton(AF_INET, address.c_str(), &parsed) != 1) return false;
  const std::uint32_t value = ntohl(parsed.s_addr);
  return value != 0 && value >> 24 != 127;
}

}  // namespace

Result<ApiService> api_service(const Endpoint& listen, const std::string& service_cidr) {
  const auto range = os::Ipv4Range::parse(service_cidr);
  if (!range) return Fail({Errc::Invalid, std::format("--service-cidr {} is no range of IPv4 addresses", service_cidr)});
  ApiService out;
  out.service = std::format(R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}","namespace":"{}","labels":{{"component":"apiserver","provider":"kubernetes"}}}},)"
                            R"("spec":{{"type":"ClusterIP","clusterIP":"{}","ports":[{{"name":"https","protocol":"TCP","port":443,"targetPort":{}}}]}}}})",
                            kName, kNamespace, range->at(1).str(), listen.port);
  if (!leads_here(listen.address)) return out;
  out.slice = std::format(R"({{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"{0}","namespace":"{1}","labels":{{"kubernetes.io/service-name":"{0}"}}}},)"
                          R"("addressType":"IPv4","endpoints":[{{"addresses":["{2}"],"conditions":{{"ready":true}}}}],"ports":[{{"name":"https","protocol":"TCP","port":{3}}}]}})",
                          kName, kNamespace, listen.address, listen.port);
  return out;
}

rt::Task<> publish_api_service(client::Client& client, ApiService wanted) {
  auto made = co_await client.create(client::kServices, kNamespace, wanted.service);
  if (!made && made.error().code != Errc::AlreadyExists) co_return Fail(std::move(made).error().with("the Service kubernetes"));
  if (wanted.slice.empty()) {
    auto gone = co_await client.remove(client::kEndpointSlices, kNamespace, kName);
    if (!gone && gone.error().code != Errc::NotFound) co_return Fail(std::move(gone).error().with("the EndpointSlice kubernetes"));
    co_return Result<>{};
  }
  auto slice = co_await client.create(client::kEndpointSlices, kNamespace, wanted.slice);
  if (!slice && slice.error().code == Errc::AlreadyExists)
    slice = co_await client.patch(client::kEndpointSlices, kNamespace, kName, client::PatchType::Merge, wanted.slice);
  if (!slice) co_return Fail(std::move(slice).error().with("the EndpointSlice kubernetes"));
  co_return Result<>{};
}

}  // namespace skerry::cli
