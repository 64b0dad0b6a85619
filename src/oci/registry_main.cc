// SPDX-License-Identifier: Apache-2.0
// skerry-registry: one pull or push. The job comes on standard input, answers go to standard output, a line of JSON each
// (docs/wire/registry.md). The only program that links libcurl and libarchive. What it reads comes from a hostile network, so as
// root it becomes nobody, sees of the file system what it needs to read and one folder to write (Landlock, where the kernel
// has it), may start nothing, and is capped in memory and CPU time. Whoever asked verifies what it left in the folder.
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <format>
#include <string>

#include "base/text.h"
#include "oci/registry.h"
#include "os/spawn.h"

namespace skerry::oci {
namespace {

constexpr uid_t kNobody = 65534;
constexpr std::size_t kJobBytesMax = 16 * 1024 * 1024;
constexpr rlim_t kMemoryBytesMax = 512ULL << 20, kCpuSeconds = 600, kDescriptors = 64;

void say(const RegistryAnswer& answer) {
  const std::string line = to_json(answer) + "\n";
  for (std::string_view left = line; !left.empty();) {
    const ssize_t n = ::write(STDOUT_FILENO, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(1);  // nobody listens any more
    left.remove_prefix(static_cast<std::size_t>(n));
  }
}
[[noreturn]] void fail(const Error& error) {
  say(error);
  ::_exit(1);
}
[[noreturn]] void fail_errno(std::string_view what) { fail(errno_error(errno, what)); }

std::string read_job() {
  std::string out;
  std::array<char, 65536> buffer;
  for (ssize_t n = 0; (n = ::read(STDIN_FILENO, buffer.data(), buffer.size())) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("read the job");
    out.append(buffer.data(), static_cast<std::size_t>(n));
    if (out.size() > kJobBytesMax) fail({Errc::Exhausted, "the job is too large"});
  }
  return out;
}

void limit(int which, rlim_t value) {
  const rlimit one{value, value};
  if (::setrlimit(static_cast<__rlimit_resource>(which), &one) != 0) fail_errno("set a limit");
}

// The working folder, to write; of the rest what name service and TLS need, to read. A kernel without it serves all the same:
// the user id alone keeps the process out of what is not everybody's.
void see_little() {
  landlock_ruleset_attr rules{};
  constexpr std::uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
  constexpr std::uint64_t kWrite = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG;
  rules.handled_access_fs = kRead | kWrite | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
                            LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
  const int ruleset = static_cast<int>(::syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0));
  if (ruleset < 0) return;
  const auto allow = [&](const char* path, std::uint64_t access) {
    const int fd = ::open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return;
    landlock_path_beneath_attr beneath{};
    beneath.allowed_access = access;
    beneath.parent_fd = fd;
    if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0) fail_errno("allow a folder");
    ::close(fd);
  };
  allow(".", kRead | kWrite);
  for (const char* path : {"/etc", "/usr", "/lib", "/lib64", "/run"}) allow(path, kRead | LANDLOCK_ACCESS_FS_EXECUTE);  // execute: to map libraries
  if (::syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) fail_errno("restrict itself");
  ::close(ruleset);
}

void do_little() {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  if (filter == nullptr) fail({Errc::Internal, "no seccomp filter"});
  for (const int call : {SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(mount), SCMP_SYS(umount2),
                         SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(bpf), SCMP_SYS(userfaultfd), SCMP_SYS(perf_event_open), SCMP_SYS(keyctl), SCMP_SYS(add_key),
                         SCMP_SYS(request_key), SCMP_SYS(kexec_load), SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(io_uring_setup), SCMP_SYS(kill), SCMP_SYS(listen)})
    if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0) != 0) fail({Errc::Internal, "no seccomp rule"});
  if (seccomp_load(filter) != 0) fail({Errc::Internal, "the seccomp filter was not taken"});
  seccomp_release(filter);
}

int run(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  pid_t parent = 0;
  if (argc == 3 && std::string_view(argv[1]) == "--parent") parent = parse_int<pid_t>(argv[2]).value_or(0);
  if (parent <= 0) {
    std::fputs("skerry-registry is started by skerry: use `skerry image pull` and `skerry image push`\n", stderr);
    return 2;
  }
  auto job = parse_job(read_job());
  if (!job) fail(job.error());
  if (job->task == RegistryTask::Pull) {
    if (::mkdir(job->folder.c_str(), 0700) != 0 && errno != EEXIST) fail_errno(std::format("create {}", job->folder.string()));
    if (::geteuid() == 0 && ::lchown(job->folder.c_str(), kNobody, kNobody) != 0) fail_errno(std::format("give away {}", job->folder.string()));
    if (::chdir(job->folder.c_str()) != 0) fail_errno(std::format("enter {}", job->folder.string()));
  } else if (::chdir("/") != 0) {
    fail_errno("enter /");
  }
  job->folder = ".";  // its parents are closed to whom this process becomes
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, kCpuSeconds);
  limit(RLIMIT_NOFILE, kDescriptors);
  limit(RLIMIT_FSIZE, std::max(job->layer_bytes_max, job->module_bytes_max) + (1 << 20));
#if !defined(__SANITIZE_ADDRESS__)
  limit(RLIMIT_DATA, kMemoryBytesMax);
#endif
  if (::geteuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setresgid(kNobody, kNobody, kNobody) != 0 || ::setresuid(kNobody, kNobody, kNobody) != 0))
    fail_errno("become nobody");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail_errno("set no_new_privs");
  if (auto bound = os::end_with(parent, SIGKILL); !bound) fail(bound.error());
  if (job->task == RegistryTask::Pull) see_little();
  do_little();
  const OnProgress progress = [](const answer::Progress& p) { say(p); };
  auto done = job->task == RegistryTask::Pull ? pull(*job, progress) : push(*job, progress);
  if (!done) fail(done.error());
  say(*done);
  return 0;
}

}  // namespace
}  // namespace skerry::oci

int main(int argc, char** argv) { ::_exit(skerry::oci::run(argc, argv)); }
