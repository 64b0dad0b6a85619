// SPDX-License-Identifier: Apache-2.0
// One stored object: canonical JSON bytes, immutable and shared, with the small index that selectors and lists need, so
// that get, list and watch send bytes and parse nothing. Thousands lie in memory and look alike: what is kept for long
// goes through a Packer (kube/packer.h), which shares the index and packs the bytes.
#pragma once
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/strong.h"
#include "kube/json.h"

namespace skerry::kube {

// The store's one counter. On the wire a decimal string (metadata.resourceVersion).
using Revision = Strong<struct RevisionTag, std::uint64_t>;
using Labels = std::vector<std::pair<std::string, std::string>>;  // sorted by key
using Text = std::shared_ptr<const std::string>;                  // never null

// Which object it is; shared by its versions.
struct Identity {
  std::string namespace_, name, uid;
  friend bool operator==(const Identity&, const Identity&) = default;
};
// What objects of one kind often have in common; shared by those that have.
struct Traits {
  std::string kind;
  Labels labels;
  std::string node_name;  // spec.nodeName; empty for other kinds
  std::string phase;      // status.phase; empty if absent
  friend bool operator==(const Traits&, const Traits&) = default;
};

class Object {
 public:
  // Indexes `json`, which must be one JSON object with metadata. Invalid: says what is missing.
  static Result<std::shared_ptr<const Object>> from_json(std::string json);
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  const std::string& kind() const { return traits_->kind; }
  const std::string& namespace_() const { return identity_->namespace_; }
  const std::string& name() const { return identity_->name; }
  const std::string& uid() const { return identity_->uid; }
  const Labels& labels() const { return traits_->labels; }
  const std::string& node_name() const { return traits_->node_name; }
  const std::string& phase() const { return traits_->phase; }
  Revision revision() const { return revision_; }
  bool deleting() const { return deleting_; }  // metadata.deletionTimestamp is set

  // The whole object, compact, with apiVersion, kind and metadata.resourceVersion. Of a packed object a new copy at each
  // call (under a microsecond for a pod): take it once. Any thread.
  Text json() const;
  std::size_t json_size() const { return json_size_; }
  // What its bytes take in memory.
  std::size_t stored_size() const { return packed_ ? packed_size_ : json_size_; }
  // Parses the bytes again; for code that reads fields beyond the index.
  JsonDoc parse() const;
  std::string_view label(std::string_view key) const;  // "" if absent
  const std::shared_ptr<const Identity>& identity() const { return identity_; }

 private:
  friend class Packer;
  struct Key {};  // only members and Packer make one

 public:
  Object(Key, std::shared_ptr<const Identity>, std::shared_ptr<const Traits>, Revision, bool deleting, std::size_t json_size, Text,
         std::string_view packed);

 private:
  std::shared_ptr<const Identity> identity_;
  std::shared_ptr<const Traits> traits_;
  Text text_;  // the bytes; of a packed object, those that it was packed against
  std::unique_ptr<const char[]> packed_;
  Revision revision_;
  std::uint32_t packed_size_, json_size_ : 31;
  bool deleting_ : 1;
};
using ObjectPtr = std::shared_ptr<const Object>;

// Orders objects as their keys are ordered: "namespace/name", or "name" without a namespace. For ordered containers, in place of
// a key of their own beside each object; a string_view is such a key.
int compare_keys(const Object&, const Object&);
int compare_keys(const Object&, std::string_view key);
struct ByKey {
  using is_transparent = void;
  bool operator()(const ObjectPtr& a, const ObjectPtr& b) const { return compare_keys(*a, *b) < 0; }
  bool operator()(const ObjectPtr& a, std::string_view b) const { return compare_keys(*a, b) < 0; }
  bool operator()(std::string_view a, const ObjectPtr& b) const { return compare_keys(*b, a) > 0; }
};
using Objects = std::set<ObjectPtr, ByKey>;
// In the place of the one with its key, or anew.
Objects::iterator put(Objects&, ObjectPtr);

}  // namespace skerry::kube
