// SPDX-License-Identifier: Apache-2.0
#include "sandbox/hardening.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <format>
#include <memory>

namespace skerry::sandbox {
namespace {

Result<> failed(std::string_view what) { return Fail(errno_error(errno, std::format("harden: {}", what))); }

// An empty tmpfs as the root. The old root is detached: nothing of the machine can be named any more.
Result<> enter_empty_root() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return failed("make the mounts private");
  // Any folder serves as the mount point in this namespace of our own; /tmp and /run exist on every system.
  const char* place = ::access("/run", X_OK) == 0 ? "/run" : "/tmp";
  if (::mount("skerry-empty", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2,mode=0555") != 0)
    return failed(std::format("mount an empty root on {}", place));
  if (::chdir(place) != 0) return failed("enter the empty root");
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return failed("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) return failed("detach the old root");
  if (::chdir("/") != 0) return failed("enter /");
  if (::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
    return failed("make the root read-only");
  return {};
}

Result<> drop_bounding_set() {
  for (int capability = 0; capability <= 63; ++capability)
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) return failed("drop the capability bounding set");
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  return {};
}

Result<> limit(__rlimit_resource what, std::uint64_t value, std::string_view name) {
  rlimit now{};
  if (::getrlimit(what, &now) != 0) return failed(name);
  const rlim_t wanted = now.rlim_max == RLIM_INFINITY ? value : std::min<rlim_t>(value, now.rlim_max);
  const rlimit limits{wanted, wanted};
  if (::setrlimit(what, &limits) != 0) return failed(std::format("limit {} to {}", name, value));
  return {};
}

}  // namespace

Hardening possible_hardening() { return ::geteuid() == 0 ? Hardening::Full : Hardening::Reduced; }

Result<> isolate_template(Hardening hardening, const ProcessLimits& limits) {
  ::umask(0077);
  TRY_OK(limit(RLIMIT_CORE, 0, "core dumps"));
  TRY_OK(limit(RLIMIT_NOFILE, limits.files_max, "open files"));
  TRY_OK(limit(RLIMIT_FSIZE, limits.file_bytes_max, "file size"));
  TRY_OK(limit(RLIMIT_MSGQUEUE, 0, "message queues"));
  if (hardening == Hardening::Full) {
    if (::unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) != 0) return failed("make empty namespaces");
    if (::sethostname("sandbox", 7) != 0) return failed("set the host name");
    TRY_OK(enter_empty_root());
    TRY_OK(drop_bounding_set());
    // A fork by a slot would fail even without seccomp; the template itself is root and exempt.
    TRY_OK(limit(RLIMIT_NPROC, 1, "processes"));
    TRY_OK(limit(RLIMIT_MEMLOCK, 0, "locked memory"));
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("no_new_privs");
  return {};
}

Result<SeccompProgram> SeccompProgram::compile() {
  const std::unique_ptr<void, void (*)(void*)> context(::seccomp_init(SCMP_ACT_KILL_PROCESS),
                                                       [](void* c) { ::seccomp_release(c); });
  if (!context) return Fail({Errc::Exhausted, "seccomp: no memory for the filter"});
  // A binary tree instead of a list: fewer steps a call, and the kernel pre-computes which calls always pass.
  if (const int error = ::seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2); error != 0)
    return Fail(errno_error(-error, "seccomp: optimise"));
  const auto allow = [&](int call) { return ::seccomp_rule_add(context.get(), SCMP_ACT_ALLOW, call, 0); };
  int error = 0;
  // By name, so that one that an architecture lacks (epoll_wait on arm64) is left out there.
  for (const char* name :
       {"read", "write", "writev", "readv", "pread64", "pwrite64", "recvfrom", "recvmsg", "sendto", "sendmsg", "accept4", "close", "fcntl",
        "shutdown", "setsockopt", "getsockopt", "getsockname", "getpeername", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait",
        "poll", "ppoll", "munmap", "madvise", "mremap", "brk", "fstat", "newfstatat", "lseek", "prlimit64", "getrlimit", "setrlimit",
        "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "setitimer", "timer_settime", "timerfd_settime", "clock_gettime",
        "gettimeofday", "clock_nanosleep", "nanosleep", "getrandom", "futex", "sched_yield", "getpid", "gettid", "exit", "exit_group",
        "restart_syscall"}) {
    const int call = ::seccomp_syscall_resolve_name(name);
    if (call >= 0 && error == 0) error = allow(call);
  }
  // abort() and the crash handlers signal their own thread: process 1 of the pid namespace.
  if (error == 0) error = ::seccomp_rule_add(context.get(), SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 0);
  // Native code was mapped before the fork: nothing may become executable now.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    if (error == 0)
      error = ::seccomp_rule_add(context.get(), SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  // Libraries look for files (the time zone, say) and do without: the root is empty, so the answer is the truth.
  for (const char* name : {"open", "openat", "readlink", "readlinkat", "access", "faccessat", "faccessat2", "stat", "lstat", "statx"})
    if (const int call = ::seccomp_syscall_resolve_name(name); call >= 0 && error == 0)
      error = ::seccomp_rule_add(context.get(), SCMP_ACT_ERRNO(ENOENT), call, 0);
#if defined(__SANITIZE_ADDRESS__)
  // The sanitizer's runtime in the debug build: it probes memory through a pipe, and does the rest when it reports.
  if (const int call = ::seccomp_syscall_resolve_name("pipe2"); call >= 0 && error == 0)
    error = ::seccomp_rule_add(context.get(), SCMP_ACT_ALLOW, call, 0);
  for (const char* name : {"sched_getaffinity", "ioctl", "getuid", "geteuid", "getppid", "kill", "wait4", "prctl"})
    if (const int call = ::seccomp_syscall_resolve_name(name); call >= 0 && error == 0)
      error = ::seccomp_rule_add(context.get(), SCMP_ACT_ERRNO(EPERM), call, 0);
#endif
  if (error != 0) return Fail(errno_error(-error, "seccomp: add a rule"));
  std::size_t size = 0;
  if ((error = ::seccomp_export_bpf_mem(context.get(), nullptr, &size)) != 0) return Fail(errno_error(-error, "seccomp: size the filter"));
  SeccompProgram program;
  program.filter_.resize((size + sizeof(sock_filter) - 1) / sizeof(sock_filter));
  size = program.filter_.size() * sizeof(sock_filter);
  if ((error = ::seccomp_export_bpf_mem(context.get(), program.filter_.data(), &size)) != 0)
    return Fail(errno_error(-error, "seccomp: export the filter"));
  return program;
}

Result<> SeccompProgram::install() const {
  const sock_fprog program{static_cast<unsigned short>(filter_.size()), const_cast<sock_filter*>(filter_.data())};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) return failed("install the system call filter");
  return {};
}

Result<> harden_slot(Hardening hardening, uid_t uid, const SeccompProgram& seccomp) {
  if (hardening == Hardening::Full) {
    if (::setgroups(0, nullptr) != 0) return failed("leave all groups");
    // Raw calls: one thread, so the library need not tell others.
    if (::syscall(SYS_setresgid, uid, uid, uid) != 0) return failed("take a gid of its own");
    if (::syscall(SYS_setresuid, uid, uid, uid) != 0) return failed("take a uid of its own");
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const __user_cap_data_struct none[2] = {};
    if (::syscall(SYS_capset, &header, none) != 0) return failed("drop all capabilities");
  }
  return seccomp.install();
}

}  // namespace skerry::sandbox
