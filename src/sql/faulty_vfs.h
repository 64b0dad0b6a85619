// SPDX-License-Identifier: Apache-2.0
// A disk in memory that fails when told, for tests and simulation: files by path, with what was synced apart from what
// was only written. Register it, then open databases with Options.vfs = name().
//   FaultyVfs disk("d1"); auto db = Database::open("x.db", {.vfs = disk.name()}, …); disk.fail_at(7); … disk.crash(random);
// Not thread-safe across connections; a database used by one other thread at a time is fine.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/random.h"

namespace skerry::sql {

class FaultyVfs {
 public:
  // For xFileControl: the file gets the name that the argument points to, in one step (vfs_files.h).
  static constexpr int kRename = 0x5f4b5201;
  enum class Fault : std::uint8_t { Once, Sticky };        // Sticky: everything fails from then on, until heal()
  enum class Reason : std::uint8_t { IoError, DiskFull };
  explicit FaultyVfs(const std::string& name);  // a name no other living VFS has
  ~FaultyVfs();                                 // every database on it must be closed
  FaultyVfs(const FaultyVfs&) = delete;
  FaultyVfs& operator=(const FaultyVfs&) = delete;
  const std::string& name() const;

  // The n-th write, sync, truncation or deletion from now fails (1 is the next).
  void fail_at(std::uint64_t n, Fault = Fault::Once, Reason = Reason::IoError);
  void heal();
  bool has_failed() const;            // since the last fail_at()
  std::uint64_t operations() const;   // writes, syncs, truncations, deletions so far

  // Power loss: of the writes that were not synced each is kept or forgotten at random (all forgotten without `keep`).
  // Open databases must not be used afterwards, only closed: from now until restart() all their I/O fails.
  void crash(Random* keep = nullptr);
  void restart();
  // Turns over one byte of a file, as a bad sector does.
  void damage(const std::string& path, std::uint64_t offset);
  // Reads that touch this byte fail until it is written again.
  void make_unreadable(const std::string& path, std::uint64_t offset);
  std::uint64_t file_bytes(const std::string& path) const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace skerry::sql
