// SPDX-License-Identifier: Apache-2.0
#include "cli/registries_file.h"

#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <format>
#include <set>

#include "base/text.h"
#include "os/file.h"
#include "os/spawn.h"

namespace skerry::cli {
namespace {

using oci::Registries;

// What is wrong with the file, all of it at once.
class Reader {
 public:
  Registries read(const YAML::Node& root) {
    only(root, "", {"mirrors", "configs"});
    for (const auto& entry : root["mirrors"]) read_mirrors(entry.first.as<std::string>(), entry.second);
    for (const auto& entry : root["configs"]) read_config(entry.first.as<std::string>(), entry.second);
    return std::move(out_);
  }
  std::string mistakes;
  bool secret = false;

 private:
  void wrong(std::string text) { mistakes += (mistakes.empty() ? "" : "; ") + std::move(text); }
  void only(const YAML::Node& node, const std::string& where, const std::set<std::string>& known) {
    if (!node.IsMap()) {
      if (node.IsDefined() && !node.IsNull()) wrong(std::format("{} is no map", where.empty() ? "the file" : where));
      return;
    }
    for (const auto& entry : node)
      if (const auto name = entry.first.as<std::string>(); !known.contains(name)) wrong(std::format("{}{} is not known", where.empty() ? "" : where + ".", name));
  }
  void read_mirrors(const std::string& host, const YAML::Node& node) {
    const std::string where = std::format("mirrors.\"{}\"", host);
    only(node, where, {"endpoint"});
    for (const auto& endpoint : node["endpoint"]) {
      auto url = endpoint.as<std::string>("");
      if (!url.contains("://")) url = "https://" + url;
      if (!(url.starts_with("https://") || url.starts_with("http://")) || url.find_first_of(" \t\r\n@?#") != std::string::npos || url.ends_with("://")) {
        wrong(std::format("{}.endpoint \"{}\" is no address like https://mirror.example.com", where, url));
        continue;
      }
      out_.hosts[host].mirrors.push_back(std::move(url));
    }
  }
  void read_config(const std::string& host, const YAML::Node& node) {
    const std::string where = std::format("configs.\"{}\"", host);
    only(node, where, {"auth", "tls"});
    auto& to = out_.hosts[host];
    if (const auto auth = node["auth"]) {
      only(auth, where + ".auth", {"username", "password", "identity_token"});
      to.credential = oci::Credential{.username = auth["username"].as<std::string>(""), .password = auth["password"].as<std::string>(""),
                                      .identity_token = auth["identity_token"].as<std::string>("")};
      if (to.credential->username.empty() && to.credential->identity_token.empty()) wrong(where + ".auth has neither username nor identity_token");
      secret = true;
    }
    const auto tls = node["tls"];
    if (!tls) return;
    only(tls, where + ".tls", {"ca_file", "cert_file", "key_file", "insecure_skip_verify"});
    for (const auto& [name, pem] : {std::pair{"ca_file", &to.ca_pem}, {"cert_file", &to.certificate_pem}, {"key_file", &to.key_pem}}) {
      const auto path = tls[name].as<std::string>("");
      if (path.empty()) continue;
      if (auto text = os::read_small_file(path)) *pem = std::move(*text);
      else wrong(std::format("{}.tls.{}: {}", where, name, text.error().what));
    }
    if (to.certificate_pem.empty() != to.key_pem.empty()) wrong(where + ".tls needs both cert_file and key_file");
    to.verify = !tls["insecure_skip_verify"].as<bool>(false);
  }
  Registries out_;
};

}  // namespace

Result<oci::Registries> read_registries(const std::filesystem::path& given) {
  const std::filesystem::path path = given.empty() ? kRegistriesFile : given;
  auto text = os::read_small_file(path);
  if (!text && given.empty() && text.error().code == Errc::NotFound) return Registries{};
  if (!text) return Fail(std::move(text).error().with("the registries file"));
  Reader reader;
  Registries out;
  try {
    out = reader.read(YAML::Load(*text));
  } catch (const YAML::Exception& e) {  // the library's only way to report; stopped here
    return Fail({Errc::Invalid, std::format("the registries file {}: {}", path.string(), e.what())});
  }
  if (!reader.mistakes.empty()) return Fail({Errc::Invalid, std::format("the registries file {}: {}", path.string(), reader.mistakes)});
  struct stat info {};
  if (reader.secret && ::stat(path.c_str(), &info) == 0 && (info.st_mode & 077) != 0)
    return Fail({Errc::Denied, std::format("{} can be read by others (mode {:o}), and it holds a password: chmod 600 it", path.string(), info.st_mode & 07777)});
  return out;
}

Result<oci::RegistryProgram> find_registry_program() {
  TRY(const auto folder, os::program_folder());
  oci::RegistryProgram out{.path = folder / "skerry-registry"};
  if (!std::filesystem::exists(out.path))
    return Fail({Errc::NotFound, std::format("{} is missing; skerry needs its sibling programs beside itself: install the whole package", out.path.string())});
  for (const auto& variable : os::current_environment()) {
    std::string name = variable.substr(0, variable.find('='));
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (name == "http_proxy" || name == "https_proxy" || name == "all_proxy" || name == "no_proxy") out.environment.push_back(variable);
  }
  return out;
}

}  // namespace skerry::cli
