// SPDX-License-Identifier: Apache-2.0
// What Prometheus' client libraries say of their own process: process_cpu_seconds_total, process_resident_memory_bytes,
// process_virtual_memory_bytes, process_start_time_seconds, process_open_fds, process_max_fds; read from /proc when asked.
// A figure that cannot be read is left out.
#pragma once
#include "metrics/registry.h"

namespace skerry::metrics {

void write_process_metrics(Exposition&);

}  // namespace skerry::metrics
