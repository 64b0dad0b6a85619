// SPDX-License-Identifier: Apache-2.0
// What keeper, template and slot say to each other on their socketpairs. One program at both ends (the keeper starts
// templates from its own file), so these are plain structs; nothing of a guest's is in them but text.
//
//   keeper → template   Load + native code; Fork + control socket, cgroup files
//   template → keeper   'T' + u32 µs: the image is loaded; 'E' + text: it cannot be
//   slot → keeper       'P': parked (the kernel adds its pid); then as guest.h says: 'R', 'E' + text
//   keeper → slot       Assign + listener, assignment, metrics page, log; then as guest.h says: 'L' + log
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "sandbox/guest.h"
#include "sandbox/protocol.h"

namespace skerry::sandbox {

// The guest side as the process side calls it.
struct GuestApi {
  Result<GuestImage*> (*load)(const ImageSpec&);
  void (*serve)(GuestImage&, const SlotLimits&, ServeFds);  // does not return
};

inline constexpr int kTemplateSocket = 3;  // in the template; in the slot it is the control socket
// In a sandbox, from its assignment to its end: the next keeper takes them from there (take_over.h).
inline constexpr int kSlotListener = 4, kSlotAssignment = 5, kSlotMetrics = 6, kSlotLog = 7;
inline constexpr char kTemplateReady = 'T', kSlotParked = 'P';

struct LoadMessage {
  char type = 'I';
  Hardening hardening = Hardening::Full;
  std::array<std::uint8_t, 32> sha256{};
  char name[kImageNameMax + 1] = {};
};
struct ForkMessage {
  char type = 'F';
  CgroupKind cgroups = CgroupKind::None;
  std::uint32_t uid = 0;
};
struct AssignMessage {
  char type = 'A';
  std::uint16_t worker = 0;
  std::uint64_t memory_bytes_max = 0;
};

template <class M>
std::span<const std::byte> bytes_of(const M& message) {
  static_assert(std::is_trivially_copyable_v<M>);
  return std::as_bytes(std::span(&message, 1));
}

// Serves the keeper until it closes the socket. Returns the exit code.
int template_main(const GuestApi&);

// The child of a template: hardens itself, parks, serves. Ends in _exit.
class SeccompProgram;
[[noreturn]] void slot_main(const GuestApi&, GuestImage&, Hardening, const ForkMessage&, std::span<const int> fds, const SeccompProgram&);

}  // namespace skerry::sandbox
