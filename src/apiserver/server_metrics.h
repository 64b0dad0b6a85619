// SPDX-License-Identifier: Apache-2.0
// What /metrics says of the server as a whole: open watches, objects, the store. docs/metrics.md lists the names.
#pragma once
#include "apiserver/call.h"
#include "metrics/registry.h"

namespace skerry::apiserver {

void write_server_metrics(const Server&, metrics::Exposition&);

}  // namespace skerry::apiserver
