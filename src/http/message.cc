// SPDX-License-Identifier: Apache-2.0
#include "http/message.h"

#include <algorithm>

#include "base/text.h"

namespace skerry::http {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}
int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

enum class Plus : std::uint8_t { Literal, Space };

Result<std::string> percent_decode(std::string_view text, Plus plus) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
      if (high < 0 || low < 0) return Fail({Errc::Invalid, "the request target has a '%' that two hexadecimal digits do not follow"});
      c = static_cast<char>(high << 4 | low);
      i += 2;
    } else if (c == '+' && plus == Plus::Space) {
      c = ' ';
    }
    if (c == '\0') return Fail({Errc::Invalid, "the request target contains a NUL byte"});
    out += c;
  }
  return out;
}

}  // namespace

std::string_view Headers::get(std::string_view name) const {
  for (const auto& [key, value] : all_)
    if (same_name(key, name)) return value;
  return {};
}
bool Headers::has(std::string_view name) const {
  return std::any_of(all_.begin(), all_.end(), [&](const auto& header) { return same_name(header.first, name); });
}
void Headers::set(std::string_view name, std::string_view value) {
  std::string kept(value);  // `value` may be a view into what is removed
  remove(name);
  all_.emplace_back(name, std::move(kept));
}
void Headers::add(std::string_view name, std::string_view value) { all_.emplace_back(name, value); }
void Headers::remove(std::string_view name) {
  const std::string key(name);
  std::erase_if(all_, [&](const auto& header) { return same_name(header.first, key); });
}

std::string_view Target::param(std::string_view name) const {
  for (const auto& [key, value] : query)
    if (key == name) return value;
  return {};
}
bool Target::has_param(std::string_view name) const {
  return std::any_of(query.begin(), query.end(), [&](const auto& pair) { return pair.first == name; });
}

Result<Target> Target::parse(std::string_view raw) {
  if (const auto fragment = raw.find('#'); fragment != raw.npos) raw = raw.substr(0, fragment);
  // Absolute form, as proxies send it: the authority is not ours to judge.
  if (raw.starts_with("http://") || raw.starts_with("https://")) {
    const auto authority = raw.find("//") + 2;
    const auto path = raw.find_first_of("/?", authority);
    raw = path == raw.npos ? std::string_view("/") : raw.substr(path);
  }
  if (!raw.starts_with('/')) return Fail({Errc::Invalid, "the request target does not start with '/'"});
  Target out;
  const auto mark = raw.find('?');
  TRY(out.path, percent_decode(raw.substr(0, mark), Plus::Literal));
  if (mark == raw.npos || mark + 1 == raw.size()) return out;
  for (const std::string_view pair : split(raw.substr(mark + 1), '&')) {
    if (pair.empty()) continue;
    const auto equals = pair.find('=');
    TRY(std::string key, percent_decode(pair.substr(0, equals), Plus::Space));
    std::string value;
    if (equals != pair.npos) {
      TRY(value, percent_decode(pair.substr(equals + 1), Plus::Space));
    }
    out.query.emplace_back(std::move(key), std::move(value));
  }
  return out;
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                       c == '_' || c == '~';
    if (plain) {
      out += c;
      continue;
    }
    const auto b = static_cast<unsigned char>(c);
    out += '%';
    out += digits[b >> 4];
    out += digits[b & 15];
  }
  return out;
}

Response make_response(int status, std::string_view content_type, std::string body) {
  Response out;
  out.status = status;
  out.headers.set("Content-Type", content_type);
  out.body = std::make_shared<const std::string>(std::move(body));
  return out;
}

}  // namespace skerry::http
