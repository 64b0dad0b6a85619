// SPDX-License-Identifier: Apache-2.0
#include "control/endpointslice_core.h"

#include <algorithm>
#include <format>
#include <map>
#include <set>

#include "kube/selector.h"

namespace skerry::control {
namespace {

using kube::json_quote;
using kube::JsonDoc;
using kube::JsonEdit;
using kube::MutJson;

// The Service's ports as this pod has them: the "ports" of a slice.
std::string ports_of(Json service_spec, Json pod) {
  std::string text = "[";
  for (const Json port : service_spec["ports"].items()) {
    const Json target = port["targetPort"];
    const auto protocol = port["protocol"].str("TCP");
    std::int64_t number = target.is_integer() && target.i64() != 0 ? target.i64() : 0;
    if (target.is_string()) {
      for (const Json container : pod["spec"]["containers"].items()) {
        for (const Json named : container["ports"].items()) {
          if (number == 0 && named["name"].str() == target.str() && named["protocol"].str("TCP") == protocol)
            number = named["containerPort"].i64();
        }
      }
      if (number == 0) continue;  // this pod does not have that port
    } else if (number == 0) {
      number = port["port"].i64();
    }
    if (text.size() > 1) text += ',';
    text += std::format(R"({{"name":{},"port":{},"protocol":"{}")", json_quote(port["name"].str()), number, protocol);
    if (port["appProtocol"].is_string())
      text += std::format(R"(,"appProtocol":{})", json_quote(port["appProtocol"].str()));
    text += '}';
  }
  return text + "]";
}

// The host's name in the Service's domain, as JSON, for a pod that asks for one there.
std::string hostname_of(const PodView& pod, const kube::Object& service) {
  const auto doc = pod.object->parse();
  const Json spec = doc.root()["spec"];
  const auto hostname = spec["hostname"].str();
  if (hostname.empty() || spec["subdomain"].str() != service.name()) return {};
  return std::format(R"("hostname":{},)", json_quote(hostname));
}

std::string endpoint_of(const PodView& pod, bool publish_not_ready, const std::string& hostname) {
  const kube::Object& object = *pod.object;
  const bool serving = pod.ready, terminating = object.deleting();
  const bool ready = publish_not_ready || (serving && !terminating);
  return std::format(R"({{"addresses":["{}"],"conditions":{{"ready":{},"serving":{},"terminating":{}}},{})"
                     R"("nodeName":{},"targetRef":{{"kind":"Pod","name":{},"namespace":{},"uid":"{}"}}}})",
                     pod.ip, ready, serving, terminating, hostname, json_quote(object.node_name()), json_quote(object.name()),
                     json_quote(object.namespace_()), object.uid());
}

using Endpoints = std::map<std::string, std::string>;  // pod uid to JSON

struct Slice {
  ObjectPtr object;  // null: to be made
  std::string ports;
  Endpoints endpoints;  // as they are to be
  bool changed = false;
};

// With every field that an API server may have defaulted.
std::string canonical_ports(Json ports) {
  std::string text = "[";
  for (const Json port : ports.items()) {
    if (text.size() > 1) text += ',';
    text += std::format(R"({{"name":{},"port":{},"protocol":"{}")", json_quote(port["name"].str()), port["port"].i64(),
                        port["protocol"].str("TCP"));
    if (port["appProtocol"].is_string())
      text += std::format(R"(,"appProtocol":{})", json_quote(port["appProtocol"].str()));
    text += '}';
  }
  return text + "]";
}
bool same_endpoint(Json stored, const std::string& wanted) {
  const auto doc = JsonDoc::parse(wanted);
  return doc && stored.equals(doc->root());
}

// The Service's own, and those that say whose it is. Sorted by key.
kube::Labels labels_for(const kube::Object& service, Json spec) {
  std::map<std::string, std::string> all(service.labels().begin(), service.labels().end());
  all[std::string(kManagedByLabel)] = kManagedBy;
  all[std::string(kServiceNameLabel)] = service.name();
  if (spec["clusterIP"].str() == "None") all["service.kubernetes.io/headless"].clear();
  return {all.begin(), all.end()};
}

// The whole change of one that is there (merge patch).
std::string slice_patch(const Slice& slice, const kube::Labels& labels) {
  JsonEdit edit;
  MutJson metadata = edit.root().object("metadata");
  metadata.set("uid", slice.object->uid());
  if (slice.object->labels() != labels) {
    MutJson out = metadata.object("labels");
    for (const auto& [key, value] : slice.object->labels()) out.set_null(key);
    for (const auto& [key, value] : labels) out.set(key, value);
  }
  MutJson endpoints = edit.root().array("endpoints");
  for (const auto& [uid, json] : slice.endpoints) endpoints.push(JsonDoc::parse(json)->root());
  return edit.dump();
}

std::string slice_json(const kube::Object& service, const kube::Labels& all_labels, const Slice& slice, Random& random) {
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("apiVersion", "discovery.k8s.io/v1");
  root.set("kind", "EndpointSlice");
  MutJson metadata = root.object("metadata");
  const std::string stem = service.name().substr(0, 57) + "-";
  metadata.set("name", stem + make_name_suffix(random, 5));
  metadata.set("generateName", stem);
  metadata.set("namespace", service.namespace_());
  MutJson labels = metadata.object("labels");
  for (const auto& [key, value] : all_labels) labels.set(key, value);
  metadata.array("ownerReferences").push(JsonDoc::parse(controller_reference("v1", "Service", service))->root());
  root.set("addressType", "IPv4");
  MutJson endpoints = root.array("endpoints");
  for (const auto& [uid, json] : slice.endpoints) endpoints.push(JsonDoc::parse(json)->root());
  root.set("ports", JsonDoc::parse(slice.ports)->root());
  return edit.dump();
}

}  // namespace

Plan reconcile_endpoint_slices(const EndpointSliceInput& input, Random& random) {
  Plan plan;
  const kube::Object& service = *input.service;
  const auto doc = service.parse();
  const Json spec = doc.root()["spec"];
  if (service.deleting() || spec["type"].str() == "ExternalName" || spec["selector"].size() == 0) return plan;
  const auto selector = kube::LabelSelector::from_map(spec["selector"]);
  const auto labels = labels_for(service, spec);
  const bool publish_not_ready = spec["publishNotReadyAddresses"].boolean();
  const bool headless = spec["clusterIP"].str() == "None";
  const bool named = any_item(spec["ports"], [](Json port) { return port["targetPort"].is_string(); });

  // What there is to publish, by the ports it has.
  std::map<std::string, Endpoints> wanted;
  std::string common_ports;
  for (const auto& pod : input.pods) {
    if (pod->finished || pod->ip.empty() || !selector.matches(pod->object->labels())) continue;
    std::string ports;
    if (named) {
      const auto pod_doc = pod->object->parse();
      ports = ports_of(spec, pod_doc.root());
    } else {
      if (common_ports.empty()) common_ports = ports_of(spec, {});
      ports = common_ports;
    }
    wanted[ports].emplace(pod->object->uid(), endpoint_of(*pod, publish_not_ready, headless ? hostname_of(*pod, service) : ""));
  }
  if (wanted.empty()) wanted[ports_of(spec, {})] = {};

  // What is published stays where it is.
  std::vector<Slice> slices;
  for (const auto& object : input.slices) {
    if (object->deleting()) continue;
    Slice slice{.object = object, .ports = {}, .endpoints = {}, .changed = object->labels() != labels};
    const auto slice_doc = object->parse();
    slice.ports = canonical_ports(slice_doc.root()["ports"]);
    const auto group = wanted.find(slice.ports);
    for (const Json endpoint : slice_doc.root()["endpoints"].items()) {
      const auto at = group == wanted.end() ? Endpoints::iterator{}
                                            : group->second.find(std::string(endpoint["targetRef"]["uid"].str()));
      if (group == wanted.end() || at == group->second.end()) {
        slice.changed = true;
        continue;
      }
      slice.changed = slice.changed || !same_endpoint(endpoint, at->second);
      slice.endpoints.insert(group->second.extract(at));
    }
    slices.push_back(std::move(slice));
  }

  // What is new fills slices that change anyway, then those with room, then new ones.
  std::ranges::stable_sort(slices, [](const Slice& a, const Slice& b) { return a.changed > b.changed; });
  for (auto& [ports, left] : wanted) {
    for (auto& slice : slices) {
      if (slice.ports != ports) continue;
      while (!left.empty() && slice.endpoints.size() < input.endpoints_max) {
        slice.endpoints.insert(left.extract(left.begin()));
        slice.changed = true;
      }
    }
    while (!left.empty()) {
      Slice made{.object = nullptr, .ports = ports, .endpoints = {}, .changed = true};
      while (!left.empty() && made.endpoints.size() < input.endpoints_max)
        made.endpoints.insert(left.extract(left.begin()));
      slices.push_back(std::move(made));
    }
  }

  // An empty slice goes, unless it would be the last one.
  std::size_t kept = 0;
  for (const auto& slice : slices) kept += !slice.endpoints.empty();
  bool placeholder = false;
  for (const auto& slice : slices) {
    if (slice.object && slice.endpoints.empty()) {
      if (kept > 0 || placeholder || !wanted.contains(slice.ports)) {
        plan.actions.push_back({.verb = Verb::Delete,
                                .resource = client::kEndpointSlices,
                                .namespace_ = service.namespace_(),
                                .name = slice.object->name(),
                                .uid = slice.object->uid()});
        continue;
      }
      placeholder = true;
    }
    if (!slice.changed) continue;
    if (!slice.object) {
      plan.actions.push_back({.verb = Verb::Create,
                              .resource = client::kEndpointSlices,
                              .namespace_ = service.namespace_(),
                              .body = slice_json(service, labels, slice, random)});
      continue;
    }
    plan.actions.push_back(
        {.verb = Verb::Patch,
         .resource = client::kEndpointSlices,
         .namespace_ = service.namespace_(),
         .name = slice.object->name(),
         .body = slice_patch(slice, labels)});
  }
  if (kept == 0 && !placeholder) {
    const Slice empty{.object = nullptr, .ports = wanted.begin()->first, .endpoints = {}, .changed = true};
    plan.actions.push_back({.verb = Verb::Create,
                            .resource = client::kEndpointSlices,
                            .namespace_ = service.namespace_(),
                            .body = slice_json(service, labels, empty, random)});
  }
  return plan;
}

}  // namespace skerry::control
