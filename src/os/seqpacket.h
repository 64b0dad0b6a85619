// SPDX-License-Identifier: Apache-2.0
// Unix SOCK_SEQPACKET: one message in, one message out, with descriptors beside the bytes.
#pragma once
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "os/fd.h"

namespace skerry::os {

constexpr std::size_t kFdsPerMessageMax = 8;

// A connected pair, close-on-exec. `flags` may hold SOCK_NONBLOCK (both ends).
Result<std::pair<UniqueFd, UniqueFd>> make_seqpacket_pair(int flags = 0);

// Non-blocking, close-on-exec, file mode 0600. A stale socket file is replaced; hold a lock before you listen.
Result<UniqueFd> listen_seqpacket(const std::filesystem::path&);
// Non-blocking once connected. NotFound or Unavailable when nobody listens.
Result<UniqueFd> connect_seqpacket(const std::filesystem::path&);

enum class SendOutcome { Sent, WouldBlock };
// Descriptors are duplicated by the kernel; the caller keeps its own. Unavailable when the peer is gone (never SIGPIPE).
Result<SendOutcome> send_message(int socket, std::span<const std::byte> bytes, std::span<const int> fds = {});

struct Received {
  std::span<const std::byte> bytes;  // into the caller's buffer
  std::vector<UniqueFd> fds;
  pid_t sender = 0;  // the sender's pid as seen here, when SO_PASSCRED is set on the socket; the kernel vouches for it
  enum class State { Message, WouldBlock, Closed } state = State::Message;
};
// One message. Corrupt if it was longer than the buffer or carried more than kFdsPerMessageMax descriptors (all closed).
Result<Received> receive_message(int socket, std::span<std::byte> buffer);

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
Result<PeerCredentials> peer_credentials(int socket);

}  // namespace skerry::os
