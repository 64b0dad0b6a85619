// SPDX-License-Identifier: Apache-2.0
#include "sim/disk.h"

#include <unistd.h>

#include <atomic>
#include <format>

#include "base/check.h"

namespace skerry::sim {
namespace {

std::string new_name() {
  static std::atomic<std::uint64_t> count{0};
  return std::format("skerry-sim-{}-{}", ::getpid(), ++count);
}

}  // namespace

SimDisk::SimDisk() : folder_(std::filesystem::temp_directory_path() / new_name()), vfs_(folder_.filename().string()) {
  std::filesystem::remove_all(folder_);  // of an earlier process with our number
  std::filesystem::create_directories(folder_);
}
SimDisk::~SimDisk() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

sql::Database::Options SimDisk::options() const {
  sql::Database::Options out;
  out.vfs = vfs_.name();
  return out;
}

void SimDisk::set_full(bool full) {
  full_ = full;
  if (full) vfs_.fail_at(1, sql::FaultyVfs::Fault::Sticky, sql::FaultyVfs::Reason::DiskFull);
  else vfs_.heal();
}
void SimDisk::break_at(std::uint64_t n) { vfs_.fail_at(n, sql::FaultyVfs::Fault::Sticky, sql::FaultyVfs::Reason::IoError); }
void SimDisk::killed_in_write() {
  vfs_.heal();
  if (full_) set_full(true);
}
void SimDisk::power_cut(Random& keep) { vfs_.crash(&keep); }
void SimDisk::power_on() {
  vfs_.restart();
  if (full_) set_full(true);
}

bool SimDisk::damage(Random& random) {
  const std::string path = (folder_ / "agent.db").string();
  const std::uint64_t bytes = vfs_.file_bytes(path);
  if (bytes < 8192) return false;
  // The second page: a root that quick_check must read.
  for (std::uint64_t i = 0; i < 64; ++i) vfs_.damage(path, 4096 + random.below(200));
  vfs_.damage(path, 4096);
  return true;
}
std::uint64_t SimDisk::bytes() const { return vfs_.file_bytes((folder_ / "agent.db").string()); }

}  // namespace skerry::sim
