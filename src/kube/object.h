// SPDX-License-Identifier: Apache-2.0
// One stored object: canonical JSON bytes, immutable and shared, with the small index that selectors and lists need, so
// that get, list and watch send bytes and parse nothing.
#pragma once
#include <cstdint>
#include <memory>
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

struct Object {
  std::string json;  // the whole object, compact, with apiVersion, kind and metadata.resourceVersion
  std::string kind, namespace_, name, uid;
  Labels labels;
  std::string node_name;  // spec.nodeName; empty for other kinds
  std::string phase;      // status.phase; empty if absent
  Revision revision;
  bool deleting = false;  // metadata.deletionTimestamp is set

  // Indexes `json`, which must be one JSON object with metadata. Invalid: says what is missing.
  static Result<std::shared_ptr<const Object>> from_json(std::string json);
  // Parses the bytes again; for code that reads fields beyond the index.
  JsonDoc parse() const;
  std::string_view label(std::string_view key) const;  // "" if absent
};
using ObjectPtr = std::shared_ptr<const Object>;

}  // namespace skerry::kube
