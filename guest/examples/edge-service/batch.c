// SPDX-License-Identifier: Apache-2.0
#include "batch.h"

#include <string.h>

// --- reading bytes ---
enum { CHUNK = 1024, END = -1 };

struct parser {
  batch_read read;
  void* context;
  struct batch_error* error;
  const char* field;
  uint32_t reading;
  int in_reading;
  uint32_t offset, line, column;  // of the byte that peek() shows
  uint32_t position, filled;
  int at_end;
  char chunk[CHUNK];
};

static int peek(struct parser* p) {
  while (p->position == p->filled) {
    if (p->at_end) return END;
    p->position = 0;
    p->filled = p->read(p->context, p->chunk, CHUNK, &p->at_end);
  }
  return (unsigned char)p->chunk[p->position];
}

static int take(struct parser* p) {
  const int byte = peek(p);
  if (byte == END) return END;
  p->position++;
  p->offset++;
  if (byte == '\n') {
    p->line++;
    p->column = 1;
  } else {
    p->column++;
  }
  return byte;
}

// Every parse function returns 0 when it went well; fail() keeps the place and returns 1.
static int fail(struct parser* p, const char* reason) {
  p->error->reason = reason;
  p->error->field = p->field;
  p->error->reading = p->reading;
  p->error->in_reading = p->in_reading;
  p->error->offset = p->offset;
  p->error->line = p->line;
  p->error->column = p->column;
  return 1;
}

static int skip_space(struct parser* p) {
  int byte;
  while ((byte = peek(p)) == ' ' || byte == '\t' || byte == '\n' || byte == '\r') take(p);
  return byte;
}

static int expect(struct parser* p, char wanted, const char* otherwise) {
  if (skip_space(p) != wanted) return fail(p, peek(p) == END ? "the batch ends too early" : otherwise);
  take(p);
  return 0;
}

// --- strings ---
static int hex4(struct parser* p, uint32_t* out) {
  *out = 0;
  for (int i = 0; i < 4; i++) {
    const int byte = peek(p);
    uint32_t digit;
    if (byte >= '0' && byte <= '9') {
      digit = (uint32_t)(byte - '0');
    } else if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f') {
      digit = (uint32_t)((byte | 0x20) - 'a' + 10);
    } else {
      return fail(p, "has \\u without four hexadecimal digits");
    }
    *out = *out * 16 + digit;
    take(p);
  }
  return 0;
}

static int escaped(struct parser* p, uint32_t* out) {
  const int byte = take(p);
  switch (byte) {
    case '"':
    case '\\':
    case '/':
      *out = (uint32_t)byte;
      return 0;
    case 'b':
      *out = '\b';
      return 0;
    case 'f':
      *out = '\f';
      return 0;
    case 'n':
      *out = '\n';
      return 0;
    case 'r':
      *out = '\r';
      return 0;
    case 't':
      *out = '\t';
      return 0;
    case 'u':
      break;
    default:
      return fail(p, "has an unknown escape after a backslash");
  }
  if (hex4(p, out)) return 1;
  if (*out >= 0xDC00 && *out <= 0xDFFF) return fail(p, "has half a surrogate pair");
  if (*out < 0xD800 || *out > 0xDBFF) return 0;
  uint32_t low = 0;
  if (take(p) != '\\' || take(p) != 'u') return fail(p, "has half a surrogate pair");
  if (hex4(p, &low)) return 1;
  if (low < 0xDC00 || low > 0xDFFF) return fail(p, "has half a surrogate pair");
  *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
  return 0;
}

// One character of UTF-8, the way RFC 3629 has it: no overlong forms, no surrogates, nothing above 10FFFF.
static int utf8(struct parser* p, uint32_t* out) {
  static const char kReason[] = "is not UTF-8";
  const uint32_t first = (uint32_t)take(p);
  if (first < 0x80) {
    *out = first;
    return 0;
  }
  const int more = first >= 0xC2 && first <= 0xDF   ? 1
                   : first >= 0xE0 && first <= 0xEF ? 2
                   : first >= 0xF0 && first <= 0xF4 ? 3
                                                    : 0;
  if (more == 0) return fail(p, kReason);
  *out = first & (0x3Fu >> more);
  for (int i = 0; i < more; i++) {
    const int byte = peek(p);
    if (byte < 0x80 || byte > 0xBF) return fail(p, kReason);
    *out = (*out << 6) | ((uint32_t)byte & 0x3F);
    take(p);
  }
  if ((more == 2 && *out < 0x800) || (more == 3 && *out < 0x10000) || *out > 0x10FFFF ||
      (*out >= 0xD800 && *out <= 0xDFFF)) {
    return fail(p, kReason);
  }
  return 0;
}

static int append(struct parser* p, struct batch_name* out, uint32_t character) {
  char bytes[4];
  uint8_t length;
  if (character < 0x80) {
    bytes[0] = (char)character;
    length = 1;
  } else if (character < 0x800) {
    bytes[0] = (char)(0xC0 | (character >> 6));
    bytes[1] = (char)(0x80 | (character & 0x3F));
    length = 2;
  } else if (character < 0x10000) {
    bytes[0] = (char)(0xE0 | (character >> 12));
    bytes[1] = (char)(0x80 | ((character >> 6) & 0x3F));
    bytes[2] = (char)(0x80 | (character & 0x3F));
    length = 3;
  } else {
    bytes[0] = (char)(0xF0 | (character >> 18));
    bytes[1] = (char)(0x80 | ((character >> 12) & 0x3F));
    bytes[2] = (char)(0x80 | ((character >> 6) & 0x3F));
    bytes[3] = (char)(0x80 | (character & 0x3F));
    length = 4;
  }
  if (out->length + length > BATCH_NAME_MAX) return fail(p, "is longer than 48 bytes");
  memcpy(out->bytes + out->length, bytes, length);
  out->length = (uint8_t)(out->length + length);
  return 0;
}

static int parse_string(struct parser* p, struct batch_name* out) {
  out->length = 0;
  if (expect(p, '"', "is not a string")) return 1;
  for (;;) {
    uint32_t character = 0;
    const int byte = peek(p);
    if (byte == END) return fail(p, "the batch ends too early");
    if (byte < 0x20) return fail(p, "has a control character that is not escaped");
    if (byte == '"') {
      take(p);
      return 0;
    }
    if (byte == '\\') {
      take(p);
      if (escaped(p, &character)) return 1;
    } else if (utf8(p, &character)) {
      return 1;
    }
    if (append(p, out, character)) return 1;
  }
}

static int parse_key(struct parser* p, struct batch_name* out) {
  if (skip_space(p) != '"')
    return fail(p, peek(p) == END ? "the batch ends too early" : "needs a field's name in quotes here");
  return parse_string(p, out);
}

static int name_is(const struct batch_name* name, const char* text) {
  return name->length == strlen(text) && memcmp(name->bytes, text, name->length) == 0;
}

// --- numbers ---
static double power_of_ten(int exponent) {
  static const double kExact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  double result = 1;
  for (; exponent > 22; exponent -= 22) result *= 1e22;
  return result * kExact[exponent];
}

// A JSON number within ±BATCH_VALUE_MAX. One of up to 15 digits becomes the nearest double, as everywhere; a longer one
// may be off by the last bit, and its digits after the 18th are not looked at.
static int parse_number(struct parser* p, double* out) {
  uint64_t digits = 0;
  int kept = 0, scale = 0, exponent = 0, negative = 0, negative_exponent = 0;
  skip_space(p);
  if (peek(p) == '-') {
    negative = 1;
    take(p);
  }
  if (peek(p) < '0' || peek(p) > '9') return fail(p, peek(p) == END ? "the batch ends too early" : "is not a number");
  if (peek(p) == '0') {
    take(p);
    if (peek(p) >= '0' && peek(p) <= '9') return fail(p, "is a number that starts with 0");
  }
  int fraction = 0;
  for (;;) {
    const int byte = peek(p);
    if (byte == '.' && !fraction) {
      fraction = 1;
      take(p);
      if (peek(p) < '0' || peek(p) > '9') return fail(p, "is a number without a digit after its point");
      continue;
    }
    if (byte < '0' || byte > '9') break;
    if (kept < 18) {
      digits = digits * 10 + (uint64_t)(byte - '0');
      if (digits != 0) kept++;
      scale -= fraction;
    } else {
      scale += !fraction;
    }
    if (scale > 1000 || scale < -1000) return fail(p, "is a number of more than 1000 digits");
    take(p);
  }
  if ((peek(p) | 0x20) == 'e') {
    take(p);
    if (peek(p) == '+' || peek(p) == '-') negative_exponent = take(p) == '-';
    if (peek(p) < '0' || peek(p) > '9') return fail(p, "is a number without a digit in its exponent");
    while (peek(p) >= '0' && peek(p) <= '9') {
      const int digit = take(p) - '0';
      if (exponent < 10000) exponent = exponent * 10 + digit;
    }
  }
  scale += negative_exponent ? -exponent : exponent;
  double value = (double)digits;
  if (digits == 0 || scale < -60) {
    value = 0;
  } else if (scale > 12) {
    value = 2 * BATCH_VALUE_MAX;
  } else {
    value = scale < 0 ? value / power_of_ten(-scale) : value * power_of_ten(scale);
  }
  if (value > BATCH_VALUE_MAX) return fail(p, "lies beyond 1e12, which no sensor measures");
  *out = negative ? -value : value;
  return 0;
}

// --- the batch ---
static int find_sensor(struct parser* p, struct batch* batch, const struct batch_name* name, uint8_t* out) {
  for (uint32_t i = 0; i < batch->sensors; i++) {
    const struct batch_name* known = &batch->sensor[i].name;
    if (known->length == name->length && memcmp(known->bytes, name->bytes, name->length) == 0) {
      *out = (uint8_t)i;
      return 0;
    }
  }
  if (batch->sensors == BATCH_SENSORS_MAX) return fail(p, "names more than 64 sensors; split the batch");
  struct batch_sensor* fresh = &batch->sensor[batch->sensors];
  memset(fresh, 0, sizeof *fresh);
  fresh->name = *name;
  *out = (uint8_t)batch->sensors++;
  return 0;
}

static void add_value(struct batch_sensor* sensor, double value) {
  if (sensor->count == 0 || value < sensor->min) sensor->min = value;
  if (sensor->count == 0 || value > sensor->max) sensor->max = value;
  sensor->count++;
  const double distance = value - sensor->mean;
  sensor->mean += distance / sensor->count;
  sensor->squares += distance * (value - sensor->mean);
}

static int parse_time(struct parser* p, uint64_t* out) {
  double seconds = 0;
  if (parse_number(p, &seconds)) return 1;
  if (seconds < 0 || seconds > 253402300799.0) return fail(p, "is not a time in seconds since 1970");
  *out = (uint64_t)seconds;
  return (double)*out == seconds ? 0 : fail(p, "is not a whole number of seconds");
}

static int parse_reading(struct parser* p, struct batch* batch) {
  enum { SENSOR = 1, VALUE = 2, AT = 4 };
  struct batch_name key, sensor = {0, {0}};
  double value = 0;
  uint64_t at = 0;
  int seen = 0;
  p->field = "";
  if (expect(p, '{', "is not an object")) return 1;
  do {
    p->field = "";
    if (parse_key(p, &key)) return 1;
    const int which = name_is(&key, "sensor") ? SENSOR : name_is(&key, "value") ? VALUE : name_is(&key, "at") ? AT : 0;
    if (which == 0) return fail(p, "has a field other than sensor, value and at");
    p->field = which == SENSOR ? "sensor" : which == VALUE ? "value" : "at";
    if (seen & which) return fail(p, "is given twice");
    seen |= which;
    if (expect(p, ':', "is not followed by a colon")) return 1;
    if (which == SENSOR ? parse_string(p, &sensor) : which == VALUE ? parse_number(p, &value) : parse_time(p, &at))
      return 1;
    if (which == SENSOR && sensor.length == 0) return fail(p, "is empty");
  } while (skip_space(p) == ',' && take(p));
  if (expect(p, '}', "is not followed by a comma or the end of the reading")) return 1;
  p->field = "sensor";
  if (!(seen & SENSOR)) return fail(p, "is missing");
  uint8_t index = 0;
  if (find_sensor(p, batch, &sensor, &index)) return 1;
  p->field = "value";
  if (!(seen & VALUE)) return fail(p, "is missing");
  if (seen & AT) {
    if (batch->at_last == 0 || at < batch->at_first) batch->at_first = at;
    if (at > batch->at_last) batch->at_last = at;
  }
  add_value(&batch->sensor[index], value);
  batch->value[batch->readings] = value;
  batch->sensor_of[batch->readings++] = index;
  return 0;
}

static int parse_readings(struct parser* p, struct batch* batch) {
  if (expect(p, '[', "is not a list")) return 1;
  if (skip_space(p) == ']') return fail(p, "is empty");
  p->in_reading = 1;
  do {
    p->field = "";
    if (p->reading == BATCH_READINGS_MAX) return fail(p, "is one more than the 4096 that a batch may have; split it");
    if (parse_reading(p, batch)) return 1;
    p->reading++;
  } while (skip_space(p) == ',' && take(p));
  p->in_reading = 0;
  p->field = "readings";
  return expect(p, ']', "is not followed by a comma or the end of the list");
}

static int parse_batch(struct parser* p, struct batch* batch) {
  enum { DEVICE = 1, READINGS = 2 };
  struct batch_name key;
  int seen = 0;
  if (expect(p, '{', "the batch is not an object")) return 1;
  do {
    p->field = "";
    if (parse_key(p, &key)) return 1;
    const int which = name_is(&key, "device") ? DEVICE : name_is(&key, "readings") ? READINGS : 0;
    if (which == 0) return fail(p, "the batch has a field other than device and readings");
    p->field = which == DEVICE ? "device" : "readings";
    if (seen & which) return fail(p, "is given twice");
    seen |= which;
    if (expect(p, ':', "is not followed by a colon")) return 1;
    if (which == DEVICE ? parse_string(p, &batch->device) : parse_readings(p, batch)) return 1;
  } while (skip_space(p) == ',' && take(p));
  if (expect(p, '}', "is not followed by a comma or the end of the batch")) return 1;
  p->field = "readings";
  if (!(seen & READINGS)) return fail(p, "is missing");
  p->field = "";
  return skip_space(p) == END ? 0 : fail(p, "something follows the batch");
}

// --- statistics ---
static void sift_down(double* values, uint32_t root, uint32_t count) {
  for (;;) {
    uint32_t child = 2 * root + 1;
    if (child >= count) return;
    if (child + 1 < count && values[child] < values[child + 1]) child++;
    if (values[root] >= values[child]) return;
    const double swap = values[root];
    values[root] = values[child];
    values[child] = swap;
    root = child;
  }
}

// Heap sort: no recursion, and no input that makes it slow.
static void sort(double* values, uint32_t count) {
  for (uint32_t i = count / 2; i-- > 0;) sift_down(values, i, count);
  for (uint32_t end = count; end-- > 1;) {
    const double largest = values[0];
    values[0] = values[end];
    values[end] = largest;
    sift_down(values, 0, end);
  }
}

static double median_of_sorted(const double* values, uint32_t count) {
  return count % 2 ? values[count / 2] : values[count / 2 - 1] / 2 + values[count / 2] / 2;
}

static double distance(double a, double b) { return a < b ? b - a : a - b; }

static void describe(struct batch* batch) {
  uint32_t start[BATCH_SENSORS_MAX], next[BATCH_SENSORS_MAX], sum = 0;
  for (uint32_t s = 0; s < batch->sensors; s++) {
    start[s] = next[s] = sum;
    sum += batch->sensor[s].count;
  }
  for (uint32_t i = 0; i < batch->readings; i++) batch->scratch[next[batch->sensor_of[i]]++] = batch->value[i];
  for (uint32_t s = 0; s < batch->sensors; s++) {
    struct batch_sensor* sensor = &batch->sensor[s];
    double* values = batch->scratch + start[s];
    sensor->stddev = sensor->count < 2 ? 0 : __builtin_sqrt(sensor->squares / (sensor->count - 1));
    sort(values, sensor->count);
    sensor->median = median_of_sorted(values, sensor->count);
    double mean_distance = 0;
    for (uint32_t i = 0; i < sensor->count; i++) {
      values[i] = distance(values[i], sensor->median);
      mean_distance += values[i] / sensor->count;
    }
    sort(values, sensor->count);
    // Both factors make the spread that of a standard deviation, were the readings normally distributed.
    const double median_distance = median_of_sorted(values, sensor->count);
    sensor->spread = median_distance > 0 ? 1.4826 * median_distance : 1.253314 * mean_distance;
  }
  batch->outliers = 0;
  for (uint32_t i = 0; i < batch->readings; i++) batch->outliers += (uint32_t)batch_is_outlier(batch, i);
}

int batch_is_outlier(const struct batch* batch, uint32_t index) {
  const struct batch_sensor* sensor = &batch->sensor[batch->sensor_of[index]];
  return sensor->count >= 5 && distance(batch->value[index], sensor->median) > 3.5 * sensor->spread;
}

int batch_parse(struct batch* batch, batch_read read, void* context, struct batch_error* error) {
  struct parser parser = {.read = read, .context = context, .error = error, .field = "", .line = 1, .column = 1};
  batch->device.length = 0;
  batch->at_first = batch->at_last = 0;
  batch->readings = batch->sensors = batch->outliers = 0;
  if (parse_batch(&parser, batch)) return 1;
  describe(batch);
  return 0;
}
