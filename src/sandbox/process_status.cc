// SPDX-License-Identifier: Apache-2.0
#include "sandbox/process_status.h"

#include <linux/ioctl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <format>

#include "base/text.h"
#include "os/file.h"

namespace skerry::sandbox {
namespace {

// What the kernel (6.15 and later) still knows of a process that another parent reaped. linux/pidfd.h of older systems lacks it.
struct PidfdInfo {
  std::uint64_t mask, cgroup_id;
  std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  std::int32_t exit_code;
};
constexpr std::uint64_t kPidfdInfoExit = 1u << 3;

}  // namespace

SlotExit exit_of_wait_status(int status) {
  SlotExit exit;
  if (WIFSIGNALED(status)) exit.signal = WTERMSIG(status);
  else exit.code = WEXITSTATUS(status);
  return exit;
}

std::optional<int> exit_status_of_stranger(int pidfd) {
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  if (::ioctl(pidfd, _IOWR(0xFF, 11, PidfdInfo), &info) != 0 || (info.mask & kPidfdInfoExit) == 0) return std::nullopt;
  return info.exit_code;
}

std::uint64_t cpu_ticks(pid_t pid) {
  const auto text = os::read_small_file(std::format("/proc/{}/stat", pid), 4096);
  if (!text) return 0;
  const auto after_name = text->rfind(')');
  if (after_name == std::string::npos || after_name + 2 > text->size()) return 0;
  const auto fields = split(std::string_view(*text).substr(after_name + 2), ' ');  // from field 3 on
  if (fields.size() < 13) return 0;
  return parse_int<std::uint64_t>(fields[11]).value_or(0) + parse_int<std::uint64_t>(fields[12]).value_or(0);
}

}  // namespace skerry::sandbox
