// SPDX-License-Identifier: Apache-2.0
#include "os/seqpacket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <format>

namespace skerry::os {
namespace {

Result<sockaddr_un> address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path)
    return Fail({Errc::Invalid, std::format("socket {}: the path is longer than {} bytes; choose a shorter state folder", path.native(),
                                            sizeof address.sun_path - 1)});
  std::memcpy(address.sun_path, path.c_str(), path.native().size() + 1);
  return address;
}

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> make_seqpacket_pair(int flags) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, ends) != 0)
    return Fail(errno_error(errno, "socketpair"));
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<UniqueFd> listen_seqpacket(const std::filesystem::path& path) {
  TRY(const auto address, address_of(path));
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Fail(errno_error(errno, "socket"));
  ::unlink(path.c_str());
  const mode_t mask = ::umask(0177);
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::umask(mask);
  if (bound != 0) return Fail(errno_error(error, std::format("bind {}", path.native())));
  if (::listen(fd.get(), 16) != 0) return Fail(errno_error(errno, std::format("listen {}", path.native())));
  return fd;
}

Result<UniqueFd> connect_seqpacket(const std::filesystem::path& path) {
  TRY(const auto address, address_of(path));
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return Fail(errno_error(errno, "socket"));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ECONNREFUSED) return Fail({Errc::Unavailable, std::format("connect {}: nobody listens", path.native())});
    return Fail(errno_error(errno, std::format("connect {}", path.native())));
  }
  if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) return Fail(errno_error(errno, "fcntl"));
  return fd;
}

Result<SendOutcome> send_message(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
  if (fds.size() > kFdsPerMessageMax) return Fail({Errc::Invalid, std::format("send {} descriptors: too many", fds.size())});
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFdsPerMessageMax)] = {};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return SendOutcome::Sent;
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return SendOutcome::WouldBlock;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
      return Fail({Errc::Unavailable, "send a message: the other process closed the socket"});
    return Fail(errno_error(errno, "send a message"));
  }
}

Result<Received> receive_message(int socket, std::span<std::byte> buffer) {
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFdsPerMessageMax) + CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  Received received;
  ssize_t size;
  do size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  if (size < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      received.state = Received::State::WouldBlock;
      return received;
    }
    if (errno == ECONNRESET) {
      received.state = Received::State::Closed;
      return received;
    }
    return Fail(errno_error(errno, "receive a message"));
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials;
      std::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
      received.sender = credentials.pid;
    }
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return Fail({Errc::Corrupt, std::format("receive a message: longer than {} bytes or more than {} descriptors", buffer.size(),
                                            kFdsPerMessageMax)});
  if (size == 0) received.state = Received::State::Closed;
  received.bytes = buffer.first(static_cast<std::size_t>(size));
  return received;
}

Result<PeerCredentials> peer_credentials(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return Fail(errno_error(errno, "getsockopt SO_PEERCRED"));
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

}  // namespace skerry::os
