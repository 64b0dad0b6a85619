// SPDX-License-Identifier: Apache-2.0
// For net's tests: a network namespace that plays the host, and sockets in it.
#pragma once
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "base/testing_needs.h"
#include "net/pod_network.h"
#include "os/netlink.h"
#include "os/netns.h"

namespace skerry::net::testing {

inline Ipv4 address(const char* text) { return *Ipv4::parse(text); }

class HostNamespace : public ::testing::Test {
 protected:
  void SetUp() override {
    NEEDS(::geteuid() == 0, "needs root");
    char name[] = "/tmp/skerry-net-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    auto made = os::create_anonymous_netns();
    ASSERT_TRUE(made) << made.error().what;
    host_ = std::move(*made);
    auto inside = os::NetnsScope::enter(host_.get());
    ASSERT_TRUE(inside) << inside.error().what;
    inside_.emplace(std::move(*inside));
  }
  void TearDown() override {
    if (folder_.empty()) return;
    (void)os::remove_netns(folder_ / "pods");
    inside_.reset();
    std::filesystem::remove_all(folder_);
  }
  PodNetwork::Options options() const { return {.run_folder = folder_, .name = "pods", .host_link = "sk0"}; }

  std::filesystem::path folder_;
  os::UniqueFd host_;
  std::optional<os::NetnsScope> inside_;
};

inline sockaddr_in name_of(const char* ip, int port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, ip, &name.sin_addr);
  return name;
}

// A connection attempt of at most two seconds: 0, or the errno.
inline int try_connect(int fd, const char* ip, int port) {
  const sockaddr_in name = name_of(ip, port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd waiting{.fd = fd, .events = POLLOUT, .revents = 0};
  if (::poll(&waiting, 1, 2000) <= 0) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}
inline int connect_to(const char* ip, int port) {
  const os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  return try_connect(fd.get(), ip, port);
}
// Connects, accepts at `listener`, and returns the client's address as the listener sees it.
inline Result<std::string> connect_and_accept(const char* ip, int port, int listener) {
  const os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (const int error = try_connect(fd.get(), ip, port); error != 0)
    return Fail(errno_error(error, std::string("connect to ") + ip));
  pollfd waiting{.fd = listener, .events = POLLIN, .revents = 0};
  if (::poll(&waiting, 1, 2000) <= 0) return Fail({Errc::Timeout, "another listener took the connection"});
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  const os::UniqueFd accepted(::accept4(listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
  if (!accepted) return Fail(errno_error(errno, "accept"));
  return Ipv4{ntohl(peer.sin_addr.s_addr)}.str();
}
inline Result<os::UniqueFd> listen_anywhere(int port) {
  os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in name = name_of("0.0.0.0", port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 || ::listen(fd.get(), 16) != 0) {
    return Fail(errno_error(errno, "listen on 0.0.0.0"));
  }
  return fd;
}

}  // namespace skerry::net::testing
