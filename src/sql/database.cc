// SPDX-License-Identifier: Apache-2.0
#include "sql/database.h"

#include <sqlite3.h>

#include <format>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sql/vfs_files.h"

namespace skerry::sql {
namespace {

Errc errc_of(int code) {
  // What cannot be read is no better than what is wrong: a bad block does not come back.
  if (code == SQLITE_IOERR_READ || code == SQLITE_IOERR_DATA || code == SQLITE_IOERR_CORRUPTFS) return Errc::Corrupt;
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Errc::Corrupt;
    case SQLITE_FULL:
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
      return Errc::Exhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      return Errc::Unavailable;
    case SQLITE_CONSTRAINT:
      return Errc::AlreadyExists;
    case SQLITE_PERM:
    case SQLITE_READONLY:
      return Errc::Denied;
    default:
      return Errc::Internal;
  }
}

}  // namespace

Error sqlite_error(int code, std::string_view message, std::string_view operation, std::source_location at) {
  std::string remedy;
  if ((code & 0xff) == SQLITE_BUSY) remedy = "; another process has it open: stop that one first";
  if ((code & 0xff) == SQLITE_FULL) remedy = "; the disk is full: free some space";
  return Error(errc_of(code), std::format("{}: {} ({}){}", operation, message, sqlite3_errstr(code), remedy), at);
}

void Database::Close::operator()(sqlite3* db) const {
  if (sqlite3_close(db) != SQLITE_OK) {
    LOG_ERROR("database closed with statements in use", {"error", sqlite3_errmsg(db)});
    sqlite3_close_v2(db);
  }
}
Database::Database(sqlite3* db) : db_(db) {}
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;

Error Database::error(int code, std::string_view operation) const {
  return sqlite_error(code, sqlite3_errmsg(db_.get()), std::format("{} on {}", operation, path_));
}

Result<Database> Database::open(const std::string& path, Options options, Migrations migrations) {
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                                   options.vfs.empty() ? nullptr : options.vfs.c_str());
  if (raw == nullptr) return Fail({Errc::Exhausted, "no memory to open the database " + path});
  Database database(raw);
  database.path_ = path;
  database.vfs_ = options.vfs;
  if (code != SQLITE_OK) return Fail(database.error(code, "open"));
  TRY_OK(database.configure(options));
  if (options.integrity_check == IntegrityCheck::Quick) TRY_OK(database.check_integrity());
  TRY_OK(database.migrate(migrations));
  return database;
}

Result<> Database::configure(const Options& options) {
  sqlite3_busy_timeout(db_.get(), static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(options.busy_timeout).count()));
  sqlite3_limit(db_.get(), SQLITE_LIMIT_ATTACHED, 0);
  // The lock is taken by the first read and kept: no second process, and no shared-memory file. auto_vacuum works only
  // before the first table exists.
  TRY_OK(exec("PRAGMA locking_mode=EXCLUSIVE"));
  // Said again of a database that has it, it is a write: on a full disk nobody could open what is to be read.
  constexpr std::int64_t kIncremental = 2;
  TRY(const auto vacuum, pragma("PRAGMA auto_vacuum"));
  if (vacuum != kIncremental) TRY_OK(exec("PRAGMA auto_vacuum=INCREMENTAL"));
  TRY_OK(exec(std::format("PRAGMA cache_size=-{}; "
                          "PRAGMA synchronous={}; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY;",
                          options.cache_kib, options.synchronous == Synchronous::Full ? "FULL" : "NORMAL")));
  {
    TRY(auto mode, prepare("PRAGMA journal_mode=WAL"));
    TRY(const bool row, mode.step());
    if (const bool in_memory = path_ == ":memory:"; !row || mode.text(0) != (in_memory ? "memory" : "wal")) {
      return Fail({Errc::Unavailable, std::format("the file system of {} does not allow a write-ahead log", path_)});
    }
  }
  return exec(std::format("PRAGMA journal_size_limit={};", options.wal_bytes_max));
}

Result<> Database::check_integrity() {
  TRY(auto check, prepare("PRAGMA quick_check(1)"));
  TRY(const bool row, check.step());
  if (!row || check.text(0) != "ok") {
    return Fail({Errc::Corrupt, std::format("the database {} is damaged: {}", path_, row ? check.text(0) : "no answer")});
  }
  return {};
}

Result<std::int64_t> Database::pragma(std::string_view sql) {
  TRY(auto statement, prepare(sql));
  TRY(const bool row, statement.step());
  return row ? statement.integer(0) : 0;
}

Result<> Database::migrate(Migrations migrations) {
  TRY(const std::int64_t version, pragma("PRAGMA user_version"));
  const auto known = static_cast<std::int64_t>(migrations.size());
  if (version > known) {
    return Fail({Errc::Unsupported, std::format("{} was written by a newer version (schema {}, this one knows {}): run that version, "
                                                "or restore a copy from before the upgrade", path_, version, known)});
  }
  if (version == known) return {};
  return transaction([&]() -> Result<> {
    for (auto i = version; i < known; ++i) TRY_OK(exec(migrations[static_cast<std::size_t>(i)]));
    return exec(std::format("PRAGMA user_version={}", known));
  });
}

// Where a thread is, and nobody else may be.
class Database::Inside {
 public:
  explicit Inside(const Database& db) : thread_(*db.inside_) { thread_ = std::this_thread::get_id(); }
  ~Inside() { thread_ = ThreadId(); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  static void check(const Database& db) {
    const ThreadId thread = *db.inside_;
    CHECK(thread == ThreadId() || thread == std::this_thread::get_id());
  }

 private:
  std::atomic<ThreadId>& thread_;
};

Result<Statement> Database::prepare(std::string_view sql) {
  Inside::check(*this);
  sqlite3_stmt* raw = nullptr;
  const char* rest = nullptr;
  const int code = sqlite3_prepare_v3(db_.get(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &raw, &rest);
  if (code != SQLITE_OK) return Fail(error(code, sql));
  if (raw == nullptr) return Fail({Errc::Invalid, "no SQL statement in the text"});
  return Statement(raw);
}

Result<> Database::exec(std::string_view sql) {
  Inside::check(*this);
  const std::string text(sql);
  const int code = sqlite3_exec(db_.get(), text.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return Fail(error(code, sql));
  return {};
}

Result<> Database::transaction(const std::function<Result<>()>& body) {
  const Inside inside(*this);
  TRY_OK(exec("BEGIN IMMEDIATE"));
  Result<> done = body();
  if (done) done = exec("COMMIT");
  // Some errors have rolled back already.
  if (!done && sqlite3_get_autocommit(db_.get()) == 0) {
    if (auto rolled = exec("ROLLBACK"); !rolled) LOG_WARN("rollback failed", {"error", rolled.error()});
  }
  return done;
}

Result<> Database::backup_to(const std::string& path, const std::string& mark) {
  const Inside inside(*this);
  const std::string part = path + ".part";
  const VfsFiles files(vfs_);
  files.remove(part);
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(part.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, vfs_.empty() ? "unix" : vfs_.c_str());
  if (raw == nullptr) return Fail({Errc::Exhausted, "no memory to open the database " + part});
  {
    Database copy(raw);
    copy.path_ = part;
    if (code != SQLITE_OK) return Fail(copy.error(code, "open"));
    sqlite3_backup* backup = sqlite3_backup_init(raw, "main", db_.get(), "main");
    if (backup == nullptr) return Fail(copy.error(sqlite3_extended_errcode(raw), "copy"));
    const int stepped = sqlite3_backup_step(backup, -1);
    const int finished = sqlite3_backup_finish(backup);
    if (stepped != SQLITE_DONE || finished != SQLITE_OK) return Fail(copy.error(finished != SQLITE_OK ? finished : stepped, "copy"));
    // The copy must be one file: out of WAL mode before it is renamed.
    TRY_OK(copy.exec("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=DELETE;"));
    // Pages are copied as they are: one that is damaged would take the place of the last good one.
    if (auto sound = copy.check_integrity(); !sound) return Fail(std::move(sound).error().with("copying " + path_));
    if (!mark.empty()) TRY_OK(copy.exec(mark));
  }
  return files.move(part, path);
}

Result<Database::Opened> Database::open_or_restore(const std::string& path, const std::string& last_good, Options options,
                                                   Migrations migrations, const std::string& mark) {
  const VfsFiles files(options.vfs);
  // Moved aside, and then the power went: an empty database would not say what was lost, and an old log would spoil a new file.
  const bool interrupted = !files.exists(path) && files.exists(path + ".corrupt");
  if (interrupted) return restore(path, last_good, options, migrations, mark, std::format("the database {} is gone: its replacement was interrupted", path));
  auto first = open(path, options, migrations);
  if (!first && first.error().code == Errc::Corrupt) first = open(path, options, migrations);  // a read that failed once is no damage
  if (first) return Opened{std::move(*first)};
  if (first.error().code != Errc::Corrupt) return Fail(std::move(first).error());
  return restore(path, last_good, options, migrations, mark, first.error().what);
}

Result<Database::Opened> Database::restore(const std::string& path, const std::string& last_good, Options options, Migrations migrations, const std::string& mark,
                                           std::string reason) {
  const VfsFiles files(options.vfs);
  if (files.exists(path)) TRY_OK(files.move(path, path + ".corrupt"));
  files.remove(path + "-wal");
  files.remove(path + "-shm");
  bool copied = false;
  if (files.exists(last_good)) {
    Options copy_options = options;
    copy_options.integrity_check = IntegrityCheck::Quick;
    auto source = open(last_good, copy_options, migrations);
    auto done = source ? source->backup_to(path, mark) : Result<>(Fail(source.error()));
    copied = done.has_value();
    // A disk that takes nothing now is no reason to go on without what the copy has.
    if (!copied && done.error().code != Errc::Corrupt) return Fail(std::move(done).error().with("restoring " + path));
    if (!copied) LOG_WARN("last good copy is not usable", {"path", last_good});
  }
  if (!copied) {
    TRY(auto nothing, open(":memory:", options, migrations));
    TRY_OK(nothing.backup_to(path, mark));
  }
  TRY(auto database, open(path, options, migrations));
  return Opened{.database = std::move(database), .restored = true, .reason = std::move(reason), .emptied = !copied};
}

Result<> Database::compact(std::uint32_t pages_max) {
  TRY(const std::int64_t free_pages, pragma("PRAGMA freelist_count"));
  if (free_pages > 0 && pages_max > 0) {
    TRY(auto vacuum, prepare(std::format("PRAGMA incremental_vacuum({})", pages_max)));
    for (;;) {
      TRY(const bool row, vacuum.step());
      if (!row) break;
    }
  }
  TRY(auto checkpoint, prepare("PRAGMA wal_checkpoint(TRUNCATE)"));
  TRY(const bool row, checkpoint.step());
  if (row && checkpoint.integer(0) != 0) return Fail({Errc::Unavailable, std::format("the log of {} is in use", path_)});
  return {};
}

std::int64_t Database::bytes() const {
  auto& self = const_cast<Database&>(*this);
  const auto pages = self.pragma("PRAGMA page_count"), size = self.pragma("PRAGMA page_size");
  return pages && size ? *pages * *size : 0;
}

}  // namespace skerry::sql
