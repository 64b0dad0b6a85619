// SPDX-License-Identifier: Apache-2.0
// The control plane's objects: all in memory, one global revision, SQLite as the log. See README.md and docs/wire/store.md.
//
// Promises: a write is visible, and its watch event goes out, only after its commit; writes become visible in the order of
// their revisions; a mutation sees the newest version, committed or not, so read-modify-write needs no retry; revisions
// never go back, not even over a crash; what write() answered survives kill -9 and power loss, except in resources that
// are Coalesced (leases): those are durable at most `flush_every` later, and on stop().
// One owner, on one loop. Not thread-safe. Watches may outlive stop(), not the Store.
#pragma once
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/strong.h"
#include "base/time.h"
#include "kube/object.h"
#include "rt/blocking_pool.h"
#include "rt/loop.h"
#include "rt/task_group.h"
#include "sql/database.h"
#include "store/history.h"
#include "store/removals.h"
#include "store/watch.h"

namespace skerry::store {

using kube::ObjectPtr;
using kube::Revision;
using ResourceId = Strong<struct ResourceIdTag, std::uint16_t>;  // the index into Options.resources

enum class Durability : std::uint8_t { Immediate, Coalesced };
struct ResourceOptions {
  std::string name;  // on disk: never rename. "pods", "deployments.apps"
  Durability durability = Durability::Immediate;
  std::optional<Duration> ttl = {};     // since the last write; of objects that nobody deletes (events)
  std::size_t objects_max = 1'000'000;  // beyond: Exhausted, or with a ttl the oldest goes
  RemovalScope removal_scope = RemovalScope::Namespace;
};

// What a mutation decides. The bytes must contain the revision it was given as metadata.resourceVersion.
struct Put { std::string json; };
struct Remove { std::string json; };  // the last state, for watchers
struct Keep {};                       // nothing changes; write() answers the newest version once it is committed
using Outcome = std::variant<Put, Remove, Keep>;
// `newest` is null if there is no such object. Runs once, before write() first suspends.
using Mutation = std::move_only_function<Result<Outcome>(const ObjectPtr& newest, Revision next)>;
using Filter = std::function<bool(const kube::Object&)>;

// What a watch selects, and, if nothing can leave it, where that lies: only such a watch is answered from before the history.
struct Selected {
  Filter filter = {};  // empty: all
  // Every object that the filter selects stays selected while it exists, and is in this namespace and on this node ("": any).
  struct Lasting {
    std::string namespace_ = {}, node = {};
  };
  std::optional<Lasting> lasting = {};
};

struct ListQuery {
  std::string namespace_ = {};       // "": all
  Filter filter = {};                // empty: all
  std::size_t limit = 0;             // 0: no limit
  std::string start_after = {};      // a key: ListResult::last_key
  std::optional<Revision> at = {};   // as it was then; Gone if the history does not reach back
};
struct ListResult {
  std::vector<ObjectPtr> items;
  Revision revision;
  bool more = false;
  std::string last_key;       // of the last item, if more
  std::size_t remaining = 0;  // how many follow, before filtering
};

class Store {
 public:
  struct Options {
    std::vector<ResourceOptions> resources;
    std::size_t queue_max = 20'000;         // writes waiting; beyond: Exhausted
    std::size_t batch_max = 4096;           // writes in one transaction
    History::Limits history = {};           // per resource
    std::size_t removal_scopes_max = 10'000;  // per resource; beyond: the oldest half is forgotten
    Duration flush_every = std::chrono::seconds(60);
    Duration sweep_every = std::chrono::seconds(10);
    Duration compact_every = std::chrono::minutes(10);
    std::string copy_to = {};  // a last good copy for Database::open_or_restore; "": none
    Duration copy_every = std::chrono::hours(6);  // if something was written; and on stop()
    std::uint64_t skip_revisions = 0;  // after a restore from an old copy: kAfterRestore
  };
  // More than could have been given out since any copy was made: revisions go on above what clients have seen.
  static constexpr std::uint64_t kAfterRestore = 1'000'000'000;
  static std::span<const std::string_view> migrations();
  // Reads everything. The database must have been opened with migrations().
  static Result<std::unique_ptr<Store>> open(rt::Loop&, const Clock&, sql::Database, Options);
  ~Store();  // CHECK: stopped, or never written to
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  void start();         // expiry, flushing, compaction
  rt::Task<> stop();    // ends watches, waits for writes, flushes, compacts. Idempotent
  rt::Task<> flush();   // coalesced resources to the disk, now
  rt::Task<> sweep(Time now);  // what start() does every sweep_every: expire
  rt::Task<> compact();
  rt::Task<> copy();  // to Options.copy_to

  std::optional<ResourceId> find_resource(std::string_view name) const;
  ObjectPtr get(ResourceId, std::string_view namespace_, std::string_view name) const;     // committed; null: absent
  ObjectPtr newest(ResourceId, std::string_view namespace_, std::string_view name) const;  // with what is on its way
  void for_each_newest(ResourceId, const std::function<void(const kube::Object&)>&) const;
  Result<ListResult> list(ResourceId, const ListQuery&) const;
  std::size_t count(ResourceId) const;
  // Of all visible objects, or, of a resource whose removal scope is the node, of those of one node.
  std::uint64_t digest(ResourceId, std::string_view node = {}) const;
  // Of a resource whose removal scope is the node: the visible ones of one node, in no order. They live until the next write is visible.
  void for_each_of_node(ResourceId, std::string_view node, const std::function<void(const kube::Object&)>& visit) const;
  Revision revision() const { return visible_; }  // all writes up to it are visible

  // The stored version (for Remove: the last). Errors: what the mutation answered; Exhausted; Unavailable, Corrupt … from
  // the disk: then nothing of it is visible, though a crash right after may bring it back.
  rt::Task<ObjectPtr> write(ResourceId, std::string namespace_, std::string name, Mutation);

  // Events after `from`; without it, first what exists as Added. Gone: `from` is newer than anything here, or older than the
  // history and something selected changed in between, or that cannot be told (ADR 0034).
  Result<std::unique_ptr<Watch>> watch(ResourceId, Selected, std::optional<Revision> from);

  struct Stats {
    std::uint64_t writes = 0, commits = 0, commit_failures = 0, rows_written = 0, events = 0, watches_dropped = 0;
    std::uint64_t watches_resumed = 0;  // from before the history, because nothing had changed
    std::size_t watches = 0, queued = 0, history_bytes = 0;
    std::int64_t database_bytes = 0;
  };
  Stats stats() const;

  static std::string key_of(std::string_view namespace_, std::string_view name);

 private:
  struct Pending;
  struct Table;
  struct Log;
  using Batch = std::vector<std::shared_ptr<Pending>>;
  Store(rt::Loop&, const Clock&, Options);
  Table& table(ResourceId id) { return *tables_[id.value()]; }
  const Table& table(ResourceId id) const { return *tables_[id.value()]; }
  Result<> load(Log&);
  Result<> load_removals(Log&);
  static bool unchanged_before_history(const Table&, const Selected&, Revision since);
  void enqueue(std::shared_ptr<Pending>);
  void kick();
  void start_batch();
  void finish_batch(Result<> outcome);
  void apply(Pending&);
  void settle(const std::shared_ptr<Pending>&, Result<ObjectPtr>);
  static rt::Task<ObjectPtr> wait(std::shared_ptr<Pending>);
  rt::Task<> housekeeping();
  Result<> make_room(Table&);

  rt::Loop& loop_;
  const Clock& clock_;
  Options options_;
  std::vector<std::unique_ptr<Table>> tables_;
  std::shared_ptr<Log> log_;  // touched by the pool's thread only, once loaded
  std::deque<std::shared_ptr<Pending>> queue_;
  std::shared_ptr<Batch> batch_;
  bool kicked_ = false, stopping_ = false, stopped_ = false, dirty_since_start_ = false;
  std::uint64_t last_ = 0;      // the newest revision given out
  std::uint64_t reserved_ = 0;  // on disk: no revision above it is visible
  Revision visible_;
  std::uint64_t removed_since_compaction_ = 0, copied_commits_ = 0;
  Stats stats_;
  rt::TaskGroup tasks_;
  rt::BlockingPool pool_;  // last: its jobs end before what they touch goes away
};

}  // namespace skerry::store
