// SPDX-License-Identifier: Apache-2.0
#include "os/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <format>

#include "base/text.h"
#include "os/file.h"

namespace skerry::os {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPeriodUs = 50'000;  // of the cpu quota; docs/adr/0030
constexpr std::uint64_t kQuotaMinUs = 1000;  // the kernel's least

Result<> write_value(const UniqueFd& fd, std::string_view value, std::string_view what) {
  if (::pwrite(fd.get(), value.data(), value.size(), 0) == static_cast<ssize_t>(value.size())) return {};
  const int error = errno;
  if (error == EBUSY) return Fail({Errc::Unavailable, std::format("set cgroup {} to {}: more is in use", what, value)});
  return Fail(errno_error(error, std::format("set cgroup {} to {}", what, value)));
}

std::string read_from_start(const UniqueFd& fd) {
  char text[4096];
  const ssize_t n = ::pread(fd.get(), text, sizeof text, 0);
  return n > 0 ? std::string(text, static_cast<std::size_t>(n)) : std::string();
}

std::optional<std::uint64_t> value_of_key(std::string_view text, std::string_view key) {
  for (const auto line : split(text, '\n')) {
    const auto parts = split(line, ' ');
    if (parts.size() == 2 && parts[0] == key) return parse_int<std::uint64_t>(parts[1]);
  }
  return std::nullopt;
}

Result<> make_group(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0755) == 0 || errno == EEXIST) return {};
  return Fail(errno_error(errno, std::format("make cgroup {}", folder.native())));
}

Result<> remove_group(const fs::path& folder) {
  if (::rmdir(folder.c_str()) == 0 || errno == ENOENT) return {};
  if (errno == EBUSY) return Fail({Errc::Conflict, std::format("remove cgroup {}: processes or groups are in it", folder.native())});
  return Fail(errno_error(errno, std::format("remove cgroup {}", folder.native())));
}

}  // namespace

std::uint32_t cpu_shares(std::uint32_t millis) {
  if (millis == 0) return 1024;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(std::uint64_t{millis} * 1024 / 1000, 2, 262144));
}
std::uint32_t cpu_weight(std::uint32_t millis) {
  if (millis == 0) return 100;
  return static_cast<std::uint32_t>(1 + (std::uint64_t{cpu_shares(millis)} - 2) * 9999 / 262142);
}

// A group competes for each core with only the part of its weight whose processes are there. At the default weight a few busy
// neighbours therefore leave some of the guests waiting for 100 ms, while others run. Four times a neighbour's weight was
// measured on two cores: P999 of requests beside a busy load generator 74 ms at 1024, 18 at 2048, 7 at 4096.
std::uint32_t tree_weight(CgroupVersion version, unsigned cores) {
  const std::uint64_t one = version == CgroupVersion::V1 ? 2048 : 200;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(one * std::max(cores, 1u), version == CgroupVersion::V1 ? 262144 : 10000));
}

Result<CgroupMounts> parse_cgroup_mounts(std::string_view mountinfo, std::string_view unified_controllers) {
  CgroupMounts mounts;
  fs::path unified;
  for (const auto line : split(mountinfo, '\n')) {
    // id parent major:minor root mountpoint options [optional…] - type source superoptions
    const auto dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto left = split(line.substr(0, dash), ' ');
    const auto right = split(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (right[0] == "cgroup2" && unified.empty()) unified = left[4];
    if (right[0] != "cgroup") continue;
    for (const auto controller : split(right[2], ',')) {
      if (controller == "memory") mounts.memory = left[4];
      if (controller == "cpu") mounts.cpu = left[4];
      if (controller == "pids") mounts.pids = left[4];
      if (controller == "cpuacct") mounts.cpuacct = left[4];
    }
  }
  const auto controllers = split(trim(unified_controllers), ' ');
  const auto has = [&](std::string_view name) { return std::ranges::find(controllers, name) != controllers.end(); };
  if (!unified.empty() && has("memory") && has("cpu"))
    return CgroupMounts{CgroupVersion::V2, unified, unified, unified, unified};
  if (mounts.memory.empty() || mounts.cpu.empty())
    return Fail({Errc::Unsupported, "cgroups: neither the unified hierarchy nor v1 ones hold memory and cpu; mount them, or enable "
                                    "them on the kernel's command line (cgroup_enable=memory)"});
  mounts.version = CgroupVersion::V1;
  return mounts;
}

Result<CgroupMounts> find_cgroup_mounts() {
  TRY(const auto mountinfo, read_small_file("/proc/self/mountinfo", 4u << 20));
  std::string controllers;
  for (const auto line : split(mountinfo, '\n')) {
    const auto dash = line.find(" - cgroup2 ");
    if (dash == std::string_view::npos) continue;
    const auto left = split(line.substr(0, dash), ' ');
    if (left.size() < 5) continue;
    if (auto text = read_small_file(fs::path(left[4]) / "cgroup.controllers")) controllers = *text;
    break;
  }
  return parse_cgroup_mounts(mountinfo, controllers);
}

Result<> Cgroup::set(const CgroupLimits& limits) {
  if (limits.memory_bytes_max != written_.memory_bytes_max) {
    const bool none = limits.memory_bytes_max == 0;
    const auto value = none ? (version_ == CgroupVersion::V1 ? "-1" : "max") : std::to_string(limits.memory_bytes_max);
    TRY_OK(write_value(memory_max_, value, "memory limit"));
    written_.memory_bytes_max = limits.memory_bytes_max;
  }
  if (limits.cpu_millis_max != written_.cpu_millis_max) TRY_OK(set_quota(limits.cpu_millis_max));
  if (limits.cpu_millis_requested != written_.cpu_millis_requested) {
    const auto value = version_ == CgroupVersion::V1 ? cpu_shares(limits.cpu_millis_requested) : cpu_weight(limits.cpu_millis_requested);
    TRY_OK(write_value(cpu_weight_, std::to_string(value), "cpu weight"));
    written_.cpu_millis_requested = limits.cpu_millis_requested;
  }
  return {};
}

CpuQuota cpu_quota(std::uint32_t millis) {
  CpuQuota quota{.period_us = kPeriodUs};
  if (millis == 0) return quota;
  // A small limit takes a longer period, so that it is kept exactly.
  quota.period_us = std::clamp<std::uint64_t>(kQuotaMinUs * 1000 / millis, kPeriodUs, 1'000'000);
  quota.quota_us = std::max(millis * quota.period_us / 1000, kQuotaMinUs);
  return quota;
}

Result<> Cgroup::set_quota(std::uint32_t millis) {
  const auto next = cpu_quota(millis);
  const auto value = std::to_string(next.quota_us);
  // The kernel refuses a burst above the quota at every moment: it goes first and comes last.
  if (cpu_burst_) TRY_OK(write_value(cpu_burst_, "0", "cpu burst"));
  if (version_ == CgroupVersion::V2) {
    TRY_OK(write_value(cpu_max_, std::format("{} {}", millis == 0 ? "max" : value, next.period_us), "cpu quota"));
  } else {
    if (period_us_ != next.period_us) {
      TRY_OK(write_value(cpu_max_, "-1", "cpu quota"));
      TRY_OK(write_value(cpu_period_, std::to_string(next.period_us), "period of the cpu quota"));
      period_us_ = next.period_us;
    }
    TRY_OK(write_value(cpu_max_, millis == 0 ? "-1" : value, "cpu quota"));
  }
  if (cpu_burst_ && millis != 0) TRY_OK(write_value(cpu_burst_, value, "cpu burst"));
  written_.cpu_millis_max = millis;
  return {};
}

std::uint64_t Cgroup::oom_kills() const { return value_of_key(read_from_start(oom_events_), "oom_kill").value_or(0); }

Result<CgroupUsage> Cgroup::usage() const {
  CgroupUsage usage;
  const auto memory = parse_int<std::uint64_t>(trim(read_from_start(memory_usage_)));
  if (!memory) return Fail({Errc::Unavailable, "read the memory use of a cgroup"});
  usage.memory_bytes = *memory;
  if (!cpu_usage_) return usage;
  const auto text = read_from_start(cpu_usage_);
  if (version_ == CgroupVersion::V1) usage.cpu_ns = parse_int<std::uint64_t>(trim(text));
  else if (const auto us = value_of_key(text, "usage_usec")) usage.cpu_ns = *us * 1000;
  return usage;
}

Result<std::vector<pid_t>> Cgroup::processes() const {
  std::vector<pid_t> pids;
  // The file of the first hierarchy; all hold the same processes.
  TRY(const auto file, open_file(std::format("/proc/self/fd/{}", process_files_.front().get()), O_RDONLY));
  std::string text;
  char chunk[4096];
  for (ssize_t n; (n = ::read(file.get(), chunk, sizeof chunk)) > 0;) text.append(chunk, static_cast<std::size_t>(n));
  for (const auto line : split(text, '\n'))
    if (const auto pid = parse_int<pid_t>(line)) pids.push_back(*pid);
  return pids;
}

std::vector<fs::path> CgroupTree::folders() const {
  std::vector<fs::path> folders{mounts_.memory / name_};
  if (mounts_.cpu != mounts_.memory) folders.push_back(mounts_.cpu / name_);
  return folders;
}

Result<CgroupTree> CgroupTree::open(std::string_view name) {
  TRY(const auto mounts, find_cgroup_mounts());
  return open_at(mounts, name);
}

Result<CgroupTree> CgroupTree::open_at(const CgroupMounts& mounts, std::string_view name) {
  if (name.empty() || name.contains('/') || name.starts_with('.'))
    return Fail({Errc::Invalid, std::format("cgroup name '{}': one path component is needed", name)});
  CgroupTree tree(mounts, std::string(name));
  for (const auto& folder : tree.folders()) TRY_OK(make_group(folder));
  if (mounts.version == CgroupVersion::V2)
    for (const auto& folder : {mounts.memory, mounts.memory / name})
      if (auto done = write_control_file(folder / "cgroup.subtree_control", "+memory +cpu"); !done)
        return Fail(done.error().with("enable the memory and cpu controllers for our cgroups"));
  const auto weight = std::to_string(tree_weight(mounts.version, static_cast<unsigned>(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L))));
  TRY_OK(write_control_file(mounts.cpu / name / (mounts.version == CgroupVersion::V1 ? "cpu.shares" : "cpu.weight"), weight));
  return tree;
}

Result<Cgroup> CgroupTree::create(std::string_view group) const {
  for (const auto& folder : folders()) TRY_OK(make_group(folder / group));
  TRY(auto made, open_group(group));
  // A guest beyond its memory is killed, not moved to the flash. Absent where the kernel has no swap; then there is nothing to forbid.
  const auto no_swap = mounts_.version == CgroupVersion::V2 ? "memory.swap.max" : "memory.swappiness";
  [[maybe_unused]] const auto forbidden = write_control_file(mounts_.memory / name_ / group / no_swap, "0");
  // An existing group may hold limits of an earlier owner.
  TRY_OK(made.set({}));
  return made;
}

Result<Cgroup> CgroupTree::attach(std::string_view group) const { return open_group(group); }

Result<Cgroup> CgroupTree::open_group(std::string_view group) const {
  Cgroup made;
  made.version_ = mounts_.version;
  for (const auto& folder : folders()) {
    TRY(auto file, open_file(folder / group / (mounts_.version == CgroupVersion::V1 ? "tasks" : "cgroup.procs"), O_WRONLY));
    made.process_files_.push_back(std::move(file));
  }
  const auto memory = mounts_.memory / name_ / group, cpu = mounts_.cpu / name_ / group;
  const bool v1 = mounts_.version == CgroupVersion::V1;
  const auto open = [](const fs::path& path, int flags, UniqueFd& into) -> Result<> {
    TRY(into, open_file(path, flags));
    return {};
  };
  TRY_OK(open(memory / (v1 ? "memory.limit_in_bytes" : "memory.max"), O_WRONLY, made.memory_max_));
  TRY_OK(open(memory / (v1 ? "memory.usage_in_bytes" : "memory.current"), O_RDONLY, made.memory_usage_));
  TRY_OK(open(memory / (v1 ? "memory.oom_control" : "memory.events"), O_RDONLY, made.oom_events_));
  TRY_OK(open(cpu / (v1 ? "cpu.cfs_quota_us" : "cpu.max"), O_WRONLY, made.cpu_max_));
  TRY_OK(open(cpu / (v1 ? "cpu.shares" : "cpu.weight"), O_WRONLY, made.cpu_weight_));
  if (v1) TRY_OK(open(cpu / "cpu.cfs_period_us", O_WRONLY, made.cpu_period_));
  // Since Linux 5.14. Without it a group that was idle gets no more at once than in any other period.
  if (auto burst = open_file(cpu / (v1 ? "cpu.cfs_burst_us" : "cpu.max.burst"), O_WRONLY)) made.cpu_burst_ = std::move(*burst);
  if (!v1) {
    TRY_OK(open(memory, O_RDONLY | O_DIRECTORY, made.folder_));
    TRY_OK(open(cpu / "cpu.stat", O_RDONLY, made.cpu_usage_));
  }
  // Unknown: no caller asks for these, so the first set() writes all three.
  made.written_ = {.memory_bytes_max = 1, .cpu_millis_max = ~0u, .cpu_millis_requested = ~0u};
  return made;
}

std::vector<std::string> CgroupTree::groups() const {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(mounts_.memory / name_, error))
    if (entry.is_directory(error)) names.push_back(entry.path().filename().native());
  std::ranges::sort(names);
  return names;
}

Result<> CgroupTree::remove(std::string_view group) const {
  for (const auto& folder : folders()) TRY_OK(remove_group(folder / group));
  return {};
}

Result<> CgroupTree::remove_all() const {
  for (const auto& group : groups()) TRY_OK(remove(group));
  for (const auto& folder : folders()) TRY_OK(remove_group(folder));
  return {};
}

}  // namespace skerry::os
