// SPDX-License-Identifier: Apache-2.0
// Whether pods of this node use an image, asked from outside of the node's processes: `skerry image` needs no server, and
// works while the agent runs, while it is dead, and before the node's first start.
#pragma once
#include <string>

#include "base/error.h"
#include "cli/layout.h"
#include "oci/image_store.h"

namespace skerry::cli {

// Whether the agent or the keeper has this module's native code loaded for pods: they hold a lock on it. `digest`: "sha256:…".
bool is_loaded(const DataLayout&, const std::string& digest);

// Conflict: pods use it now, or the checkpoint of a node that does not run names it. The text says what to do.
Result<> refuse_if_used(const DataLayout&, const oci::Image&);

// Deletes the native code of a module that no reference names and no pod uses. What cannot be deleted stays, and costs disk
// and nothing else.
void remove_native_code(const DataLayout&, const std::string& digest);

}  // namespace skerry::cli
