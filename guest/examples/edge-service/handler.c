// SPDX-License-Identifier: Apache-2.0
// The edge service: POST a batch of sensor readings (batch.h), get its statistics and outliers.
//
//   GET  /          how to use it
//   GET  /healthz   "ok"
//   POST /          200 with the statistics, or 400 with the reason, the field and the place
//
// Parsing, statistics and output stream: no request makes this instance larger than it was.
#include "batch.h"
#include "http_wasm.h"

#include <string.h>

#define LITERAL(text) (text), (uint32_t)(sizeof(text) - 1)

static struct batch batch;  // set anew by each batch_parse

// --- output ---
static struct {
  uint32_t length;
  char bytes[2048];
} out;

static void flush(void) {
  if (out.length > 0) http_write_body(HTTP_RESPONSE_BODY, out.bytes, out.length);
  out.length = 0;
}

static void put(const char* text, uint32_t length) {
  for (uint32_t i = 0; i < length; i++) {
    if (out.length == sizeof out.bytes) flush();
    out.bytes[out.length++] = text[i];
  }
}

static void put_text(const char* text) { put(text, (uint32_t)strlen(text)); }

static void put_whole(uint64_t number) {
  char digits[20];
  uint32_t first = sizeof digits;
  do {
    digits[--first] = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  put(digits + first, (uint32_t)sizeof digits - first);
}

// Six decimals at most, which a sensor's last digit does not exceed. |number| is at most 2 * BATCH_VALUE_MAX.
static void put_number(double number) {
  if (number < 0) {
    number = -number;
    if (number >= 5e-7) put("-", 1);
  }
  const uint64_t millionths = (uint64_t)(number * 1e6 + 0.5);
  put_whole(millionths / 1000000);
  uint32_t fraction = (uint32_t)(millionths % 1000000);
  if (fraction == 0) return;
  put(".", 1);
  for (uint32_t unit = 100000; fraction > 0; unit /= 10) {
    const char digit = (char)('0' + fraction / unit);
    put(&digit, 1);
    fraction %= unit;
  }
}

static void put_string(const char* text, uint32_t length) {
  static const char kHex[] = "0123456789abcdef";
  put("\"", 1);
  for (uint32_t i = 0; i < length; i++) {
    const unsigned char byte = (unsigned char)text[i];
    if (byte == '"' || byte == '\\') {
      const char escape[] = {'\\', (char)byte};
      put(escape, 2);
    } else if (byte < 0x20) {
      const char escape[] = {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
      put(escape, 6);
    } else {
      put(text + i, 1);
    }
  }
  put("\"", 1);
}

static void put_field(const char* name, double number) {
  put_text(",\"");
  put_text(name);
  put_text("\":");
  put_number(number);
}

static void respond(uint32_t status, const char* type) {
  http_set_status_code(status);
  http_set_header_value(HTTP_RESPONSE_HEADERS, LITERAL("content-type"), type, (uint32_t)strlen(type));
}

// --- answers ---
static uint32_t read_request(void* context, char* buffer, uint32_t size, int* at_end) {
  (void)context;
  const uint64_t result = http_read_body(HTTP_REQUEST_BODY, buffer, size);
  *at_end = HTTP_WASM_AT_END(result);
  return HTTP_WASM_LENGTH(result);
}

static void answer_error(const struct batch_error* error) {
  respond(400, "application/json");
  put_text("{\"error\":\"");
  if (error->in_reading) {
    put_text("readings[");
    put_whole(error->reading);
    put_text(error->field[0] ? "]." : "] ");
  }
  if (error->field[0]) {
    put_text(error->field);
    put_text(" ");
  }
  // Reasons are constants without quotes; a backslash in one is the only thing to escape.
  for (const char* at = error->reason; *at; at++) put(*at == '\\' ? "\\\\" : at, *at == '\\' ? 2 : 1);
  put_text("\",\"field\":\"");
  put_text(error->field);
  put_text("\",\"offset\":");
  put_whole(error->offset);
  put_text(",\"line\":");
  put_whole(error->line);
  put_text(",\"column\":");
  put_whole(error->column);
  put_text("}\n");
}

static void put_sensor(const struct batch_sensor* sensor) {
  put_text("{\"sensor\":");
  put_string(sensor->name.bytes, sensor->name.length);
  put_field("count", sensor->count);
  put_field("min", sensor->min);
  put_field("max", sensor->max);
  put_field("mean", sensor->mean);
  put_field("stddev", sensor->stddev);
  put_field("median", sensor->median);
  put_text("}");
}

static void put_outlier(uint32_t index) {
  const struct batch_sensor* sensor = &batch.sensor[batch.sensor_of[index]];
  put_text("{\"reading\":");
  put_whole(index);
  put_text(",\"sensor\":");
  put_string(sensor->name.bytes, sensor->name.length);
  put_field("value", batch.value[index]);
  put_field("median", sensor->median);
  put_text("}");
}

static void answer_batch(void) {
  struct batch_error error;
  if (batch_parse(&batch, read_request, 0, &error)) {
    answer_error(&error);
    return;
  }
  respond(200, "application/json");
  put_text("{\"device\":");
  put_string(batch.device.bytes, batch.device.length);
  put_text(",\"count\":");
  put_whole(batch.readings);
  if (batch.at_last > 0) {
    put_text(",\"from\":");
    put_whole(batch.at_first);
    put_text(",\"to\":");
    put_whole(batch.at_last);
  }
  put_text(",\"sensors\":[");
  for (uint32_t i = 0; i < batch.sensors; i++) {
    if (i > 0) put(",", 1);
    put_sensor(&batch.sensor[i]);
  }
  put_text("],\"outliers\":[");
  for (uint32_t i = 0, listed = 0; i < batch.readings && listed < batch.outliers; i++) {
    if (!batch_is_outlier(&batch, i)) continue;
    if (listed++ > 0) put(",", 1);
    put_outlier(i);
  }
  put_text("]}\n");
}

static void answer_usage(void) {
  respond(200, "text/plain; charset=utf-8");
  put_text(
      "POST a batch of readings to /, get statistics and outliers per sensor:\n"
      "  {\"device\": \"gateway-7\", \"readings\": [{\"sensor\": \"t1\", \"value\": 21.5, \"at\": 1763164800}]}\n"
      "At most 4096 readings of 64 sensors. device and at (seconds since 1970) may be left out.\n");
}

static void answer_text(uint32_t status, const char* text) {
  respond(status, "text/plain; charset=utf-8");
  put_text(text);
}

// The path of the request without its query; "" where it does not fit, which no path of ours does.
static const char* path_of_request(char* buffer, uint32_t size) {
  const uint32_t length = http_get_uri(buffer, size - 1);
  buffer[length < size ? length : 0] = 0;
  char* query = strchr(buffer, '?');
  if (query) *query = 0;
  return buffer;
}

HTTP_WASM_EXPORT(handle_request) uint64_t handle_request(void) {
  char method[8] = {0}, uri[256];
  if (http_get_method(method, sizeof method - 1) > sizeof method - 1) method[0] = 0;
  const char* path = path_of_request(uri, sizeof uri);
  const int is_get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
  const int is_root = strcmp(path, "/") == 0;
  out.length = 0;
  if (is_root && strcmp(method, "POST") == 0) {
    answer_batch();
  } else if (is_root && is_get) {
    answer_usage();
  } else if (is_get && strcmp(path, "/healthz") == 0) {
    answer_text(200, "ok\n");
  } else if (is_root || strcmp(path, "/healthz") == 0) {
    http_set_header_value(HTTP_RESPONSE_HEADERS, LITERAL("allow"), is_root ? "GET, HEAD, POST" : "GET, HEAD",
                          is_root ? 15 : 9);
    answer_text(405, "This path does not know the method; see the header Allow.\n");
  } else {
    answer_text(404, "There is nothing at this path; GET / says how to use the service.\n");
  }
  flush();
  return http_wasm_done();
}

HTTP_WASM_EXPORT(handle_response) void handle_response(uint32_t context, uint32_t is_error) {
  (void)context;
  (void)is_error;
}
