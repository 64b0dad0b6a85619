// SPDX-License-Identifier: Apache-2.0
// The server without a guest: a handler of a few lines, on loopback. What needs a guest is in guest_http_test.cc.
#include "sandbox/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "os/fd.h"

namespace skerry::sandbox {
namespace {

using ::testing::HasSubstr;

// "/big" is answered with a body that is streamed, and larger than what the sockets of this test take; the pauses let them
// settle, so that the last pieces find no room at all.
struct Handler final : RequestHandler {
  void handle(Request& request, Response& response, Arena&) override {
    const bool big = request.uri == "/big";
    const std::string piece(big ? Response::kStreamBytes + 1 : 100, 'x');
    for (int i = 0; i < (big ? 3 : 1); ++i) {
      if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(60));
      if (response.write(piece.data(), piece.size()) != Response::Written::Ok) return;
    }
  }
};
struct Events final : ServerEvents {};

os::UniqueFd listen_on_loopback(sockaddr_in& address) {
  os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int small = 32 << 10;  // accepted sockets inherit it
  EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
  address = {.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::listen(fd.get(), 16), 0);
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return fd;
}
os::UniqueFd ask(const sockaddr_in& address, std::string_view path) {
  os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int small = 32 << 10;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  const timeval patience{20, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::string request = "GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n";
  EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL), std::ssize(request));
  return fd;
}

// Goal: a client that takes nothing of a streamed response is cut off by the write timeout, and costs the others nothing.
// Method: the timeout of the head, which the connection had before, passes first; then another client is answered at once.
TEST(HttpServer, AClientThatTakesNothingOfAStreamedResponseIsCutOff) {
  sockaddr_in address{};
  const auto listener = listen_on_loopback(address);
  metrics::Block block{};
  Handler handler;
  Events events;
  HttpServer::Options options;
  options.header_timeout_ms = options.keep_alive_timeout_ms = 200;
  options.write_timeout_ms = 400;
  options.linger_timeout_ms = 100;
  options.idle_after_ms = 1000;
  HttpServer server(options, handler, events, block);
  std::thread serving([&] { server.run(listener.get(), -1); });
  const auto stuck = ask(address, "/big");
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  char buffer[4096];
  const auto other = ask(address, "/");
  const ssize_t n = ::recv(other.get(), buffer, sizeof buffer, 0);
  EXPECT_THAT(std::string(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0))), HasSubstr("200 OK"));
  serving.join();  // idle, so the stuck connection is gone
  EXPECT_EQ(block.get(metrics::Counter::RequestsFinished), 2u);
  EXPECT_GE(block.get(metrics::Counter::Timeouts), 1u);
}

}  // namespace
}  // namespace skerry::sandbox
