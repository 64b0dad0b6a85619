// SPDX-License-Identifier: Apache-2.0
// What a CGI guest writes: hostile bytes that become a response.
#include "fuzz/fuzz.h"
#include "sandbox/cgi_environment.h"
#include "sandbox/cgi_response.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  using namespace sandbox;
  Arena arena;
  Response response;
  if (parse_cgi_response(input, arena, response)) {
    REQUIRE(response.status >= 100 && response.status <= 999);
    for (const auto& field : response.headers.fields()) REQUIRE(is_token(field.name) && is_field_value(field.value));
    REQUIRE(response.body.size() <= input.size());
  }
  Request request;
  request.method = "GET";
  request.uri = input;
  request.version = "HTTP/1.1";
  request.headers.append_view("x-any", input);
  std::vector<std::string> environment;
  if (make_cgi_environment(request, {.name = "n", .script = "s"}, {{"A", "b"}}, environment)) {
    for (const auto& line : environment)
      REQUIRE(line.find('\0') == std::string::npos || input.find('\0') != std::string_view::npos);
  }
  make_cgi_arguments(request, {.name = "n", .script = "s"}, {}, environment);
}
}  // namespace skerry::fuzz
