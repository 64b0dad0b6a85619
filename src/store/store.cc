// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

#include <algorithm>
#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <format>

#include "base/check.h"
#include "base/log.h"
#include "kube/digest.h"
#include "kube/packer.h"
#include "store/log.h"

namespace skerry::store {
namespace {
constexpr std::uint64_t kReserve = 100'000;  // revisions reserved ahead on disk
}

// A write on its way: from its mutation to the answer.
struct Store::Pending {
  ResourceId resource;
  std::string key;
  std::uint64_t revision = 0;  // 0: Keep, waits its turn and changes nothing
  ObjectPtr object;            // of a removal, the last state
  bool removed = false;
  int grows = 0;         // by how many objects its table grows
  bool flushes = false;  // its batch carries the coalesced resources to the disk
  std::optional<Result<ObjectPtr>> result;
  rt::asio::any_completion_handler<void()> resume;
};

struct Store::Table {
  struct Newest {
    std::uint64_t revision;
    ObjectPtr object;  // null: removed
  };
  struct Age {
    Time at;
    std::shared_ptr<const kube::Identity> object;
    Revision revision;
  };
  ResourceOptions options;
  kube::Packer packer;  // of what is visible; what is on its way is plain
  kube::Objects objects;
  std::unordered_map<std::string, Newest> pending;
  std::size_t live = 0;  // objects, with what is on its way
  WatchSource source;
  Removals removals;
  kube::Digest digest;
  struct OfNode {
    kube::Digest digest;
    std::vector<const kube::Object*> objects;  // in no order
  };
  std::unordered_map<std::string, OfNode> of_node;  // removal scope Node: by spec.nodeName, without ""
  std::deque<Age> ages;         // with a ttl: every write, oldest first
  std::set<std::string> dirty;  // Coalesced: keys whose state is not on disk yet

  Table(ResourceOptions o, const Options& all)
      : options(std::move(o)), source{History(all.history, Revision())}, removals(all.removal_scopes_max) {}
  const std::string& removal_scope(const kube::Object& object) const {
    return options.removal_scope == RemovalScope::Node ? object.node_name() : object.namespace_();
  }
  // What is visible changes; either may be null. `after` is the one that stays.
  void note_change(const kube::Object* before, const kube::Object* after) {
    if (before) digest.remove(*before);
    if (after) digest.add(*after);
    if (options.removal_scope != RemovalScope::Node) return;
    if (before && !before->node_name().empty()) {
      const auto at = of_node.find(before->node_name());
      at->second.digest.remove(*before);
      const auto there = std::ranges::find(at->second.objects, before);
      *there = at->second.objects.back();
      at->second.objects.pop_back();
      if (at->second.objects.empty()) of_node.erase(at);
    }
    if (after && !after->node_name().empty()) {
      OfNode& of = of_node[after->node_name()];
      of.digest.add(*after);
      of.objects.push_back(after);
    }
  }
  ObjectPtr find(std::string_view key) const {
    const auto at = objects.find(key);
    return at == objects.end() ? nullptr : *at;
  }
  ObjectPtr newest(const std::string& key) const {
    const auto at = pending.find(key);
    return at == pending.end() ? find(key) : at->second.object;
  }
};

struct Store::Log : store::Log {
  using store::Log::Log;
};

std::string Store::key_of(std::string_view namespace_, std::string_view name) {
  return namespace_.empty() ? std::string(name) : std::format("{}/{}", namespace_, name);
}
std::span<const std::string_view> Store::migrations() { return log_migrations(); }

Store::Store(rt::Loop& loop, const Clock& clock, Options options)
    : loop_(loop), clock_(clock), options_(std::move(options)), tasks_(loop), pool_({.name = "store", .threads = 1, .queue_max = 16}) {}
Store::~Store() {
  CHECK(stopped_ || !dirty_since_start_);
  for (auto& t : tables_) t->source.end(Error(Errc::Unavailable, "the store is gone"));
}

Result<std::unique_ptr<Store>> Store::open(rt::Loop& loop, const Clock& clock, sql::Database database, Options options) {
  CHECK(!options.resources.empty() && options.resources.size() < 65'535);
  std::vector<std::string> names;
  for (const auto& resource : options.resources) names.push_back(resource.name);
  std::unique_ptr<Store> store(new Store(loop, clock, std::move(options)));
  for (const auto& resource : store->options_.resources) {
    store->tables_.push_back(std::make_unique<Table>(resource, store->options_));
  }
  store->log_ = std::make_shared<Log>(std::move(database), std::move(names));
  TRY_OK(store->load(*store->log_));
  return store;
}

Result<> Store::load(Log& log) {
  const Time now = clock_.now();
  TRY(const auto meta, log.load([&](std::uint16_t resource, std::string_view key, std::string_view json) -> Result<> {
    auto object = kube::Object::from_json(std::string(json));
    if (!object) return Fail({Errc::Corrupt, std::format("the stored object {} cannot be read: {}", key, object.error().what)});
    Table& t = *tables_[resource];
    ObjectPtr packed = t.packer.pack(*object);
    if (t.options.ttl) t.ages.push_back({now, packed->identity(), packed->revision()});
    t.note_change(nullptr, packed.get());
    t.objects.insert(t.objects.end(), std::move(packed));
    ++t.live;
    return {};
  }));
  // Between the two lie revisions that were only seen in memory (leases) before a crash. Of what is durable nothing is
  // newer than `revision`: whoever saw that much has missed nothing.
  last_ = std::max({meta.revision, meta.reserved, std::uint64_t{1}}) + options_.skip_revisions;
  reserved_ = meta.reserved;
  visible_ = Revision(last_);
  for (auto& t : tables_) {
    const bool durable = t->options.durability == Durability::Immediate && options_.skip_revisions == 0;
    t->source.history = History(options_.history, Revision(durable && meta.revision > 0 ? meta.revision : last_));
  }
  TRY_OK(load_removals(log));
  stats_.database_bytes = log.bytes();
  return {};
}

// A coalesced resource may have lost writes that its watchers saw, and an older copy what was written since it was made: of what
// was before this start nothing is known then. For the copy that must be so after the next start too, when nothing tells that
// it was one: it is written before anybody is answered.
Result<> Store::load_removals(Log& log) {
  TRY_OK(log.load_removals(
      [&](const RemovalFloor& floor) { tables_[floor.resource]->removals = Removals(options_.removal_scopes_max, Revision(floor.revision)); },
      [&](const RemovalRow& row) { tables_[row.resource]->removals.add(row.scope, Revision(row.revision)); }));
  LogBatch restored;
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const bool copy = options_.skip_revisions != 0;
    if (!copy && tables_[i]->options.durability == Durability::Immediate) continue;
    tables_[i]->removals = Removals(options_.removal_scopes_max, Revision(last_));
    if (copy) restored.removal_floors.push_back({static_cast<std::uint16_t>(i), last_});
  }
  if (restored.removal_floors.empty()) return {};
  restored.revision = last_;
  restored.reserved = reserved_ = last_ + kReserve;
  return log.write(restored);
}

std::optional<ResourceId> Store::find_resource(std::string_view name) const {
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    if (tables_[i]->options.name == name) return ResourceId(static_cast<std::uint16_t>(i));
  }
  return std::nullopt;
}
ObjectPtr Store::get(ResourceId id, std::string_view namespace_, std::string_view name) const {
  return table(id).find(key_of(namespace_, name));
}
ObjectPtr Store::newest(ResourceId id, std::string_view namespace_, std::string_view name) const {
  return table(id).newest(key_of(namespace_, name));
}
void Store::for_each_newest(ResourceId id, const std::function<void(const kube::Object&)>& visit) const {
  const Table& t = table(id);
  for (const auto& object : t.objects) {
    if (t.pending.empty() || !t.pending.contains(key_of(object->namespace_(), object->name()))) visit(*object);
  }
  for (const auto& [key, newest] : t.pending) {
    if (newest.object) visit(*newest.object);
  }
}
std::uint64_t Store::digest(ResourceId id, std::string_view node) const {
  const Table& t = table(id);
  if (node.empty()) return t.digest.value();
  const auto at = t.of_node.find(std::string(node));
  return at == t.of_node.end() ? 0 : at->second.digest.value();
}
void Store::for_each_of_node(ResourceId id, std::string_view node, const std::function<void(const kube::Object&)>& visit) const {
  const Table& t = table(id);
  if (const auto at = t.of_node.find(std::string(node)); at != t.of_node.end())
    for (const kube::Object* object : at->second.objects) visit(*object);
}
std::size_t Store::count(ResourceId id) const { return table(id).objects.size(); }

Result<ListResult> Store::list(ResourceId id, const ListQuery& query) const {
  const Table& t = table(id);
  ListResult out;
  out.revision = visible_;
  // As it was at an older revision: the changes since, undone.
  std::map<ObjectPtr, ObjectPtr, kube::ByKey> undone;  // by any version of the object; null: it was not there
  if (query.at && *query.at < visible_) {
    const History& history = t.source.history;
    if (*query.at < history.floor()) return Fail({Errc::Gone, "the history of that revision is no longer kept: list again from the start"});
    out.revision = *query.at;
    for (std::uint64_t i = history.end(); i > history.after(*query.at); --i) {
      const Change& change = *history.at(i - 1);
      undone[change.object] = change.previous;
    }
  } else if (query.at && *query.at > visible_) {
    return Fail({Errc::Timeout, std::format("Too large resource version: {}, current: {}", query.at->value(), visible_.value())});
  }
  const std::string prefix = query.namespace_.empty() ? "" : query.namespace_ + "/";
  const auto begins = [&](const ObjectPtr& object) { return query.namespace_.empty() || object->namespace_() == query.namespace_; };
  auto at = t.objects.lower_bound(std::string_view(prefix));
  auto was = undone.lower_bound(std::string_view(prefix));
  if (!query.start_after.empty()) {
    if (query.start_after >= prefix) {
      at = t.objects.upper_bound(std::string_view(query.start_after));
      was = undone.upper_bound(std::string_view(query.start_after));
    }
  }
  // Merges the present with the undone changes, in the order of the keys.
  for (;;) {
    const bool has_at = at != t.objects.end() && begins(*at), has_was = was != undone.end() && begins(was->first);
    if (!has_at && !has_was) break;
    const int order = has_at && has_was ? kube::compare_keys(*was->first, **at) : 0;
    const bool take_was = has_was && (!has_at || order <= 0);
    const ObjectPtr& object = take_was ? was->second : *at;
    if (object && (!query.filter || query.filter(*object))) {
      if (query.limit != 0 && out.items.size() == query.limit) {
        out.more = true;
        break;
      }
      out.items.push_back(object);
      if (query.limit != 0) out.last_key = key_of(object->namespace_(), object->name());
    }
    if (take_was && has_at && order == 0) ++at;
    if (take_was) {
      ++was;
    } else {
      ++at;
    }
  }
  if (out.more && undone.empty()) {
    for (; at != t.objects.end() && begins(*at); ++at) ++out.remaining;
  }
  if (!out.more) out.last_key.clear();
  return out;
}

rt::Task<ObjectPtr> Store::write(ResourceId id, std::string namespace_, std::string name, Mutation mutate) {
  if (stopping_) co_return Fail({Errc::Unavailable, "the server is stopping: try again soon"});
  if (queue_.size() >= options_.queue_max) co_return Fail({Errc::Exhausted, "too many writes wait for the disk: try again in a moment"});
  Table& t = table(id);
  auto pending = std::make_shared<Pending>();
  pending->resource = id;
  pending->key = key_of(namespace_, name);
  const ObjectPtr newest = t.newest(pending->key);
  CO_TRY(Outcome outcome, mutate(newest, Revision(last_ + 1)));
  if (std::holds_alternative<Keep>(outcome)) {
    if (!t.pending.contains(pending->key)) co_return newest;
    pending->object = newest;
  } else {
    const bool removed = std::holds_alternative<Remove>(outcome);
    if (removed && !newest) co_return Fail({Errc::NotFound, std::format("{} {} does not exist", t.options.name, pending->key)});
    std::string json = removed ? std::move(std::get<Remove>(outcome).json) : std::move(std::get<Put>(outcome).json);
    if (!removed && !newest) CO_TRY_OK(make_room(t));
    CO_TRY(pending->object, kube::Object::from_json(std::move(json)));
    CHECK(pending->object->revision().value() == last_ + 1);
    CHECK(key_of(pending->object->namespace_(), pending->object->name()) == pending->key);
    pending->revision = ++last_;
    pending->removed = removed;
    pending->grows = removed ? -1 : newest ? 0 : 1;
    t.live += static_cast<std::size_t>(pending->grows);
    t.pending[pending->key] = {pending->revision, removed ? nullptr : pending->object};
    if (t.options.ttl && !removed) t.ages.push_back({clock_.now(), pending->object->identity(), Revision(pending->revision)});
  }
  enqueue(pending);
  co_return co_await wait(pending);
}

// Only a limit of objects without a ttl refuses; with one, sweep() removes what is too much soon after.
Result<> Store::make_room(Table& t) {
  if (t.live < t.options.objects_max || t.options.ttl) return {};
  return Fail({Errc::Exhausted, std::format("there are {} {} already, which is the limit: delete some", t.options.objects_max, t.options.name)});
}

void Store::enqueue(std::shared_ptr<Pending> pending) {
  dirty_since_start_ = true;
  queue_.push_back(std::move(pending));
  kick();
}

rt::Task<ObjectPtr> Store::wait(std::shared_ptr<Pending> pending) {
  if (!pending->result) {
    co_await rt::asio::async_initiate<const rt::asio::use_awaitable_t<>, void()>(
        [pending](auto handler) { pending->resume = std::move(handler); }, rt::asio::use_awaitable);
  }
  co_return std::move(*pending->result);
}

void Store::settle(const std::shared_ptr<Pending>& pending, Result<ObjectPtr> result) {
  pending->result.emplace(std::move(result));
  if (pending->resume) rt::asio::post(loop_.context(), [pending] { std::exchange(pending->resume, {})(); });
}

// The batch starts from the loop's queue, not at once: everything that is ready to write joins it.
void Store::kick() {
  if (batch_ || kicked_ || queue_.empty()) return;
  kicked_ = true;
  loop_.post([this] {
    kicked_ = false;
    start_batch();
  });
}

void Store::start_batch() {
  if (batch_ || queue_.empty()) return;
  batch_ = std::make_shared<Batch>();
  const auto take = std::min(queue_.size(), options_.batch_max);
  batch_->assign(std::make_move_iterator(queue_.begin()), std::make_move_iterator(queue_.begin() + static_cast<std::ptrdiff_t>(take)));
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(take));
  auto rows = std::make_shared<LogBatch>();
  std::uint64_t newest = 0;
  bool flushes = false;
  std::map<std::pair<std::uint16_t, std::string>, std::uint64_t> removals;
  for (const auto& pending : *batch_) {
    flushes = flushes || pending->flushes;
    if (pending->revision == 0) continue;
    newest = pending->revision;
    const Table& t = table(pending->resource);
    if (t.options.durability != Durability::Immediate) continue;
    if (pending->removed) removals[{pending->resource.value(), t.removal_scope(*pending->object)}] = pending->revision;
    rows->rows.push_back({pending->resource.value(), pending->key, pending->removed ? nullptr : pending->object});
    rows->revision = pending->revision;
  }
  for (auto& [where, revision] : removals) rows->removals.push_back({where.first, where.second, revision});
  for (std::size_t i = 0; i < tables_.size() && !rows->removals.empty(); ++i) {
    if (tables_[i]->options.durability != Durability::Immediate) continue;
    if (const auto floor = tables_[i]->removals.take_raised_floor()) rows->removal_floors.push_back({static_cast<std::uint16_t>(i), floor->value()});
  }
  if (flushes) {
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      Table& t = *tables_[i];
      for (const std::string& key : t.dirty) rows->rows.push_back({static_cast<std::uint16_t>(i), key, t.find(key)});
      t.dirty.clear();
    }
    // Leases of this very batch become visible after it: they stay for the next flush.
  }
  if (newest > reserved_) rows->reserved = newest + kReserve;
  if (rows->rows.empty() && rows->reserved == 0) return finish_batch(Result<>());
  auto log = log_;
  const bool taken = pool_.post([this, log, rows] {
    auto outcome = std::make_shared<Result<>>(log->write(*rows));
    const std::int64_t bytes = log->bytes();
    loop_.post([this, outcome, rows, bytes] {
      stats_.database_bytes = bytes;
      if (*outcome) {
        if (rows->reserved != 0) reserved_ = rows->reserved;
        ++stats_.commits;
        stats_.rows_written += rows->rows.size();
      } else {
        // What a flush wanted to write is still to be written.
        for (const LogRow& row : rows->rows) {
          Table& t = *tables_[row.resource];
          if (t.options.durability == Durability::Coalesced) t.dirty.insert(row.key);
        }
      }
      finish_batch(std::move(*outcome));
    });
  });
  CHECK(taken);  // one batch at a time, and few other jobs
}

void Store::finish_batch(Result<> outcome) {
  const auto batch = std::exchange(batch_, nullptr);
  const auto lives = [&](const Pending& p) {
    return outcome || (table(p.resource).options.durability == Durability::Coalesced && p.revision <= reserved_);
  };
  if (!outcome) {
    ++stats_.commit_failures;
    LOG_WARN("commit failed", {"error", outcome.error()}, {"writes", batch->size()});
    // What is queued behind may build on what failed: it fails too. Leases go on, they do not need the disk.
    Batch failed;
    for (auto& pending : std::exchange(queue_, {})) {
      if (lives(*pending)) {
        queue_.push_back(std::move(pending));
      } else {
        failed.push_back(std::move(pending));
      }
    }
    batch->insert(batch->end(), failed.begin(), failed.end());
  }
  for (const auto& pending : *batch) {
    if (!lives(*pending)) {
      Table& t = table(pending->resource);
      t.live -= static_cast<std::size_t>(pending->grows);
      t.pending.erase(pending->key);
      settle(pending, Fail(outcome.error()));
      continue;
    }
    apply(*pending);
    settle(pending, pending->object);
  }
  kick();
}

void Store::apply(Pending& pending) {
  if (pending.revision == 0) return;
  Table& t = table(pending.resource);
  ++stats_.writes;
  ObjectPtr previous, object;
  if (const auto at = t.objects.find(std::string_view(pending.key)); at != t.objects.end()) {
    previous = *at;
    object = t.packer.pack(pending.object, previous);
    if (pending.removed) {
      t.objects.erase(at);
    } else {
      kube::put(t.objects, object);
    }
  } else if (!pending.removed) {
    object = t.packer.pack(pending.object);
    t.objects.insert(object);
  }
  if (!pending.removed || previous) t.note_change(previous.get(), pending.removed ? nullptr : object.get());
  if (pending.removed) {
    ++removed_since_compaction_;
    t.removals.add(t.removal_scope(*pending.object), Revision(pending.revision));
  }
  if (const auto at = t.pending.find(pending.key); at != t.pending.end() && at->second.revision == pending.revision) t.pending.erase(at);
  if (t.options.durability == Durability::Coalesced) t.dirty.insert(pending.key);
  visible_ = Revision(pending.revision);
  if (pending.removed && !previous) return;
  ++stats_.events;
  t.source.history.push(std::make_shared<const Change>(visible_, std::move(object), std::move(previous), pending.removed));
  t.source.notify();
}

// Did nothing that is selected change after `since` and up to the history's floor? What came later the history tells itself.
bool Store::unchanged_before_history(const Table& t, const Selected& selected, Revision since) {
  const Selected::Lasting everywhere;
  if (selected.filter && !selected.lasting) return false;  // an object may have left the selection and exist still
  const Selected::Lasting& where = selected.lasting ? *selected.lasting : everywhere;
  if (!t.removals.none_since(since, t.options.removal_scope == RemovalScope::Node ? where.node : where.namespace_)) return false;
  const History& history = t.source.history;
  const auto changed = [&](const ObjectPtr& object) {
    return object && object->revision() > since && object->revision() <= history.floor() && (!selected.filter || selected.filter(*object));
  };
  if (std::ranges::any_of(t.objects, changed)) return false;
  // What the objects were that have changed again since.
  for (std::uint64_t i = history.first(); i < history.end(); ++i) {
    if (changed(history.at(i)->previous)) return false;
  }
  return true;
}

Result<std::unique_ptr<Watch>> Store::watch(ResourceId id, Selected selected, std::optional<Revision> from) {
  if (stopping_) return Fail({Errc::Unavailable, "the server is stopping: try again soon"});
  Table& t = table(id);
  std::vector<ObjectPtr> initial;
  std::uint64_t next = t.source.history.end();
  if (!from) {
    for (const auto& object : t.objects) {
      if (!selected.filter || selected.filter(*object)) initial.push_back(object);
    }
  } else {
    const bool old = *from < t.source.history.floor();
    if (old && !unchanged_before_history(t, selected, *from)) {
      return Fail({Errc::Gone, std::format("too old resource version: {} ({})", from->value(), t.source.history.floor().value())});
    }
    if (*from > visible_) {
      return Fail({Errc::Gone, std::format("resource version {} is newer than anything here ({}): list again", from->value(), visible_.value())});
    }
    const History& history = t.source.history;
    next = history.after(*from);
    if (old) {
      // Not left at the history's very end, where the next change would drop it: past all that does not concern it.
      const auto wanted = [&](const ObjectPtr& object) { return object && (!selected.filter || selected.filter(*object)); };
      while (next < history.end() && !wanted(history.at(next)->object) && !wanted(history.at(next)->previous)) ++next;
      ++stats_.watches_resumed;
    }
    if (next == history.end()) from = visible_;
  }
  return std::make_unique<Watch>(loop_, t.source, std::move(selected.filter), std::move(initial), next, from.value_or(visible_));
}

rt::Task<> Store::sweep(Time now) {
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    Table& t = *tables_[i];
    if (!t.options.ttl) continue;
    while (!t.ages.empty() && !stopping_) {
      const auto& oldest = t.ages.front();
      const ObjectPtr object = t.newest(key_of(oldest.object->namespace_, oldest.object->name));
      const bool current = object && object->revision() == oldest.revision;
      const bool expired = oldest.at + *t.options.ttl <= now, crowded = t.live > t.options.objects_max;
      if (current && !expired && !crowded) break;
      if (queue_.size() + 1 >= options_.queue_max) break;
      t.ages.pop_front();
      if (!current) continue;
      auto edit = kube::JsonEdit::copy(object->parse().root());
      edit.root().object("metadata").set("resourceVersion", std::to_string(last_ + 1));
      auto pending = std::make_shared<Pending>();
      pending->resource = ResourceId(static_cast<std::uint16_t>(i));
      pending->key = key_of(object->namespace_(), object->name());
      CO_TRY(pending->object, kube::Object::from_json(edit.dump()));
      pending->revision = ++last_;
      pending->removed = true;
      pending->grows = -1;
      --t.live;
      t.pending[pending->key] = {pending->revision, nullptr};
      enqueue(std::move(pending));
    }
  }
  co_return Result<>{};
}

rt::Task<> Store::flush() {
  // A turn through the queue first: what is visible only after the batch on its way belongs to this flush.
  auto barrier = std::make_shared<Pending>();
  barrier->resource = ResourceId(0);
  enqueue(barrier);
  CO_TRY_OK(co_await wait(barrier));
  auto done = std::make_shared<Pending>();
  done->resource = ResourceId(0);
  done->flushes = true;
  enqueue(done);
  CO_TRY_OK(co_await wait(done));
  co_return Result<>{};
}

rt::Task<> Store::compact() {
  auto log = log_;
  removed_since_compaction_ = 0;
  co_return co_await pool_.run<void>([log] { return log->compact(10'000); });
}

rt::Task<> Store::copy() {
  if (options_.copy_to.empty() || stats_.commits == copied_commits_) co_return Result<>{};
  const std::uint64_t commits = stats_.commits;
  auto log = log_;
  const std::string path = options_.copy_to;
  CO_TRY_OK(co_await pool_.run<void>([log, path] { return log->copy_to(path); }));
  copied_commits_ = commits;
  co_return Result<>{};
}

rt::Task<> Store::housekeeping() {
  Instant flushed = clock_.instant(), compacted = flushed, copied = flushed;
  for (;;) {
    CO_TRY_OK(co_await rt::sleep_for(options_.sweep_every));
    CO_TRY_OK(co_await sweep(clock_.now()));
    const Instant now = clock_.instant();
    if (now - flushed >= options_.flush_every) {
      flushed = now;
      if (std::ranges::any_of(tables_, [](const auto& t) { return !t->dirty.empty(); })) {
        if (auto done = co_await flush(); !done) LOG_WARN("flush failed", {"error", done.error()});
      }
    }
    if (now - compacted >= options_.compact_every && removed_since_compaction_ > 0) {
      compacted = now;
      if (auto done = co_await compact(); !done) LOG_WARN("compaction failed", {"error", done.error()});
    }
    if (now - copied >= options_.copy_every) {
      copied = now;
      if (auto done = co_await copy(); !done) LOG_WARN("copy of the store failed", {"error", done.error()});
    }
  }
}

void Store::start() { tasks_.spawn("store housekeeping", housekeeping()); }

rt::Task<> Store::stop() {
  if (stopped_) co_return Result<>{};
  stopping_ = true;
  for (auto& t : tables_) t->source.end(Error(Errc::Unavailable, "the server is stopping"));
  CO_TRY_OK(co_await tasks_.stop());
  Result<> done;
  if (dirty_since_start_) {
    done = co_await flush();
    // The exact end: after a clean stop no revision is skipped, and watches resume where they were.
    if (done) {
      LogBatch batch;
      batch.revision = batch.reserved = last_;
      auto log = log_;
      done = co_await pool_.run<void>([log, batch] { return log->write(batch); });
    }
    if (done) done = co_await compact();
    if (done) done = co_await copy();
  }
  stopped_ = true;
  co_return done;
}

Store::Stats Store::stats() const {
  Stats out = stats_;
  for (const auto& t : tables_) {
    out.watches += t->source.watchers.size();
    out.watches_dropped += t->source.dropped;
    out.history_bytes += t->source.history.bytes();
  }
  out.queued = queue_.size() + (batch_ ? batch_->size() : 0);
  return out;
}

}  // namespace skerry::store
