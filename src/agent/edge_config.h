// SPDX-License-Identifier: Apache-2.0
// The ConfigMap `edge-config`: how a node behaves without its network (docs/node.md says what each key does). Read at the start from
// the checkpoint, changed at run time. A pure value: a wrong value is reported, once, and the old one stays.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "kube/object.h"

namespace skerry::agent {

struct EdgeConfig {
  std::optional<bool> offline_mode = {};  // nothing: the key is not there; then as true, and nothing is said to the server
  bool local_storage = true;
  Duration sync_interval = std::chrono::seconds(60);
  friend bool operator==(const EdgeConfig&, const EdgeConfig&) = default;

  bool works_offline() const { return offline_mode.value_or(true); }
  static constexpr Duration kSyncMin = std::chrono::seconds(5), kSyncMax = std::chrono::hours(1);
};

struct EdgeConfigRead {
  EdgeConfig config;
  std::vector<std::string> problems;  // a sentence a key; its former value stays
};
// What `map` (a ConfigMap; null: it is gone, and with it all that it said) makes of `former`. A key that is not there has its default.
EdgeConfigRead read_edge_config(const kube::Object* map, const EdgeConfig& former);

}  // namespace skerry::agent
