// SPDX-License-Identifier: Apache-2.0
// The Service `kubernetes` in `default`, as every cluster has it: the first address of the Service range, port 443, leads to the API.
#pragma once
#include <string>

#include "base/error.h"
#include "cli/options.h"
#include "client/client.h"
#include "rt/loop.h"

namespace skerry::cli {

// The objects, as JSON. The EndpointSlice is empty where the API listens on an address that names no machine to others (loopback,
// 0.0.0.0, IPv6): then the Service has a name and an address, and nothing behind it. Invalid: the Service range.
struct ApiService {
  std::string service{}, slice{};
};
Result<ApiService> api_service(const Endpoint& listen, const std::string& service_cidr);

// Makes what is not there, and leads the slice to where the API listens now; without an address, takes the slice away. A Service of
// that name that is there stays as it is. `client`: as system:masters.
rt::Task<> publish_api_service(client::Client& client, ApiService wanted);

}  // namespace skerry::cli
