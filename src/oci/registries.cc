// SPDX-License-Identifier: Apache-2.0
#include "oci/registries.h"

#include <algorithm>

namespace skerry::oci {
namespace {

std::string host_of(std::string_view url) {
  const auto scheme = url.find("://");
  const auto rest = scheme == std::string_view::npos ? url : url.substr(scheme + 3);
  return std::string(rest.substr(0, rest.find('/')));
}

}  // namespace

std::vector<RegistryEndpoint> Registries::endpoints(const Reference& image, std::vector<Credential> secrets) const {
  const auto find = [&](const std::string& host) -> const Host* {
    const auto at = hosts.find(host);
    return at == hosts.end() ? nullptr : &at->second;
  };
  const auto endpoint = [&](std::string url, const std::string& host) {
    while (url.ends_with('/')) url.pop_back();
    RegistryEndpoint out{.url = std::move(url)};
    if (const Host* known = find(host)) {
      out.ca_pem = known->ca_pem;
      out.certificate_pem = known->certificate_pem;
      out.key_pem = known->key_pem;
      out.verify = known->verify;
      if (known->credential) out.credentials.push_back(*known->credential);
    }
    return out;
  };
  const Host* own = find(image.registry);
  if (own == nullptr || own->mirrors.empty()) {
    const Host* all = find("*");
    if (all != nullptr && !all->mirrors.empty()) own = all;
  }
  std::vector<RegistryEndpoint> out;
  bool itself = false;
  const auto add_secrets = [&](RegistryEndpoint& to) { to.credentials.insert(to.credentials.begin(), secrets.begin(), secrets.end()); };
  if (own != nullptr)
    for (const auto& mirror : own->mirrors) {
      out.push_back(endpoint(mirror, host_of(mirror)));
      if (host_of(mirror) != image.registry) continue;
      itself = true;  // named as its own mirror: with http, say
      add_secrets(out.back());
    }
  if (itself) return out;
  const std::string host = image.registry == "docker.io" ? "registry-1.docker.io" : image.registry;
  out.push_back(endpoint("https://" + host, image.registry));
  add_secrets(out.back());
  return out;
}

}  // namespace skerry::oci
