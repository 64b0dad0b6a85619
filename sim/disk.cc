// SPDX-License-Identifier: Apache-2.0
#include "sim/disk.h"

#include <unistd.h>

#include <cstdlib>
#include <format>
#include <set>
#include <string>

#include "base/check.h"

namespace skerry::sim {
namespace {

// Of the living disks each has a number of its own; one after another they have the same, so that runs are the same.
std::set<int>& numbers() {
  static std::set<int> taken;
  return taken;
}
std::string new_name() {
  int number = 1;
  while (!numbers().insert(number).second) ++number;
  return std::format("skerry-sim-{}-{}", ::getpid(), number);
}

}  // namespace

SimDisk::SimDisk() : folder_(std::filesystem::temp_directory_path() / new_name()), vfs_(folder_.filename().string()) {
  std::filesystem::remove_all(folder_);  // of an earlier process with our number
  std::filesystem::create_directories(folder_);
}
SimDisk::~SimDisk() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  const std::string name = folder_.filename().string();
  numbers().erase(std::atoi(name.c_str() + name.rfind('-') + 1));
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
void SimDisk::process_died() {
  vfs_.restart();
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
