// SPDX-License-Identifier: Apache-2.0
// The recent changes of one resource, bounded in number and bytes: what watches read from and what a list at an older
// revision is made of. Positions are sequence numbers; an entry that fell out is simply no longer there.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "kube/object.h"

namespace skerry::store {

using Bytes = std::shared_ptr<const std::string>;  // one text for all its receivers

enum class EventType : std::uint8_t { Added, Modified, Deleted };
std::string_view to_string(EventType);  // ADDED …

// One change. Shared by the history and by those who are sending it. A history holds thousands: it is kept small.
class Change {
 public:
  Change(kube::Revision r, kube::ObjectPtr o, kube::ObjectPtr before, bool gone)
      : revision(r), object(std::move(o)), previous(std::move(before)), removed(gone) {}
  const kube::Revision revision;
  const kube::ObjectPtr object;    // the new version; of a removal, the last state at `revision`
  const kube::ObjectPtr previous;  // null: created
  const bool removed;

  // `previous` as the removal from a selection shows it: its content at this change's revision.
  kube::ObjectPtr left() const;
  // {"type":"…","object":…}\n, the same text for all who ask while somebody still holds it.
  Bytes line(EventType) const;
  // Nobody is expected to ask soon.
  void cool() const { line_.reset(); }

 private:
  struct Line {
    EventType type;
    std::weak_ptr<const std::string> text;
  };
  mutable std::unique_ptr<Line> line_;  // the last one made
};
using ChangePtr = std::shared_ptr<const Change>;
Bytes make_line(EventType, std::string_view object_json);

class History {
 public:
  struct Limits {
    std::size_t changes_max = 8192;
    std::size_t bytes_max = 16 << 20;
  };
  History(Limits limits, kube::Revision floor) : limits_(limits), floor_(floor) {}

  void push(ChangePtr);  // its objects packed
  // Changes after floor() are all here.
  kube::Revision floor() const { return floor_; }
  std::uint64_t first() const { return first_; }               // sequence number of the oldest
  std::uint64_t end() const { return first_ + changes_.size(); }  // one past the newest
  const ChangePtr& at(std::uint64_t sequence) const { return changes_[static_cast<std::size_t>(sequence - first_)]; }
  std::uint64_t after(kube::Revision) const;  // of the oldest change newer than that
  std::size_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t kWarm = 64;  // changes that watchers are likely to ask for
  Limits limits_;
  kube::Revision floor_;
  std::deque<ChangePtr> changes_;
  std::uint64_t first_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace skerry::store
