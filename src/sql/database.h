// SPDX-License-Identifier: Apache-2.0
// SQLite behind one class: WAL, synchronous FULL, exclusive to this process, checked when it is opened. What commit()
// acknowledged survives kill -9 and power loss.
// A Database and its Statements belong to one thread at a time (the caller's writer thread); nothing here locks. Another thread that
// asks while a transaction or a copy is under way ends the process: it would spoil the file.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/time.h"
#include "sql/statement.h"

struct sqlite3;

namespace skerry::sql {

enum class Synchronous : std::uint8_t { Full, Normal };  // Normal: a power loss may take back the last commits
enum class IntegrityCheck : std::uint8_t { Quick, None };

class Database {
 public:
  struct Options {
    Synchronous synchronous = Synchronous::Full;
    IntegrityCheck integrity_check = IntegrityCheck::Quick;
    Duration busy_timeout = std::chrono::seconds(5);
    std::size_t cache_kib = 256;  // both users hold in memory what they read: the cache serves writes
    std::size_t wal_bytes_max = 4 << 20;  // what the -wal file is cut back to after a checkpoint
    std::string vfs = {};                    // empty: the system's
  };
  // One step of the schema, in order; PRAGMA user_version counts how many have run. Never edit one that was released.
  using Migrations = std::span<const std::string_view>;

  // Opens or creates `path` and brings its schema up to date, in one transaction. ":memory:" is a database that ends with its object. Errors: Corrupt (the file is damaged, cannot be read or is
  // not a database), Unavailable (another process holds it, or the disk failed), Exhausted (disk full), Unsupported (made
  // by a newer version).
  static Result<Database> open(const std::string& path, Options options, Migrations migrations);
  // As open(); a Corrupt file is moved aside to `path`.corrupt (one is kept) and replaced by the copy that backup_to()
  // made at `last_good`, or by an empty database if there is no such copy. `restored` tells that this happened. `mark`: SQL that what is put
  // in its place has run from the start, so that whoever dies before it acts on `restored` finds it there.
  struct Opened;
  static Result<Opened> open_or_restore(const std::string& path, const std::string& last_good, Options options,
                                        Migrations migrations, const std::string& mark = {});
  // The second half of it: what is at `path`, which nobody has open, is moved aside whatever it is. `reason`: for Opened.
  static Result<Opened> restore(const std::string& path, const std::string& last_good, Options options, Migrations migrations, const std::string& mark,
                                std::string reason);

  Database(Database&&) noexcept;
  Database& operator=(Database&&) noexcept;
  ~Database();

  Result<Statement> prepare(std::string_view sql);  // exactly one statement
  Result<> exec(std::string_view sql);              // one or more, results ignored
  // BEGIN IMMEDIATE, body, COMMIT. If the body or the commit fails everything is rolled back and the error returned.
  Result<> transaction(const std::function<Result<>()>& body);

  // A consistent copy as a file of its own: written beside it, checked, changed by `mark` (SQL), synced, renamed over `path`. Corrupt: this
  // database is damaged, and what was at `path` stays.
  Result<> backup_to(const std::string& path, const std::string& mark = {});
  // Moves the WAL into the file and empties it; frees unused pages at the file's end, at most `pages_max` of them.
  Result<> compact(std::uint32_t pages_max);
  // Damage, as SQLite's quick_check sees it.
  Result<> check_integrity();
  std::int64_t bytes() const;  // page_count * page_size; 0 if it cannot be read

 private:
  explicit Database(sqlite3* db);
  Result<> configure(const Options&);
  Result<> migrate(Migrations);
  Result<std::int64_t> pragma(std::string_view sql);
  Error error(int code, std::string_view operation) const;
  struct Close {
    void operator()(sqlite3*) const;
  };
  using ThreadId = decltype(std::this_thread::get_id());
  class Inside;
  std::unique_ptr<sqlite3, Close> db_;
  std::unique_ptr<std::atomic<ThreadId>> inside_ = std::make_unique<std::atomic<ThreadId>>();  // of a transaction or copy
  std::string path_, vfs_;
};

struct Database::Opened {
  Database database;
  bool restored = false;
  std::string reason = {};  // why, if restored
  bool emptied = false;     // restored, and there was no good copy: everything is lost
};

// The error for an SQLite result code: `operation: message (SQLITE_X)`.
Error sqlite_error(int extended_code, std::string_view message, std::string_view operation,
                   std::source_location at = std::source_location::current());

}  // namespace skerry::sql
