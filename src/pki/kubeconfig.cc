// SPDX-License-Identifier: Apache-2.0
#include "pki/kubeconfig.h"

#include <format>

#include "base/text.h"

namespace skerry::pki {
namespace {

std::string yaml_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) out += std::format("\\u{:04x}", static_cast<unsigned>(c));
    else out += c;
  }
  return out + "\"";
}

}  // namespace

std::string to_yaml(const Kubeconfig& config) {
  std::string out = "apiVersion: v1\nkind: Config\npreferences: {}\n";
  out += std::format("clusters:\n- cluster:\n    certificate-authority-data: {}\n    server: {}\n  name: {}\n", to_base64(config.ca_pem),
                     yaml_quote(config.server), yaml_quote(config.cluster));
  const std::string context = config.user + "@" + config.cluster;
  out += std::format("contexts:\n- context:\n    cluster: {}\n    user: {}\n", yaml_quote(config.cluster), yaml_quote(config.user));
  if (!config.namespace_.empty()) out += std::format("    namespace: {}\n", yaml_quote(config.namespace_));
  out += std::format("  name: {}\ncurrent-context: {}\nusers:\n- name: {}\n  user:\n", yaml_quote(context), yaml_quote(context), yaml_quote(config.user));
  if (!config.client.certificate_pem.empty())
    out += std::format("    client-certificate-data: {}\n    client-key-data: {}\n", to_base64(config.client.certificate_pem),
                       to_base64(config.client.key_pem));
  if (!config.token.empty()) out += std::format("    token: {}\n", yaml_quote(config.token));
  return out;
}

}  // namespace skerry::pki
