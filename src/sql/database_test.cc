// SPDX-License-Identifier: Apache-2.0
#include "sql/database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "sql/faulty_vfs.h"

namespace skerry::sql {
namespace {

constexpr std::array<std::string_view, 1> kSchema = {"CREATE TABLE t(k TEXT PRIMARY KEY, v BLOB) STRICT;"};

class Folder {
 public:
  Folder() {
    std::string pattern = "/tmp/skerry-sql-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

Result<> put(Database& db, std::string_view key, std::string_view value) {
  TRY(auto statement, db.prepare("INSERT INTO t VALUES (?, ?) ON CONFLICT(k) DO UPDATE SET v=excluded.v"));
  return statement.run(key, Blob{value});
}
Result<std::string> get(Database& db, std::string_view key) {
  TRY(auto statement, db.prepare("SELECT v FROM t WHERE k=?"));
  TRY(const bool row, statement.bind(1, key).step());
  if (!row) return Fail({Errc::NotFound, std::string(key)});
  return std::string(statement.blob(0));
}

TEST(Database, KeepsWhatWasCommittedAndRunsEachMigrationOnce) {
  Folder folder;
  {
    auto db = Database::open(folder / "a.db", {}, kSchema).value();
    ASSERT_TRUE(put(db, "k", "v"));
  }
  constexpr std::array<std::string_view, 2> newer = {kSchema[0], "ALTER TABLE t ADD COLUMN extra INTEGER;"};
  {
    auto db = Database::open(folder / "a.db", {}, newer).value();
    EXPECT_EQ(get(db, "k").value(), "v");
  }
  const auto refused = Database::open(folder / "a.db", {}, kSchema);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::Unsupported);
}

TEST(Database, RollsBackWhatTheBodyRefuses) {
  Folder folder;
  auto db = Database::open(folder / "a.db", {}, kSchema).value();
  const auto done = db.transaction([&]() -> Result<> {
    TRY_OK(put(db, "k", "v"));
    return Fail({Errc::Invalid, "no"});
  });
  EXPECT_EQ(done.error().code, Errc::Invalid);
  EXPECT_EQ(get(db, "k").error().code, Errc::NotFound);
}

TEST(DatabaseDeathTest, AnotherThreadInTheMiddleOfATransactionEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto two_threads = [] {
    Folder folder;
    auto db = Database::open(folder / "a.db", {}, kSchema).value();
    (void)db.transaction([&]() -> Result<> {
      std::thread([&] { (void)db.bytes(); }).join();
      return {};
    });
  };
  EXPECT_DEATH(two_threads(), "this_thread");
}

TEST(Database, RefusesASecondOpenerWithTheRemedy) {
  Folder folder;
  auto db = Database::open(folder / "a.db", {}, kSchema).value();
  const auto second = Database::open(folder / "a.db", {.busy_timeout = 1ms}, kSchema);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::Unavailable);
  EXPECT_THAT(second.error().what, testing::HasSubstr("stop that one first"));
}

// a.db on that disk, with "v" under "k", and its copy good.db.
Database::Options with_good_copy(const FaultyVfs& disk) {
  Database::Options on_it;
  on_it.vfs = disk.name();
  auto db = Database::open("a.db", on_it, kSchema).value();
  EXPECT_TRUE(put(db, "k", "v"));
  const auto copied = db.backup_to("good.db");
  EXPECT_TRUE(copied) << copied.error().what;
  return on_it;
}

TEST(Database, RestoresTheLastGoodCopyOfADamagedFile) {
  Folder folder;
  {
    auto db = Database::open(folder / "a.db", {}, kSchema).value();
    ASSERT_TRUE(put(db, "k", "v"));
    ASSERT_TRUE(db.backup_to(folder / "good.db"));
    ASSERT_TRUE(put(db, "later", "v"));
  }
  {
    std::fstream file(folder / "a.db", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(0);
    file << "this is not a database at all, it is only some text that fills the header page of one";
  }
  EXPECT_EQ(Database::open(folder / "a.db", {}, kSchema).error().code, Errc::Corrupt);
  auto opened = Database::open_or_restore(folder / "a.db", folder / "good.db", {}, kSchema).value();
  EXPECT_TRUE(opened.restored);
  EXPECT_FALSE(opened.emptied);
  EXPECT_EQ(get(opened.database, "k").value(), "v");
  EXPECT_EQ(get(opened.database, "later").error().code, Errc::NotFound);
  EXPECT_TRUE(std::filesystem::exists(folder / "a.db.corrupt"));
}

// Goal: damage is not copied over the last good copy. Method: a page of the file is spoiled, or cannot be read, before the next copy.
TEST(Database, ADamagedOneDoesNotBecomeTheGoodCopy) {
  for (const bool readable : {true, false}) {
    SCOPED_TRACE(readable);
    FaultyVfs disk("damaged-copy");
    Database::Options on_it = with_good_copy(disk);
    auto db = Database::open("a.db", on_it, kSchema).value();
    for (std::uint64_t page = 4096; page < disk.file_bytes("a.db"); page += 4096) {
      if (!readable) disk.make_unreadable("a.db", page);
      else for (std::uint64_t i = 0; i < 64; ++i) disk.damage("a.db", page + i);
    }
    db = Database::open(":memory:", on_it, kSchema).value();  // closed: nothing of it is in memory any more
    on_it.integrity_check = IntegrityCheck::None;
    auto again = Database::open("a.db", on_it, kSchema);
    const auto copied = again ? again->backup_to("good.db") : Result<>(Fail(again.error()));
    ASSERT_FALSE(copied);
    EXPECT_EQ(copied.error().code, Errc::Corrupt) << copied.error().what;
    auto good = Database::open("good.db", on_it, kSchema).value();
    EXPECT_EQ(get(good, "k").value_or("nothing"), "v");
  }
}

// Goal: a bad block is damage like any other. Method: a byte of the file that cannot be read.
TEST(Database, WhatCannotBeReadIsReplacedByItsGoodCopy) {
  FaultyVfs disk("unreadable");
  const Database::Options on_it = with_good_copy(disk);
  disk.make_unreadable("a.db", 4100);
  auto opened = Database::open_or_restore("a.db", "good.db", on_it, kSchema);
  ASSERT_TRUE(opened) << opened.error().what;
  EXPECT_TRUE(opened->restored);
  EXPECT_EQ(get(opened->database, "k").value_or("nothing"), "v");
}

TEST(Database, OpensOnADiskThatTakesNothing) {
  FaultyVfs disk("full-open");
  Database::Options on_it;
  on_it.vfs = disk.name();
  {
    auto db = Database::open("a.db", on_it, kSchema).value();
    ASSERT_TRUE(put(db, "k", "v"));
    disk.restart();  // kill -9: the log is left as it is
  }
  disk.fail_at(1, FaultyVfs::Fault::Sticky, FaultyVfs::Reason::DiskFull);
  auto db = Database::open("a.db", on_it, kSchema);
  ASSERT_TRUE(db) << db.error().what;
  EXPECT_EQ(get(*db, "k").value_or("nothing"), "v");
  EXPECT_EQ(put(*db, "k", "w").error().code, Errc::Exhausted);
  disk.heal();
  EXPECT_TRUE(put(*db, "k", "w"));
}

// Goal: the power may go in the middle of a restore. Method: on a disk that fails, break it at each step, cut the power, open again.
TEST(Restore, APowerCutInItsMiddleLosesNothingOfTheGoodCopy) {
  for (std::uint64_t n = 1;; ++n) {
    FaultyVfs disk("restore-" + std::to_string(n));
    const Database::Options on_it = with_good_copy(disk);
    for (std::uint64_t i = 0; i < 64; ++i) disk.damage("a.db", 4096 + i);
    disk.fail_at(n, FaultyVfs::Fault::Sticky);
    const std::string mark = "INSERT OR REPLACE INTO t VALUES ('mark', x'76')";
    const bool done = Database::open_or_restore("a.db", "good.db", on_it, kSchema, mark).has_value() && !disk.has_failed();
    disk.crash();
    disk.restart();
    auto opened = Database::open_or_restore("a.db", "good.db", on_it, kSchema, mark);
    ASSERT_TRUE(opened) << "operation " << n << ": " << opened.error().what;
    EXPECT_EQ(get(opened->database, "k").value_or("nothing"), "v") << "operation " << n;
    EXPECT_EQ(get(opened->database, "mark").value_or("nothing"), "v") << "operation " << n;
    if (done) {
      EXPECT_GT(n, 5u);
      break;
    }
  }
}

TEST(Database, SaysThatADamagedFileWithoutAGoodCopyBecameAnEmptyOne) {
  Folder folder;
  std::ofstream(folder / "a.db") << "this is not a database at all, and there is no copy of the one that it was before";
  auto opened = Database::open_or_restore(folder / "a.db", folder / "good.db", {}, kSchema).value();
  EXPECT_TRUE(opened.restored);
  EXPECT_TRUE(opened.emptied);
  EXPECT_EQ(get(opened.database, "k").error().code, Errc::NotFound);
}

TEST(Database, ShrinksAfterDeletion) {
  Folder folder;
  auto db = Database::open(folder / "a.db", {}, kSchema).value();
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(put(db, std::to_string(i), std::string(10'000, 'x')));
  ASSERT_TRUE(db.compact(0));
  const auto full = db.bytes();
  EXPECT_GT(full, 2'000'000);
  ASSERT_TRUE(db.exec("DELETE FROM t"));
  ASSERT_TRUE(db.compact(100'000));
  EXPECT_LT(db.bytes(), 100'000);
  EXPECT_LT(std::filesystem::file_size(folder / "a.db"), 100'000U);
  EXPECT_EQ(std::filesystem::file_size(folder / "a.db-wal"), 0U);
}

// Goal: a commit that was acknowledged survives any single failed operation and a power loss at any point.
// Method: fail the n-th write or sync, for n = 1, 2, … until a whole run passes; then cut the power, keeping a random part
// of what was not synced; reopen and look for every acknowledged row.
TEST(Database, LosesNoAcknowledgedCommitWhateverFails) {
  for (const auto fault : {FaultyVfs::Fault::Once, FaultyVfs::Fault::Sticky}) {
    for (std::uint64_t n = 1;; ++n) {
      FaultyVfs disk("sql-fault");
      SeededRandom random(n);
      std::vector<int> acknowledged;
      {
        disk.fail_at(n, fault, n % 2 == 0 ? FaultyVfs::Reason::IoError : FaultyVfs::Reason::DiskFull);
        auto db = Database::open("f.db", {.cache_kib = 16, .vfs = disk.name()}, kSchema);
        for (int i = 0; db && i < 12; ++i) {
          if (db->transaction([&] { return put(*db, std::to_string(i), std::string(3000, 'x')); })) acknowledged.push_back(i);
          if (i == 6) (void)db->compact(10);
        }
        disk.crash(&random);
      }
      const bool failed = disk.has_failed();
      disk.restart();
      auto db = Database::open("f.db", {.vfs = disk.name()}, kSchema);
      ASSERT_TRUE(db) << n << ": " << db.error().what;
      for (const int i : acknowledged) EXPECT_TRUE(get(*db, std::to_string(i))) << "n=" << n << " i=" << i;
      if (!failed) {
        EXPECT_EQ(acknowledged.size(), 12U);
        EXPECT_GT(n, 20U);
        break;
      }
    }
  }
}

TEST(FaultyVfs, ForgetsWhatWasNotSynced) {
  FaultyVfs disk("sql-forget");
  std::size_t acknowledged = 0;
  {
    auto db = Database::open("f.db", {.synchronous = Synchronous::Normal, .vfs = disk.name()}, kSchema).value();
    for (int i = 0; i < 10; ++i) acknowledged += put(db, std::to_string(i), "v").has_value();
    disk.crash();
  }
  disk.restart();
  EXPECT_EQ(acknowledged, 10U);
  auto db = Database::open("f.db", {.vfs = disk.name()}, kSchema);
  ASSERT_TRUE(db) << db.error().what;
  EXPECT_FALSE(get(*db, "9"));  // Normal does not sync commits: the faulty disk shows it
}

TEST(FaultyVfs, DamageIsSeenWhenOpened) {
  FaultyVfs disk("sql-damage");
  {
    auto db = Database::open("f.db", {.vfs = disk.name()}, kSchema).value();
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(put(db, std::to_string(i), std::string(100, 'x')));
  }
  disk.damage("f.db", 4096 + 3);
  EXPECT_EQ(Database::open("f.db", {.vfs = disk.name()}, kSchema).error().code, Errc::Corrupt);
}

}  // namespace
}  // namespace skerry::sql
