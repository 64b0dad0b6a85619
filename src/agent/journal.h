// SPDX-License-Identifier: Apache-2.0
// What waits for the checkpoint beside the pods' own states, and how far the watches have read: a revision never reaches the disk
// before what was seen up to it, so that a watch which resumes behind it misses nothing.
// A pure core: no I/O, no clock. Owner: agent::Agent, on its loop; the simulation drives it too.
//
//   put(), put_slowly() ──▶ collect() every few seconds, and when a pod leaves the disk ──▶ take(): one transaction ──▶ on_written()
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/checkpoint.h"
#include "agent/pod_table.h"

namespace skerry::agent {

class Journal {
 public:
  static constexpr Duration kRevisionsAtLeastEvery = std::chrono::minutes(10);  // without any change of an object
  using Revisions = std::vector<std::pair<std::string, kube::Revision>>;        // by resource: how far its watch has read

  // With the next write; object null: remove.
  void put(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr);
  void put_intent(std::uint64_t id, std::string json) { changes_.emplace_back(change::PutIntent{id, std::move(json)}); }
  void remove_intent(std::uint64_t id) { changes_.emplace_back(change::RemoveIntent{id}); }
  void put_number(std::string_view name, std::int64_t value);
  // With the next collect(); only the latest of each.
  void put_slowly(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr);
  // `pods`: PodTable::latest_objects(). All of it goes into one write with the revisions. True: there is something to write.
  bool collect(std::vector<Change> pods, const Revisions&, Instant now);
  void put(std::vector<Change>);
  // Of a checkpoint that is made anew from all that the agent holds: how far the watches have read, and what start() wrote.
  std::vector<Change> numbers(const Revisions&) const;
  // What is to be written, which must be durable before anything that follows from it is done; null: nothing. Until on_written() it is
  // the same again with what came since: the disk refused, and of everything the last word is enough.
  using Batch = std::shared_ptr<const std::vector<Change>>;
  Batch take();
  void on_written() { taken_ = nullptr; }
  bool waiting() const { return taken_ != nullptr; }  // something was taken and is not written

  // Where the watch of a resource goes on after a start; nothing: it lists. For pods, only if the table took all of them over.
  std::optional<kube::Revision> resume(const Checkpoint::Loaded&, const std::string& resource);
  // Something of the checkpoint was lost, at this start (`whole`: the table took over all that it knows) or at an earlier one: until the
  // API server was asked, what the keeper holds and nobody knows serves on (PodTable::meet). Kept over further starts.
  void start(const Checkpoint::Loaded&, bool whole);
  bool forgetful() const { return forgetful_; }
  void on_asked();  // the API server, what there is

 private:
  std::vector<Change> changes_;
  Batch taken_;
  bool forgetful_ = false;
  std::map<std::tuple<std::string, std::string, std::string>, kube::ObjectPtr> slow_;
  std::map<std::string, std::uint64_t> saved_;  // revisions, by resource
  Instant revisions_at_{};
};

}  // namespace skerry::agent
