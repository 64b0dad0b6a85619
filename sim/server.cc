// SPDX-License-Identifier: Apache-2.0
#include "sim/server.h"

#include <algorithm>
#include <format>

#include "base/check.h"
#include "kube/patch.h"
#include "kube/resources.h"

namespace skerry::sim {
namespace {

using Type = client::WatchEvent::Type;

ObjectKey key_of(const kube::Object& o) { return {o.namespace_(), o.name()}; }

kube::ObjectPtr object_of(const std::string& json) {
  auto made = kube::Object::from_json(json);
  CHECK(made.has_value());
  return *made;
}

std::string with_revision(const std::string& json, std::uint64_t revision) {
  auto edit = kube::JsonEdit::parse(json);
  CHECK(edit.has_value());
  edit->root()["metadata"].set("resourceVersion", std::to_string(revision));
  return edit->dump();
}

}  // namespace

std::string_view resource_name(Resource r) {
  constexpr std::string_view kNames[] = {"pods", "services", "endpointslices", "configmaps"};
  return kNames[static_cast<std::size_t>(r)];
}

SimServer::SimServer(World& world, SimNet& net, Options options) : world_(world), net_(net), options_(std::move(options)) {
  world_.after(1s, [this] { tick(); });
}

bool SimServer::selects(Resource r, const kube::Object& o) const { return r != Resource::Pods || o.node_name() == options_.node; }

// --- what a node asks -------------------------------------------------------------------------------------------------------

// Now and then something else than the truth is said.
std::optional<Error> SimServer::wrong() {
  if (!up) return Error(Errc::Unavailable, "connection refused");
  if (nonsense == 0 || !world_.chance(nonsense)) return std::nullopt;
  ++counters_.nonsense;
  constexpr Errc kCodes[] = {Errc::Internal, Errc::Corrupt, Errc::Unavailable, Errc::Denied, Errc::NotFound, Errc::Gone};
  const Errc code = kCodes[world_.pick(std::size(kCodes))];
  world_.trace(std::format("server: nonsense: {}", to_string(code)));
  return Error(code, "nonsense");
}

Result<SimServer::Listed> SimServer::list(Resource r) {
  ++counters_.lists;
  if (!up) return Fail({Errc::Unavailable, "connection refused"});
  if (nonsense > 0 && world_.chance(nonsense / 2)) {
    ++counters_.nonsense;
    return Fail({Errc::Corrupt, "the list is not JSON"});
  }
  Listed out{.items = {}, .revision = kube::Revision(revision_)};
  const bool truncated = nonsense > 0 && world_.chance(nonsense), empty = truncated && world_.chance(0.5);
  for (const auto& [key, object] : of(r)) {
    if (!selects(r, *object)) continue;
    if (forgets_everything || empty || (truncated && world_.chance(0.5))) continue;
    out.items.push_back(object);
  }
  if (truncated) {
    ++counters_.nonsense;
    world_.trace(std::format("server: nonsense: a list of {} with {} items", resource_name(r), out.items.size()));
  }
  return out;
}

Result<kube::ObjectPtr> SimServer::get(Resource r, const ObjectKey& key) {
  ++counters_.gets;
  if (auto error = wrong(); error && error->code != Errc::NotFound) return Fail(std::move(*error));
  const auto found = find(r, key);
  if (!found || forgets_everything) return Fail({Errc::NotFound, key.name + " not found"});
  return found;
}

Result<SimServer::Digests> SimServer::renew_lease() {
  ++counters_.leases;
  if (auto error = wrong()) return Fail(std::move(*error));
  Digests out{};
  for (std::size_t r = 0; r < out.size(); ++r) {
    kube::Digest digest;
    for (const auto& [key, object] : objects_[r])
      if (selects(static_cast<Resource>(r), *object)) digest.add(*object);
    out[r] = digest.value();
  }
  return out;
}

Result<kube::ObjectPtr> SimServer::patch_status(const ObjectKey& key, const std::string& uid, const std::string& patch) {
  ++counters_.patches;
  if (auto error = wrong()) return Fail(std::move(*error));
  const auto found = find(Resource::Pods, key);
  if (!found) return Fail({Errc::NotFound, "pod " + key.name + " not found"});
  if (found->uid() != uid) return Fail({Errc::Conflict, "another pod has this name"});
  const auto doc = found->parse();
  auto patched = kube::apply_patch(kube::PatchType::StrategicMerge, *kube::find_resource("", "v1", "pods"), doc.root(), patch);
  CHECK(patched.has_value());
  PodFacts& facts = facts_[uid];
  const auto said = kube::JsonDoc::parse(patch);
  CHECK(said.has_value());
  const auto status = said->root()["status"];
  std::int64_t restarts = 0;
  for (const auto container : status["containerStatuses"].items()) restarts += container["restartCount"].i64();
  if (restarts < facts.restarts_told && on_told_backwards) on_told_backwards(uid, std::format("{} restarts after {}", restarts, facts.restarts_told));
  facts.restarts_told = std::max(facts.restarts_told, restarts);
  const std::string address(status["podIP"].str());
  if (!address.empty()) {
    if (!facts.address_told.empty() && facts.address_told != address && on_told_backwards)
      on_told_backwards(uid, std::format("address {} after {}", address, facts.address_told));
    facts.address_told = address;
  }
  const std::string json = patched->dump();
  if (json == *found->json()) return found;  // nothing has changed: no new revision
  const auto out = commit(Resource::Pods, Type::Modified, json);
  update_slices();
  return out;
}

Result<> SimServer::finish_pod(const ObjectKey& key, const std::string& uid) {
  if (auto error = wrong()) return Fail(std::move(*error));
  const auto found = find(Resource::Pods, key);
  if (!found) return Fail({Errc::NotFound, "pod " + key.name + " not found"});
  if (found->uid() != uid) return Fail({Errc::Conflict, "another pod has this name"});
  remove(Resource::Pods, key);
  return {};
}

// Whether nothing that a node selects was created, changed or removed after `from`, up to where the history begins (adr/0034).
bool SimServer::unchanged_since(Resource r, std::uint64_t from) const {
  if (removed_at_[static_cast<std::size_t>(r)] > from) return false;
  std::set<ObjectKey> in_history;
  for (const Change& c : history_)
    if (c.resource == r) in_history.insert(key_of(*c.object));
  for (const auto& [key, object] : objects_[static_cast<std::size_t>(r)])
    if (selects(r, *object) && object->revision().value() > from && !in_history.contains(key)) return false;
  return true;
}

Result<> SimServer::watch(Resource r, kube::Revision from, Duration timeout, SimNet::ConnectionPtr connection, Sink sink) {
  ++counters_.watches;
  if (auto error = wrong()) return Fail(std::move(*error));
  if (from.value() > revision_ || (from.value() < floor_ && !unchanged_since(r, from.value()))) {
    ++counters_.gone;
    return Fail({Errc::Gone, "too old resource version"});
  }
  auto watcher = std::make_shared<Watcher>(Watcher{r, std::move(connection), std::move(sink), world_.now() + timeout});
  watchers_.push_back(watcher);
  for (const Change& c : history_)
    if (c.resource == r && c.revision > from.value() && selects(r, *c.object)) send(watcher, {c.type, c.object, kube::Revision(c.revision)});
  return {};
}

// --- changes ----------------------------------------------------------------------------------------------------------------

void SimServer::note(const kube::Object& o) {
  if (o.kind() != "Pod") return;
  PodFacts& facts = facts_[o.uid()];
  facts.ever_deleting = facts.ever_deleting || o.deleting();
  const auto doc = o.parse();
  for (const auto container : doc.root()["spec"]["containers"].items()) facts.images.emplace(container["image"].str());
}

kube::ObjectPtr SimServer::commit(Resource r, Type type, const std::string& json) {
  const auto object = object_of(with_revision(json, ++revision_));
  const ObjectKey key = key_of(*object);
  if (type == Type::Deleted) {
    of(r).erase(key);
    if (selects(r, *object)) removed_at_[static_cast<std::size_t>(r)] = revision_;
    if (r == Resource::Pods) facts_[object->uid()].ever_gone = true;
  } else {
    of(r)[key] = object;
    note(*object);
  }
  history_.push_back({revision_, type, r, object});
  if (history_.size() > options_.history_max) {
    floor_ = history_.front().revision;
    history_.pop_front();
  }
  if (selects(r, *object))
    for (const auto& watcher : std::vector(watchers_))
      if (watcher->resource == r) send(watcher, {type, object, object->revision()});
  return object;
}

void SimServer::put(Resource r, std::string json) {
  const auto object = object_of(json);
  const bool known = of(r).contains(key_of(*object));
  commit(r, known ? Type::Modified : Type::Added, json);
  if (r == Resource::Pods || r == Resource::Services) update_slices();
}

void SimServer::delete_pod(const ObjectKey& key, Duration grace) {
  const auto found = find(Resource::Pods, key);
  if (!found || found->deleting()) return;
  auto edit = kube::JsonEdit::parse(*found->json());
  auto meta = edit->root()["metadata"];
  meta.set("deletionTimestamp", to_rfc3339(world_.clock.now() + grace));
  meta.set("deletionGracePeriodSeconds", static_cast<std::int64_t>(grace / 1s));
  commit(Resource::Pods, Type::Modified, edit->dump());
  update_slices();
}

void SimServer::remove(Resource r, const ObjectKey& key) {
  const auto found = find(r, key);
  if (!found) return;
  commit(r, Type::Deleted, *found->json());
  if (r != Resource::Slices) update_slices();
}

kube::ObjectPtr SimServer::find(Resource r, const ObjectKey& key) const {
  const auto& store = objects_[static_cast<std::size_t>(r)];
  const auto at = store.find(key);
  return at == store.end() ? nullptr : at->second;
}

// The EndpointSlice controller, a moment later: one slice a Service, of the pods whose label app is its selector's.
void SimServer::update_slices() {
  if (std::exchange(slices_due_, true)) return;
  world_.after(100ms, [this] {
    slices_due_ = false;
    if (!up) return;
    std::set<ObjectKey> wanted;
    for (const auto& [key, service] : std::map(of(Resource::Services))) {
      const auto doc = service->parse();
      const std::string app(doc.root()["spec"]["selector"]["app"].str());
      kube::JsonEdit slice;
      auto root = slice.root();
      root.set("apiVersion", "discovery.k8s.io/v1");
      root.set("kind", "EndpointSlice");
      auto meta = root.object("metadata");
      const ObjectKey name{key.namespace_, key.name + "-slice"};
      meta.set("name", name.name);
      meta.set("namespace", name.namespace_);
      meta.set("uid", "slice-of-" + service->uid());
      meta.object("labels").set("kubernetes.io/service-name", key.name);
      root.set("addressType", "IPv4");
      auto endpoints = root.array("endpoints");
      for (const auto& [pod_key, pod] : of(Resource::Pods)) {
        if (pod->label("app") != app) continue;
        const auto shown = pod->parse();
        const auto status = shown.root()["status"];
        const auto address = status["podIP"].str();
        if (address.empty() || pod->phase() == "Succeeded" || pod->phase() == "Failed") continue;
        bool ready = false;
        for (const auto condition : status["conditions"].items())
          if (condition["type"].str() == "Ready") ready = condition["status"].str() == "True";
        auto endpoint = endpoints.push_object();
        endpoint.array("addresses").push(address);
        endpoint.set("nodeName", pod->node_name());
        auto conditions = endpoint.object("conditions");
        conditions.set("ready", ready && !pod->deleting());
        conditions.set("serving", ready);
        conditions.set("terminating", pod->deleting());
      }
      auto port = root.array("ports").push_object();
      port.set("name", "");
      port.set("port", 8080);
      port.set("protocol", "TCP");
      wanted.insert(name);
      const auto former = find(Resource::Slices, name);
      if (former && with_revision(*former->json(), 0) == with_revision(slice.dump(), 0)) continue;
      put(Resource::Slices, slice.dump());
    }
    for (const auto& [key, slice] : std::map(of(Resource::Slices)))
      if (!wanted.contains(key)) remove(Resource::Slices, key);
  });
}

// --- watches ----------------------------------------------------------------------------------------------------------------

// What a broken server might say instead. A lie of a pod that nobody knows yet, under its own uid and revision, cannot be told from the
// truth by a node that hears nothing else: such a one does not last.
client::WatchEvent SimServer::twisted(const client::WatchEvent& event, bool lasts) {
  ++counters_.nonsense;
  if (event.type == Type::Bookmark) return {Type::Bookmark, nullptr, kube::Revision(event.revision.value() / 2)};
  auto edit = kube::JsonEdit::parse(*event.object->json());
  auto root = edit->root();
  const bool pod = event.object->kind() == "Pod";
  const std::size_t kind = world_.pick(!pod ? 1 : lasts ? 3 : 4);
  if (kind == 0) {
    root["metadata"].set("resourceVersion", std::to_string(event.revision.value() / 2));
  } else if (kind == 1) {
    root["spec"].set("nodeName", "edge-other");
    root["metadata"].set("uid", "of-another-node-" + event.object->uid());
    root["metadata"].set("name", event.object->name() + "-elsewhere");
  } else if (kind == 2) {
    root["spec"].array("containers").clear();
  } else {
    auto more = root["spec"]["containers"].push_object();
    more.set("name", "intruder");
    more.set("image", "r.example/app:9");
  }
  auto made = kube::Object::from_json(edit->dump());
  if (!made) return event;
  world_.trace(std::format("server: nonsense: event {} of {}", kind, (*made)->name()));
  return {event.type == Type::Deleted ? Type::Modified : event.type, *made, (*made)->revision()};
}

void SimServer::send(const std::shared_ptr<Watcher>& watcher, const client::WatchEvent& event) {
  if (watcher->connection->closed) return;
  const auto sink = watcher->sink.event;
  if (nonsense > 0 && world_.chance(nonsense)) {
    // Most often the right one follows. Otherwise what was said stands, or nothing was said at all, until the digests or a list show it.
    const bool lasts = event.type != Type::Bookmark && world_.chance(0.5);
    if (lasts && world_.chance(0.5)) {
      ++counters_.nonsense;
      return world_.trace(std::format("server: nonsense: no event of {}", event.object->name()));
    }
    net_.deliver(watcher->connection, watcher->sink.client, [sink, wrong_one = twisted(event, lasts)] { sink(wrong_one); });
    if (lasts) return;
  }
  net_.deliver(watcher->connection, watcher->sink.client, [sink, event] { sink(event); });
}

void SimServer::end(const std::shared_ptr<Watcher>& watcher, std::optional<Error> error) {
  if (std::exchange(watcher->connection->closed, true)) return;
  net_.deliver(watcher->connection, watcher->sink.client, [sink = watcher->sink.end, error] { sink({error}); });
}

void SimServer::tick() {
  world_.after(1s, [this] { tick(); });
  const auto second = std::chrono::duration_cast<std::chrono::seconds>(world_.elapsed());
  const bool bookmark = second % options_.bookmark_period == 0s;
  for (const auto& watcher : std::vector(watchers_)) {
    if (watcher->until <= world_.now()) end(watcher, std::nullopt);
    else if (bookmark && up) send(watcher, {Type::Bookmark, nullptr, kube::Revision(revision_)});
  }
  std::erase_if(watchers_, [](const auto& w) { return w->connection->closed || w->connection->dead || w->sink.client.expired(); });
}

// --- faults -----------------------------------------------------------------------------------------------------------------

void SimServer::restart() {
  world_.trace("server restarts");
  for (const auto& watcher : watchers_) end(watcher, Error(Errc::Unavailable, "connection reset"));
  watchers_.clear();
  history_.clear();
  floor_ = revision_;
  update_slices();
}

void SimServer::compact() {
  world_.trace("server compacts");
  const std::size_t half = (history_.size() + 1) / 2;
  for (std::size_t i = 0; i < half; ++i) {
    floor_ = history_.front().revision;
    history_.pop_front();
  }
}

void SimServer::take_backup() {
  world_.trace("server: backup taken");
  backup_ = Backup{};
  for (std::size_t i = 0; i < kResources; ++i) backup_->objects[i] = objects_[i];
  backup_->revision = revision_;
}

void SimServer::restore_backup() {
  if (!backup_) return;
  world_.trace(std::format("server restored from its backup of revision {}", backup_->revision));
  for (const auto& [key, pod] : of(Resource::Pods)) {
    const auto at = backup_->objects[0].find(key);
    if (at == backup_->objects[0].end() || at->second->uid() != pod->uid()) facts_[pod->uid()].ever_gone = true;
  }
  for (std::size_t i = 0; i < kResources; ++i) objects_[i] = backup_->objects[i];
  revision_ += 1000;  // beyond whatever anybody has seen: `skerry server` skips so many, as etcd's --bump-revision does
  for (auto& removed : removed_at_) removed = revision_;
  restart();
}

void SimServer::forget_told() {
  for (auto& [uid, facts] : facts_) {
    facts.restarts_told = -1;
    facts.address_told.clear();
  }
}

}  // namespace skerry::sim
