// SPDX-License-Identifier: Apache-2.0
// When something was last removed, in each scope of one resource: what a watch from before the history has to know beside
// the objects that exist. Bounded: where there are too many scopes, the half that is longest unchanged is forgotten, and
// watches from before that are no longer answered. Pure; store.cc carries what it holds to the disk and back.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "kube/object.h"

namespace skerry::store {

// Which field of an object says in which scope its removal is remembered. A node is given to a pod once and stays.
enum class RemovalScope : std::uint8_t { Namespace, Node };

class Removals {
 public:
  // Of what happened up to `floor` nothing is known.
  explicit Removals(std::size_t scopes_max, kube::Revision floor = {}) : scopes_max_(scopes_max), floor_(floor), newest_(floor) {}

  // Raises the floor if there are more than scopes_max.
  void add(std::string_view scope, kube::Revision);
  // Is it known that nothing was removed after `since`: in that scope, or with "" anywhere?
  bool none_since(kube::Revision since, std::string_view scope) const;
  kube::Revision floor() const { return floor_; }
  std::size_t scopes() const { return newest_of_.size(); }
  // The floor, if it rose since this was last asked: rows up to it may go.
  std::optional<kube::Revision> take_raised_floor();

 private:
  void forget_half();
  std::size_t scopes_max_;
  kube::Revision floor_, newest_;
  bool raised_ = false;
  std::map<std::string, kube::Revision, std::less<>> newest_of_;
};

}  // namespace skerry::store
