// SPDX-License-Identifier: Apache-2.0
// What the agent offers to whoever answers for this node on its loopback (cli/local_api.h, ADR 0036): the objects that it
// holds, with what it knows of them now, and the two changes that may be asked of it. Answered by the agent, on its loop;
// nothing of it waits for the API server but change(), and that only while the server can be reached.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "kube/object.h"
#include "rt/loop.h"

namespace skerry::agent {

// One field of one Deployment, as somebody at this node wants it.
struct LocalChange {
  enum class Field : std::uint8_t { Replicas, RestartedAt };
  std::string namespace_, name, uid;  // of the Deployment
  Field field = Field::Replicas;
  std::string value;  // decimal; or the annotation's text
};

class LocalView {
 public:
  virtual ~LocalView() = default;
  // The Node, its Lease, pods with their status as of now, their owners, Services, EndpointSlices, ConfigMaps, RuntimeClasses
  // and the last Events. No Secrets. Made at each call: about 0.1 ms a pod.
  virtual std::vector<kube::ObjectPtr> objects() const = 0;
  // Done at the server, or, while it is away, durable here and begun. Upstream: the server's answer. Errors, each a sentence:
  // NotFound (no such Deployment owns a pod here), Denied, Conflict, Exhausted (no room for stand-ins), Unavailable (the disk).
  enum class Changed : std::uint8_t { Upstream, Here };
  virtual rt::Task<Changed> change(LocalChange) = 0;
};

}  // namespace skerry::agent
