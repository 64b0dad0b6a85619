// SPDX-License-Identifier: Apache-2.0
#include "sandbox/cgi_environment.h"

#include <algorithm>
#include <format>

namespace skerry::sandbox {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Sets NAME=value, over an earlier one of that name; strings beyond `size` are spare ones.
class Variables {
 public:
  explicit Variables(std::vector<std::string>& out) : out_(out) {}
  ~Variables() { out_.resize(size_); }
  void set(std::string_view name, std::string_view value) {
    auto& line = slot(name);
    line.assign(name);
    line += '=';
    line += value;
  }
  // HTTP_<NAME>; values of one name are joined as RFC 9110 allows.
  void add_header(std::string_view header, std::string_view value) {
    name_ = "HTTP_";
    for (const char c : header) name_ += c == '-' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    auto& line = slot(name_);
    if (line.size() > name_.size() && line.starts_with(name_) && line[name_.size()] == '=' && fresh_from_ <= at_) {
      line += ", ";
      line += value;
      return;
    }
    line.assign(name_);
    line += '=';
    line += value;
  }
  void begin_request() { fresh_from_ = size_; }

 private:
  std::string& slot(std::string_view name) {
    for (at_ = 0; at_ < size_; ++at_) {
      const auto& line = out_[at_];
      if (line.size() > name.size() && line[name.size()] == '=' && line.starts_with(name)) return out_[at_];
    }
    if (size_ == out_.size()) out_.emplace_back();
    out_[size_].clear();
    at_ = size_;
    return out_[size_++];
  }
  std::vector<std::string>& out_;
  std::string name_;
  std::size_t size_ = 0, at_ = 0, fresh_from_ = 0;
};

}  // namespace

Result<> make_cgi_environment(const Request& request, const CgiServer& server, const std::vector<std::pair<std::string, std::string>>& base,
                              std::vector<std::string>& out) {
  const auto question = request.uri.find('?');
  const auto raw_path = request.uri.substr(0, question);
  const auto query = question == std::string_view::npos ? std::string_view() : request.uri.substr(question + 1);
  std::string path;
  for (std::size_t i = 0; i < raw_path.size(); ++i) {
    if (raw_path[i] != '%') {
      path += raw_path[i];
      continue;
    }
    const int high = i + 2 < raw_path.size() ? hex_digit(raw_path[i + 1]) : -1, low = i + 2 < raw_path.size() ? hex_digit(raw_path[i + 2]) : -1;
    if (high < 0 || low < 0) return Fail(Error{Errc::Invalid, "the request's path has a broken escape (%)"});
    if (high == 0 && low == 0) return Fail(Error{Errc::Invalid, "the request's path contains a NUL byte"});
    path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  // Host is name, name:port or [v6]:port.
  auto host = request.host;
  auto port = std::to_string(server.port);
  if (const auto colon = host.rfind(':'); colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    const auto digits = host.substr(colon + 1);
    if (!digits.empty() && digits.size() <= 5 && std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; })) port = digits;
    host = host.substr(0, colon);
  }
  if (host.empty()) host = server.name.empty() ? std::string_view("localhost") : server.name;
  auto address = request.source_address;
  std::string_view remote_port;
  if (const auto colon = address.rfind(':'); colon != std::string_view::npos) {
    remote_port = address.substr(colon + 1);
    address = address.substr(0, colon);
    if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
  }

  Variables v(out);
  for (const auto& [name, value] : base) v.set(name, value);
  v.begin_request();
  for (const auto& [name, value] : request.headers.fields()) {
    // Not passed: what has a variable of its own; credentials and connection, as WAGI has it; Transfer-Encoding, which is undone
    // already (RFC 3875, 4.1.18); Proxy, which libraries take for HTTP_PROXY; names with '_', which would pass for ones with '-'.
    if (equal_ignoring_case(name, "content-type") || equal_ignoring_case(name, "content-length") || equal_ignoring_case(name, "authorization") ||
        equal_ignoring_case(name, "connection") || equal_ignoring_case(name, "transfer-encoding") || equal_ignoring_case(name, "proxy") ||
        name.find('_') != std::string_view::npos) {
      continue;
    }
    v.add_header(name, value);
  }
  v.set("GATEWAY_INTERFACE", "CGI/1.1");
  v.set("SERVER_SOFTWARE", "Skerry/0.1");
  v.set("SERVER_PROTOCOL", request.version);
  v.set("SERVER_NAME", host);
  v.set("SERVER_PORT", port);
  v.set("REQUEST_METHOD", request.method);
  v.set("SCRIPT_NAME", "");
  v.set("PATH_INFO", path);
  v.set("PATH_TRANSLATED", path);
  v.set("QUERY_STRING", query);
  v.set("REMOTE_ADDR", address);
  v.set("REMOTE_HOST", address);
  v.set("REMOTE_PORT", remote_port);
  v.set("REMOTE_IDENT", "");
  v.set("REMOTE_USER", "");
  v.set("AUTH_TYPE", "");
  const auto* type = request.headers.find("content-type");
  v.set("CONTENT_TYPE", type == nullptr ? std::string_view() : *type);
  v.set("CONTENT_LENGTH", std::to_string(request.body.size()));
  v.set("X_MATCHED_ROUTE", "/...");
  v.set("X_RAW_PATH_INFO", raw_path);
  v.set("X_FULL_URL", std::format("http://{}{}{}", host, port == "80" ? std::string() : ":" + port, request.uri));
  return {};
}

void make_cgi_arguments(const Request& request, const CgiServer& server, const std::vector<std::string>& base, std::vector<std::string>& out) {
  out.resize(1);
  out[0].assign(server.script);
  if (!base.empty()) {
    out.insert(out.end(), base.begin(), base.end());
    return;
  }
  const auto question = request.uri.find('?');
  if (question == std::string_view::npos) return;
  constexpr std::size_t kArgumentsMax = 256;
  for (auto rest = request.uri.substr(question + 1); !rest.empty() && out.size() < kArgumentsMax;) {
    const auto end = rest.find('&');
    out.emplace_back(rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
}

}  // namespace skerry::sandbox
