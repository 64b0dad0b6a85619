// SPDX-License-Identifier: Apache-2.0
#include "oci/auth.h"

#include <algorithm>
#include <format>
#include <optional>

#include "base/text.h"
#include "kube/json.h"

namespace skerry::oci {
namespace {

using kube::Json;
constexpr std::size_t kHeaderBytesMax = 16 * 1024, kConfigBytesMax = 1024 * 1024;
constexpr std::string_view kDockerHub = "docker.io";

bool is_token_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("!#$%&'*+-.^_`|~").contains(c); }

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : left_(text) {}
  void skip(std::string_view chars) {
    while (!left_.empty() && chars.contains(left_[0])) left_.remove_prefix(1);
  }
  bool done() const { return left_.empty(); }
  bool take(char c) {
    if (!left_.starts_with(c)) return false;
    left_.remove_prefix(1);
    return true;
  }
  std::string_view token() {
    std::size_t n = 0;
    while (n < left_.size() && is_token_char(left_[n])) ++n;
    const auto out = left_.substr(0, n);
    left_.remove_prefix(n);
    return out;
  }
  std::optional<std::string> quoted() {
    if (!take('"')) return std::nullopt;
    std::string out;
    while (!left_.empty()) {
      char c = left_[0];
      left_.remove_prefix(1);
      if (c == '"') return out;
      if (c == '\\' && !left_.empty()) {
        c = left_[0];
        left_.remove_prefix(1);
      }
      out += c;
    }
    return std::nullopt;
  }
  std::string_view rest() const { return left_; }
  void back(std::string_view to) { left_ = to; }

 private:
  std::string_view left_;
};

// Whether the host of a key, part by part between dots, is that host.
bool host_matches(std::string_view pattern, std::string_view host) {
  const auto port = [](std::string_view& text) {
    const auto colon = text.rfind(':');
    const auto out = colon == std::string_view::npos ? std::string_view() : text.substr(colon);
    text = text.substr(0, colon);
    return out;
  };
  if (port(pattern) != port(host)) return false;
  const auto wanted = split(pattern, '.'), parts = split(host, '.');
  if (wanted.size() != parts.size()) return false;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto star = wanted[i].find('*');
    if (star == std::string_view::npos ? wanted[i] != parts[i]
                                       : !(parts[i].size() + 1 >= wanted[i].size() && parts[i].starts_with(wanted[i].substr(0, star)) &&
                                           parts[i].ends_with(wanted[i].substr(star + 1))))
      return false;
  }
  return true;
}

// How much of the image's name a key names; nothing: it is about something else.
std::optional<std::size_t> match(std::string_view key, const Reference& image) {
  for (const std::string_view scheme : {"https://", "http://"})
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  while (key.ends_with('/')) key.remove_suffix(1);
  const auto slash = key.find('/');
  std::string_view host = key.substr(0, slash), path = slash == std::string_view::npos ? std::string_view() : key.substr(slash + 1);
  if (path == "v1" || path == "v2") path = {};  // as `docker login` writes it
  if (host == "index.docker.io" || host == "registry-1.docker.io") host = kDockerHub;
  if (!host_matches(host, image.registry)) return std::nullopt;
  if (!path.empty() && image.repository != path && !image.repository.starts_with(std::string(path) + "/")) return std::nullopt;
  return host.size() + path.size();
}

std::optional<Credential> read_credential(Json entry) {
  Credential out{.username = std::string(entry["username"].str()), .password = std::string(entry["password"].str()),
                 .identity_token = std::string(entry["identitytoken"].str())};
  if (const auto auth = entry["auth"].str(); !auth.empty()) {
    const auto clear = from_base64(auth);
    const auto colon = clear ? clear->find(':') : std::string::npos;
    if (colon == std::string::npos) return std::nullopt;
    out.username = clear->substr(0, colon);
    out.password = clear->substr(colon + 1);
    while (out.password.ends_with('\0')) out.password.pop_back();
  }
  if (out.username.empty() && out.identity_token.empty()) return std::nullopt;
  for (const std::string& text : {out.username, out.password, out.identity_token})
    if (text.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) return std::nullopt;
  return out;
}

}  // namespace

Result<std::vector<Challenge>> parse_challenges(std::string_view header) {
  const Error wrong{Errc::Invalid, "the registry's WWW-Authenticate header is malformed"};
  if (header.size() > kHeaderBytesMax) return Fail(wrong);
  std::vector<Challenge> out;
  HeaderReader in(header);
  for (in.skip(" \t,"); !in.done(); in.skip(" \t,")) {
    const auto scheme = in.token();
    if (scheme.empty()) return Fail(wrong);
    Challenge one{.scheme = lower(scheme)};
    // Parameters, until a word that no '=' follows: the next scheme.
    for (in.skip(" \t,"); !in.done(); in.skip(" \t,")) {
      const auto before = in.rest();
      const auto name = in.token();
      in.skip(" \t");
      if (name.empty() || !in.take('=')) {
        if (name.empty()) return Fail(wrong);
        in.back(before);
        break;
      }
      in.skip(" \t");
      std::string value;
      if (in.rest().starts_with('"')) {
        auto text = in.quoted();
        if (!text) return Fail(wrong);
        value = std::move(*text);
      } else {
        value = in.token();
      }
      const auto key = lower(name);
      if (key == "realm") one.realm = value;
      else if (key == "service") one.service = value;
      else if (key == "scope") one.scope = value;
    }
    out.push_back(std::move(one));
  }
  return out;
}

Result<std::vector<Credential>> credentials_for(std::string_view docker_config, const Reference& image) {
  const Error wrong{Errc::Invalid, "the pull secret is no Docker configuration ({\"auths\":{…}})"};
  if (docker_config.size() > kConfigBytesMax) return Fail(wrong);
  auto doc = kube::JsonDoc::parse(docker_config);
  if (!doc || !doc->root().is_object()) return Fail(wrong);
  const Json auths = doc->root()["auths"] ? doc->root()["auths"] : doc->root();
  std::vector<std::pair<std::size_t, Credential>> found;
  for (const auto& [key, entry] : auths.members())
    if (const auto specific = match(key, image))
      if (auto credential = read_credential(entry)) found.emplace_back(*specific, std::move(*credential));
  std::ranges::stable_sort(found, std::greater<>(), &std::pair<std::size_t, Credential>::first);
  std::vector<Credential> out;
  for (auto& [specific, credential] : found) out.push_back(std::move(credential));
  return out;
}

}  // namespace skerry::oci
