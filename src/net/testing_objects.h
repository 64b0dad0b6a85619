// SPDX-License-Identifier: Apache-2.0
// For net's tests: Services and EndpointSlices in few words.
#pragma once
#include <format>
#include <string>
#include <vector>

#include "base/check.h"
#include "kube/object.h"

namespace skerry::net::testing {

inline kube::ObjectPtr object(std::string json) {
  auto made = kube::Object::from_json(std::move(json));
  CHECK(made.has_value());
  return *made;
}
inline kube::ObjectPtr service(std::string_view name, std::string_view ip, int port, int node_port) {
  return object(std::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}","namespace":"default"}},"spec":{{"type":"{}","clusterIP":"{}","ports":[{{"name":"http","port":{},"nodePort":{}}}]}}}})",
      name, node_port != 0 ? "NodePort" : "ClusterIP", ip, port, node_port));
}
// All ready, on edge-1, at port 8080.
inline kube::ObjectPtr slice(std::string_view name, const std::vector<std::string>& addresses) {
  std::string endpoints;
  for (const auto& address : addresses) {
    endpoints += std::format(R"({}{{"addresses":["{}"],"conditions":{{"ready":true}},"nodeName":"edge-1"}})",
                             endpoints.empty() ? "" : ",", address);
  }
  return object(std::format(
      R"({{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"{0}-1","namespace":"default","labels":{{"kubernetes.io/service-name":"{0}"}}}},"addressType":"IPv4","ports":[{{"name":"http","port":8080}}],"endpoints":[{1}]}})",
      name, endpoints));
}

}  // namespace skerry::net::testing
