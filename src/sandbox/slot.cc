// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "os/seqpacket.h"
#include "sandbox/hardening.h"
#include "sandbox/process.h"
#include "sandbox/process_status.h"

namespace skerry::sandbox {
namespace {

constexpr int kControl = kTemplateSocket, kFirstCgroupFile = 4;

[[noreturn]] void give_up(const Error& error) {
  std::string text(1, kControlError);
  text += error.what.substr(0, kControlTextMax);
  [[maybe_unused]] const auto told = os::send_message(kControl, std::as_bytes(std::span(text)));
  ::_exit(kExitAssignmentRefused);
}

// Control at 3, cgroup files from 4 on, nothing else; standard error is the null device too.
void keep_only(std::span<const int> fds) {
  // Descriptors came in ascending order, all above 3: no dup2 overwrites a later source.
  for (std::size_t i = 0; i < fds.size(); ++i) ::dup2(fds[i], kControl + static_cast<int>(i));
  ::dup2(STDIN_FILENO, STDERR_FILENO);
  ::close_range(static_cast<unsigned>(kControl + static_cast<int>(fds.size())), ~0u, 0);
}

Result<> enter_cgroup(CgroupKind cgroups, std::size_t files) {
  for (std::size_t i = 0; i < files; ++i) {
    const int file = kFirstCgroupFile + static_cast<int>(i);
    if (cgroups == CgroupKind::V1 && ::write(file, "0", 1) != 1) return Fail(errno_error(errno, "enter the cgroup"));
    ::close(file);
  }
  return {};
}

}  // namespace

void slot_main(const GuestApi& guest, GuestImage& image, Hardening hardening, const ForkMessage& fork, std::span<const int> fds,
               const SeccompProgram& seccomp) {
  keep_only(fds);
  ::prctl(PR_SET_NAME, "skerry-slot");
  weigh_as_others();
  if (auto done = enter_cgroup(fork.cgroups, fds.size() - 1); !done) give_up(done.error());
  if (auto done = harden_slot(hardening, fork.uid, seccomp); !done) give_up(done.error());
  if (!os::send_message(kControl, std::as_bytes(std::span(&kSlotParked, 1)))) ::_exit(0);

  std::byte buffer[64];
  auto received = os::receive_message(kControl, buffer);
  // The keeper closed the socket: this slot is not needed any more, or the keeper is gone.
  if (!received || received->state != os::Received::State::Message) ::_exit(kExitDone);
  AssignMessage assign;
  if (received->bytes.size() != sizeof assign || received->fds.size() < 3 || received->fds.size() > 4)
    give_up({Errc::Corrupt, "the keeper's assignment is malformed"});
  std::memcpy(&assign, received->bytes.data(), sizeof assign);
  // Only the control socket and what lies below it is open, so they come at the numbers at which the next keeper looks for them.
  auto& passed = received->fds;
  const bool has_log = passed.size() == 4;
  for (int i = 0; i < static_cast<int>(passed.size()); ++i)
    if (passed[static_cast<std::size_t>(i)].release() != kSlotListener + i)
      give_up({Errc::Internal, "the descriptors of the assignment are not at their numbers"});
  const ServeFds serve_fds{
      .listener = kSlotListener, .assignment = kSlotAssignment, .log = has_log ? kSlotLog : -1, .metrics = kSlotMetrics, .control = kControl};
  guest.serve(image, {.memory_bytes_max = assign.memory_bytes_max, .worker = assign.worker}, serve_fds);
  ::_exit(kExitDone);
}

}  // namespace skerry::sandbox
