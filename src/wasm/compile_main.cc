// SPDX-License-Identifier: Apache-2.0
// skerry-compile: one wasm module in, one native library and its hash out. The only program that maps libLLVM.
// It works on untrusted input for seconds with hundreds of megabytes, so the work happens in a child: niced, capped in
// memory and CPU time, and, when started as root, under an unprivileged uid (nobody) without capabilities, able to write only into a
// folder made for it. The parent touches no module byte; it waits, hashes and publishes what the child left.
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wasmedge/wasmedge.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <format>
#include <fstream>
#include <new>
#include <string>
#include <system_error>

#include "base/text.h"
#include "wasm/compile.h"
#include "wasm/inspect.h"

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __sanitizer_set_death_callback(void (*)());
extern "C" int __asan_report_present();
#endif

namespace skerry::wasm {
namespace {

constexpr int kExitInternal = 1;
constexpr std::string_view kUsage =
    "usage: skerry-compile --in FILE.wasm | --in-fd N  --out FILE.so\n"
    "  Compiles a WebAssembly module to native code and writes FILE.so and FILE.so.sha256.\n"
    "  --optimise O0|O1|O2|O3|Os|Oz  default O3\n"
    "  --generic-binary              code for every CPU of this architecture\n"
    "  --not-interruptible           calls of this code cannot be cancelled at a deadline\n"
    "  --unchecked                   for our own helper modules: accept any import\n"
    "  --memory-max BYTES            of the compiler's own data; default 1073741824\n"
    "  --cpu-seconds N               default 120\n"
    "  --user UID                    uid and gid for the work when started as root; default 65534\n"
    "  exit codes: 0 done, 2 usage or files, 3 module refused, 4 memory or time ran out, 1 anything else\n";

struct Arguments {
  std::string in, out;
  int in_fd = -1;
  CompileOptions options{.generic_cpu = false};
  std::uint64_t memory_bytes_max = 1ull << 30;
  std::uint64_t cpu_seconds = 120;
  std::uint32_t user = 65534;
  bool unchecked = false;
};

[[noreturn]] void die(int code, std::string_view text) {
  std::fprintf(stderr, "skerry-compile: %.*s\n", static_cast<int>(text.size()), text.data());
  std::fflush(stderr);
  _exit(code);
}

Arguments parse_arguments(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const auto value = [&]() -> std::string_view {
      if (i + 1 >= argc) die(kCompileExitUsage, std::format("{} needs a value\n{}", name, kUsage));
      return argv[++i];
    };
    const auto number = [&](std::uint64_t max) {
      const auto text = value();
      const auto n = parse_int<std::uint64_t>(text);
      if (!n || *n > max) die(kCompileExitUsage, std::format("{} {}: not a number up to {}", name, text, max));
      return *n;
    };
    if (name == "--in") a.in = value();
    else if (name == "--in-fd") a.in_fd = static_cast<int>(number(1 << 20));
    else if (name == "--out") a.out = value();
    else if (name == "--generic-binary") a.options.generic_cpu = true;
    else if (name == "--not-interruptible") a.options.interruptible = false;
    else if (name == "--unchecked") a.unchecked = true;
    else if (name == "--memory-max") a.memory_bytes_max = number(1ull << 40);
    else if (name == "--cpu-seconds") a.cpu_seconds = number(86400);
    else if (name == "--user") a.user = static_cast<std::uint32_t>(number(0xfffffffe));
    else if (name == "--optimise") {
      const auto level = value();
      bool found = false;
      for (int o = 0; o <= static_cast<int>(Optimisation::Oz); ++o) {
        if (to_string(static_cast<Optimisation>(o)) == level) {
          a.options.optimisation = static_cast<Optimisation>(o);
          found = true;
        }
      }
      if (!found) die(kCompileExitUsage, std::format("--optimise {}: one of O0, O1, O2, O3, Os, Oz", level));
    } else if (name == "--help") {
      std::fputs(std::string(kUsage).c_str(), stdout);
      std::exit(0);
    } else {
      die(kCompileExitUsage, std::format("unknown argument {}\n{}", name, kUsage));
    }
  }
  if (a.out.empty() || a.in.empty() == (a.in_fd < 0)) die(kCompileExitUsage, std::format("--out and one of --in, --in-fd are needed\n{}", kUsage));
  return a;
}

std::string read_module(const Arguments& a) {
  const int fd = a.in_fd >= 0 ? a.in_fd : open(a.in.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(kCompileExitUsage, errno_error(errno, std::format("open {}", a.in)).what);
  std::string out;
  char buffer[65536];
  for (;;) {
    const auto n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die(kCompileExitUsage, errno_error(errno, "read the module").what);
    if (n == 0) break;
    out.append(buffer, static_cast<std::size_t>(n));
    if (out.size() > kModuleBytesMax) break;  // inspect says so
  }
  close(fd);
  return out;
}

Arguments arguments;  // for the handlers below

void on_cpu_time(int) {
  static const char kText[] = "skerry-compile: the CPU time for compiling ran out; raise --cpu-seconds, or use --optimise O0 or a smaller module\n";
  (void)!write(2, kText, sizeof kText - 1);
  _exit(kCompileExitLimit);
}
void on_out_of_memory() {
  static const char kText[] = "skerry-compile: the memory for compiling ran out; raise --memory-max, or use --optimise O0 or a smaller module\n";
  (void)!write(2, kText, sizeof kText - 1);
  _exit(kCompileExitLimit);
}
void on_abort(int) { on_out_of_memory(); }  // what LLVM does when malloc fails
// A thread of its linker whose stack was not had is an exception that nobody catches.
void on_terminate() {
  try {
    if (const auto thrown = std::current_exception()) std::rethrow_exception(thrown);
  } catch (const std::bad_alloc&) {
    on_out_of_memory();
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::resource_unavailable_try_again || error.code() == std::errc::not_enough_memory) on_out_of_memory();
  } catch (...) {
  }
  static const char kText[] = "skerry-compile: the engine threw an exception on this module\n";
  (void)!write(2, kText, sizeof kText - 1);
  _exit(kExitInternal);
}

void set_limit(int which, std::uint64_t value, const char* name) {
  const rlimit limit{value, value};
  if (setrlimit(static_cast<__rlimit_resource>(which), &limit) != 0) die(kExitInternal, errno_error(errno, std::format("set the limit of {}", name)).what);
}

void drop_privileges(const Arguments& a) {
  if (geteuid() == 0) {
    if (setgroups(0, nullptr) != 0 || setresgid(a.user, a.user, a.user) != 0 || setresuid(a.user, a.user, a.user) != 0) {
      die(kExitInternal, errno_error(errno, std::format("become user {}", a.user)).what);
    }
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) die(kExitInternal, errno_error(errno, "set no_new_privs").what);
}

// The engine works with absolute paths, and the unprivileged user may not pass through a private data folder. So the work
// folder is seen at /tmp, in a mount namespace of this process' own. Where that is not allowed (a container's root), the
// folder itself must do, and its parents must let everybody pass.
void enter(const std::string& folder) {
  const bool moved = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                     mount(folder.c_str(), "/tmp", nullptr, MS_BIND | MS_NOSUID | MS_NODEV, nullptr) == 0;
  const std::string place = moved ? "/tmp" : folder;
  if (chdir(place.c_str()) != 0) die(kCompileExitUsage, errno_error(errno, std::format("enter {}", place)).what);
}

// What counts as data already: little, but for a sanitizer's terabytes of address space.
std::uint64_t data_bytes() {
  std::ifstream in("/proc/self/statm");
  std::uint64_t size, resident, shared, text, library, data = 0;
  in >> size >> resident >> shared >> text >> library >> data;
  return data * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

// The kernel ends this process with its parent; a parent that is gone already ends it here.
void end_with(pid_t parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(kExitInternal);
}

[[noreturn]] void work(const Arguments& a, const std::string& folder, pid_t parent) {
  end_with(parent);
  const auto data_before = data_bytes();
  const auto wasm = read_module(a);  // with the rights of the caller, before they are dropped
  enter(folder);
  // As root, the folder becomes the whole world: its parents are often closed to the uid that the work runs under, and the
  // engine opens its output by absolute path.
  const bool root = geteuid() == 0;
  if (root && (chroot(".") != 0 || chdir("/") != 0)) die(kExitInternal, errno_error(errno, std::format("chroot to {}", folder)).what);
  const std::string native = (root ? std::string() : folder) + "/native.so";
  setenv("TMPDIR", root ? "/" : folder.c_str(), 1);
  if (nice(10) == -1 && errno == EPERM) die(kExitInternal, "nice");
  signal(SIGXCPU, on_cpu_time);
  signal(SIGABRT, on_abort);
  std::set_new_handler(on_out_of_memory);
  std::set_terminate(on_terminate);
#if defined(__SANITIZE_ADDRESS__)
  // Its allocator ends the process where another one would say no.
  __sanitizer_set_death_callback([] {
    if (__asan_report_present() == 0) on_out_of_memory();
  });
#endif
  set_limit(RLIMIT_CORE, 0, "core files");
  const rlimit cpu{a.cpu_seconds, a.cpu_seconds + 2};
  if (setrlimit(RLIMIT_CPU, &cpu) != 0) die(kExitInternal, errno_error(errno, "set the limit of CPU time").what);
  set_limit(RLIMIT_DATA, data_before + a.memory_bytes_max, "memory");
  set_limit(RLIMIT_FSIZE, 1ull << 30, "file size");
  drop_privileges(a);
  end_with(parent);  // setresuid cleared it

  const auto inspection = inspect(wasm);
  if (!inspection && !a.unchecked) die(kCompileExitRefused, inspection.error().what);
  WasmEdge_LogOff();
  const auto done = compile(inspection && inspection->has_foreign_native_code ? strip_foreign_native_code(wasm) : wasm, native, a.options);
  if (!done) die(kCompileExitRefused, done.error().what);
  _exit(0);
}

// Work folders of compilers that were killed: named by their process, which is gone.
void remove_leftovers(const std::string& out) {
  const std::filesystem::path path(out);
  const auto prefix = path.filename().string() + ".work.";
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path.has_parent_path() ? path.parent_path() : ".", ignored)) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const auto pid = parse_int<pid_t>(std::string_view(name).substr(prefix.size()));
    if (pid && *pid > 0 && kill(*pid, 0) != 0 && errno == ESRCH) std::filesystem::remove_all(entry.path(), ignored);
  }
}

int run(int argc, char** argv) {
  arguments = parse_arguments(argc, argv);
  const auto& a = arguments;
  remove_leftovers(a.out);
  const auto folder = std::format("{}.work.{}", a.out, getpid());
  if (mkdir(folder.c_str(), 0700) != 0) die(kCompileExitUsage, errno_error(errno, std::format("create {}", folder)).what);
  const auto clean_up = [&] {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  };
  if (geteuid() == 0 && chown(folder.c_str(), a.user, a.user) != 0) {
    clean_up();
    die(kCompileExitUsage, errno_error(errno, std::format("give {} to user {}", folder, a.user)).what);
  }
  const pid_t parent = getpid(), child = fork();
  if (child < 0) {
    clean_up();
    die(kExitInternal, errno_error(errno, "fork").what);
  }
  if (child == 0) work(a, std::filesystem::absolute(folder).string(), parent);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    clean_up();
    if (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGXCPU) {
      die(kCompileExitLimit, "the compiler was killed: out of time, or out of memory in its cgroup; raise --cpu-seconds or --memory-max");
    }
    die(kExitInternal, std::format("the compiler crashed with signal {} ({}) on this module", WTERMSIG(status), strsignal(WTERMSIG(status))));
  }
  if (WEXITSTATUS(status) != 0) {
    clean_up();
    return WEXITSTATUS(status);
  }
  const auto native = folder + "/native.so";
  Result<> published;
  // The child could have left anything under this name, a link included: only a regular file is taken, and made ours.
  struct stat st{};
  if (lstat(native.c_str(), &st) != 0) published = Fail(errno_error(errno, "find the compiler's result"));
  else if (!S_ISREG(st.st_mode) || st.st_nlink != 1) published = Fail(Error{Errc::Corrupt, "the compiler's result is no plain file"});
  else if (geteuid() == 0 && lchown(native.c_str(), 0, 0) != 0) published = Fail(errno_error(errno, "take over the compiler's result"));
  else if (chmod(native.c_str(), 0644) != 0) published = Fail(errno_error(errno, "set the mode of the compiler's result"));
  else published = publish_native(native, a.out);
  clean_up();
  if (!published) die(kCompileExitUsage, published.error().what);
  return 0;
}

}  // namespace
}  // namespace skerry::wasm

int main(int argc, char** argv) { return skerry::wasm::run(argc, argv); }
