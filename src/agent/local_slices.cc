// SPDX-License-Identifier: Apache-2.0
#include "agent/local_slices.h"

#include "kube/json.h"

namespace skerry::agent {
namespace {

bool selects(kube::Json selector, const kube::Object& pod) {
  if (selector.size() == 0) return false;
  for (const auto [key, value] : selector.members())
    if (value.str().empty() || pod.label(key) != value.str()) return false;
  return true;
}

// The number of a Service's target port in this pod; 0: it has no port of that name.
std::int64_t target_of(kube::Json port, kube::Json pod) {
  const kube::Json target = port["targetPort"];
  if (target.is_string()) {
    for (const kube::Json container : pod["spec"]["containers"].items())
      for (const kube::Json one : container["ports"].items())
        if (one["name"].str() == target.str()) return one["containerPort"].i64();
    return 0;
  }
  return target.i64() > 0 ? target.i64() : port["port"].i64();
}

}  // namespace

kube::ObjectPtr slice_without(const kube::ObjectPtr& slice, const std::set<std::string>& addresses) {
  if (addresses.empty()) return slice;
  const kube::JsonDoc doc = slice->parse();
  const auto is_held = [&](std::string_view address) { return addresses.contains(std::string(address)); };
  bool some = false;
  for (const kube::Json endpoint : doc.root()["endpoints"].items()) some = some || is_held(endpoint["addresses"][std::size_t{0}].str());
  if (!some) return slice;
  auto edit = kube::JsonEdit::copy(doc.root());
  kube::MutJson list = edit.root()["endpoints"];
  for (std::size_t i = 0; i < list.size(); ++i) {
    kube::MutJson endpoint = list[i];
    if (!is_held(endpoint["addresses"][std::size_t{0}].str())) continue;
    kube::MutJson conditions = endpoint.object("conditions");
    conditions.set("ready", false);
    conditions.set("serving", false);
  }
  auto made = kube::Object::from_json(edit.dump());
  return made ? std::move(*made) : slice;
}

std::string local_slice_name(const kube::Object& service) { return "skerry-local-" + service.name(); }

kube::ObjectPtr local_slice(const kube::Object& service, const std::vector<LocalEndpoint>& pods, std::string_view node) {
  const kube::JsonDoc doc = service.parse();
  const kube::Json spec = doc.root()["spec"];
  std::vector<const LocalEndpoint*> chosen;
  for (const LocalEndpoint& one : pods)
    if (!one.address.empty() && one.pod->namespace_() == service.namespace_() && selects(spec["selector"], *one.pod)) chosen.push_back(&one);
  if (chosen.empty()) return nullptr;
  kube::JsonEdit edit;
  kube::MutJson root = edit.root();
  root.set("apiVersion", "discovery.k8s.io/v1");
  root.set("kind", "EndpointSlice");
  kube::MutJson metadata = root.object("metadata");
  metadata.set("name", local_slice_name(service));
  metadata.set("namespace", service.namespace_());
  metadata.object("labels").set("kubernetes.io/service-name", service.name());
  root.set("addressType", "IPv4");
  kube::MutJson list = root.array("endpoints");
  for (const LocalEndpoint* one : chosen) {
    kube::MutJson endpoint = list.push_object();
    endpoint.array("addresses").push(one->address);
    kube::MutJson conditions = endpoint.object("conditions");
    conditions.set("ready", one->ready);
    conditions.set("serving", one->ready);
    endpoint.set("nodeName", node);
    kube::MutJson target = endpoint.object("targetRef");
    target.set("kind", "Pod");
    target.set("namespace", one->pod->namespace_());
    target.set("name", one->pod->name());
    target.set("uid", one->pod->uid());
  }
  // Stand-ins of one Service are made from pods of one template each; where those differ in a named port, the first one's counts.
  const kube::JsonDoc first = chosen.front()->pod->parse();
  kube::MutJson ports = root.array("ports");
  for (const kube::Json port : spec["ports"].items()) {
    const std::int64_t number = target_of(port, first.root());
    if (number <= 0) continue;
    kube::MutJson out = ports.push_object();
    out.set("name", port["name"].str());
    out.set("port", number);
    out.set("protocol", port["protocol"].str("TCP"));
  }
  auto made = kube::Object::from_json(edit.dump());
  return made ? std::move(*made) : nullptr;
}

}  // namespace skerry::agent
