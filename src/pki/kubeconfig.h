// SPDX-License-Identifier: Apache-2.0
// A kubeconfig file for kubectl and for the node: one cluster, one user, one context, everything embedded.
// cli/kubeconfig.h reads such files.
#pragma once
#include <string>

#include "base/error.h"
#include "pki/certificate.h"

namespace skerry::pki {

struct Kubeconfig {
  std::string cluster = "skerry";
  std::string user = "admin";
  std::string server{};  // https://127.0.0.1:6443
  std::string ca_pem{};
  KeyPair client{};      // or empty, with a token
  std::string token{};
  std::string namespace_{};  // the context's default; may be empty
};
// YAML text. Strings are quoted as JSON strings, which YAML reads alike. The file is a secret: write it with mode 0600.
std::string to_yaml(const Kubeconfig&);

}  // namespace skerry::pki
