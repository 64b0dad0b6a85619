// SPDX-License-Identifier: Apache-2.0
// What an agent and a keeper say to each other (docs/wire/keeper.md): one message a packet of a unix SOCK_SEQPACKET,
// little endian, descriptors beside it. Pure values; decode() trusts no length and no count.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace skerry::sandbox {

inline constexpr std::uint32_t kKeeperProtocolVersion = 1;
inline constexpr std::size_t kKeeperMessageMax = 16384;
inline constexpr std::size_t kImageKeyMax = 256, kImageNameMax = 512, kKeeperTextMax = 2048;
inline constexpr std::uint16_t kWorkersMax = 64;
inline constexpr std::uint64_t kPodMemoryMin = 2u << 20;  // less would not hold a sandbox's own pages

// One container of a pod that a sandbox runs. The id is the agent's; it must not be used again while a sandbox of it lives.
struct PodSpec {
  std::uint64_t id = 0;
  std::string image;                        // key of an image put before
  std::uint64_t memory_bytes_max = 0;       // of all workers together; 0: no limit
  std::uint32_t cpu_millis_max = 0;         // of all workers together; 0: no limit
  std::uint32_t cpu_millis_requested = 0;   // weight under contention; 0: the kernel's default
  std::uint16_t workers = 1;
  friend bool operator==(const PodSpec&, const PodSpec&) = default;
};
enum class PodState : std::uint8_t { Idle = 0, Waiting = 1, Awake = 2, Held = 3, Stopping = 4, Stopped = 5 };
struct WorkerRow {
  std::int32_t pid = 0;
  std::uint16_t worker = 0;
  std::uint32_t slot = 0;
  friend bool operator==(const WorkerRow&, const WorkerRow&) = default;
};

// --- agent to keeper
struct Hello {
  std::uint32_t version = kKeeperProtocolVersion;
  friend bool operator==(const Hello&, const Hello&) = default;
};
struct PutImage {  // with 1 descriptor: the native code, open for reading. Known key: only a failed image is tried again
  std::string key, name;
  std::array<std::uint8_t, 32> sha256{};
  friend bool operator==(const PutImage&, const PutImage&) = default;
};
struct DropImage {
  std::string key;
  friend bool operator==(const DropImage&, const DropImage&) = default;
};
// With 3 or 4 descriptors: listener, assignment, metrics page, log. A known id gets new limits and descriptors, which hold
// from its next wake-up on. Living sandboxes of this id that an earlier keeper started are adopted: PodAwake tells of each.
struct PutPod {
  PodSpec spec;
  friend bool operator==(const PutPod&, const PutPod&) = default;
};
struct StopPod {  // no more wake-ups; SIGTERM, after the grace SIGKILL; then PodStopped
  std::uint64_t id = 0;
  std::uint32_t grace_ms = 0;
  friend bool operator==(const StopPod&, const StopPod&) = default;
};
struct DropPod {  // kills what still lives, of an earlier keeper too, and forgets the pod and its descriptors
  std::uint64_t id = 0;
  friend bool operator==(const DropPod&, const DropPod&) = default;
};
struct Relog {  // with 1 descriptor: the new log
  std::uint64_t id = 0;
  friend bool operator==(const Relog&, const Relog&) = default;
};
struct Dump {
  friend bool operator==(const Dump&, const Dump&) = default;
};
struct Refilled {  // the agent's table is complete: sandboxes of an earlier keeper that no pod claimed are killed
  friend bool operator==(const Refilled&, const Refilled&) = default;
};
struct Shutdown {  // stops all pods, then everything, then the keeper ends
  std::uint32_t grace_ms = 0;
  friend bool operator==(const Shutdown&, const Shutdown&) = default;
};
using Command = std::variant<Hello, PutImage, DropImage, PutPod, StopPod, DropPod, Relog, Dump, Refilled, Shutdown>;

// --- keeper to agent
enum class Hardening : std::uint8_t { Reduced = 0, Full = 1 };
enum class CgroupKind : std::uint8_t { None = 0, V1 = 1, V2 = 2 };
struct Welcome {
  std::uint32_t version = kKeeperProtocolVersion;
  std::int32_t pid = 0;
  Hardening hardening = Hardening::Reduced;
  CgroupKind cgroups = CgroupKind::None;
  std::uint32_t pods = 0;   // rows it holds: 0 means "fill me"
  std::uint32_t found = 0;  // living sandboxes of an earlier keeper, not yet claimed
  friend bool operator==(const Welcome&, const Welcome&) = default;
};
struct ImageReady {
  std::string key;
  std::int32_t template_pid = 0;
  std::uint32_t load_us = 0;
  friend bool operator==(const ImageReady&, const ImageReady&) = default;
};
struct ImageFailed {  // its pods wait; PutImage again to retry
  std::string key, text;
  friend bool operator==(const ImageFailed&, const ImageFailed&) = default;
};
struct PodAwake {  // one a worker; cold_start_us: from the connection seen to the guest ready to answer. Adopted: 0
  std::uint64_t id = 0;
  WorkerRow row;
  std::uint32_t cold_start_us = 0;
  friend bool operator==(const PodAwake&, const PodAwake&) = default;
};
struct PodIdle {
  std::uint64_t id = 0;
  friend bool operator==(const PodIdle&, const PodIdle&) = default;
};
struct PodExited {  // one a worker
  std::uint64_t id = 0;
  WorkerRow row;
  std::int32_t code = -1;    // -1 with signal 0: not known, and not in order (an adopted sandbox on a kernel before 6.15)
  std::int32_t signal = 0;
  bool oom_killed = false;
  std::uint64_t requests_lost = 0, connections_lost = 0;
  std::string text;          // the sandbox's own words, when it gave some
  friend bool operator==(const PodExited&, const PodExited&) = default;
};
struct PodStopped {
  std::uint64_t id = 0;
  friend bool operator==(const PodStopped&, const PodStopped&) = default;
};
struct PodHeld {  // its sandboxes keep dying: no wake-up for so long
  std::uint64_t id = 0;
  std::uint32_t delay_ms = 0;
  std::uint32_t failures = 0;
  friend bool operator==(const PodHeld&, const PodHeld&) = default;
};
struct Refused {  // the answer to a command that cannot be carried out
  std::uint8_t command = 0;
  std::uint64_t id = 0;
  std::string text;
  friend bool operator==(const Refused&, const Refused&) = default;
};
struct DumpedImage {
  std::string key;
  bool ready = false;
  friend bool operator==(const DumpedImage&, const DumpedImage&) = default;
};
struct DumpedPod {  // with the descriptors of PutPod
  PodSpec spec;
  PodState state = PodState::Idle;
  std::vector<WorkerRow> workers;
  friend bool operator==(const DumpedPod&, const DumpedPod&) = default;
};
struct DumpEnd {
  friend bool operator==(const DumpEnd&, const DumpEnd&) = default;
};
// What was lost with a sandbox that belonged to no pod any more when it ended: DropPod killed it, or it was of an earlier
// keeper and no pod claimed it. Comes only if something was lost.
struct SandboxLost {
  std::uint64_t id = 0;  // of the pod that it had
  std::uint64_t requests_lost = 0, connections_lost = 0;
  friend bool operator==(const SandboxLost&, const SandboxLost&) = default;
};
// Answer to Dump, with 3 descriptors: listener, assignment, metrics page. Sandboxes of an earlier keeper that serve a pod which is
// not in the table. The descriptors were taken from a sandbox: they are of the right kind, and hostile in all else.
struct FoundPod {
  std::uint64_t id = 0;
  std::vector<WorkerRow> workers;
  friend bool operator==(const FoundPod&, const FoundPod&) = default;
};
using Event = std::variant<Welcome, ImageReady, ImageFailed, PodAwake, PodIdle, PodExited, PodStopped, PodHeld, Refused,
                           DumpedImage, DumpedPod, DumpEnd, SandboxLost, FoundPod>;

// Never longer than kKeeperMessageMax: texts beyond their bound are cut.
std::string encode(const Command&);
std::string encode(const Event&);
// Corrupt: malformed, truncated, too long, trailing bytes; Invalid: a value out of bounds (the text names it).
// `fds` is how many descriptors came with the message; a wrong count is Invalid.
Result<Command> decode_command(std::span<const std::byte>, std::size_t fds);
Result<Event> decode_event(std::span<const std::byte>, std::size_t fds);

}  // namespace skerry::sandbox
