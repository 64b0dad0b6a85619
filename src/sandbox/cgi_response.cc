// SPDX-License-Identifier: Apache-2.0
#include "sandbox/cgi_response.h"

#include <format>

#include "base/text.h"

namespace skerry::sandbox {

Result<> parse_cgi_response(std::string_view output, Arena& arena, Response& response) {
  constexpr std::size_t kHeadBytesMax = 64u << 10, kFieldsMax = 200;
  const auto invalid = [](std::string text) { return Fail(Error{Errc::Invalid, std::move(text)}); };
  if (output.empty()) return invalid("it wrote nothing; a response needs at least Content-Type and an empty line");
  response.headers.clear();
  int status = 0;
  bool has_type = false, has_location = false;
  const auto all = output;
  for (;;) {
    const auto newline = output.find('\n');
    if (newline == std::string_view::npos || all.size() - output.size() > kHeadBytesMax) {
      return invalid("its header lines do not end with an empty line");
    }
    auto line = output.substr(0, newline);
    output.remove_prefix(newline + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) break;
    const auto colon = line.find(':');
    const auto name = line.substr(0, colon);
    if (colon == std::string_view::npos || !is_token(name)) return invalid(std::format("line {} is no header", response.headers.fields().size() + 1));
    const auto value = trim(line.substr(colon + 1));
    if (!is_field_value(value)) return invalid(std::format("the value of {} contains a control character", name));
    if (equal_ignoring_case(name, "status")) {
      const auto code = parse_int<int>(value.substr(0, 3));
      if (!code || *code < 200 || *code > 599 || (value.size() > 3 && value[3] != ' ')) return invalid("its Status is not a number from 200 to 599");
      status = *code;
      continue;
    }
    if (equal_ignoring_case(name, "content-type")) has_type = true;
    if (equal_ignoring_case(name, "location")) has_location = true;
    if (response.headers.fields().size() >= kFieldsMax) return invalid(std::format("more than {} headers", kFieldsMax));
    response.headers.add(arena, name, value);
  }
  if (status == 0 && !has_type && !has_location) return invalid("its headers name neither Content-Type nor Location nor Status");
  response.status = status != 0 ? status : has_location ? 302 : 200;
  response.body.clear();
  response.body.append(output);
  response.body_bytes = output.size();
  return {};
}

}  // namespace skerry::sandbox
