// SPDX-License-Identifier: Apache-2.0
// What the controllers' cores decide: requests to the API and Events to post. The shells carry them out.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "client/resource.h"
#include "kube/object.h"

namespace skerry::control {

using kube::ObjectPtr;

enum class Verb : std::uint8_t { Create, Patch, PatchStatus, PatchApproval, Delete };

// One request. Patches are merge patches.
struct Action {
  Verb verb{};
  client::ResourcePath resource{};
  std::string namespace_{}, name{};             // name may be empty for Create
  std::string body{};                           // of Create: the object; of the patches: the patch
  std::string uid{};                            // precondition of Delete
  std::string propagation{};                    // of Delete
  std::optional<std::int64_t> grace_seconds{};  // of Delete

  std::string trace() const;  // one line, for tests and the debug log
};

enum class NoteType : std::uint8_t { Normal, Warning };
// An Event about an object.
struct Note {
  ObjectPtr about{};
  NoteType type{};
  std::string reason{}, message{};
  std::string component{};  // who says so, in Kubernetes' name for it; empty: whoever records it
};

struct Plan {
  std::vector<Action> actions{};
  std::vector<Note> notes{};
  std::optional<Duration> again{};  // reconcile again after this, whatever happens
};

}  // namespace skerry::control
