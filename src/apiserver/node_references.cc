// SPDX-License-Identifier: Apache-2.0
#include "apiserver/node_references.h"

#include <algorithm>

#include "apiserver/call.h"
#include "kube/digest.h"

namespace skerry::apiserver {

void for_each_reference(Json spec, const std::function<void(std::string_view resource, std::string_view name)>& visit) {
  const auto named = [&](std::string_view resource, Json name) {
    if (!name.str().empty()) visit(resource, name.str());
  };
  for (const Json volume : spec["volumes"].items()) {
    named("secrets", volume["secret"]["secretName"]);
    named("configmaps", volume["configMap"]["name"]);
    for (const Json source : volume["projected"]["sources"].items()) {
      named("secrets", source["secret"]["name"]);
      named("configmaps", source["configMap"]["name"]);
    }
  }
  for (const char* list : {"containers", "initContainers", "ephemeralContainers"}) {
    for (const Json container : spec[list].items()) {
      for (const Json env : container["env"].items()) {
        named("secrets", env["valueFrom"]["secretKeyRef"]["name"]);
        named("configmaps", env["valueFrom"]["configMapKeyRef"]["name"]);
      }
      for (const Json from : container["envFrom"].items()) {
        named("secrets", from["secretRef"]["name"]);
        named("configmaps", from["configMapRef"]["name"]);
      }
    }
  }
  for (const Json pull : spec["imagePullSecrets"].items()) named("secrets", pull["name"]);
  named("runtimeclasses.node.k8s.io", spec["runtimeClassName"]);
}

std::uint64_t NodeReferences::digest(const Server& server, const std::string& node) {
  const store::Store& store = server.store;
  const store::ResourceId pods_id = server.id("pods");
  const std::uint64_t pods = store.digest(pods_id, node);
  auto at = nodes_.find(node);
  if (at == nodes_.end() || at->second.pods != pods) {
    if (at == nodes_.end() && nodes_.size() > 2 * store.count(server.id("nodes")) + 16)
      std::erase_if(nodes_, [&](const auto& one) { return !store.get(server.id("nodes"), "", one.first); });
    OfNode& of = nodes_[node] = {.pods = pods};
    store.for_each_of_node(pods_id, node, [&](const kube::Object& pod) {
      if (pod.phase() == "Succeeded" || pod.phase() == "Failed") return;
      const auto doc = pod.parse();
      for_each_reference(doc.root()["spec"], [&](std::string_view resource, std::string_view name) {
        of.keys.emplace_back(server.id(resource), resource.starts_with("runtimeclasses") ? std::string() : pod.namespace_(), name);
      });
    });
    std::ranges::sort(of.keys);
    of.keys.erase(std::ranges::unique(of.keys).begin(), of.keys.end());
    of.keys.shrink_to_fit();
    at = nodes_.find(node);
  }
  kube::Digest out;
  for (const auto& [id, ns, name] : at->second.keys)
    if (const ObjectPtr object = store.get(id, ns, name)) out.add(*object);
  return out.value();
}

}  // namespace skerry::apiserver
