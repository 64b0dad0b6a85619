// SPDX-License-Identifier: Apache-2.0
// Server and client against each other, and the server against raw bytes, over loopback without TLS
// (pki/tls_test.cc has the tests with TLS).
#include "http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <stdexcept>

#include "http/client.h"
#include "http/in_process.h"
#include "rt/task_group.h"
#include "tests/test_main.h"

namespace skerry::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Chunk chunk(std::string text) { return std::make_shared<const std::string>(std::move(text)); }

class Handled final : public Handler {
 public:
  explicit Handled(rt::Loop& loop) : loop_(loop), release(loop) {}

  // Gives what was pushed; then waits. Its end is counted.
  class Feed final : public Stream {
   public:
    Feed(Handled& owner, int count) : owner_(owner), left_(count) {}
    ~Feed() override { ++owner_.feeds_ended; }
    rt::Task<std::optional<Chunk>> next() override {
      if (left_ > 0) {
        --left_;
        co_return chunk("tick\n");
      }
      CO_TRY_OK(co_await owner_.release.wait());
      co_return std::nullopt;
    }

   private:
    Handled& owner_;
    int left_;
  };
  class Flood final : public Stream {
   public:
    rt::Task<std::optional<Chunk>> next() override { co_return chunk(std::string(256 * 1024, 'x')); }
  };
  class Broken final : public Stream {
   public:
    rt::Task<std::optional<Chunk>> next() override {
      throw std::runtime_error("stream bug");
      co_return std::nullopt;
    }
  };

  rt::Task<Response> handle(Request request) override {
    requests.push_back(request);
    if (request.target == "/echo") co_return make_response(200, "text/plain", request.body);
    if (request.target == "/fail") co_return Fail({Errc::Internal, "disk gone"});
    if (request.target == "/wait") {
      CO_TRY_OK(co_await release.wait());
      co_return make_response(200, "text/plain", "waited");
    }
    if (request.target == "/large") co_return make_response(200, "text/plain", std::string(32 * 1024 * 1024, 'l'));
    if (request.target == "/empty") co_return Response{.status = 204};
    if (request.target == "/inject") {
      Response response = make_response(200, "text/plain", "x");
      response.headers.set("X-Evil", "a\r\nSet-Cookie: b");
      co_return response;
    }
    if (request.target == "/missing") co_return make_response(404, "text/plain", "no such thing");
    Response response;
    if (request.target == "/feed") response.stream = std::make_unique<Feed>(*this, 3);
    else if (request.target == "/quiet") response.stream = std::make_unique<Feed>(*this, 0);
    else if (request.target == "/flood") response.stream = std::make_unique<Flood>();
    else if (request.target == "/broken") response.stream = std::make_unique<Broken>();
    else response = make_response(200, "text/plain", "hello");
    co_return response;
  }

  std::optional<Response> refuse_body(const Request& head) override {
    if (head.headers.get("x-who") != "nobody") return std::nullopt;
    return make_response(401, "text/plain", "who are you?");
  }

  rt::Loop& loop_;
  rt::Event release;
  std::vector<Request> requests;
  int feeds_ended = 0;
};

struct Http : ::testing::Test {
  rt::Loop loop;
  Handled handler{loop};
  Server::Options options{.name = "test"};
  HttpsTransport::Options client_options{.host = "127.0.0.1"};
  std::unique_ptr<Server> server;
  std::unique_ptr<HttpsTransport> transport;
  bool finished = false;

  // Starts the server, runs the scenario on its loop, and stops both.
  using Scenario = rt::Task<> (*)(Http&);
  void run(Scenario scenario) {
    server = std::make_unique<Server>(loop, handler, options);
    ASSERT_TRUE(server->start().has_value());
    client_options.port = server->port();
    transport = HttpsTransport::create(loop, client_options).value();
    rt::TaskGroup tasks(loop);
    tasks.spawn("scenario", whole(*this, scenario));
    loop.run();
    EXPECT_TRUE(finished);
  }
  static rt::Task<> whole(Http& t, Scenario scenario) {
    const auto result = co_await scenario(t);
    EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().what);
    t.finished = true;
    CO_TRY_OK(co_await t.server->stop(1s));
    EXPECT_EQ(t.server->stats().connections_open, 0U);
    t.loop.stop();
    co_return Result<>{};
  }
  rt::Task<Response> get(std::string target, BodyMode mode = BodyMode::Whole, Duration timeout = 5s) {
    return transport->send({.method = "GET", .target = std::move(target)}, mode, timeout);
  }
};

// Sends bytes as they are and reads until the server closes.
rt::Task<std::string> raw(Http& t, std::string bytes) {
  tcp::socket socket(t.loop.context());
  co_await socket.async_connect(tcp::endpoint(asio::ip::make_address("127.0.0.1"), t.server->port()), asio::use_awaitable);
  co_await asio::async_write(socket, asio::buffer(bytes), asio::use_awaitable);
  std::string out;
  boost::system::error_code error;
  co_await asio::async_read(socket, asio::dynamic_buffer(out), asio::redirect_error(asio::use_awaitable, error));
  co_return out;
}

rt::Task<> until(std::function<bool()> done) {
  for (int i = 0; i < 2000 && !done(); ++i) CO_TRY_OK(co_await rt::sleep_for(1ms));
  EXPECT_TRUE(done());
  co_return Result<>{};
}

TEST_F(Http, AnswersOverOneKeptConnection) {
  run([](Http& t) -> rt::Task<> {
    for (int i = 0; i < 3; ++i) {
      CO_TRY(const auto response, co_await t.get("/"));
      EXPECT_EQ(response.status, 200);
      EXPECT_EQ(response.text(), "hello");
      EXPECT_EQ(response.headers.get("content-type"), "text/plain");
    }
    const std::string big(2 * 1024 * 1024, 'b');
    CO_TRY(const auto echo, co_await t.transport->send({.method = "POST", .target = "/echo", .body = big}, BodyMode::Whole, 5s));
    EXPECT_EQ(echo.text(), big);
    CO_TRY(const auto empty, co_await t.get("/empty"));
    EXPECT_EQ(empty.status, 204);
    CO_TRY(const auto head, co_await t.transport->send({.method = "HEAD", .target = "/"}, BodyMode::Whole, 5s));
    EXPECT_EQ(head.text(), "");
    EXPECT_EQ(head.headers.get("Content-Length"), "5");
    CO_TRY(const auto again, co_await t.get("/"));
    EXPECT_EQ(again.text(), "hello");
    EXPECT_EQ(t.server->stats().connections_total, 1U);
    EXPECT_EQ(t.server->stats().requests_total, 7U);
    EXPECT_THAT(t.handler.requests[0].peer.address, StartsWith("127.0.0.1:"));
    EXPECT_FALSE(t.handler.requests[0].peer.in_process);
    EXPECT_EQ(t.handler.requests[0].headers.get("user-agent"), "skerry");
    co_return Result<>{};
  });
}

TEST_F(Http, StreamsChunksAndThenReusesTheConnection) {
  run([](Http& t) -> rt::Task<> {
    CO_TRY(auto response, co_await t.get("/feed", BodyMode::Streamed));
    EXPECT_NE(response.stream, nullptr);
    std::string text;
    while (text.size() < 15) {
      CO_TRY(const auto part, co_await response.stream->next());
      if (!part) break;
      text += **part;
    }
    EXPECT_EQ(text, "tick\ntick\ntick\n");
    EXPECT_EQ(t.server->stats().streams_open, 1U);
    t.handler.release.set();
    CO_TRY(const auto end, co_await response.stream->next());
    EXPECT_FALSE(end.has_value());
    response.stream.reset();
    EXPECT_EQ(t.handler.feeds_ended, 1);
    // A whole answer to a stream, twice on one connection.
    CO_TRY(const auto first, co_await t.get("/feed"));
    CO_TRY(const auto second, co_await t.get("/feed"));
    EXPECT_EQ(first.text(), second.text());
    EXPECT_EQ(second.text(), "tick\ntick\ntick\n");
    EXPECT_EQ(t.server->stats().connections_total, 1U);  // also that of the stream, which ended in order
    // One that is given up takes its connection with it.
    CO_TRY(auto given_up, co_await t.get("/quiet", BodyMode::Streamed));
    given_up.stream.reset();
    CO_TRY_OK(co_await t.get("/"));
    EXPECT_EQ(t.server->stats().connections_total, 2U);
    CO_TRY_OK(co_await until([&t] { return t.server->stats().streams_open == 0; }));
    co_return Result<>{};
  });
}

TEST_F(Http, AStreamEndsWhenItsClientLeavesThoughItWaits) {
  run([](Http& t) -> rt::Task<> {
    CO_TRY(auto response, co_await t.get("/quiet", BodyMode::Streamed));
    EXPECT_EQ(t.server->stats().streams_open, 1U);
    EXPECT_EQ(t.handler.feeds_ended, 0);
    response.stream.reset();
    CO_TRY_OK(co_await until([&t] { return t.handler.feeds_ended == 1; }));
    CO_TRY_OK(co_await until([&t] { return t.server->stats().connections_open == 0; }));
    EXPECT_EQ(t.server->stats().streams_open, 0U);
    co_return Result<>{};
  });
}

TEST_F(Http, GivesAnErrorBodyWholeThoughStreamed) {
  run([](Http& t) -> rt::Task<> {
    CO_TRY(const auto response, co_await t.get("/missing", BodyMode::Streamed));
    EXPECT_EQ(response.status, 404);
    EXPECT_EQ(response.text(), "no such thing");
    EXPECT_EQ(response.stream, nullptr);
    co_return Result<>{};
  });
}

TEST_F(Http, StopEndsStreamsAtOnceAndLetsRequestsFinish) {
  run([](Http& t) -> rt::Task<> {
    CO_TRY(auto stream, co_await t.get("/quiet", BodyMode::Streamed));
    std::optional<Result<Response>> waited;
    rt::TaskGroup group(t.loop);
    group.spawn("waiting", [](Http& h, std::optional<Result<Response>>& out) -> rt::Task<> {
      out = co_await h.get("/wait");
      co_return Result<>{};
    }(t, waited));
    CO_TRY_OK(co_await until([&t] { return t.handler.requests.size() == 2; }));
    group.spawn("release", [](Http& h) -> rt::Task<> {
      CO_TRY_OK(co_await until([&h] { return h.handler.feeds_ended == 1; }));
      h.handler.release.set();
      co_return Result<>{};
    }(t));
    CO_TRY_OK(co_await t.server->stop(5s));
    CO_TRY_OK(co_await until([&group] { return group.size() == 0; }));
    EXPECT_TRUE(waited.has_value() && waited->has_value());
    if (waited && *waited) { EXPECT_EQ((**waited).text(), "waited"); }
    EXPECT_FALSE((co_await stream.stream->next()).has_value());
    const auto refused = co_await t.get("/");
    EXPECT_FALSE(refused.has_value());
    if (!refused) { EXPECT_EQ(refused.error().code, Errc::Unavailable); }
    CO_TRY_OK(co_await group.stop());
    co_return Result<>{};
  });
}

TEST_F(Http, HandlerFailuresAre500AndTheServerLivesOn) {
  run([](Http& t) -> rt::Task<> {
    {
      ExpectErrorLog expected("disk gone");
      CO_TRY(const auto response, co_await t.get("/fail"));
      EXPECT_EQ(response.status, 500);
      EXPECT_THAT(std::string(response.text()), Not(HasSubstr("disk gone")));
    }
    {
      ExpectErrorLog expected("bad name");
      CO_TRY(const auto response, co_await t.get("/inject"));
      EXPECT_EQ(response.status, 500);
    }
    {
      ExpectErrorLog expected("stream bug");
      const auto broken = co_await t.get("/broken");
      EXPECT_FALSE(broken.has_value());
      if (!broken) { EXPECT_EQ(broken.error().code, Errc::Unavailable); }
    }
    EXPECT_EQ(t.server->stats().handler_failures, 2U);
    CO_TRY(const auto fine, co_await t.get("/"));
    EXPECT_EQ(fine.status, 200);
    co_return Result<>{};
  });
}

TEST_F(Http, RefusesWhatIsTooLargeOrMalformed) {
  options.header_bytes_max = 2048;
  options.body_bytes_max = 1000;
  run([](Http& t) -> rt::Task<> {
    const auto big = co_await t.transport->send({.method = "POST", .target = "/echo", .body = std::string(1001, 'x')}, BodyMode::Whole, 5s);
    EXPECT_TRUE(big.has_value());
    if (big) { EXPECT_EQ(big->status, 413); }
    CO_TRY(const auto exact, co_await t.transport->send({.method = "POST", .target = "/echo", .body = std::string(1000, 'x')}, BodyMode::Whole, 5s));
    EXPECT_EQ(exact.status, 200);
    CO_TRY(const auto chunked, co_await raw(t, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + std::string(1024, 'x') + "\r\n0\r\n\r\n"));
    EXPECT_THAT(chunked, StartsWith("HTTP/1.1 413 "));
    CO_TRY(const auto headers, co_await raw(t, "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(4000, 'y') + "\r\n\r\n"));
    EXPECT_THAT(headers, StartsWith("HTTP/1.1 431 "));
    for (const std::string bytes : {"nonsense\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "GET / HTTP/9.9\r\n\r\n",
                                    "GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
      CO_TRY(const auto answer, co_await raw(t, bytes));
      EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 ")) << bytes;
    }
    EXPECT_EQ(t.server->stats().requests_malformed, 8U);
    co_return Result<>{};
  });
}

// Goal: who may not send a body costs no memory for one. Method: the answer comes although not a byte of the body was sent.
TEST_F(Http, RefusesABodyBeforeItIsRead) {
  run([](Http& t) -> rt::Task<> {
    for (const std::string how : {"Content-Length: 1000000\r\n", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\nContent-Length: 5\r\n"}) {
      CO_TRY(const auto answer, co_await raw(t, "POST /echo HTTP/1.1\r\nHost: a\r\nX-Who: nobody\r\n" + how + "\r\n"));
      EXPECT_THAT(answer, StartsWith("HTTP/1.1 401 ")) << how;
      EXPECT_THAT(answer, HasSubstr("who are you?")) << how;
    }
    EXPECT_THAT(t.handler.requests, ::testing::IsEmpty());
    CO_TRY(const auto without, co_await raw(t, "GET /b HTTP/1.1\r\nHost: a\r\nX-Who: nobody\r\nConnection: close\r\n\r\n"));
    EXPECT_THAT(without, StartsWith("HTTP/1.1 200 "));
    EXPECT_EQ(t.server->stats().requests_total, 4U);
    co_return Result<>{};
  });
}

TEST_F(Http, SpeaksTheSmallPrintOfHttp) {
  run([](Http& t) -> rt::Task<> {
    CO_TRY(const auto pipelined, co_await raw(t, "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    EXPECT_EQ(t.handler.requests.size(), 2U);
    EXPECT_THAT(pipelined, HasSubstr("hello" "HTTP/1.1 200 OK"));
    EXPECT_THAT(pipelined, HasSubstr("Connection: close"));
    CO_TRY(const auto expect, co_await raw(t, "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"));
    EXPECT_THAT(expect, StartsWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"));
    CO_TRY(const auto old, co_await raw(t, "GET / HTTP/1.0\r\n\r\n"));
    EXPECT_THAT(old, HasSubstr("Content-Length: 5"));
    CO_TRY(const auto upgrade, co_await raw(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: SPDY/3.1\r\n\r\n"));
    EXPECT_EQ(t.handler.requests.back().headers.get("upgrade"), "SPDY/3.1");
    EXPECT_THAT(upgrade, StartsWith("HTTP/1.1 200"));
    t.handler.release.set();
    CO_TRY(const auto old_stream, co_await raw(t, "GET /feed HTTP/1.0\r\n\r\n"));
    EXPECT_THAT(old_stream, HasSubstr("\r\n\r\ntick\ntick\ntick\n"));
    EXPECT_THAT(old_stream, Not(HasSubstr("chunked")));
    CO_TRY(const auto pipelined_stream,
           co_await raw(t, "GET /feed HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    EXPECT_THAT(pipelined_stream, HasSubstr("5\r\ntick\n\r\n0\r\n\r\nHTTP/1.1 200 OK"));
    co_return Result<>{};
  });
}

TEST_F(Http, WhatAClientSendsDuringAStreamIsBounded) {
  options.header_bytes_max = 1024;
  run([](Http& t) -> rt::Task<> {
    tcp::socket socket(t.loop.context());
    co_await socket.async_connect(tcp::endpoint(asio::ip::make_address("127.0.0.1"), t.server->port()), asio::use_awaitable);
    const std::string bytes = "GET /quiet HTTP/1.1\r\nHost: a\r\n\r\n" + std::string(64 * 1024, 'x');
    co_await asio::async_write(socket, asio::buffer(bytes), asio::use_awaitable);
    CO_TRY_OK(co_await until([&t] { return t.server->stats().streams_open == 1; }));
    t.handler.release.set();
    std::string out;
    boost::system::error_code error;
    co_await asio::async_read(socket, asio::dynamic_buffer(out), asio::redirect_error(asio::use_awaitable, error));
    EXPECT_THAT(out, HasSubstr("0\r\n\r\nHTTP/1.1 4"));
    co_return Result<>{};
  });
}

TEST_F(Http, ChangedCredentialsAreUsedAtOnce) {
  run([](Http& t) -> rt::Task<> {
    rt::TaskGroup group(t.loop);
    group.spawn("waiting", [](Http& h) -> rt::Task<> {
      CO_TRY([[maybe_unused]] const auto response, co_await h.get("/wait"));
      co_return Result<>{};
    }(t));
    CO_TRY_OK(co_await until([&t] { return t.handler.requests.size() == 1; }));
    CO_TRY_OK(t.transport->set_credentials(std::nullopt, "new-token"));
    t.handler.release.set();
    CO_TRY_OK(co_await until([&group] { return group.size() == 0; }));
    CO_TRY_OK(co_await t.get("/"));
    EXPECT_EQ(t.handler.requests.back().headers.get("authorization"), "Bearer new-token");
    EXPECT_EQ(t.server->stats().connections_total, 2U);  // the one that was in use is not kept
    EXPECT_EQ(t.transport->set_credentials(std::nullopt, "a\nb").error().code, Errc::Invalid);
    CO_TRY_OK(co_await group.stop());
    co_return Result<>{};
  });
}

TEST_F(Http, SlowAndIdleClientsAreCutOff) {
  options.header_timeout = 30ms;
  options.idle_timeout = 60ms;
  options.body_timeout = 30ms;
  options.write_timeout = 50ms;
  run([](Http& t) -> rt::Task<> {
    CO_TRY(const auto silent, co_await raw(t, ""));
    EXPECT_EQ(silent, "");
    CO_TRY(const auto half_header, co_await raw(t, "GET / HT"));
    EXPECT_EQ(half_header, "");
    CO_TRY(const auto half_body, co_await raw(t, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"));
    EXPECT_EQ(half_body, "");
    EXPECT_EQ(t.server->stats().timeouts, 2U);
    // A watcher that does not read: the stream ends.
    CO_TRY(auto flood, co_await t.get("/flood", BodyMode::Streamed));
    CO_TRY_OK(co_await until([&t] { return t.server->stats().timeouts == 3; }));
    CO_TRY_OK(co_await until([&t] { return t.server->stats().streams_open == 0; }));
    co_return Result<>{};
  });
}

TEST_F(Http, ASlowClientThatKeepsReadingGetsItsWholeAnswer) {
  options.write_timeout = 100ms;
  run([](Http& t) -> rt::Task<> {
    tcp::socket socket(t.loop.context());
    co_await socket.async_connect(tcp::endpoint(asio::ip::make_address("127.0.0.1"), t.server->port()), asio::use_awaitable);
    const std::string bytes = "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    co_await asio::async_write(socket, asio::buffer(bytes), asio::use_awaitable);
    std::vector<char> part(4 * 1024 * 1024);
    std::size_t total = 0;
    for (boost::system::error_code error; !error;) {
      CO_TRY_OK(co_await rt::sleep_for(20ms));
      total += co_await asio::async_read(socket, asio::buffer(part), asio::redirect_error(asio::use_awaitable, error));
    }
    EXPECT_GT(total, 32U * 1024 * 1024);
    EXPECT_EQ(t.server->stats().timeouts, 0U);
    co_return Result<>{};
  });
}

TEST_F(Http, AHalfClosedClientStillGetsItsAnswer) {
  run([](Http& t) -> rt::Task<> {
    tcp::socket socket(t.loop.context());
    co_await socket.async_connect(tcp::endpoint(asio::ip::make_address("127.0.0.1"), t.server->port()), asio::use_awaitable);
    const std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    co_await asio::async_write(socket, asio::buffer(bytes), asio::use_awaitable);
    socket.shutdown(tcp::socket::shutdown_send);
    std::string out;
    boost::system::error_code error;
    co_await asio::async_read(socket, asio::dynamic_buffer(out), asio::redirect_error(asio::use_awaitable, error));
    EXPECT_THAT(out, HasSubstr("hello"));
    co_return Result<>{};
  });
}

TEST_F(Http, BeyondItsConnectionsItClosesNewOnes) {
  options.connections_max = 1;
  run([](Http& t) -> rt::Task<> {
    CO_TRY(auto stream, co_await t.get("/quiet", BodyMode::Streamed));
    const auto refused = co_await t.get("/");
    EXPECT_FALSE(refused.has_value());
    EXPECT_GE(t.server->stats().connections_refused, 1U);
    stream.stream.reset();
    CO_TRY_OK(co_await until([&t] { return t.server->stats().connections_open == 0; }));
    CO_TRY(const auto fine, co_await t.get("/"));
    EXPECT_EQ(fine.status, 200);
    co_return Result<>{};
  });
}

TEST_F(Http, TheClientTellsTimeoutFromUnavailable) {
  run([](Http& t) -> rt::Task<> {
    const auto slow = co_await t.get("/wait", BodyMode::Whole, 20ms);
    EXPECT_FALSE(slow.has_value());
    if (!slow) { EXPECT_EQ(slow.error().code, Errc::Timeout) << slow.error().what; }
    t.handler.release.set();
    auto nobody = HttpsTransport::create(t.loop, {.host = "127.0.0.1", .port = 1}).value();
    const auto refused = co_await nobody->send({.method = "GET", .target = "/"}, BodyMode::Whole, 5s);
    EXPECT_FALSE(refused.has_value());
    if (!refused) { EXPECT_EQ(refused.error().code, Errc::Unavailable); }
    if (!refused) { EXPECT_THAT(refused.error().what, HasSubstr("127.0.0.1:1")); }
    auto named = HttpsTransport::create(t.loop, {.host = "localhost", .port = t.server->port()}).value();
    CO_TRY(const auto fine, co_await named->send({.method = "GET", .target = "/"}, BodyMode::Whole, 5s));
    EXPECT_EQ(fine.status, 200);
    const auto malformed = co_await t.transport->send({.method = "GET", .target = "/a b"}, BodyMode::Whole, 5s);
    EXPECT_FALSE(malformed.has_value());
    co_return Result<>{};
  });
}

TEST_F(Http, AKeptConnectionThatTheServerClosedIsReplaced) {
  options.idle_timeout = 20ms;
  run([](Http& t) -> rt::Task<> {
    CO_TRY(const auto first, co_await t.transport->send({.method = "POST", .target = "/echo", .body = "1"}, BodyMode::Whole, 5s));
    CO_TRY_OK(co_await until([&t] { return t.server->stats().connections_open == 0; }));
    CO_TRY(const auto second, co_await t.transport->send({.method = "POST", .target = "/echo", .body = "2"}, BodyMode::Whole, 5s));
    EXPECT_EQ(first.text(), "1");
    EXPECT_EQ(second.text(), "2");
    EXPECT_EQ(t.server->stats().connections_total, 2U);
    co_return Result<>{};
  });
}

// A line that died takes all kept connections with it: not each of them is waited for.
TEST_F(Http, AKeptConnectionThatDoesNotAnswerTakesTheOthersAlong) {
  run([](Http& t) -> rt::Task<> {
    rt::TaskGroup group(t.loop);
    group.spawn("other", [](Http& h) -> rt::Task<> {
      CO_TRY([[maybe_unused]] const auto response, co_await h.get("/wait"));
      co_return Result<>{};
    }(t));
    CO_TRY_OK(co_await until([&t] { return t.handler.requests.size() == 1; }));
    CO_TRY_OK(co_await t.get("/"));
    t.handler.release.set();
    CO_TRY_OK(co_await until([&group] { return group.size() == 0; }));
    EXPECT_EQ(t.server->stats().connections_open, 2U);  // both are kept
    t.handler.release.reset();
    const auto silent = co_await t.get("/wait", BodyMode::Whole, 20ms);
    EXPECT_EQ(silent ? Errc::Internal : silent.error().code, Errc::Timeout);
    t.handler.release.set();
    CO_TRY_OK(co_await t.get("/"));
    EXPECT_EQ(t.server->stats().connections_total, 3U);
    CO_TRY_OK(co_await group.stop());
    co_return Result<>{};
  });
}

TEST_F(Http, CancelledExchangesCloseTheirConnection) {
  run([](Http& t) -> rt::Task<> {
    rt::TaskGroup group(t.loop);
    group.spawn("waiting", [](Http& h) -> rt::Task<> {
      CO_TRY([[maybe_unused]] const auto response, co_await h.get("/wait"));
      co_return Result<>{};
    }(t));
    group.spawn("watching", [](Http& h) -> rt::Task<> {
      CO_TRY(auto response, co_await h.get("/quiet", BodyMode::Streamed));
      CO_TRY([[maybe_unused]] const auto part, co_await response.stream->next());
      co_return Result<>{};
    }(t));
    CO_TRY_OK(co_await until([&t] { return t.handler.requests.size() == 2; }));
    CO_TRY_OK(co_await rt::sleep_for(5ms));
    CO_TRY_OK(co_await group.stop());
    CO_TRY_OK(co_await until([&t] { return t.server->stats().streams_open == 0; }));
    t.handler.release.set();
    co_return Result<>{};
  });
}

TEST_F(Http, ListensOnAUnixSocketThatOnlyItsOwnerMayUse) {
  char folder[] = "/tmp/skerry-http-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  options.unix_path = std::string(folder) + "/s";
  client_options.unix_path = options.unix_path;
  run([](Http& t) -> rt::Task<> {
    struct stat found{};
    EXPECT_EQ(::stat(t.options.unix_path.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777, 0600U);
    CO_TRY(const auto response, co_await t.get("/"));
    EXPECT_EQ(response.text(), "hello");
    EXPECT_EQ(t.handler.requests[0].peer.address, "unix");
    co_return Result<>{};
  });
  EXPECT_FALSE(std::filesystem::exists(options.unix_path));
  std::filesystem::remove_all(folder);
}

TEST_F(Http, SaysWhyItCannotListen) {
  run([](Http& t) -> rt::Task<> {
    Server second(t.loop, t.handler, {.port = t.server->port()});
    const auto started = second.start();
    EXPECT_FALSE(started.has_value());
    if (!started) { EXPECT_EQ(started.error().code, Errc::Unavailable); }
    if (!started) { EXPECT_THAT(started.error().what, HasSubstr("choose another port")); }
    Server bad(t.loop, t.handler, {.address = "nowhere"});
    EXPECT_EQ(bad.start().error().code, Errc::Invalid);
    co_return Result<>{};
  });
}

}  // namespace
}  // namespace skerry::http
