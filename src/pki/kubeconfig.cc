// SPDX-License-Identifier: Apache-2.0
#include "pki/kubeconfig.h"

#include <format>
#include <map>

#include "base/text.h"

namespace skerry::pki {
namespace {

constexpr std::size_t kKubeconfigBytesMax = 1024 * 1024;

std::string yaml_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) out += std::format("\\u{:04x}", static_cast<unsigned>(c));
    else out += c;
  }
  return out + "\"";
}

// The scalar after "key: ", unquoted. Only what kubectl and we write: plain, single-quoted or double-quoted on one line.
Result<std::string> scalar(std::string_view text) {
  text = trim(text);
  if (text.empty()) return std::string();
  if (text.front() == '\'') {
    if (text.size() < 2 || text.back() != '\'') return Fail({Errc::Invalid, "an unfinished quoted value"});
    std::string out;
    for (std::size_t i = 1; i + 1 < text.size(); ++i) {
      out += text[i];
      if (text[i] == '\'') ++i;  // '' stands for one
    }
    return out;
  }
  if (text.front() != '"') {
    if (text.front() == '|' || text.front() == '>' || text.front() == '{' || text.front() == '[' || text.front() == '&' || text.front() == '*')
      return Fail({Errc::Invalid, "a value in a YAML form that is not read here"});
    if (const auto comment = text.find(" #"); comment != text.npos) text = trim(text.substr(0, comment));
    return std::string(text);
  }
  if (text.size() < 2 || text.back() != '"') return Fail({Errc::Invalid, "an unfinished quoted value"});
  std::string out;
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i + 1 >= text.size() || (text[i] != '"' && text[i] != '\\')) return Fail({Errc::Invalid, "an escape that is not read here"});
    out += text[i];
  }
  return out;
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

// Reads "key: value" lines, wherever they stand: with one cluster, one user and one context there is only one of each.
Result<Kubeconfig> parse_kubeconfig(std::string_view yaml) {
  if (yaml.size() > kKubeconfigBytesMax) return Fail({Errc::Invalid, "the kubeconfig is longer than 1 MiB"});
  std::map<std::string, std::string, std::less<>> found;
  std::size_t number = 0;
  for (std::string_view line : split(yaml, '\n')) {
    ++number;
    std::string_view text = trim(line);
    if (text.starts_with("- ")) text = trim(text.substr(2));
    const auto colon = text.find(':');
    if (text.starts_with('#') || colon == text.npos) continue;
    const std::string_view key = trim(text.substr(0, colon));
    for (const std::string_view wanted : {"certificate-authority-data", "server", "client-certificate-data", "client-key-data", "token",
                                          "namespace", "certificate-authority", "client-certificate", "client-key"}) {
      if (key != wanted) continue;
      auto value = scalar(text.substr(colon + 1));
      if (!value) return Fail(value.error().with(std::format("line {} of the kubeconfig ({})", number, key)));
      if (!found.emplace(key, std::move(*value)).second)
        return Fail({Errc::Invalid, std::format("line {} of the kubeconfig: a second '{}'; give a file with one cluster, one user and one "
                                                "context (kubectl config view --minify --flatten --raw writes one)",
                                                number, key)});
    }
  }
  for (const std::string_view file : {"certificate-authority", "client-certificate", "client-key"})
    if (found.contains(file))
      return Fail({Errc::Invalid, std::format("the kubeconfig names a file in '{}'; embed it (kubectl config view --minify --flatten --raw)", file)});
  Kubeconfig out;
  const auto pem = [&](std::string_view key, std::string& into) -> Result<> {
    if (!found.contains(key)) return {};
    auto decoded = from_base64(found.find(key)->second);
    if (!decoded) return Fail({Errc::Invalid, std::format("the kubeconfig's {} is not base64", key)});
    into = std::move(*decoded);
    return {};
  };
  TRY_OK(pem("certificate-authority-data", out.ca_pem));
  TRY_OK(pem("client-certificate-data", out.client.certificate_pem));
  TRY_OK(pem("client-key-data", out.client.key_pem));
  out.server = found["server"];
  out.token = found["token"];
  out.namespace_ = found["namespace"];
  if (out.server.empty()) return Fail({Errc::Invalid, "the kubeconfig has no 'server'"});
  if (out.ca_pem.empty()) return Fail({Errc::Invalid, "the kubeconfig has no 'certificate-authority-data'"});
  if (out.client.certificate_pem.empty() != out.client.key_pem.empty())
    return Fail({Errc::Invalid, "the kubeconfig has a client certificate without its key, or a key without its certificate"});
  if (out.client.key_pem.empty() && out.token.empty())
    return Fail({Errc::Invalid, "the kubeconfig has neither a client certificate nor a token"});
  return out;
}

}  // namespace skerry::pki
