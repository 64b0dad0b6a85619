// SPDX-License-Identifier: Apache-2.0
// The registries file, in the format that K3s has (/etc/rancher/k3s/registries.yaml), so that a fleet's file serves here too:
//   mirrors: {docker.io: {endpoint: ["https://mirror.example.com"]}}
//   configs: {"registry.example.com:5000": {auth: {username, password}, tls: {ca_file, cert_file, key_file, insecure_skip_verify}}}
// https://docs.k3s.io/installation/private-registry
#pragma once
#include <filesystem>

#include "base/error.h"
#include "oci/puller.h"
#include "oci/registries.h"

namespace skerry::cli {

inline constexpr const char* kRegistriesFile = "/etc/skerry/registries.yaml";

// An empty path is kRegistriesFile, which need not be there. Files that it names are read now. Invalid: all of it that is not
// understood, by name; Denied: others can read it although it holds a password.
Result<oci::Registries> read_registries(const std::filesystem::path&);

// The registry client beside this program, with the proxies that this program's environment names. NotFound.
Result<oci::RegistryProgram> find_registry_program();

}  // namespace skerry::cli
