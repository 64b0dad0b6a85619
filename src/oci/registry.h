// SPDX-License-Identifier: Apache-2.0
// Pull and push, as skerry-registry does them: from an image's name to the bytes of its Wasm module, and back. Blocking.
#pragma once
#include <functional>

#include "base/error.h"
#include "oci/pull_wire.h"

namespace skerry::oci {

using OnProgress = std::function<void(const answer::Progress&)>;

// Looks for the module in an artifact's layers (by its bytes, whatever the media type says) or behind an ordinary image's
// entrypoint. Leaves it in the job's folder, which is this pull's alone, under the name that it answers, and nothing else;
// after a failure what the next try can go on with, and nothing of an image that cannot be used.
// The endpoints are asked in order; the next one only if one cannot be reached or does not have the image. The last one's
// failure counts: it is the registry itself.
// NotFound, Denied, Unavailable, Timeout: the registry; Unsupported, Invalid, Corrupt, Exhausted: the image.
Result<RegistryAnswer> pull(const RegistryJob&, const OnProgress&);

// As an OCI artifact of one layer, to the last endpoint.
Result<RegistryAnswer> push(const RegistryJob&, const OnProgress&);

}  // namespace skerry::oci
