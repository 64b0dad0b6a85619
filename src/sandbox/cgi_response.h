// SPDX-License-Identifier: Apache-2.0
// What a CGI program writes, as a response (RFC 3875, 6). Pure, over hostile bytes.
#pragma once
#include <string_view>

#include "base/error.h"
#include "sandbox/http_message.h"

namespace skerry::sandbox {
// Header lines (CRLF or LF), an empty line, the body. Needs one of Content-Type, Location, Status. Location without Status is
// 302. Fills status, headers and body of the response; the header texts are copied into the arena.
// Invalid says what is wrong with the output; the response is then unspecified.
Result<> parse_cgi_response(std::string_view output, Arena&, Response&);
}  // namespace skerry::sandbox
