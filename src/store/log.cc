// SPDX-License-Identifier: Apache-2.0
#include "store/log.h"

#include <array>
#include <format>
#include <map>

#include "base/log.h"

namespace skerry::store {

std::span<const std::string_view> log_migrations() {
  static constexpr std::array<std::string_view, 2> kAll = {
      "CREATE TABLE resources(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
      "CREATE TABLE objects(resource INTEGER NOT NULL, key TEXT NOT NULL, json BLOB NOT NULL,"
      "  UNIQUE(resource, key)) STRICT;"
      "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;",
      // Of what was removed before there was this table nothing is known.
      "CREATE TABLE removals(resource INTEGER NOT NULL, scope TEXT NOT NULL, revision INTEGER NOT NULL,"
      "  PRIMARY KEY(resource, scope)) STRICT, WITHOUT ROWID;"
      "ALTER TABLE resources ADD COLUMN removals_floor INTEGER NOT NULL DEFAULT 0;"
      "UPDATE resources SET removals_floor=coalesce((SELECT value FROM meta WHERE name='revision'), 0);"};
  return kAll;
}

Log::Log(sql::Database database, std::vector<std::string> resources)
    : database_(std::move(database)), resources_(std::move(resources)) {}

Result<Log::Meta> Log::load(const std::function<Result<>(std::uint16_t, std::string_view, std::string_view)>& object) {
  std::map<std::int64_t, std::uint16_t> index_of;
  TRY_OK(database_.transaction([&]() -> Result<> {
    for (const std::string& name : resources_) {
      TRY(auto insert, database_.prepare("INSERT INTO resources(name) VALUES (?) ON CONFLICT(name) DO NOTHING"));
      TRY_OK(insert.run(name));
      TRY(auto find, database_.prepare("SELECT id FROM resources WHERE name=?"));
      TRY(const bool row, find.bind(1, name).step());
      if (!row) return Fail({Errc::Corrupt, std::format("the store lost its resource {}", name)});
      index_of[find.integer(0)] = static_cast<std::uint16_t>(ids_.size());
      ids_.push_back(find.integer(0));
    }
    return {};
  }));
  {
    TRY(auto all, database_.prepare("SELECT resource, key, json FROM objects ORDER BY resource, key"));
    std::uint64_t unknown = 0;
    for (;;) {
      TRY(const bool row, all.step());
      if (!row) break;
      const auto at = index_of.find(all.integer(0));
      if (at == index_of.end()) {
        ++unknown;  // of a kind that another version serves: kept as it is
        continue;
      }
      TRY_OK(object(at->second, all.text(1), all.blob(2)));
    }
    if (unknown > 0) LOG_WARN("store holds objects of kinds this version does not serve", {"objects", unknown});
  }
  Meta meta;
  TRY(auto numbers, database_.prepare("SELECT name, value FROM meta"));
  for (;;) {
    TRY(const bool row, numbers.step());
    if (!row) break;
    if (numbers.text(0) == "revision") meta.revision = static_cast<std::uint64_t>(numbers.integer(1));
    if (numbers.text(0) == "reserved") meta.reserved = static_cast<std::uint64_t>(numbers.integer(1));
  }
  return meta;
}

Result<> Log::load_removals(const std::function<void(const RemovalFloor&)>& floor, const std::function<void(const RemovalRow&)>& removal) {
  TRY(auto floors, database_.prepare("SELECT removals_floor FROM resources WHERE id=?"));
  TRY(auto rows, database_.prepare("SELECT scope, revision FROM removals WHERE resource=?"));
  for (std::uint16_t i = 0; i < ids_.size(); ++i) {
    floors.reset();
    TRY(const bool known, floors.bind(1, ids_[i]).step());
    if (known) floor({i, static_cast<std::uint64_t>(floors.integer(0))});
    rows.reset();
    rows.bind(1, ids_[i]);
    for (;;) {
      TRY(const bool row, rows.step());
      if (!row) break;
      removal({i, std::string(rows.text(0)), static_cast<std::uint64_t>(rows.integer(1))});
    }
  }
  return {};
}

Result<> Log::prepare() {
  if (put_) return {};
  TRY(auto put, database_.prepare("INSERT INTO objects(resource, key, json) VALUES (?, ?, ?) "
                                  "ON CONFLICT(resource, key) DO UPDATE SET json=excluded.json"));
  TRY(auto remove, database_.prepare("DELETE FROM objects WHERE resource=? AND key=?"));
  TRY(auto meta, database_.prepare("INSERT INTO meta(name, value) VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value=excluded.value"));
  TRY(auto removal, database_.prepare("INSERT INTO removals(resource, scope, revision) VALUES (?, ?, ?) "
                                      "ON CONFLICT(resource, scope) DO UPDATE SET revision=max(revision, excluded.revision)"));
  removal_ = std::move(removal);
  put_ = std::move(put);
  remove_ = std::move(remove);
  meta_ = std::move(meta);
  return {};
}

Result<> Log::write(const LogBatch& batch) {
  TRY_OK(prepare());
  return database_.transaction([&]() -> Result<> {
    for (const LogRow& row : batch.rows) {
      if (row.object) {
        TRY_OK(put_->run(ids_[row.resource], row.key, sql::Blob{*row.object->json()}));
      } else {
        TRY_OK(remove_->run(ids_[row.resource], row.key));
      }
    }
    for (const RemovalRow& row : batch.removals) TRY_OK(removal_->run(ids_[row.resource], row.scope, static_cast<std::int64_t>(row.revision)));
    for (const RemovalFloor& floor : batch.removal_floors) {
      const auto id = ids_[floor.resource];
      const auto revision = static_cast<std::int64_t>(floor.revision);
      TRY(auto raise, database_.prepare("UPDATE resources SET removals_floor=? WHERE id=?"));
      TRY_OK(raise.run(revision, id));
      TRY(auto forget, database_.prepare("DELETE FROM removals WHERE resource=? AND revision<=?"));
      TRY_OK(forget.run(id, revision));
    }
    if (batch.revision != 0) TRY_OK(meta_->run("revision", static_cast<std::int64_t>(batch.revision)));
    if (batch.reserved != 0) TRY_OK(meta_->run("reserved", static_cast<std::int64_t>(batch.reserved)));
    return {};
  });
}

}  // namespace skerry::store
