// SPDX-License-Identifier: Apache-2.0
// The skerry.dev/ annotations of a pod (docs/annotations.md): how its Wasm containers are run, where Kubernetes has no field
// for it. Parsed strictly: a wrong value, or a name that nobody knows, refuses the pod with a sentence. A pure value.
#pragma once
#include <string>

#include "base/error.h"
#include "base/time.h"
#include "kube/json.h"
#include "sandbox/assignment.h"

namespace skerry::agent {

struct PodAnnotations {
  Duration idle_after = 30s;                                        // skerry.dev/idle-after; 0: never
  Duration request_deadline = 30s;                                  // skerry.dev/request-deadline
  sandbox::Isolation isolation = sandbox::Isolation::Reused;        // skerry.dev/isolation: reuse | request
  bool wagi = false;                                                // skerry.dev/handler: wagi
  std::string config;                                               // skerry.dev/config: http-wasm's get_config
};

inline constexpr Duration kIdleAfterMin = 100ms, kIdleAfterMax = 24h;
inline constexpr Duration kRequestDeadlineMin = 1ms, kRequestDeadlineMax = 1h;
inline constexpr std::size_t kConfigBytesMax = 64u << 10;

// `annotations` is metadata.annotations, or missing. Invalid: a value breaks its rule. Unsupported: an unknown name.
Result<PodAnnotations> parse_annotations(kube::Json annotations, const PodAnnotations& defaults = {});

}  // namespace skerry::agent
