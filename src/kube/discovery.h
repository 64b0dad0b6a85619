// SPDX-License-Identifier: Apache-2.0
// What is served, as documents: aggregated discovery (two requests) and the older one (one request a group version).
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace skerry::kube {

inline constexpr std::string_view kAggregatedType =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
// Does the Accept header ask for aggregated discovery v2?
bool accepts_aggregated(std::string_view accept);

std::string aggregated_api();   // GET /api
std::string aggregated_apis();  // GET /apis
std::string api_versions(std::string_view server_address);                                  // GET /api, "host:port"
std::string api_group_list();                                                               // GET /apis
std::optional<std::string> api_group(std::string_view group);                               // GET /apis/GROUP
std::optional<std::string> api_resource_list(std::string_view group, std::string_view version);  // GET /api/v1, /apis/G/V

}  // namespace skerry::kube
