// SPDX-License-Identifier: Apache-2.0
// Child processes by posix_spawn (safe in a threaded process), held by a pidfd: no signal goes to a recycled pid.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "os/fd.h"

namespace skerry::os {

struct ExitStatus {
  int code = -1;    // exit code, or -1 when a signal ended it
  int signal = 0;   // 0, or the signal
  bool ok() const { return code == 0; }
  std::string text() const;  // "exit code 3", "killed by signal 9 (Killed)"
};

// Own: the child leads a process group of its own, so that a terminal's Ctrl-C reaches its starter alone.
enum class ProcessGroup : bool { Inherited, Own };

struct SpawnOptions {
  std::filesystem::path program = {};          // absolute, or found relative to the working folder; PATH is not searched
  std::vector<std::string> arguments = {};     // without argv[0]
  std::vector<std::string> environment = {};   // NAME=value; empty means an empty environment
  // Descriptors in the child: {ours, number there}. 0, 1 and 2 not named here are /dev/null. All others are closed.
  std::vector<std::pair<int, int>> fds = {};
  ProcessGroup group = ProcessGroup::Inherited;
  std::optional<int> cgroup = {};              // an open folder of a cgroup v2: the child is born in it
};

// Owner of one child. The destructor neither kills nor waits: a service outlives its starter on purpose.
class [[nodiscard]] Child {
 public:
  Child() = default;
  Child(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable when the child has ended
  Result<> signal(int number) const;          // NotFound once it was reaped
  // Reaps. wait() blocks; try_wait() is empty while it runs. Once each.
  Result<ExitStatus> wait() const;
  Result<std::optional<ExitStatus>> try_wait() const;

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

// Signals are at their defaults and unblocked in the child. NotFound when the program does not exist.
Result<Child> spawn(const SpawnOptions&);

// This process gets the signal when `parent`, which must be who started it, ends; at once, if it has ended already.
Result<> end_with(pid_t parent, int signal);

// pidfd of any process; NotFound when there is none.
Result<UniqueFd> open_pidfd(pid_t);
Result<> signal_pidfd(int pidfd, int number);

// This process's environment as NAME=value.
std::vector<std::string> current_environment();

}  // namespace skerry::os
