// SPDX-License-Identifier: Apache-2.0
// The ConfigMaps, Secrets and RuntimeClasses that this node's pods refer to, and no others (a node may read only those): the
// shell of reference_core.h, which decides what is asked for when. Owner: the agent, on its loop.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "agent/reference_core.h"
#include "client/client.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::agent {

class ReferenceCache final : public References {
 public:
  using Options = ReferenceCore::Options;
  // `changed` is called on the loop when an answer came; `stored` with what the checkpoint shall keep (null: remove).
  using Changed = std::function<void()>;
  using Stored = std::function<void(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr)>;

  ReferenceCache(rt::Loop&, client::Client&, Clock&, Options, Changed, Stored);
  rt::Task<> stop() { return tasks_.stop(); }

  void restore(kube::ObjectPtr object) { core_.restore(std::move(object)); }  // from the checkpoint
  void want(const PodPlan&);               // a pod came or starts anew: have its objects fresh
  void tick(Instant now);                  // asks again for what is missing
  bool compare(std::uint64_t servers);     // true: they are asked for again, for the server has others
  void keep_on_disk(bool keep) { store(core_.keep_on_disk(keep)); }
  void keep_only(const std::vector<const PodPlan*>&);  // forgets what no pod needs
  // ConfigMaps and RuntimeClasses that are known; never a Secret.
  void for_each_open(const std::function<void(const kube::ObjectPtr&)>& visit) const { core_.for_each_open(visit); }
  void for_each_stored(const std::function<void(const kube::ObjectPtr&)>& visit) const { core_.for_each_stored(visit); }  // ReferenceCore's

  Found config_map(std::string_view ns, std::string_view name) const override { return core_.config_map(ns, name); }
  Found secret(std::string_view ns, std::string_view name) const override { return core_.secret(ns, name); }
  Found runtime_class(std::string_view name) const override { return core_.runtime_class(name); }

 private:
  void fetch_wanted();
  void store(std::vector<ReferenceCore::Store>);
  rt::Task<> fetch(ReferenceCore::Key);

  client::Client& api_;
  Clock& clock_;
  ReferenceCore core_;
  Changed changed_;
  Stored stored_;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::agent
