// SPDX-License-Identifier: Apache-2.0
// The node's disk: real SQLite on sql::FaultyVfs, so that a power cut forgets what was not synced and keeps any part of what was
// written since. The node's key alone is a real file, in a folder of this object's own.
#pragma once
#include <filesystem>
#include <string>

#include "base/random.h"
#include "base/time.h"
#include "sql/database.h"
#include "sql/faulty_vfs.h"

namespace skerry::sim {

class SimDisk {
 public:
  SimDisk();
  ~SimDisk();  // removes the folder
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  sql::Database::Options options() const;

  // How long a write takes now.
  Duration delay = 4ms;
  void set_full(bool);
  bool full() const { return full_; }
  // The n-th operation from now fails, and all that follow: whoever writes is killed, or the power goes, in the middle of it.
  void break_at(std::uint64_t n);
  bool broken() const { return vfs_.has_failed(); }
  void process_died();            // what it wrote stays, and nothing more comes from its open databases, which are only to be closed
  void power_cut(Random& keep);   // of what was not synced any part is forgotten; open databases are only to be closed
  void power_on();
  // Turns over a byte in the middle of the checkpoint. False: there is no file yet.
  bool damage(Random&);
  std::uint64_t bytes() const;

 private:
  std::filesystem::path folder_;
  sql::FaultyVfs vfs_;
  bool full_ = false;
};

}  // namespace skerry::sim
