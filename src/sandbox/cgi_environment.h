// SPDX-License-Identifier: Apache-2.0
// What a CGI 1.1 (RFC 3875) or WAGI program is told about its request. Pure.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "sandbox/http_message.h"

namespace skerry::sandbox {

struct CgiServer {
  std::string_view name;      // SERVER_NAME when the request has no Host
  std::uint16_t port = 80;
  std::string_view script;    // argv[0]: the container's name
};

// NAME=value lines: first `base` (the container's environment), then the request's meta-variables, which win.
// Reuses the strings of `out`. Invalid: the path cannot be passed (an encoded NUL, a broken escape).
Result<> make_cgi_environment(const Request&, const CgiServer&, const std::vector<std::pair<std::string, std::string>>& base,
                              std::vector<std::string>& out);
// argv: the script, then the container's arguments or, without any, the parts of the query string (as WAGI has it).
void make_cgi_arguments(const Request&, const CgiServer&, const std::vector<std::string>& base, std::vector<std::string>& out);

}  // namespace skerry::sandbox
