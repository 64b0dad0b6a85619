// SPDX-License-Identifier: Apache-2.0
#include "sandbox/keeper_client.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <format>

#include "os/seqpacket.h"

namespace skerry::sandbox {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

}  // namespace

Result<KeeperClient> KeeperClient::connect(const std::filesystem::path& socket) {
  TRY(auto fd, os::connect_seqpacket(socket));
  KeeperClient client(std::move(fd));
  TRY_OK(client.send(Hello{}));
  return client;
}

Result<> KeeperClient::send(const Command& command, std::span<const int> fds) {
  std::string bytes = encode(command);
  if (queue_.empty()) {
    TRY(const auto outcome, os::send_message(socket_.get(), bytes_of(bytes), fds));
    if (outcome == os::SendOutcome::Sent) return {};
  }
  if (queue_.size() >= kQueuedMax)
    return Fail({Errc::Exhausted, std::format("send to the keeper: {} messages wait already; it does not read", queue_.size())});
  Queued queued{std::move(bytes), {}};
  for (const int fd : fds) {
    os::UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy) return Fail(errno_error(errno, "send to the keeper: duplicate a descriptor"));
    queued.fds.push_back(std::move(copy));
  }
  queue_.push_back(std::move(queued));
  return {};
}

Result<> KeeperClient::flush() {
  while (!queue_.empty()) {
    std::vector<int> fds;
    for (const auto& fd : queue_.front().fds) fds.push_back(fd.get());
    TRY(const auto outcome, os::send_message(socket_.get(), bytes_of(queue_.front().bytes), fds));
    if (outcome == os::SendOutcome::WouldBlock) return {};
    queue_.pop_front();
  }
  return {};
}

Result<std::optional<KeeperClient::Received>> KeeperClient::receive() {
  std::array<std::byte, kKeeperMessageMax> buffer;
  TRY(auto received, os::receive_message(socket_.get(), buffer));
  if (received.state == os::Received::State::WouldBlock) return std::optional<Received>{};
  if (received.state == os::Received::State::Closed)
    return Fail({Errc::Unavailable, "receive from the keeper: it closed the socket"});
  TRY(auto event, decode_event(received.bytes, received.fds.size()));
  return std::optional(Received{std::move(event), std::move(received.fds)});
}

}  // namespace skerry::sandbox
