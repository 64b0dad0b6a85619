// SPDX-License-Identifier: Apache-2.0
// cgroups v1 (hybrid) and pure v2 behind one face: a tree of our own at the root of each hierarchy, groups in it.
//
//   v1: <memory>/NAME/GROUP, <cpu>/NAME/GROUP, <pids>/NAME/GROUP     v2: <mount>/NAME/GROUP
//
// A group's files stay open, so that rewriting a limit is one write; limits that already hold are not written again.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "os/fd.h"

namespace skerry::os {

enum class CgroupVersion { V1, V2 };

// Where the hierarchies are mounted. V2 when the unified hierarchy holds memory and cpu; V1 when v1 hierarchies do.
struct CgroupMounts {
  CgroupVersion version = CgroupVersion::V2;
  std::filesystem::path memory, cpu, pids, cpuacct;  // the same folder for v2; cpuacct may be empty
};
// From the text of /proc/self/mountinfo and the unified cgroup.controllers file (empty if there is none).
// Unsupported: neither has memory and cpu.
Result<CgroupMounts> parse_cgroup_mounts(std::string_view mountinfo, std::string_view unified_controllers);
Result<CgroupMounts> find_cgroup_mounts();

struct CgroupLimits {
  std::uint64_t memory_bytes_max = 0;      // 0: none, for each of them
  std::uint32_t cpu_millis_max = 0;
  std::uint32_t cpu_millis_requested = 0;  // the weight under contention
  friend bool operator==(const CgroupLimits&, const CgroupLimits&) = default;
};

// Kubernetes' mapping of millicores to cpu.shares (v1) and cpu.weight (v2); 0 is the kernel's default.
std::uint32_t cpu_shares(std::uint32_t millis);
std::uint32_t cpu_weight(std::uint32_t millis);
// A limit as the kernel has it: so much processor time in each period. quota_us is 0 for no limit. What a group leaves of its
// quota it may use later, up to one quota more in a period (burst): the average stays below the limit.
struct CpuQuota {
  std::uint64_t period_us = 0, quota_us = 0;
};
CpuQuota cpu_quota(std::uint32_t millis);
// What a tree weighs on a machine of so many cores: cpu.shares (v1) or cpu.weight (v2).
std::uint32_t tree_weight(CgroupVersion, unsigned cores);

struct CgroupUsage {
  std::uint64_t memory_bytes = 0;
  std::optional<std::uint64_t> cpu_ns;  // absent on v1 without a joined cpuacct
};

class [[nodiscard]] Cgroup {
 public:
  // Writes what differs from what was written last. memory below the present use: Exhausted or Unavailable by the kernel.
  Result<> set(const CgroupLimits&);
  // Where a process of one thread writes "0" to move itself (v1: one a hierarchy, v2: one). On v1 these are the `tasks` files: a
  // thread that moves itself alone takes no lock of the whole machine; through cgroup.procs it waits for one, 10 to 30 ms when
  // nobody was moved lately.
  std::span<const UniqueFd> process_files() const { return process_files_; }
  // v2: the folder for CLONE_INTO_CGROUP and POSIX_SPAWN_SETCGROUP; -1 on v1.
  int folder_fd() const { return folder_.get(); }
  // How many processes the kernel killed here for memory, ever.
  std::uint64_t oom_kills() const;
  Result<CgroupUsage> usage() const;
  Result<std::vector<pid_t>> processes() const;

 private:
  friend class CgroupTree;
  Result<> set_quota(std::uint32_t millis);
  CgroupVersion version_ = CgroupVersion::V2;
  std::vector<UniqueFd> process_files_;
  UniqueFd folder_, memory_max_, memory_usage_, cpu_max_, cpu_period_, cpu_burst_, cpu_weight_, oom_events_, cpu_usage_;
  std::uint64_t period_us_ = 0;  // v1: as written last
  CgroupLimits written_{};
};

class CgroupTree {
 public:
  // Makes NAME (one path component) at the root of the hierarchies. Denied without root. Against its neighbours there it weighs
  // so much for each core that its groups keep most of every core under contention (tree_weight()).
  static Result<CgroupTree> open(std::string_view name);
  static Result<CgroupTree> open_at(const CgroupMounts&, std::string_view name);

  CgroupVersion version() const { return mounts_.version; }
  const std::string& name() const { return name_; }
  Result<Cgroup> create(std::string_view group) const;  // or takes the existing one; without limits
  Result<Cgroup> attach(std::string_view group) const;  // an existing one, with the limits that it has; NotFound
  std::vector<std::string> groups() const;              // by name, sorted
  // Conflict while processes are in it. What does not exist is removed already.
  Result<> remove(std::string_view group) const;
  // All groups and the tree itself; the first failure.
  Result<> remove_all() const;

 private:
  CgroupTree(CgroupMounts mounts, std::string name) : mounts_(std::move(mounts)), name_(std::move(name)) {}
  Result<Cgroup> open_group(std::string_view group) const;
  std::vector<std::filesystem::path> folders() const;  // the tree's folder in each hierarchy
  CgroupMounts mounts_;
  std::string name_;
};

}  // namespace skerry::os
