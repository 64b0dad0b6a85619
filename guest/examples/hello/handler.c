// SPDX-License-Identifier: Apache-2.0
// The smallest useful handler: 200 and 1024 bytes of text, whatever is asked. It is also what the benchmarks call.
#include "http_wasm.h"

#define LITERAL(text) (text), (uint32_t)(sizeof(text) - 1)
#define LINE_64 "Hello from a rock in the sea: alone when the tide is in. ......\n"
#define LINES_4 LINE_64 LINE_64 LINE_64 LINE_64

HTTP_WASM_EXPORT(handle_request) uint64_t handle_request(void) {
  http_set_header_value(HTTP_RESPONSE_HEADERS, LITERAL("content-type"), LITERAL("text/plain"));
  http_write_body(HTTP_RESPONSE_BODY, LITERAL(LINES_4 LINES_4 LINES_4 LINES_4));
  return http_wasm_done();
}

HTTP_WASM_EXPORT(handle_response) void handle_response(uint32_t context, uint32_t is_error) {
  (void)context;
  (void)is_error;
}
