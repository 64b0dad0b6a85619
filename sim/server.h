// SPDX-License-Identifier: Apache-2.0
// A small model of an API server, as the node sees it: objects under one revision, lists and watches with history and bookmarks,
// compaction (410 Gone), restarts with the rule of docs/adr/0034, restores of an older copy, and nonsense. Around it a model of the
// controllers that matter to a node: EndpointSlices follow the pods' readiness.
// What is true is what is in here, also while the node cannot know it; the checkers ask it.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "client/watch_decoder.h"
#include "kube/digest.h"
#include "kube/object.h"
#include "sim/net.h"
#include "sim/world.h"

namespace skerry::sim {

enum class Resource : std::uint8_t { Pods, Services, Slices, ConfigMaps };
inline constexpr std::size_t kResources = 4;
std::string_view resource_name(Resource);  // "pods", …

struct ObjectKey {
  std::string namespace_, name;
  friend auto operator<=>(const ObjectKey&, const ObjectKey&) = default;
};

class SimServer {
 public:
  struct Options {
    std::string node = "edge-1";
    Duration bookmark_period = 60s;
    std::size_t history_max = 2000;
  };
  struct Listed {
    std::vector<kube::ObjectPtr> items;
    kube::Revision revision;
  };
  struct WatchEnd {
    std::optional<Error> error;  // nothing: the server ended it in order
  };
  struct Sink {
    LifeOf client;
    std::function<void(const client::WatchEvent&)> event;
    std::function<void(WatchEnd)> end;
  };

  SimServer(World&, SimNet&, Options);

  // --- what a node asks; called through SimNet::call
  Result<Listed> list(Resource);
  Result<kube::ObjectPtr> get(Resource, const ObjectKey&);
  Result<kube::ObjectPtr> patch_status(const ObjectKey&, const std::string& uid, const std::string& patch);
  Result<> finish_pod(const ObjectKey&, const std::string& uid);  // DELETE with grace 0 and the uid
  // Events follow on the connection; the answer to the request itself is only whether it was accepted.
  Result<> watch(Resource, kube::Revision from, Duration timeout, SimNet::ConnectionPtr, Sink);
  using Digests = std::array<std::uint64_t, 3>;  // of pods, Services, EndpointSlices, as docs/wire/digest.md has them
  Result<Digests> renew_lease();

  // --- what users and controllers do
  void put(Resource, std::string json);  // new, or the same name again; gets the next revision
  void delete_pod(const ObjectKey&, Duration grace);
  void remove(Resource, const ObjectKey&);
  kube::ObjectPtr find(Resource, const ObjectKey&) const;
  const std::map<ObjectKey, kube::ObjectPtr>& all(Resource r) const { return objects_[static_cast<std::size_t>(r)]; }
  kube::Revision revision() const { return kube::Revision(revision_); }

  // --- faults
  bool up = true;
  void restart();            // connections close; the history is lost
  void compact();            // the history's older half is lost
  void take_backup();
  void restore_backup();     // objects of the last backup; revisions go on beyond a gap
  double nonsense = 0;       // share of answers and events that are wrong, or of events that never come
  bool forgets_everything = false;  // canary of the tests: lists are empty and so is every answer

  // --- for the checkers
  struct PodFacts {
    bool ever_deleting = false, ever_gone = false;
    std::set<std::string> images;
    std::int64_t restarts_told = -1;
    std::string address_told;
  };
  const std::map<std::string, PodFacts>& facts() const { return facts_; }  // by uid
  void forget_told(const std::string& uid) { facts_[uid].restarts_told = -1, facts_[uid].address_told.clear(); }  // the node has forgotten it
  void forget_told();  // the node lost its disk: what it tells from now on may go back
  std::function<void(const std::string& uid, const std::string& what)> on_told_backwards;
  struct Counters {
    std::uint64_t lists = 0, watches = 0, gone = 0, patches = 0, gets = 0, leases = 0, nonsense = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  struct Change {
    std::uint64_t revision;
    client::WatchEvent::Type type;
    Resource resource;
    kube::ObjectPtr object;
  };
  struct Watcher {
    Resource resource;
    SimNet::ConnectionPtr connection;
    Sink sink;
    Instant until;
  };
  using Store = std::map<ObjectKey, kube::ObjectPtr>;
  Store& of(Resource r) { return objects_[static_cast<std::size_t>(r)]; }
  kube::ObjectPtr commit(Resource, client::WatchEvent::Type, const std::string& json);
  bool selects(Resource, const kube::Object&) const;
  void send(const std::shared_ptr<Watcher>&, const client::WatchEvent&);
  void end(const std::shared_ptr<Watcher>&, std::optional<Error>);
  void tick();
  bool unchanged_since(Resource, std::uint64_t from) const;
  void note(const kube::Object&);
  void update_slices();
  std::optional<Error> wrong();
  client::WatchEvent twisted(const client::WatchEvent&, bool lasts);

  World& world_;
  SimNet& net_;
  Options options_;
  Store objects_[kResources];
  std::uint64_t revision_ = 10, floor_ = 10;
  std::uint64_t removed_at_[kResources] = {};  // of what a node selects
  std::deque<Change> history_;
  std::vector<std::shared_ptr<Watcher>> watchers_;
  struct Backup {
    Store objects[kResources];
    std::uint64_t revision = 0;
  };
  std::optional<Backup> backup_;
  std::map<std::string, PodFacts> facts_;
  bool slices_due_ = false;
  Counters counters_;
};

}  // namespace skerry::sim
