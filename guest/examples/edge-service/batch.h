// SPDX-License-Identifier: Apache-2.0
// A batch of sensor readings: parsed and checked from JSON as it streams in, then described by statistics.
//
//   {"device": "gateway-7",                                    optional
//    "readings": [{"sensor": "t1", "value": 21.5,
//                  "at": 1763164800}, …]}                      `at` (whole seconds since 1970) is optional
//
// No allocation and no buffer for the body: what is kept is one value and one sensor number a reading. Everything has a
// limit, and everything that is not as above is refused with the place and the field.
#pragma once
#include <stdint.h>

enum {
  BATCH_READINGS_MAX = 4096,
  BATCH_SENSORS_MAX = 64,
  BATCH_NAME_MAX = 48,  // bytes of a sensor's or the device's name
};
// Beyond this a value is no measurement but a mistake; it also keeps sums and output exact enough.
#define BATCH_VALUE_MAX 1e12

struct batch_name {
  uint8_t length;
  char bytes[BATCH_NAME_MAX];
};

struct batch_sensor {
  struct batch_name name;
  uint32_t count;
  double min, max, mean, stddev, median;  // stddev of the sample (n - 1); 0 for a single reading
  // What an outlier is measured by: the median distance from the median, or, where that is 0, the mean distance.
  double spread;
  double squares;  // sum of squared distances from the mean while reading (Welford)
};

struct batch {
  struct batch_name device;
  uint64_t at_first, at_last;  // at_last is 0 where no reading has a time
  uint32_t readings, sensors, outliers;
  struct batch_sensor sensor[BATCH_SENSORS_MAX];
  double value[BATCH_READINGS_MAX];
  uint8_t sensor_of[BATCH_READINGS_MAX];
  double scratch[BATCH_READINGS_MAX];
};

// Why a batch was refused, and where. `offset` counts bytes from 0, line and column from 1.
struct batch_error {
  const char* reason;  // a clause: "is not a number"
  const char* field;   // "value", "sensor", …, or "" where no field is concerned
  uint32_t reading;    // index of the reading, if in_reading
  int in_reading;
  uint32_t offset, line, column;
};

// Fills buffer with up to size bytes and returns how many; sets *at_end when nothing follows them.
typedef uint32_t (*batch_read)(void* context, char* buffer, uint32_t size, int* at_end);

// 0 when the batch is good; its statistics are then complete. Otherwise *error is set, and the batch means nothing.
int batch_parse(struct batch* batch, batch_read read, void* context, struct batch_error* error);

// Whether reading `index` of a parsed batch lies far from its sensor's others, by the modified z-score of Iglewicz and
// Hoaglin (3.5), which one wild value cannot hide from as it can from mean and deviation.
int batch_is_outlier(const struct batch* batch, uint32_t index);
