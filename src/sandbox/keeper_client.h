// SPDX-License-Identifier: Apache-2.0
// The agent's end of the keeper's socket: non-blocking, no thread, no Asio. Wait for fd() to become readable (or writable
// while pending()), then call receive() until it is empty (or flush()).
#pragma once
#include <cstddef>
#include <deque>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "os/fd.h"
#include "sandbox/protocol.h"

namespace skerry::sandbox {

class KeeperClient {
 public:
  static constexpr std::size_t kQueuedMax = 65536;
  struct Received {
    Event event;
    std::vector<os::UniqueFd> fds;  // of DumpedPod: listener, assignment, metrics page, log (may be absent)
  };

  // Connects and sends Hello; the first event is Welcome. NotFound or Unavailable: no keeper there, start one.
  static Result<KeeperClient> connect(const std::filesystem::path& socket);

  int fd() const { return socket_.get(); }
  bool pending() const { return !queue_.empty(); }

  // In order, never lost while the keeper lives: what the socket does not take now is queued (with duplicates of the
  // descriptors) until flush(). Exhausted: kQueuedMax are queued. Unavailable: the keeper is gone; start a new one.
  Result<> send(const Command&, std::span<const int> fds = {});
  Result<> flush();
  // One event, or nothing when none is there. Unavailable: the keeper is gone.
  Result<std::optional<Received>> receive();

 private:
  struct Queued {
    std::string bytes;
    std::vector<os::UniqueFd> fds;
  };
  explicit KeeperClient(os::UniqueFd socket) : socket_(std::move(socket)) {}
  os::UniqueFd socket_;
  std::deque<Queued> queue_;
};

}  // namespace skerry::sandbox
