// SPDX-License-Identifier: Apache-2.0
// The store's file: current objects, the last removals, and two numbers. Written only by whole batches, on the writer's thread.
// Internal to store/; the format is docs/wire/store.md.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kube/object.h"
#include "sql/database.h"

namespace skerry::store {

struct LogRow {
  std::uint16_t resource;
  std::string key;
  kube::ObjectPtr object;  // null: remove
};
// Of a resource: when something was last removed in a scope.
struct RemovalRow {
  std::uint16_t resource;
  std::string scope;
  std::uint64_t revision;
};
// Of a resource: up to here its removals are forgotten.
struct RemovalFloor {
  std::uint16_t resource;
  std::uint64_t revision;
};
struct LogBatch {
  std::vector<LogRow> rows;
  std::vector<RemovalRow> removals = {};
  std::vector<RemovalFloor> removal_floors = {};
  std::uint64_t revision = 0;  // the newest in this batch; 0: leave
  std::uint64_t reserved = 0;  // 0: leave
};

class Log {
 public:
  Log(sql::Database database, std::vector<std::string> resources);

  struct Meta {
    std::uint64_t revision = 0, reserved = 0;
  };
  // Gives ids to the resources it knows and reads every object, in the order of the keys.
  Result<Meta> load(const std::function<Result<>(std::uint16_t resource, std::string_view key, std::string_view json)>&);
  // What it knows of removals: the floor of every resource, then the rows. After load().
  Result<> load_removals(const std::function<void(const RemovalFloor&)>&, const std::function<void(const RemovalRow&)>&);
  Result<> write(const LogBatch&);  // one transaction, synced
  Result<> compact(std::uint32_t pages_max) { return database_.compact(pages_max); }
  Result<> copy_to(const std::string& path) { return database_.backup_to(path); }
  std::int64_t bytes() const { return database_.bytes(); }

 private:
  Result<> prepare();
  sql::Database database_;
  std::vector<std::string> resources_;
  std::vector<std::int64_t> ids_;  // on disk, by index
  std::optional<sql::Statement> put_, remove_, meta_, removal_;  // after database_: finalised before it closes
};

std::span<const std::string_view> log_migrations();

}  // namespace skerry::store
