// SPDX-License-Identifier: Apache-2.0
#include "oci/reference.h"

#include <algorithm>
#include <format>

#include "base/text.h"

namespace skerry::oci {
namespace {

constexpr std::size_t kNameBytesMax = 255, kTagBytesMax = 128;

bool lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool word(char c) { return lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '_'; }

// A host name, an IPv4 address or a bracketed IPv6 address, with an optional port.
bool valid_registry(std::string_view text) {
  std::string_view host = text, port;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == text.npos || end < 3) return false;
    host = text.substr(1, end - 1);
    if (!std::ranges::all_of(host, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':' || c == '.'; }))
      return false;
    const auto rest = text.substr(end + 1);
    if (rest.empty()) return true;
    if (!rest.starts_with(':')) return false;
    port = rest.substr(1);
  } else {
    const auto colon = text.find(':');
    host = text.substr(0, colon);
    for (const auto label : split(host, '.')) {
      if (label.empty() || label.front() == '-' || label.back() == '-') return false;
      if (!std::ranges::all_of(label, [](char c) { return lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '-'; })) return false;
    }
    if (colon == text.npos) return true;
    port = text.substr(colon + 1);
  }
  return parse_int<std::uint16_t>(port).has_value();
}

// [a-z0-9]+ joined by one '.', one or two '_', or any number of '-'.
bool valid_component(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t begin = at;
    while (at < text.size() && lower_or_digit(text[at])) ++at;
    if (at == begin) return false;
    if (at == text.size()) return true;
    const char separator = text[at];
    const std::size_t from = at;
    while (at < text.size() && text[at] == separator) ++at;
    const std::size_t count = at - from;
    if (!((separator == '.' && count == 1) || (separator == '_' && count <= 2) || separator == '-')) return false;
    if (at == text.size()) return false;
  }
  return false;
}

bool valid_tag(std::string_view text) {
  return !text.empty() && text.size() <= kTagBytesMax && word(text.front()) &&
         std::ranges::all_of(text, [](char c) { return word(c) || c == '.' || c == '-'; });
}

}  // namespace

bool is_digest(std::string_view text) {
  constexpr std::string_view prefix = "sha256:";
  return text.size() == prefix.size() + 64 && text.starts_with(prefix) &&
         std::ranges::all_of(text.substr(prefix.size()), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Result<Reference> Reference::parse(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    std::string shown(text.substr(0, 100));
    std::erase_if(shown, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
    return Fail({Errc::Invalid, std::format("'{}' is not an image reference: {}", shown, why)});
  };
  Reference out;
  std::string_view rest = text;
  if (const auto at = rest.find('@'); at != rest.npos) {
    out.digest = rest.substr(at + 1);
    if (!is_digest(out.digest)) return bad("after '@' there must be 'sha256:' and 64 hexadecimal digits");
    rest = rest.substr(0, at);
  }
  // A colon after the last slash begins the tag; before it, a port.
  const auto slash = rest.rfind('/');
  if (const auto colon = rest.rfind(':'); colon != rest.npos && (slash == rest.npos || colon > slash)) {
    out.tag = rest.substr(colon + 1);
    if (!valid_tag(out.tag)) return bad("a tag has 1 to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'");
    rest = rest.substr(0, colon);
  }
  // The first part is a registry only if it looks like a host.
  const auto first = rest.find('/');
  const std::string_view head = rest.substr(0, first);
  const bool host = first != rest.npos && (head.find_first_of(".:[") != head.npos || head == "localhost" ||
                                           std::ranges::any_of(head, [](char c) { return c >= 'A' && c <= 'Z'; }));
  if (host) {
    if (!valid_registry(head)) return bad("the registry is not a host name with an optional port");
    out.registry = head;
    out.repository = rest.substr(first + 1);
  } else {
    out.registry = "docker.io";
    out.repository = rest;
  }
  if (out.registry == "index.docker.io") out.registry = "docker.io";
  if (out.repository.empty()) return bad("it has no repository");
  for (const auto component : split(out.repository, '/'))
    if (!valid_component(component))
      return bad("a repository has parts of lower-case letters and digits, joined by '.', '_', '__' or '-', and separated by '/'");
  if (out.registry == "docker.io" && out.repository.find('/') == out.repository.npos) out.repository = "library/" + out.repository;
  if (out.registry.size() + 1 + out.repository.size() > kNameBytesMax) return bad("it is longer than 255 characters");
  if (out.tag.empty() && out.digest.empty()) out.tag = "latest";
  return out;
}

std::string Reference::text() const {
  return registry + "/" + repository + (tag.empty() ? "" : ":" + tag) + (digest.empty() ? "" : "@" + digest);
}

}  // namespace skerry::oci
