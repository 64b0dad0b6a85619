// SPDX-License-Identifier: Apache-2.0
// What the pods of a node refer to: what that node may read (auth.h), and is told the digest of (docs/wire/digest.md).
// Owner: the server, on its loop.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "kube/json.h"
#include "store/store.h"

namespace skerry::apiserver {

struct Server;

// Each ConfigMap, Secret and RuntimeClass that a pod's spec names, by resource; one may come more than once.
void for_each_reference(kube::Json pod_spec, const std::function<void(std::string_view resource, std::string_view name)>& visit);

class NodeReferences {
 public:
  // Of those that exist and that a pod of the node refers to which has not ended. Pods are read when one has changed since the last
  // time (by their digest), else it costs a look at each of those objects.
  std::uint64_t digest(const Server&, const std::string& node);

 private:
  using Key = std::tuple<store::ResourceId, std::string, std::string>;  // namespace, name
  struct OfNode {
    std::uint64_t pods = 0;  // the digest of the pods that were read
    std::vector<Key> keys{};
  };
  std::map<std::string, OfNode> nodes_;
};

}  // namespace skerry::apiserver
