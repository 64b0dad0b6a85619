// SPDX-License-Identifier: Apache-2.0
// Makes objects small for keeping: pods of one Deployment, versions of one object and the Events about them differ in a few
// hundred bytes. Each is packed (LZ4) against one that looks alike, whose bytes are the dictionary; equal parts of the index are
// shared. A pod of 2.4 KB takes about 0.3 KB. Unpacking costs less than a microsecond, and happens in Object::json().
//
// One for each collection; not thread-safe. What it returns is an object like any other.
#pragma once
#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "kube/object.h"

namespace skerry::kube {

class Packer {
 public:
  static constexpr std::size_t kBasesMax = 32;          // that it remembers; a base lives as long as what is packed against it
  static constexpr std::size_t kBytesMax = 32u << 10;   // larger objects stay as they are
  static constexpr std::size_t kBytesMin = 128;

  // The same object, small, or the argument itself if nothing is won or it is packed already. `former`: an earlier version of
  // it, or null.
  ObjectPtr pack(const ObjectPtr&, const ObjectPtr& former = nullptr);

 private:
  struct Base {
    std::shared_ptr<const Traits> traits;
    Text text;
  };
  static constexpr std::size_t kTriesMax = 3;
  std::vector<const Base*> candidates(const Traits&) const;  // the likeliest first
  std::shared_ptr<const Traits> share(const std::shared_ptr<const Traits>&);
  std::deque<Base> bases_;  // the newest first
  std::deque<std::shared_ptr<const Traits>> traits_;
};

}  // namespace skerry::kube
