// SPDX-License-Identifier: Apache-2.0
// The ConfigMaps, Secrets and RuntimeClasses that this node's pods refer to, and no others (a node may read only those).
// Fetched when a pod that needs them comes, refreshed when one is about to start; when the API server cannot be reached,
// what the checkpoint knew serves. Owner: the agent, on its loop.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "agent/environment.h"
#include "agent/pod_plan.h"
#include "base/time.h"
#include "client/client.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::agent {

class ReferenceCache final : public References {
 public:
  struct Options {
    Duration missing_again = 2s;     // an object that does not exist is asked for again
    Duration fresh_for = 60s;        // a known one, when a pod starts
    Duration answer_within = 3s;     // then what is on the disk serves
    std::size_t in_flight_max = 8;
  };
  // `changed` is called on the loop when an answer came; `stored` with what the checkpoint shall keep (null: remove).
  using Changed = std::function<void()>;
  using Stored = std::function<void(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr)>;

  ReferenceCache(rt::Loop&, client::Client&, Clock&, Options, Changed, Stored);
  rt::Task<> stop() { return tasks_.stop(); }

  void restore(kube::ObjectPtr);           // from the checkpoint
  void want(const PodPlan&);               // a pod came or starts anew: have its objects fresh
  void tick(Instant now);                  // asks again for what is missing
  void keep_only(const std::vector<const PodPlan*>&);  // forgets what no pod needs
  // ConfigMaps and RuntimeClasses that are known; never a Secret.
  void for_each_open(const std::function<void(const kube::ObjectPtr&)>&) const;

  Found config_map(std::string_view ns, std::string_view name) const override { return find(Kind::ConfigMap, ns, name); }
  Found secret(std::string_view ns, std::string_view name) const override { return find(Kind::Secret, ns, name); }
  Found runtime_class(std::string_view name) const override { return find(Kind::RuntimeClass, "", name); }

 private:
  enum class Kind : std::uint8_t { ConfigMap, Secret, RuntimeClass };
  using Key = std::tuple<Kind, std::string, std::string>;
  struct Entry {
    State state = State::Unknown;  // what find() answers
    kube::ObjectPtr object;        // may be set while Unknown: stale
    Instant asked{}, answered{};
    bool in_flight = false, wanted = false, ever = false;
  };
  static std::string_view kind_name(Kind);
  Found find(Kind, std::string_view ns, std::string_view name) const;
  void want_one(Kind, const std::string& ns, const std::string& name);
  void fetch_wanted();
  rt::Task<> fetch(Key key);

  client::Client& api_;
  Clock& clock_;
  Options options_;
  Changed changed_;
  Stored stored_;
  std::map<Key, Entry> entries_;
  std::size_t in_flight_ = 0;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::agent
