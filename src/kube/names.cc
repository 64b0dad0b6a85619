// SPDX-License-Identifier: Apache-2.0
#include "kube/names.h"

#include <arpa/inet.h>

#include <algorithm>
#include <format>

namespace skerry::kube {
namespace {

constexpr bool lower(char c) { return c >= 'a' && c <= 'z'; }
constexpr bool upper(char c) { return c >= 'A' && c <= 'Z'; }
constexpr bool digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool lower_alnum(char c) { return lower(c) || digit(c); }
constexpr bool alnum(char c) { return lower_alnum(c) || upper(c); }

constexpr std::string_view kLabelFormat = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
constexpr std::string_view kSubdomainFormat = R"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)";
constexpr std::string_view kDns1035Format = "[a-z]([-a-z0-9]*[a-z0-9])?";
constexpr std::string_view kQualifiedFormat = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
constexpr std::string_view kLabelValueFormat = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
constexpr std::string_view kQualifiedText =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

std::string regex_error(std::string_view message, std::string_view format, std::initializer_list<std::string_view> examples) {
  std::string out = std::format("{} (e.g. ", message);
  bool first = true;
  for (const std::string_view example : examples) {
    if (!first) out += " or ";
    first = false;
    out += std::format("'{}', ", example);
  }
  return out + std::format("regex used for validation is '{}')", format);
}
std::string too_long(std::size_t limit) { return std::format("must be no more than {} characters", limit); }

bool label_form(std::string_view s) {
  return !s.empty() && lower_alnum(s.front()) && lower_alnum(s.back()) &&
         std::ranges::all_of(s, [](char c) { return lower_alnum(c) || c == '-'; });
}
bool subdomain_form(std::string_view s) {
  for (;;) {
    const auto dot = s.find('.');
    if (!label_form(s.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    s.remove_prefix(dot + 1);
  }
}
bool qualified_form(std::string_view s) {
  return !s.empty() && alnum(s.front()) && alnum(s.back()) &&
         std::ranges::all_of(s, [](char c) { return alnum(c) || c == '-' || c == '_' || c == '.'; });
}

}  // namespace

Complaints check_dns1123_label(std::string_view value) {
  Complaints out;
  if (value.size() > 63) out.push_back(too_long(63));
  if (label_form(value)) return out;
  if (subdomain_form(value)) out.emplace_back("must not contain dots");
  else
    out.push_back(regex_error("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
                              "and end with an alphanumeric character",
                              kLabelFormat, {"my-name", "123-abc"}));
  return out;
}

Complaints check_dns1123_subdomain(std::string_view value) {
  Complaints out;
  if (value.size() > 253) out.push_back(too_long(253));
  if (!subdomain_form(value))
    out.push_back(regex_error("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
                              "start and end with an alphanumeric character",
                              kSubdomainFormat, {"example.com"}));
  return out;
}

Complaints check_dns1035_label(std::string_view value) {
  Complaints out;
  if (value.size() > 63) out.push_back(too_long(63));
  if (!label_form(value) || !lower(value.front()))
    out.push_back(regex_error("a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
                              "character, and end with an alphanumeric character",
                              kDns1035Format, {"my-name", "abc-123"}));
  return out;
}

Complaints check_qualified_name(std::string_view value) {
  Complaints out;
  std::string_view name = value;
  if (const auto slash = value.find('/'); slash != std::string_view::npos) {
    const std::string_view prefix = value.substr(0, slash);
    name = value.substr(slash + 1);
    if (name.contains('/')) {
      out.push_back(std::format("a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                                regex_error(kQualifiedText, kQualifiedFormat, {"MyName", "my.name", "123-abc"})));
      return out;
    }
    if (prefix.empty()) out.emplace_back("prefix part must be non-empty");
    else
      for (const std::string& text : check_dns1123_subdomain(prefix)) out.push_back("prefix part " + text);
  }
  if (name.empty()) out.emplace_back("name part must be non-empty");
  else if (name.size() > 63) out.push_back("name part " + too_long(63));
  if (!qualified_form(name))
    out.push_back("name part " + regex_error(kQualifiedText, kQualifiedFormat, {"MyName", "my.name", "123-abc"}));
  return out;
}

Complaints check_label_value(std::string_view value) {
  Complaints out;
  if (value.size() > 63) out.push_back(too_long(63));
  if (!value.empty() && !qualified_form(value))
    out.push_back(regex_error("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
                              "start and end with an alphanumeric character",
                              kLabelValueFormat, {"MyValue", "my_value", "12345"}));
  return out;
}

Complaints check_port_name(std::string_view port) {
  Complaints out;
  if (port.size() > 15) out.push_back(too_long(15));
  if (port.empty() || !std::ranges::all_of(port, [](char c) { return lower_alnum(c) || c == '-'; }))
    out.emplace_back("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  if (!std::ranges::any_of(port, lower)) out.emplace_back("must contain at least one letter (a-z)");
  if (port.contains("--")) out.emplace_back("must not contain consecutive hyphens");
  if (!port.empty() && (port.front() == '-' || port.back() == '-')) out.emplace_back("must not begin or end with a hyphen");
  return out;
}

Complaints check_c_identifier(std::string_view value) {
  const bool good = !value.empty() && !digit(value.front()) && std::ranges::all_of(value, [](char c) { return alnum(c) || c == '_'; });
  if (good) return {};
  return {regex_error("a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
                      "or '_'",
                      "[A-Za-z_][A-Za-z0-9_]*", {"my_name", "MY_NAME", "MyName"})};
}

Complaints check_env_name(std::string_view value) {
  Complaints out;
  // Relaxed since 1.30 (beta 1.32): every printable ASCII character but '='.
  if (value.empty()) out.emplace_back("environment variable name must be non-empty");
  else if (!std::ranges::all_of(value, [](char c) { return c >= 0x20 && c <= 0x7e && c != '='; }))
    out.push_back("a valid environment variable name must consist only of printable ASCII characters other than '='");
  return out;
}

Complaints check_config_key(std::string_view value) {
  Complaints out;
  if (value.size() > 253) out.push_back(too_long(253));
  const bool form = !value.empty() && std::ranges::all_of(value, [](char c) { return alnum(c) || c == '-' || c == '_' || c == '.'; });
  if (!form) {
    out.push_back(regex_error("a valid config key must consist of alphanumeric characters, '-', '_' or '.'", "[-._a-zA-Z0-9]+",
                              {"key.name", "KEY_NAME", "key-name"}));
  } else if (value == ".") {
    out.emplace_back("must not be '.'");
  } else if (value == "..") {
    out.emplace_back("must not be '..'");
  } else if (value.starts_with("..")) {
    out.emplace_back("must not start with '..'");
  }
  return out;
}

Complaints check_percent(std::string_view value) {
  if (value.size() >= 2 && value.back() == '%' && std::ranges::all_of(value.substr(0, value.size() - 1), digit)) return {};
  return {regex_error("a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", {"1%", "93%"})};
}

bool is_ipv4(std::string_view text) {
  in_addr parsed{};
  return text.size() < 16 && inet_pton(AF_INET, std::string(text).c_str(), &parsed) == 1;
}
bool is_ipv6(std::string_view text) {
  in6_addr parsed{};
  return text.size() < 46 && inet_pton(AF_INET6, std::string(text).c_str(), &parsed) == 1;
}

std::string join_complaints(const Complaints& complaints, std::string_view separator) {
  std::string out;
  for (const std::string& c : complaints) {
    if (!out.empty()) out += separator;
    out += c;
  }
  return out;
}

}  // namespace skerry::kube
