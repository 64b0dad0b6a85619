// SPDX-License-Identifier: Apache-2.0
// Garbage collection by ownerReferences: the graph of who owns whom, and what must go. Pure.
// An object whose owners are all gone is deleted. One with a solid owner loses its references to owners that are gone.
// Foreground deletion of an owner waits for those dependents that block it; Orphan takes the references away first.
// An owner that was never seen is not believed to be absent: the shell asks the API first (`ask`).
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control/action.h"
#include "control/views.h"

namespace skerry::control {

class GarbageCore {
 public:
  void put(const client::ResourcePath&, const ObjectPtr&);
  void remove(const kube::Object&);
  // The API was asked for an owner: it is not there, or only another object of its name.
  void absent(const std::string& uid);

  struct Ask {
    OwnerReference owner;
    std::string namespace_;  // of the dependent; a cluster-scoped owner ignores it
  };
  struct Verdict {
    std::vector<Action> actions;
    std::vector<Ask> ask;  // then look() again
  };
  // What is to be done about an object.
  Verdict look(const std::string& uid) const;
  // Objects that must be looked at since the last call.
  std::set<std::string> take_candidates() { return std::exchange(candidates_, {}); }
  std::size_t size() const { return objects_.size(); }

 private:
  using Owners = std::shared_ptr<const std::vector<OwnerReference>>;
  struct Node {
    const client::ResourcePath* path;  // in paths_
    ObjectPtr object;
    Owners owners;  // never null; shared by siblings
    bool foreground = false, orphan = false;  // being deleted so
  };
  bool has_dependents(std::string_view uid) const { return dependents_.contains(std::string(uid)); }
  const client::ResourcePath* intern(const client::ResourcePath&);
  Action without_owners(const Node&, const std::set<std::string>& gone) const;
  Action without_finalizer(const Node&, std::string_view finalizer) const;

  std::deque<client::ResourcePath> paths_;  // a dozen
  const Owners none_ = std::make_shared<const std::vector<OwnerReference>>();
  Owners last_owners_ = none_;
  // By uid; only owners and the owned. The texts are those of the node's object: a node holds thousands.
  std::unordered_map<std::string_view, Node> objects_;
  std::unordered_map<std::string, std::set<std::string_view>> dependents_;  // owner uid to uids in objects_
  std::set<std::string> absent_;                                       // uids known to be gone
  std::set<std::string> candidates_;
};

}  // namespace skerry::control
