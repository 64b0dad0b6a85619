// SPDX-License-Identifier: Apache-2.0
// Reads a kubeconfig (https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/): the current context's server and
// credentials, inline (…-data) or in files. Exec plugins and auth providers are refused by name.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/error.h"

namespace skerry::cli {

struct Kubeconfig {
  std::string host;  // name or IP address
  std::uint16_t port = 0;
  std::string ca_pem, client_certificate_pem, client_key_pem, token;
};
Result<Kubeconfig> read_kubeconfig(const std::filesystem::path&);

}  // namespace skerry::cli
