// SPDX-License-Identifier: Apache-2.0
#include "kube/discovery.h"

#include <algorithm>
#include <format>
#include <vector>

#include "base/text.h"
#include "kube/json.h"
#include "kube/resources.h"

namespace skerry::kube {
namespace {

void put_words(MutJson object, std::string_view key, std::span<const std::string_view> words) {
  MutJson list = object.array(key);
  for (const std::string_view word : words) list.push(word);
}
void put_kind(MutJson object, std::string_view group, std::string_view version, std::string_view kind) {
  MutJson k = object.object("responseKind");
  k.set("group", group);
  k.set("version", version);
  k.set("kind", kind);
}
std::string group_version_text(const GroupVersion& gv) {
  return gv.group.empty() ? std::string(gv.version) : std::format("{}/{}", gv.group, gv.version);
}

void put_aggregated_group(MutJson items, std::string_view group) {
  MutJson item = items.push_object();
  MutJson metadata = item.object("metadata");
  if (!group.empty()) metadata.set("name", group);
  metadata.set_null("creationTimestamp");
  MutJson versions = item.array("versions");
  for (const GroupVersion& gv : group_versions()) {
    if (gv.group != group) continue;
    MutJson version = versions.push_object();
    version.set("version", gv.version);
    MutJson list = version.array("resources");
    for (const ResourceType& r : resources()) {
      if (r.group != gv.group || r.version != gv.version) continue;
      MutJson resource = list.push_object();
      resource.set("resource", r.resource);
      put_kind(resource, r.group, r.version, r.kind);
      resource.set("scope", r.namespaced ? "Namespaced" : "Cluster");
      resource.set("singularResource", r.singular);
      put_words(resource, "verbs", r.verbs);
      if (!r.short_names.empty()) put_words(resource, "shortNames", r.short_names);
      if (!r.categories.empty()) put_words(resource, "categories", r.categories);
      if (r.subresources.empty()) continue;
      MutJson subs = resource.array("subresources");
      for (const Subresource& s : r.subresources) {
        MutJson sub = subs.push_object();
        sub.set("subresource", s.name);
        put_kind(sub, s.group, s.version, s.kind);
        put_words(sub, "verbs", s.verbs);
      }
    }
    version.set("freshness", "Current");
  }
}

JsonEdit aggregated_list() {
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("kind", "APIGroupDiscoveryList");
  root.set("apiVersion", "apidiscovery.k8s.io/v2");
  root.object("metadata");
  root.array("items");
  return edit;
}

std::vector<std::string_view> groups() {
  std::vector<std::string_view> out;
  for (const GroupVersion& gv : group_versions())
    if (!gv.group.empty() && std::ranges::find(out, gv.group) == out.end()) out.push_back(gv.group);
  return out;
}

void put_group(MutJson item, std::string_view group) {
  item.set("name", group);
  MutJson versions = item.array("versions");
  for (const GroupVersion& gv : group_versions()) {
    if (gv.group != group) continue;
    MutJson version = versions.push_object();
    version.set("groupVersion", group_version_text(gv));
    version.set("version", gv.version);
  }
  item.set("preferredVersion", versions[std::size_t{0}]);
}

}  // namespace

bool accepts_aggregated(std::string_view accept) {
  for (const std::string_view part : split(accept, ',')) {
    bool group = false, version = false, as = false;
    const auto words = split(part, ';');
    for (const std::string_view word : words) {
      const std::string_view w = trim(word);
      group = group || w == "g=apidiscovery.k8s.io";
      version = version || w == "v=v2";
      as = as || w == "as=APIGroupDiscoveryList";
    }
    if (group && version && as && trim(words.front()) == "application/json") return true;
  }
  return false;
}

std::string aggregated_api() {
  const JsonEdit edit = aggregated_list();
  put_aggregated_group(edit.root()["items"], "");
  return edit.dump();
}
std::string aggregated_apis() {
  const JsonEdit edit = aggregated_list();
  for (const std::string_view group : groups()) put_aggregated_group(edit.root()["items"], group);
  return edit.dump();
}

std::string api_versions(std::string_view server_address) {
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("kind", "APIVersions");
  root.array("versions").push("v1");
  MutJson address = root.array("serverAddressByClientCIDRs").push_object();
  address.set("clientCIDR", "0.0.0.0/0");
  address.set("serverAddress", server_address);
  return edit.dump();
}

std::string api_group_list() {
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("kind", "APIGroupList");
  root.set("apiVersion", "v1");
  MutJson list = root.array("groups");
  for (const std::string_view group : groups()) put_group(list.push_object(), group);
  return edit.dump();
}

std::optional<std::string> api_group(std::string_view group) {
  if (const auto known = groups(); std::ranges::find(known, group) == known.end()) return std::nullopt;
  JsonEdit edit;
  edit.root().set("kind", "APIGroup");
  edit.root().set("apiVersion", "v1");
  put_group(edit.root(), group);
  return edit.dump();
}

std::optional<std::string> api_resource_list(std::string_view group, std::string_view version) {
  const auto gv = std::ranges::find_if(group_versions(), [&](const GroupVersion& g) { return g.group == group && g.version == version; });
  if (gv == group_versions().end()) return std::nullopt;
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("kind", "APIResourceList");
  if (!group.empty()) root.set("apiVersion", "v1");
  root.set("groupVersion", group_version_text(*gv));
  MutJson list = root.array("resources");
  for (const ResourceType& r : resources()) {
    if (r.group != group || r.version != version) continue;
    MutJson item = list.push_object();
    item.set("name", r.resource);
    item.set("singularName", r.singular);
    item.set("namespaced", r.namespaced);
    item.set("kind", r.kind);
    put_words(item, "verbs", r.verbs);
    if (!r.short_names.empty()) put_words(item, "shortNames", r.short_names);
    if (!r.categories.empty()) put_words(item, "categories", r.categories);
    item.set("storageVersionHash", r.storage_hash);
    for (const Subresource& s : r.subresources) {
      MutJson sub = list.push_object();
      sub.set("name", std::format("{}/{}", r.resource, s.name));
      sub.set("singularName", "");
      sub.set("namespaced", r.namespaced);
      if (s.group != r.group || s.version != r.version) {
        sub.set("group", s.group);
        sub.set("version", s.version);
      }
      sub.set("kind", s.kind);
      put_words(sub, "verbs", s.verbs);
    }
  }
  return edit.dump();
}

}  // namespace skerry::kube
