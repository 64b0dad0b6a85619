// SPDX-License-Identifier: Apache-2.0
// What a client sends to a sandbox: first byte: in how many pieces; the rest: the bytes of one connection. The server
// survives it, answers nothing that is not HTTP, and never hands its guest a request with a broken or too long part.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "fuzz/fuzz.h"
#include "sandbox/http_server.h"

namespace skerry::fuzz {
namespace {

using namespace sandbox;

class Echo final : public RequestHandler {
 public:
  void handle(Request& request, Response& response, Arena& arena) override {
    calls++;
    REQUIRE(is_token(request.method));
    REQUIRE(request.uri.starts_with("/") || request.uri == "*");
    REQUIRE(request.uri.find_first_of(" \r\n") == std::string_view::npos);
    for (const auto& field : request.headers.fields()) REQUIRE(is_token(field.name) && is_field_value(field.value));
    for (const auto& field : request.trailers.fields()) REQUIRE(is_token(field.name) && is_field_value(field.value));
    REQUIRE(request.body.size() <= 512);
    response.headers.set(arena, "x-method", request.method);
    response.write(request.body.data(), request.body.size());
    if (request.uri.size() % 3 == 0) response.headers.set(arena, "x-uri", request.uri);
  }
  int calls = 0;
};

class NoEvents final : public ServerEvents {};

// What the client received begins as HTTP, and there is an answer if the guest was asked.
void check_answers(int fd, int calls) {
  std::string all;
  char buffer[4096];
  for (ssize_t got; (got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0;)
    all.append(buffer, static_cast<std::size_t>(got));
  REQUIRE(all.empty() ? calls == 0 : all.starts_with("HTTP/1."));
}

}  // namespace

void fuzz_one(std::string_view input) {
  const std::size_t pieces = 1 + take_byte(input) % 4U;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(listen(listener, 8) == 0);
  REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  input = input.substr(0, 16384);
  const std::size_t step = input.size() / pieces + 1;
  while (!input.empty()) {
    const auto part = input.substr(0, step);
    REQUIRE(send(client, part.data(), part.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(part.size()));
    input.remove_prefix(part.size());
  }
  shutdown(client, SHUT_WR);

  Echo echo;
  NoEvents events;
  static metrics::Block block;
  HttpServer::Options options;
  options.body_bytes_max = 512;
  options.header_bytes_max = 1024;
  options.header_count_max = 8;
  options.idle_after_ms = 1;
  options.header_timeout_ms = options.body_timeout_ms = options.keep_alive_timeout_ms = options.linger_timeout_ms = 1;
  {
    HttpServer server(options, echo, events, block);
    server.run(listener, -1);
  }
  check_answers(client, echo.calls);
  REQUIRE(block.get(metrics::Counter::ConnectionsOpen) == 0);
  close(client);
  close(listener);
}
}  // namespace skerry::fuzz
