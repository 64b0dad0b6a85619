// SPDX-License-Identifier: Apache-2.0
// EndpointSlices of a Service with a selector: where its pods answer. Pure.
#pragma once
#include <span>

#include "base/random.h"
#include "control/action.h"
#include "control/views.h"

namespace skerry::control {

struct EndpointSliceInput {
  ObjectPtr service;
  std::span<const PodPtr> pods;       // of the namespace; the selector is applied here
  std::span<const ObjectPtr> slices;  // those of this Service that this controller manages
  std::size_t endpoints_max = 100;    // in one slice
};
inline constexpr std::string_view kServiceNameLabel = "kubernetes.io/service-name";
inline constexpr std::string_view kManagedByLabel = "endpointslice.kubernetes.io/managed-by";
inline constexpr std::string_view kManagedBy = "endpointslice-controller.k8s.io";

// An endpoint stays in the slice where it is; a slice that differs is patched, an empty one deleted (but one slice
// always exists). Pods whose named ports resolve differently are in different slices.
Plan reconcile_endpoint_slices(const EndpointSliceInput&, Random&);

}  // namespace skerry::control
