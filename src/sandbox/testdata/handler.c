// SPDX-License-Identifier: Apache-2.0
// The http-wasm guest of the sandbox's tests: what it does is chosen by the path. Every way to break is here.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IMPORT(name) __attribute__((import_module("http_handler"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))
IMPORT(enable_features) uint32_t enable_features(uint32_t);
IMPORT(get_config) uint32_t get_config(void*, uint32_t);
IMPORT(log) void host_log(int32_t, const void*, uint32_t);
IMPORT(log_enabled) uint32_t log_enabled(int32_t);
IMPORT(get_header_names) uint64_t get_header_names(uint32_t, void*, uint32_t);
IMPORT(get_header_values) uint64_t get_header_values(uint32_t, const void*, uint32_t, void*, uint32_t);
IMPORT(set_header_value) void set_header_value(uint32_t, const void*, uint32_t, const void*, uint32_t);
IMPORT(add_header_value) void add_header_value(uint32_t, const void*, uint32_t, const void*, uint32_t);
IMPORT(remove_header) void remove_header(uint32_t, const void*, uint32_t);
IMPORT(read_body) uint64_t read_body(uint32_t, void*, uint32_t);
IMPORT(write_body) void write_body(uint32_t, const void*, uint32_t);
IMPORT(get_method) uint32_t get_method(void*, uint32_t);
IMPORT(set_method) void set_method(const void*, uint32_t);
IMPORT(get_uri) uint32_t get_uri(void*, uint32_t);
IMPORT(set_uri) void set_uri(const void*, uint32_t);
IMPORT(get_protocol_version) uint32_t get_protocol_version(void*, uint32_t);
IMPORT(get_source_addr) uint32_t get_source_addr(void*, uint32_t);
IMPORT(get_status_code) uint32_t get_status_code(void);
IMPORT(set_status_code) void set_status_code(uint32_t);

enum { kRequest, kResponse, kRequestTrailers, kResponseTrailers };

static char uri[4096], buffer[65536];
static int calls, initialised;
static volatile int sink;
static int trailers_at_start;

static void text(const char* s) { write_body(1, s, (uint32_t)strlen(s)); }
static void header(uint32_t kind, const char* name, const char* value) {
  set_header_value(kind, name, (uint32_t)strlen(name), value, (uint32_t)strlen(value));
}
static int is(const char* path) { return strcmp(uri, path) == 0; }
static int starts(const char* path) { return strncmp(uri, path, strlen(path)) == 0; }

// Without locals in memory, so that the native stack ends before the guest's own one does.
__attribute__((noinline)) static int recurse(int n) { return sink == 0x7fffffff ? n : (recurse(n + 1) ^ (sink + n)) + 1; }
__attribute__((noinline)) static int recurse_calling_host(int n) {
  const int length = (int)get_uri(buffer, sizeof buffer);
  return sink == 0x7fffffff ? n : (recurse_calling_host(n + 1) ^ (length + n)) + 1;
}
// The guest's own stack, in its memory, ends first.
__attribute__((noinline)) static int recurse_in_memory(int n) {
  volatile char frame[256];
  frame[n & 255] = (char)n;
  return sink == 0x7fffffff ? 0 : recurse_in_memory(n + 1) + frame[(n + 1) & 255];
}
typedef int (*function)(int);
typedef void (*other_function)(double, double);

__attribute__((constructor)) static void initialise(void) {
  initialised = 1;
  const char* features = getenv("TRAILERS");
  if (features != NULL) enable_features(trailers_at_start = 4);
  if (getenv("LOOP_AT_START") != NULL) {
    for (;;) sink++;
  }
  if (getenv("TRAP_AT_START") != NULL) __builtin_trap();
  if (getenv("EXIT_AT_START") != NULL) exit(atoi(getenv("EXIT_AT_START")));
}

EXPORT(handle_request) uint64_t handle_request(void) {
  ++calls;
  const uint32_t n = get_uri(uri, sizeof uri - 1);
  uri[n < sizeof uri ? n : sizeof uri - 1] = 0;

  if (is("/hello")) {
    header(kResponse, "content-type", "text/plain");
    text("hello\n");
  } else if (is("/calls")) {
    snprintf(buffer, sizeof buffer, "%d %d\n", calls, initialised);
    text(buffer);
  } else if (is("/echo")) {
    uint64_t got;
    do {
      got = read_body(0, buffer, 1000);
      if ((uint32_t)got > 0) write_body(1, buffer, (uint32_t)got);
    } while ((got >> 32) == 0);
  } else if (is("/request")) {
    char part[512];
    uint32_t size = get_method(part, sizeof part);
    write_body(1, part, size);
    text(" ");
    size = get_protocol_version(part, sizeof part);
    write_body(1, part, size);
    text(" ");
    size = get_source_addr(part, sizeof part);
    write_body(1, part, size);
    text("\n");
  } else if (starts("/request-uri")) {
    text(uri);
  } else if (is("/headers")) {
    const uint64_t names = get_header_names(kRequest, buffer, sizeof buffer);
    snprintf(uri, sizeof uri, "%u:", (unsigned)(names >> 32));
    text(uri);
    write_body(1, buffer, (uint32_t)names);
    const uint64_t values = get_header_values(kRequest, "X-Multi", 7, buffer, sizeof buffer);
    snprintf(uri, sizeof uri, "|%u:", (unsigned)(values >> 32));
    text(uri);
    write_body(1, buffer, (uint32_t)values);
  } else if (is("/limits")) {
    memset(buffer, 'x', 16);
    const uint32_t length = get_method(buffer, 1);  // too small: nothing is written
    const uint64_t none = get_header_values(kRequest, "x-none", 6, buffer, 16);
    const uint64_t names = get_header_names(kRequest, buffer, 2);
    snprintf(uri, sizeof uri, "%u %.2s %llu %d\n", length, buffer, (unsigned long long)none, (names >> 32) > 0 && (uint32_t)names > 2);
    text(uri);
  } else if (is("/response-headers")) {
    header(kResponse, "x-one", "1");
    header(kResponse, "X-One", "uno");  // replaces
    add_header_value(kResponse, "x-two", 5, "a", 1);
    add_header_value(kResponse, "x-two", 5, "b", 1);
    header(kResponse, "x-gone", "x");
    remove_header(kResponse, "X-GONE", 6);
    header(kResponse, "content-length", "999");  // the host frames messages
    header(kResponse, "transfer-encoding", "chunked");
    set_status_code(202);
    text("ok");
  } else if (is("/config")) {
    const uint32_t size = get_config(buffer, sizeof buffer);
    write_body(1, buffer, size);
  } else if (is("/env")) {
    const char* value = getenv("GREETING");
    text(value != NULL ? value : "(none)");
  } else if (is("/log")) {
    snprintf(buffer, sizeof buffer, "%u%u\n", log_enabled(-1), log_enabled(0));
    text(buffer);
    host_log(0, "an info line", 12);
    host_log(2, "an error line", 13);
    host_log(-1, "a debug line", 12);
    printf("to stdout\n");
    fprintf(stderr, "to stderr\n");
  } else if (is("/features")) {
    snprintf(buffer, sizeof buffer, "%u", enable_features(2));
    text(buffer);
  } else if (is("/trailers")) {
    if (!trailers_at_start) enable_features(4);
    const uint64_t values = get_header_values(kRequestTrailers, "x-sum", 5, buffer, sizeof buffer);
    text("trailer:");
    write_body(1, buffer, (uint32_t)values);
    header(kResponseTrailers, "x-check", "abc");
  } else if (is("/trailers-disabled")) {
    header(kResponseTrailers, "x-check", "abc");  // traps: the feature is off
  } else if (starts("/next")) {
    set_uri("/changed", 8);
    header(kRequest, "x-added", "1");
    return (uint64_t)4711 << 32 | 1;
  } else if (starts("/big/")) {
    uint32_t left = (uint32_t)strtoul(uri + 5, NULL, 10);
    memset(buffer, 'b', sizeof buffer);
    while (left > 0) {
      const uint32_t part = left < sizeof buffer ? left : sizeof buffer;
      write_body(1, buffer, part);
      left -= part;
    }
  } else if (is("/big-then-trap")) {
    memset(buffer, 'b', sizeof buffer);
    for (int i = 0; i < 16; ++i) write_body(1, buffer, sizeof buffer);
    __builtin_trap();
  } else if (starts("/status/")) {
    set_status_code((uint32_t)atoi(uri + 8));
    text("body");
  } else if (is("/unreachable")) {
    __builtin_trap();
  } else if (is("/bounds")) {
    sink = *(volatile int*)0xfffffff0u;
  } else if (is("/divide")) {
    volatile int zero = 0;
    sink = calls / zero;
  } else if (is("/indirect")) {
    other_function f = (other_function)(uintptr_t)recurse;
    f(1.0, 2.0);
  } else if (is("/null-call")) {
    function f = (function)(uintptr_t)100000;
    sink = f(1);
  } else if (is("/recurse")) {
    sink = recurse(0);
  } else if (is("/recurse-memory")) {
    sink = recurse_in_memory(0);
  } else if (is("/recurse-host")) {
    sink = recurse_calling_host(0);
  } else if (is("/loop")) {
    for (;;) sink++;
  } else if (is("/sleep")) {
    struct timespec t = {60, 0};
    nanosleep(&t, NULL);
  } else if (is("/nap")) {
    struct timespec t = {0, 20000000};
    nanosleep(&t, NULL);
    text("slept\n");
  } else if (starts("/spin/")) {  // busy for about so many microseconds
    struct timespec begin, now;
    const long us = atol(uri + 6);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000000 + (now.tv_nsec - begin.tv_nsec) / 1000 < us);
    text("spun\n");
  } else if (is("/exit")) {
    exit(3);
  } else if (is("/bad-pointer")) {
    get_uri((void*)0xfffffff0u, 0xffffu);
  } else if (is("/bad-kind")) {
    get_header_names(9, buffer, sizeof buffer);
  } else if (is("/bad-header")) {
    header(kResponse, "x-bad", "a\r\nx-injected: 1");
  } else if (is("/grown")) {  // a buffer in memory that did not exist when the request began
    char* fresh = (char*)(__builtin_wasm_memory_grow(0, 1) * 65536);
    write_body(1, fresh, get_uri(fresh, 65536));
  } else if (is("/hoard")) {
    memset(buffer, 'h', 60000);
    buffer[60000] = 0;
    for (;;) header(kResponse, "x-hoard", buffer);
  } else if (is("/look-up")) {
    for (int i = 0; i < 100000; ++i) get_header_values(kRequest, "host", 4, buffer, sizeof buffer);
    text("looked up\n");
  } else if (is("/loop-later")) {
    return 1;
  } else if (is("/grow")) {
    int pages = 0;
    while (__builtin_wasm_memory_grow(0, 16) != (size_t)-1) pages += 16;
    snprintf(buffer, sizeof buffer, "%d\n", pages);
    text(buffer);
  } else {
    set_status_code(404);
    text("no such test\n");
  }
  return 0;
}

EXPORT(handle_response) void handle_response(uint32_t context, uint32_t is_error) {
  const uint32_t size = get_uri(uri, sizeof uri - 1);
  uri[size] = 0;
  if (is("/loop-later")) {
    for (;;) sink++;
  }
  snprintf(buffer, sizeof buffer, "ctx=%u error=%u status=%u uri=%s", context, is_error, get_status_code(), uri);
  header(kResponse, "x-response", buffer);
  if (get_header_values(kRequest, "x-rewrite", 9, buffer, sizeof buffer) != 0) {
    set_status_code(200);
    text("rewritten");
  }
}
