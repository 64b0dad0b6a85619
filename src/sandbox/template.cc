// SPDX-License-Identifier: Apache-2.0
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "base/text.h"
#include "os/file.h"
#include "os/seqpacket.h"
#include "sandbox/hardening.h"
#include "sandbox/process.h"

namespace skerry::sandbox {
namespace {

int report_failure(const Error& error) {
  std::string text(1, kControlError);
  text += error.what.substr(0, kControlTextMax);
  [[maybe_unused]] const auto told = os::send_message(kTemplateSocket, std::as_bytes(std::span(text)));
  return 1;
}

struct Loaded {
  GuestImage* image;
  SeccompProgram seccomp;
  Hardening hardening;
};

// fork() copies no page table of a file mapping: the child would fault every page of code in again, some 45 faults on the
// way to its first answer. It does copy those of a mapping that holds a private page. So one page of each gets one,
// by writing a byte that is there already; then a slot is born with all the code mapped that the template has run.
// Only speed depends on it: what fails is left as it is.
void let_slots_inherit_mapped_code() {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  // A mapping that was writable counts as committed memory in every slot, which only strict accounting minds.
  if (os::read_small_file("/proc/sys/vm/overcommit_memory").value_or("2").starts_with("2")) return;
  const auto maps = os::read_small_file("/proc/self/maps", 4u << 20);
  if (!maps) return;
  for (const auto line : split(*maps, '\n')) {
    std::uintptr_t begin = 0, end = 0;
    const char* from = line.data();
    const auto first = std::from_chars(from, from + line.size(), begin, 16);
    if (first.ec != std::errc{} || *first.ptr != '-') continue;
    const auto second = std::from_chars(first.ptr + 1, from + line.size(), end, 16);
    if (second.ec != std::errc{} || !line.contains('/')) continue;
    if (std::string_view(second.ptr + 1, 4) != "r-xp") continue;  // constants: mostly tables that only the loader read
    auto* const last = reinterpret_cast<volatile char*>(end - page);
    // The whole mapping: a part of it would stay a mapping of its own.
    if (::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) continue;
    *last = *last;
    ::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_EXEC);
  }
}

Result<Loaded> load(const GuestApi& guest) {
  std::array<std::byte, sizeof(LoadMessage)> buffer;
  TRY(auto received, os::receive_message(kTemplateSocket, buffer));
  LoadMessage message;
  if (received.bytes.size() != sizeof message || received.fds.size() != 1)
    return Fail({Errc::Corrupt, "the keeper's first message is malformed"});
  std::memcpy(&message, received.bytes.data(), sizeof message);
  message.name[kImageNameMax] = '\0';
  TRY(auto* image, guest.load({.native_fd = received.fds[0].get(), .sha256 = message.sha256, .name = message.name}));
  TRY(auto seccomp, SeccompProgram::compile());
  ::tzset();  // while /etc/localtime can be read: the library looks for it at the first date
  let_slots_inherit_mapped_code();
  // A guest is the first to go when memory runs out; the keeper, whose score this process inherited, the last.
  [[maybe_unused]] const auto score = os::write_control_file("/proc/self/oom_score_adj", "0");
  TRY_OK(isolate_template(message.hardening, {}));
  return Loaded{image, std::move(seccomp), message.hardening};
}

// A child of the keeper (CLONE_PARENT), process 1 of a pid namespace of its own.
pid_t fork_slot(Hardening hardening, CgroupKind cgroups, int cgroup_folder) {
  clone_args arguments{};
  arguments.flags = CLONE_PARENT;
  if (hardening == Hardening::Full) arguments.flags |= CLONE_NEWPID;
  if (cgroups == CgroupKind::V2) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<std::uint64_t>(cgroup_folder);
  }
  return static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
}

}  // namespace

int template_main(const GuestApi& guest) {
  ::prctl(PR_SET_NAME, "skerry-template");
  ::signal(SIGPIPE, SIG_IGN);
  const auto started = std::chrono::steady_clock::now();
  auto loaded = load(guest);
  if (!loaded) return report_failure(loaded.error());
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - started).count();
  struct [[gnu::packed]] {
    char type = kTemplateReady;
    std::uint32_t load_us;
  } ready{.load_us = static_cast<std::uint32_t>(took)};
  if (!os::send_message(kTemplateSocket, bytes_of(ready))) return 0;

  for (;;) {
    std::array<std::byte, sizeof(ForkMessage)> buffer;
    auto received = os::receive_message(kTemplateSocket, buffer);
    if (!received) return report_failure(received.error());
    if (received->state == os::Received::State::Closed) return 0;
    ForkMessage message;
    if (received->bytes.size() != sizeof message || received->fds.empty())
      return report_failure({Errc::Corrupt, "the keeper's fork message is malformed"});
    std::memcpy(&message, received->bytes.data(), sizeof message);
    std::vector<int> fds;
    for (const auto& fd : received->fds) fds.push_back(fd.get());
    const pid_t pid = fork_slot(loaded->hardening, message.cgroups, fds.back());
    if (pid == 0) slot_main(guest, *loaded->image, loaded->hardening, message, fds, loaded->seccomp);
    if (pid < 0) {
      // Said on the slot's own socket, where the keeper waits for it.
      std::string text(1, kControlError);
      text += errno_error(errno, "fork a sandbox").what;
      [[maybe_unused]] const auto told = os::send_message(fds.front(), std::as_bytes(std::span(text)));
    }
  }
}

}  // namespace skerry::sandbox
