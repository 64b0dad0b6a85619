// SPDX-License-Identifier: Apache-2.0
#include "os/spawn.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <format>

#include "base/check.h"

namespace skerry::os {
namespace {

ExitStatus status_of(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return {.code = info.si_status, .signal = 0};
  return {.code = -1, .signal = info.si_status};
}

std::vector<char*> pointers_of(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const auto& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

std::string ExitStatus::text() const {
  if (signal != 0) return std::format("killed by signal {} ({})", signal, ::strsignal(signal));
  return std::format("exit code {}", code);
}

Result<> Child::signal(int number) const { return signal_pidfd(pidfd_.get(), number); }

Result<std::optional<ExitStatus>> Child::try_wait() const {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0)
    return Fail(errno_error(errno, std::format("wait for process {}", pid_)));
  if (info.si_pid == 0) return std::optional<ExitStatus>{};
  return std::optional(status_of(info));
}

Result<ExitStatus> Child::wait() const {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0)
    if (errno != EINTR) return Fail(errno_error(errno, std::format("wait for process {}", pid_)));
  return status_of(info);
}

Result<> end_with(pid_t parent, int signal) {
  if (::prctl(PR_SET_PDEATHSIG, signal) != 0) return Fail(errno_error(errno, "prctl PR_SET_PDEATHSIG"));
  if (::getppid() != parent) ::raise(signal);
  return {};
}

Result<UniqueFd> open_pidfd(pid_t pid) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return Fail(errno_error(errno, std::format("pidfd_open {}", pid)));
  return fd;
}

Result<> signal_pidfd(int pidfd, int number) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0) != 0)
    return Fail(errno_error(errno, std::format("send signal {}", number)));
  return {};
}

std::vector<std::string> current_environment() {
  std::vector<std::string> texts;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) texts.emplace_back(*entry);
  return texts;
}

Result<Child> spawn(const SpawnOptions& options) {
  // Sources go above every target first, so that no dup2 overwrites the source of a later one.
  int target_max = STDERR_FILENO;
  for (const auto& [ours, theirs] : options.fds) target_max = std::max(target_max, theirs);
  std::vector<UniqueFd> copies;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  CHECK(::posix_spawn_file_actions_init(&actions) == 0 && ::posix_spawnattr_init(&attributes) == 0);
  struct Destroy {
    posix_spawn_file_actions_t* actions;
    posix_spawnattr_t* attributes;
    ~Destroy() {
      ::posix_spawn_file_actions_destroy(actions);
      ::posix_spawnattr_destroy(attributes);
    }
  } destroy{&actions, &attributes};

  // Below the highest target nothing stays open that is not named, whoever left it to us.
  for (int number = 0; number <= target_max; ++number) {
    const bool named = std::ranges::any_of(options.fds, [&](const auto& fd) { return fd.second == number; });
    if (named) continue;
    if (number <= STDERR_FILENO) ::posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0);
    else ::posix_spawn_file_actions_addclose(&actions, number);
  }
  for (const auto& [ours, theirs] : options.fds) {
    UniqueFd copy(::fcntl(ours, F_DUPFD_CLOEXEC, target_max + 1));
    if (!copy) return Fail(errno_error(errno, std::format("duplicate descriptor {} for {}", ours, options.program.native())));
    ::posix_spawn_file_actions_adddup2(&actions, copy.get(), theirs);
    copies.push_back(std::move(copy));
  }
  ::posix_spawn_file_actions_addclosefrom_np(&actions, target_max + 1);

  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (options.group == ProcessGroup::Own) {
    ::posix_spawnattr_setpgroup(&attributes, 0);
    flags |= POSIX_SPAWN_SETPGROUP;
  }
#ifdef POSIX_SPAWN_SETCGROUP
  if (options.cgroup) {
    ::posix_spawnattr_setcgroup_np(&attributes, *options.cgroup);
    flags = static_cast<short>(flags | POSIX_SPAWN_SETCGROUP);
  }
#else
  if (options.cgroup) return Fail({Errc::Unsupported, "spawn into a cgroup: this C library lacks POSIX_SPAWN_SETCGROUP"});
#endif
  ::posix_spawnattr_setflags(&attributes, flags);

  std::vector<std::string> arguments{options.program.native()};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, options.program.c_str(), &actions, &attributes, pointers_of(arguments).data(),
                                  pointers_of(options.environment).data());
  if (error != 0) return Fail(errno_error(error, std::format("start {}", options.program.native())));
  // The child is ours and not reaped, so the pid cannot have been recycled.
  auto pidfd = open_pidfd(pid);
  if (!pidfd) {
    // Nobody could watch it: it goes, so that the caller may try again.
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
    return Fail(std::move(pidfd).error().with(std::format("start {}", options.program.native())));
  }
  return Child(pid, std::move(*pidfd));
}

}  // namespace skerry::os
