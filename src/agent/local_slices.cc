// SPDX-License-Identifier: Apache-2.0
#include "agent/local_slices.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "kube/json.h"

namespace skerry::agent {
namespace {

using State = LocalSlices::Pod::State;

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

// As the server's controller would say it.
struct Conditions {
  bool ready = true, serving = true, terminating = false;
  friend bool operator==(const Conditions&, const Conditions&) = default;
};
Conditions read(kube::Json conditions) {
  const bool ready = conditions["ready"].boolean(true);
  return {.ready = ready, .serving = conditions["serving"].boolean(ready), .terminating = conditions["terminating"].boolean()};
}
Conditions conditions_of(State state, bool terminating, bool publish_not_ready) {
  terminating = terminating || state == State::Leaving;
  const bool serving = state == State::Ready || state == State::Leaving;
  return {.ready = state != State::Gone && (publish_not_ready || (serving && !terminating)), .serving = serving, .terminating = terminating};
}
void write(kube::MutJson out, const Conditions& c) {
  out.set("ready", c.ready);
  out.set("serving", c.serving);
  out.set("terminating", c.terminating);
}

LocalSlices::Key key_of(const kube::Object& object) { return {object.namespace_(), object.name()}; }
std::string_view address_of(kube::Json endpoint) { return endpoint["addresses"][std::size_t{0}].str(); }
std::size_t mark(std::string_view text) { return std::hash<std::string_view>{}(text); }
constexpr auto uid_of = [](const auto& known) -> std::string_view { return known.pod->uid; };

}  // namespace

std::vector<LocalSlices::Known> LocalSlices::known_of(const std::vector<Pod>& pods) {
  std::vector<Known> out;
  out.reserve(pods.size());
  for (const Pod& pod : pods) out.push_back({pod.object->identity(), pod.address, pod.state, pod.stand_in});
  std::ranges::sort(out, {}, uid_of);
  return out;
}

std::optional<State> LocalSlices::judged(const Known& known, Line line) {
  const bool surely_not = known.state == State::NotReady || known.state == State::Gone;
  return line == Line::Away || surely_not ? std::optional(known.state) : std::nullopt;
}

std::optional<State> LocalSlices::state_of(std::string_view uid, std::string_view address) const {
  const auto there = std::ranges::lower_bound(by_address_, address, {}, [&](std::uint32_t i) -> std::string_view { return known_[i].address; });
  const Known* owner = there != by_address_.end() && known_[*there].address == address ? &known_[*there] : nullptr;
  if (owner != nullptr && !uid.empty() && owner->pod->uid != uid) return State::Gone;  // another one has its address by now
  if (uid.empty()) return owner != nullptr ? judged(*owner, line_) : std::nullopt;
  const auto known = std::ranges::lower_bound(known_, uid, {}, uid_of);
  return known != known_.end() && known->pod->uid == uid ? judged(*known, line_) : std::nullopt;
}

bool LocalSlices::publishes_not_ready(const kube::Object& slice) const {
  const auto service = services_.find(slice.namespace_() + "/" + std::string(slice.label("kubernetes.io/service-name")));
  return service != services_.end() && (*service)->parse().root()["spec"]["publishNotReadyAddresses"].boolean();
}

// The very same object if nothing of it is known otherwise.
kube::ObjectPtr LocalSlices::corrected(const kube::ObjectPtr& slice) const {
  const kube::JsonDoc doc = slice->parse();
  std::vector<std::optional<State>> states;
  bool some_ready = false, some_known = false;
  for (const kube::Json endpoint : doc.root()["endpoints"].items()) {
    const std::string_view where = endpoint["nodeName"].str();
    states.push_back(where.empty() || where == node_ ? state_of(endpoint["targetRef"]["uid"].str(), address_of(endpoint)) : std::nullopt);
    some_known = some_known || states.back();
    some_ready = some_ready || (states.back() == State::Ready && !read(endpoint["conditions"]).terminating);
  }
  if (!some_known) return slice;
  const bool publish = publishes_not_ready(*slice);
  auto edit = kube::JsonEdit::copy(doc.root());
  kube::MutJson list = edit.root()["endpoints"];
  bool differs = false;
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (!states[i] || (states[i] == State::OnItsWay && !some_ready)) continue;
    const Conditions servers = read(doc.root()["endpoints"][i]["conditions"]), ours = conditions_of(*states[i], servers.terminating, publish);
    if (ours == servers) continue;
    differs = true;
    write(list[i].object("conditions"), ours);
  }
  auto made = differs ? kube::Object::from_json(edit.dump()) : Result<kube::ObjectPtr>(slice);
  return made ? std::move(*made) : slice;
}

kube::ObjectPtr LocalSlices::put(const kube::ObjectPtr& slice) {
  slices_changed_ = true;
  Slice out{.servers = slice, .shown = slice, .pods = {}};
  const kube::JsonDoc doc = slice->parse();
  for (const kube::Json endpoint : doc.root()["endpoints"].items()) {
    if (const std::string_view where = endpoint["nodeName"].str(); !where.empty() && where != node_) continue;
    for (const std::string_view text : {endpoint["targetRef"]["uid"].str(), address_of(endpoint)})
      if (!text.empty()) out.pods.push_back(mark(text));
  }
  std::ranges::sort(out.pods);
  out.pods.shrink_to_fit();
  if (out.pods.empty()) {
    slices_.erase(key_of(*slice));
    return slice;
  }
  out.shown = corrected(slice);
  return (slices_[key_of(*slice)] = std::move(out)).shown;
}

void LocalSlices::remove(const Key& key) {
  slices_changed_ = true;
  slices_.erase(key);
}

kube::ObjectPtr LocalSlices::shown(const kube::ObjectPtr& slice) const {
  const auto ours = slices_.find(key_of(*slice));
  return ours == slices_.end() ? slice : ours->second.shown;
}

std::vector<LocalSlices::Change> LocalSlices::update(const std::vector<Pod>& pods, Line line) {
  std::vector<Change> out;
  auto known = known_of(pods);
  if (known == known_ && line == line_ && !services_changed_ && !slices_changed_) return out;
  slices_changed_ = false;
  const bool all = std::exchange(services_changed_, false);  // publishNotReadyAddresses
  std::vector<Mark> changed;
  const auto compare = [&](const std::vector<Known>& these, Line these_line, const std::vector<Known>& those, Line those_line) {
    auto other = those.begin();
    for (const Known& one : these) {
      while (other != those.end() && other->pod->uid < one.pod->uid) ++other;
      if (other != those.end() && other->pod->uid == one.pod->uid && other->address == one.address && judged(*other, those_line) == judged(one, these_line)) continue;
      changed.push_back(mark(one.pod->uid));
      if (!one.address.empty()) changed.push_back(mark(one.address));
    }
  };
  compare(known, line, known_, line_);
  compare(known_, line_, known, line);
  std::ranges::sort(changed);
  known_ = std::move(known);
  line_ = line;
  by_address_.clear();
  by_address_.reserve(known_.size());
  for (std::uint32_t i = 0; i < known_.size(); ++i)
    if (!known_[i].address.empty()) by_address_.push_back(i);
  std::ranges::sort(by_address_, {}, [&](std::uint32_t i) -> std::string_view { return known_[i].address; });
  for (auto& [key, slice] : slices_) {
    if (!all && std::ranges::none_of(slice.pods, [&](Mark pod) { return std::ranges::binary_search(changed, pod); })) continue;
    auto shown = corrected(slice.servers);
    if (shown == slice.shown || *shown->json() == *slice.shown->json()) continue;
    slice.shown = std::move(shown);
    out.push_back({key, slice.shown});
  }
  update_own(pods, out);
  return out;
}

// Of the stand-ins; and of pods that are in no slice while the server's controller cannot be told of them.
void LocalSlices::update_own(const std::vector<Pod>& pods, std::vector<Change>& out) {
  const auto missed = [&](const std::string& uid) { return std::ranges::none_of(slices_, [&](const auto& slice) { return std::ranges::binary_search(slice.second.pods, mark(uid)); }); };
  std::vector<const Pod*> extra;
  for (const Pod& pod : pods)
    if (!pod.address.empty() && (pod.stand_in || (line_ == Line::Away && pod.state == State::Ready && missed(pod.object->uid())))) extra.push_back(&pod);
  std::ranges::sort(extra, {}, &Pod::address);
  std::map<Key, kube::ObjectPtr> own;
  if (!extra.empty())
    for (const auto& service : services_)
      if (auto slice = own_slice(*service, extra)) own.emplace(key_of(*slice), std::move(slice));
  for (const auto& [key, slice] : own)
    if (const auto before = own_.find(key); before == own_.end() || *before->second->json() != *slice->json()) out.push_back({key, slice});
  for (const auto& [key, slice] : own_)
    if (!own.contains(key)) out.push_back({key, nullptr});
  own_ = std::move(own);
}

// Null: the Service selects none of them, or by no selector.
kube::ObjectPtr LocalSlices::own_slice(const kube::Object& service, const std::vector<const Pod*>& pods) const {
  std::vector<const Pod*> chosen;
  std::ranges::copy_if(pods, std::back_inserter(chosen), [&](const Pod* one) { return one->object->namespace_() == service.namespace_(); });
  if (chosen.empty()) return nullptr;
  const kube::JsonDoc doc = service.parse();
  const kube::Json spec = doc.root()["spec"];
  std::erase_if(chosen, [&](const Pod* one) { return !selects(spec["selector"], *one->object); });
  if (chosen.empty()) return nullptr;
  kube::JsonEdit edit;
  kube::MutJson root = edit.root();
  root.set("apiVersion", "discovery.k8s.io/v1");
  root.set("kind", "EndpointSlice");
  kube::MutJson metadata = root.object("metadata");
  metadata.set("name", "skerry-local-" + service.name());
  metadata.set("namespace", service.namespace_());
  metadata.object("labels").set("kubernetes.io/service-name", service.name());
  root.set("addressType", "IPv4");
  kube::MutJson list = root.array("endpoints");
  for (const Pod* one : chosen) {
    kube::MutJson endpoint = list.push_object();
    endpoint.array("addresses").push(one->address);
    write(endpoint.object("conditions"), conditions_of(one->state, false, spec["publishNotReadyAddresses"].boolean()));
    const kube::JsonDoc pod = one->object->parse();
    if (const std::string_view host = pod.root()["spec"]["hostname"].str(); !one->stand_in && !host.empty() && pod.root()["spec"]["subdomain"].str() == service.name()) endpoint.set("hostname", host);
    endpoint.set("nodeName", node_);
    kube::MutJson target = endpoint.object("targetRef");
    target.set("kind", "Pod");
    target.set("namespace", one->object->namespace_());
    target.set("name", one->object->name());
    target.set("uid", one->object->uid());
  }
  // They are made from pods of one template mostly; where those differ in a named port, the first one's counts.
  const kube::JsonDoc first = chosen.front()->object->parse();
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
