// SPDX-License-Identifier: Apache-2.0
// What the controllers know of the cluster: informers for every resource but Events, indexes of pods and ReplicaSets,
// and the carrying out of actions. One owner (Controllers), on one loop.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "client/client.h"
#include "client/informer.h"
#include "control/action.h"
#include "control/events.h"
#include "control/views.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::control {

class Cluster {
 public:
  // The very version of an object, from somebody in this process who has it in memory; null: not there.
  using Share = std::function<ObjectPtr(const client::ResourcePath&, const kube::Object&)>;
  // Client, clock and random must outlive this. Without `share` it holds objects of its own.
  Cluster(rt::Loop&, client::Client&, const Clock&, Random&, EventCore::Options, Share share = {});

  using OnChange = std::function<void(const ObjectPtr& before, const ObjectPtr& after)>;
  // Called after the indexes have the change, in the order of subscription. Before start().
  void subscribe(const client::ResourcePath&, OnChange);
  // Every resource, with its path.
  using OnAnyChange = std::function<void(const client::ResourcePath&, const ObjectPtr& before, const ObjectPtr& after)>;
  void subscribe_all(OnAnyChange);

  void start();
  rt::Task<> synced();  // every informer has its first list
  rt::Task<> stop();

  rt::Loop& loop() { return loop_; }
  client::Client& client() { return client_; }
  const Clock& clock() const { return clock_; }
  Random& random() { return random_; }
  EventRecorder& events() { return events_; }

  bool watches(const client::ResourcePath&) const;  // the three below need that
  ObjectPtr get(const client::ResourcePath&, std::string_view namespace_, std::string_view name) const;  // null: absent
  const client::Cache& all(const client::ResourcePath&) const;
  kube::Revision revision(const client::ResourcePath&) const;

  std::vector<PodPtr> pods_of_controller(std::string_view uid) const;
  std::vector<PodPtr> pods_without_controller(std::string_view namespace_) const;
  std::vector<PodPtr> pods_of_namespace(std::string_view namespace_) const;
  std::vector<PodPtr> pods_of_node(std::string_view node) const;
  PodPtr pod(std::string_view namespace_, std::string_view name) const;
  std::vector<ReplicaSetPtr> replica_sets_of_namespace(std::string_view namespace_) const;

  // Carries out one action. What was wanted already is (deleting something absent) is success with a null object.
  rt::Task<ObjectPtr> execute(Action);

 private:
  struct ByKey {  // "namespace/name"
    using is_transparent = void;
    bool operator()(const PodPtr& a, const PodPtr& b) const { return kube::compare_keys(*a->object, *b->object) < 0; }
    bool operator()(const PodPtr& a, std::string_view b) const { return kube::compare_keys(*a->object, b) < 0; }
    bool operator()(std::string_view a, const PodPtr& b) const { return kube::compare_keys(*b->object, a) > 0; }
  };
  using Pods = std::set<PodPtr, ByKey>;
  using PodIndex = std::map<std::string, Pods, std::less<>>;
  static std::vector<PodPtr> all_of(const PodIndex&, std::string_view key);
  static void drop(PodIndex&, std::string_view key, const PodPtr&);

  struct Watched {
    client::ResourcePath path;
    std::function<ObjectPtr(const kube::Object&)> share;
    std::unique_ptr<client::Informer> informer;
    std::vector<OnChange> subscribers;
  };
  Watched& watched(const client::ResourcePath&);
  const Watched& watched(const client::ResourcePath&) const;
  void changed(Watched&, const ObjectPtr& before, const ObjectPtr& after);
  void index_pod(const ObjectPtr& before, const ObjectPtr& after);

  rt::Loop& loop_;
  client::Client& client_;
  const Clock& clock_;
  Random& random_;
  EventRecorder events_;
  std::vector<std::unique_ptr<Watched>> watched_;
  std::vector<OnAnyChange> any_subscribers_;
  Pods pods_;
  PodIndex by_controller_, without_controller_, by_node_;
  OwnerPtr last_controller_;  // siblings come one after another
  std::map<std::string, ReplicaSetPtr, std::less<>> replica_sets_;  // by "namespace/name"
};

}  // namespace skerry::control
