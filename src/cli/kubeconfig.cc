// SPDX-License-Identifier: Apache-2.0
#include "cli/kubeconfig.h"

#include <yaml-cpp/yaml.h>

#include <format>

#include "base/text.h"
#include "os/file.h"

namespace skerry::cli {
namespace {

Result<YAML::Node> entry_named(const YAML::Node& list, const std::string& name, const char* what) {
  for (const auto& item : list)
    if (item["name"] && item["name"].as<std::string>() == name) return item[what];
  return Fail({Errc::Invalid, std::format("it has no {} named \"{}\"", what, name)});
}

// `key`-data inline as base64, or `key` as a path relative to the kubeconfig.
Result<std::string> material(const YAML::Node& node, const std::string& key, const std::filesystem::path& folder) {
  if (const auto inline_data = node[key + "-data"]) {
    auto bytes = from_base64(inline_data.as<std::string>());
    if (!bytes) return Fail({Errc::Invalid, std::format("{}-data is not base64", key)});
    return std::move(*bytes);
  }
  if (const auto path = node[key]) return os::read_small_file(folder / path.as<std::string>());
  return std::string();
}

Result<Kubeconfig> read(const YAML::Node& root, const std::filesystem::path& folder) {
  if (!root["current-context"]) return Fail({Errc::Invalid, "it has no current-context"});
  TRY(const auto context, entry_named(root["contexts"], root["current-context"].as<std::string>(), "context"));
  TRY(const auto cluster, entry_named(root["clusters"], context["cluster"].as<std::string>(""), "cluster"));
  TRY(const auto user, entry_named(root["users"], context["user"].as<std::string>(""), "user"));
  for (const char* unserved : {"exec", "auth-provider"})
    if (user[unserved]) return Fail({Errc::Unsupported, std::format("its user needs \"{}\"; a node takes a client certificate or a token", unserved)});

  Kubeconfig out;
  const auto server = cluster["server"].as<std::string>("");
  constexpr std::string_view scheme = "https://";
  if (!server.starts_with(scheme)) return Fail({Errc::Invalid, std::format("its server \"{}\" is not an https:// address", server)});
  std::string_view rest = std::string_view(server).substr(scheme.size());
  rest = rest.substr(0, rest.find('/'));
  const auto colon = rest.rfind(':');
  const bool has_port = colon != std::string_view::npos && rest.find(']', colon) == std::string_view::npos;
  const auto port = has_port ? parse_int<std::uint16_t>(rest.substr(colon + 1)) : std::optional<std::uint16_t>(443);
  std::string_view host = has_port ? rest.substr(0, colon) : rest;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (!port || host.empty()) return Fail({Errc::Invalid, std::format("its server \"{}\" has no usable host and port", server)});
  out.host = host;
  out.port = *port;
  TRY(out.ca_pem, material(cluster, "certificate-authority", folder));
  if (out.ca_pem.empty()) return Fail({Errc::Invalid, "its cluster has no certificate-authority; the server could not be told from an impostor"});
  TRY(out.client_certificate_pem, material(user, "client-certificate", folder));
  TRY(out.client_key_pem, material(user, "client-key", folder));
  out.token = user["token"].as<std::string>("");
  if (out.token.empty() && (out.client_certificate_pem.empty() || out.client_key_pem.empty()))
    return Fail({Errc::Invalid, "its user has neither a token nor a client certificate with its key"});
  return out;
}

}  // namespace

Result<Kubeconfig> read_kubeconfig(const std::filesystem::path& path) {
  TRY(const auto text, os::read_small_file(path));
  try {
    auto out = read(YAML::Load(text), path.parent_path());
    if (!out) return Fail(out.error().with("kubeconfig " + path.string()));
    return out;
  } catch (const YAML::Exception& e) {  // the library's only way to report; stopped here
    return Fail({Errc::Invalid, std::format("kubeconfig {}: {}", path.string(), e.what())});
  }
}

}  // namespace skerry::cli
