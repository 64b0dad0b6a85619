// SPDX-License-Identifier: Apache-2.0
// How registries are reached from this node: mirrors, authorities, credentials, plain http where that is wanted. A value, made
// by cli from the registries file.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "oci/pull_wire.h"

namespace skerry::oci {

struct Registries {
  struct Host {
    std::vector<std::string> mirrors{};  // URLs, asked before the registry itself
    std::optional<Credential> credential{};
    std::string ca_pem{}, certificate_pem{}, key_pem{};
    bool verify = true;
    bool operator==(const Host&) const = default;
  };
  std::map<std::string, Host> hosts{};  // by "host[:port]"; "*": of every registry that has no mirrors of its own

  // Where an image is asked for, in order. `secrets` go to the registry itself alone, before what is configured for it; a mirror
  // gets what is configured for its own host.
  std::vector<RegistryEndpoint> endpoints(const Reference&, std::vector<Credential> secrets) const;
};

}  // namespace skerry::oci
