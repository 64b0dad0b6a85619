// SPDX-License-Identifier: Apache-2.0
// http-wasm's ABI `http_handler` for C: everything that a request handler may ask of its host.
//
// A handler is a module that exports its memory and two functions (define both with HTTP_WASM_EXPORT):
//
//   uint64_t handle_request(void)                     answers the request: set status and headers, then write the body.
//                                                     Returns http_wasm_done() or http_wasm_next(context).
//   void handle_response(uint32_t context, uint32_t is_error)    called afterwards when handle_request asked for
//   `next`.
//
// The instance is reused: static data lives from one request to the next, so set it anew where that matters. One
// request at a time; nothing here blocks but http_read_body (a slow client), and no handle needs to be closed.
//
// Build (Debian: clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32):
//
//   clang-19 --target=wasm32-wasi -O2 -mexec-model=reactor -nostartfiles -Wl,--no-entry handler.c -o handler.wasm
//
// Rules that all functions share:
// - A text goes as address and length; it is not terminated by a zero, and the host keeps no reference to it.
// - A text comes into `buffer` of `size` bytes. The result is its full length; where that is more than `size`, *nothing
//   was written*, and one asks again with a larger buffer.
// - An address outside the memory, or an unknown kind, ends the request with 500 and a line in the log.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __wasm__
#define HTTP_WASM_IMPORT(name) __attribute__((import_module("http_handler"), import_name(#name)))
#define HTTP_WASM_EXPORT(name) __attribute__((export_name(#name)))
#else  // Compiled for the host: a unit test defines the functions itself.
#define HTTP_WASM_IMPORT(name)
#define HTTP_WASM_EXPORT(name)
#endif

enum http_wasm_header_kind {
  HTTP_REQUEST_HEADERS = 0,
  HTTP_RESPONSE_HEADERS = 1,
  HTTP_REQUEST_TRAILERS = 2,   // known once the request's body was read to its end
  HTTP_RESPONSE_TRAILERS = 3,  // needs HTTP_FEATURE_TRAILERS
};
enum http_wasm_body_kind { HTTP_REQUEST_BODY = 0, HTTP_RESPONSE_BODY = 1 };
enum http_wasm_log_level {
  HTTP_LOG_DEBUG = -1,
  HTTP_LOG_INFO = 0,
  HTTP_LOG_WARN = 1,
  HTTP_LOG_ERROR = 2,
  HTTP_LOG_NONE = 3
};
enum http_wasm_feature {
  HTTP_FEATURE_BUFFER_REQUEST = 1,   // the request's body can be read by the handler and by what comes next
  HTTP_FEATURE_BUFFER_RESPONSE = 2,  // the response can be changed in handle_response, after it was written
  HTTP_FEATURE_TRAILERS = 4,
};

// --- of the handler as a whole ---
// Asks for features and returns those that are on now: check it. In handle_request it holds for this request only.
HTTP_WASM_IMPORT(enable_features) uint32_t http_enable_features(uint32_t features);
// The handler's configuration, as the operator gave it; the bytes mean what the handler says they mean.
HTTP_WASM_IMPORT(get_config) uint32_t http_get_config(char* buffer, uint32_t size);
// Whether a line of this level would be written; saves making a text that nobody reads.
HTTP_WASM_IMPORT(log_enabled) uint32_t http_log_enabled(int32_t level);
HTTP_WASM_IMPORT(log) void http_log(int32_t level, const char* text, uint32_t length);

// --- the request ---
HTTP_WASM_IMPORT(get_method) uint32_t http_get_method(char* buffer, uint32_t size);
HTTP_WASM_IMPORT(set_method) void http_set_method(const char* text, uint32_t length);
// Path and query as they were sent, percent-encoding included: "/a%20b?c=d".
HTTP_WASM_IMPORT(get_uri) uint32_t http_get_uri(char* buffer, uint32_t size);
HTTP_WASM_IMPORT(set_uri) void http_set_uri(const char* text, uint32_t length);
HTTP_WASM_IMPORT(get_protocol_version) uint32_t http_get_protocol_version(char* buffer, uint32_t size);  // "HTTP/1.1"
HTTP_WASM_IMPORT(get_source_addr) uint32_t http_get_source_addr(char* buffer, uint32_t size);  // "10.1.2.3:4567"

// --- headers ---
// Names and values come each followed by a zero byte. The result holds the number of them in its upper 32 bits and the
// length with all zero bytes in its lower: HTTP_WASM_COUNT, HTTP_WASM_LENGTH. Names are matched without regard to case.
HTTP_WASM_IMPORT(get_header_names) uint64_t http_get_header_names(uint32_t kind, char* buffer, uint32_t size);
HTTP_WASM_IMPORT(get_header_values)
uint64_t http_get_header_values(uint32_t kind, const char* name, uint32_t name_length, char* buffer, uint32_t size);
HTTP_WASM_IMPORT(set_header_value)  // replaces all values of the name
void http_set_header_value(uint32_t kind, const char* name, uint32_t name_length, const char* value,
                           uint32_t value_length);
HTTP_WASM_IMPORT(add_header_value)
void http_add_header_value(uint32_t kind, const char* name, uint32_t name_length, const char* value,
                           uint32_t value_length);
HTTP_WASM_IMPORT(remove_header) void http_remove_header(uint32_t kind, const char* name, uint32_t name_length);
#define HTTP_WASM_COUNT(result) ((uint32_t)((result) >> 32))
#define HTTP_WASM_LENGTH(result) ((uint32_t)(result))

// --- bodies and status ---
// Reads the next bytes of a body: at most `size`. HTTP_WASM_LENGTH is how many came, HTTP_WASM_AT_END whether they were
// the last (it may come with bytes, and with none). A body that is not read is skipped by the host.
HTTP_WASM_IMPORT(read_body) uint64_t http_read_body(uint32_t kind, char* buffer, uint32_t size);
#define HTTP_WASM_AT_END(result) ((uint32_t)((result) >> 32) != 0)
// Appends to a body. The first call sends status and headers, unless HTTP_FEATURE_BUFFER_RESPONSE is on.
HTTP_WASM_IMPORT(write_body) void http_write_body(uint32_t kind, const char* text, uint32_t length);
HTTP_WASM_IMPORT(get_status_code) uint32_t http_get_status_code(void);
HTTP_WASM_IMPORT(set_status_code) void http_set_status_code(uint32_t status);  // 200 where nobody sets it

// --- what handle_request returns ---
// The response is complete.
static inline uint64_t http_wasm_done(void) { return 0; }
// Let the next handler answer; handle_response gets `context` back. Skerry serves one handler a pod, so there is no
// next one: the client gets 404 with a reason, and handle_response is still called.
static inline uint64_t http_wasm_next(uint32_t context) { return ((uint64_t)context << 32) | 1; }

#ifdef __cplusplus
}
#endif
