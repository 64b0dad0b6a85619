// SPDX-License-Identifier: Apache-2.0
// HTTP, the http-wasm ABI and WAGI, over loopback against a forked sandbox.
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <format>
#include <memory>

#include "sandbox/guest_test_kit.h"

namespace skerry::sandbox::test {
namespace {
using metrics::Counter;
using testing::HasSubstr;
using testing::Not;
using namespace std::string_literals;

TEST(GuestHttp, AnswersWithFramingOfTheHost) {
  Sandbox s;
  const auto reply = s.get("/hello");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "hello\n");
  EXPECT_EQ(reply.header("content-type"), "text/plain");
  EXPECT_EQ(reply.header("content-length"), "6");
  EXPECT_THAT(reply.header("date"), HasSubstr("GMT"));
  EXPECT_EQ(s.control_packet(), "R");
}

TEST(GuestHttp, KeepsConnectionsAndPipelinesInOrder) {
  Sandbox s;
  Client c(s.port());
  EXPECT_EQ(c.get("/calls").body, "1 1\n");
  EXPECT_EQ(c.get("/calls").body, "2 1\n");
  std::string many;
  for (int i = 0; i < 200; ++i) many += std::format("GET /request-uri?{} HTTP/1.1\r\nHost: t\r\n\r\n", i);
  ASSERT_TRUE(c.send(many));
  for (int i = 0; i < 200; ++i) ASSERT_EQ(c.read().body, std::format("/request-uri?{}", i));
  EXPECT_EQ(s.counter(Counter::ConnectionsAccepted), 1u);
}

TEST(GuestHttp, ARequestInSingleBytesIsTheSameRequest) {
  Sandbox s;
  Client c(s.port());
  for (const std::string request : {"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
                                    "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n"}) {
    for (const char byte : request) ASSERT_TRUE(c.send({&byte, 1}));
    EXPECT_EQ(c.read().body, "hello");
  }
}

TEST(GuestHttp, BodiesOfEverySizeComeBack) {
  Sandbox s;
  Client c(s.port());
  for (const std::size_t size : {0, 1, 999, 1000, 1001, 16384, 70000, 1000000}) {
    std::string body(size, 'x');
    for (std::size_t i = 0; i < size; ++i) body[i] = static_cast<char>('a' + i % 23);
    ASSERT_TRUE(c.send(std::format("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", size) + body));
    const auto reply = c.read();
    EXPECT_EQ(reply.status, 200) << size;
    EXPECT_EQ(reply.body, body) << size;
    std::string chunked = "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (std::size_t at = 0; at < size; at += 5000) {
      const auto part = body.substr(at, 5000);
      chunked += std::format("{:x}\r\n{}\r\n", part.size(), part);
    }
    ASSERT_TRUE(c.send(chunked + "0\r\n\r\n"));
    EXPECT_EQ(c.read().body, body) << size;
  }
}

TEST(GuestHttp, ExpectContinueIsAnsweredBeforeTheBody) {
  Sandbox s;
  Client c(s.port());
  ASSERT_TRUE(c.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(c.read().status, 100);
  EXPECT_EQ(c.ask("body").body, "body");
  EXPECT_EQ(c.ask("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: miracles\r\n\r\n").status, 417);
}

TEST(GuestHttp, HeadHasTheLengthAndNoBody) {
  Sandbox s;
  Client c(s.port());
  ASSERT_TRUE(c.send("HEAD /hello HTTP/1.1\r\nHost: t\r\n\r\nGET /hello HTTP/1.1\r\nHost: t\r\n\r\n"));
  const auto head = c.read(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("content-length"), "6");
  EXPECT_EQ(c.read().body, "hello\n");
  EXPECT_EQ(c.get("/status/204").body, "");
  EXPECT_EQ(c.get("/hello").body, "hello\n");
}

TEST(GuestHttp, Http10ClosesUnlessAskedToStay) {
  Sandbox s;
  Client a(s.port());
  ASSERT_TRUE(a.send("GET /hello HTTP/1.0\r\n\r\n"));
  const auto all = a.read_to_end();
  EXPECT_THAT(all, HasSubstr("Connection: close"));
  EXPECT_THAT(all, HasSubstr("hello\n"));
  Client b(s.port());
  EXPECT_EQ(b.ask("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").header("connection"), "keep-alive");
  EXPECT_EQ(b.ask("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").status, 200);
  Client big(s.port());
  ASSERT_TRUE(big.send("GET /big/1000000 HTTP/1.0\r\n\r\n"));
  EXPECT_GE(big.read_to_end().size(), 1000000u);
}

TEST(GuestHttp, AHalfClosedClientStillGetsItsResponse) {
  Sandbox s;
  Client c(s.port());
  ASSERT_TRUE(c.send("GET /hello HTTP/1.1\r\nHost: t\r\n\r\n"));
  c.close_sending();
  EXPECT_EQ(c.read().body, "hello\n");
}

TEST(GuestHttp, LimitsAndMalformedRequestsHaveTheirStatus) {
  Assignment a;
  a.header_bytes_max = 2048;
  a.header_count_max = 10;
  a.body_bytes_max = 1000;
  Sandbox s({.assignment = a});
  const auto status = [&](const std::string& request) {
    Client c(s.port());
    const auto reply = c.ask(request);
    EXPECT_TRUE(reply.status < 400 || reply.header("connection") == "close") << request;
    return reply.status;
  };
  const std::string host = " HTTP/1.1\r\nHost: t\r\n";
  EXPECT_EQ(status("GET /" + std::string(3000, 'a') + host + "\r\n"), 414);
  EXPECT_EQ(status("GET /hello" + host + "X: " + std::string(3000, 'a') + "\r\n\r\n"), 431);
  std::string headers;
  for (int i = 0; i < 11; ++i) headers += std::format("X-{}: 1\r\n", i);
  EXPECT_EQ(status("GET /hello" + host + headers + "\r\n"), 431);
  EXPECT_EQ(status("POST /echo" + host + "Content-Length: 1001\r\n\r\n"), 413);
  EXPECT_EQ(status("POST /echo" + host + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1001, 'x') + "\r\n0\r\n\r\n"), 413);
  EXPECT_EQ(status("POST /echo" + host + "Content-Length: 99999999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(status("POST /echo" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("POST /echo" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), 400);
  EXPECT_EQ(status("GET /hello HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status("GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  EXPECT_EQ(status("GET /hello HTTP/1.1\r\nHost : a\r\n\r\n"), 400);
  EXPECT_EQ(status("GET /hello HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n"), 400);
  EXPECT_EQ(status("BREW /hello HTTP/1.1\r\nHost: t\r\n\r\n"), 501);
  EXPECT_EQ(status("CONNECT t:80 HTTP/1.1\r\nHost: t\r\n\r\n"), 501);
  EXPECT_EQ(status("GET /hello HTTP/2.0\r\nHost: t\r\n\r\n"), 505);
  EXPECT_EQ(status("\x16\x03\x01\x02\x01\r\n\r\n"), 400 + 101);  // TLS to a plain port: no such method
  const std::string chunked = "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n";
  EXPECT_EQ(status(chunked + "\r\n1;" + std::string(1000, 'e') + "=1\r\nx\r\n0\r\n\r\n"), 200);
  EXPECT_EQ(status(chunked + "\r\n1;" + std::string(3000, 'e') + "\r\nx\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status(chunked + "\r\n1\r\nx\r\n0\r\nX-T: " + std::string(3000, 't') + "\r\n\r\n"), 431);
  EXPECT_EQ(status(chunked + "\r\n1\r\nx\r\n0\r\n" + headers + "\r\n"), 431);
  EXPECT_EQ(status(chunked + "\r\n1\r\nx\r\n0\r\nContent-Length: 1\r\n\r\n"), 400);
  EXPECT_EQ(status(chunked + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("POST /echo" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501);
  EXPECT_EQ(status("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
  EXPECT_EQ(status("GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
  EXPECT_EQ(status("GET http://example.com/hello" + host + "\r\n"), 200);
  EXPECT_EQ(status("GET /hello" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), 200);
  EXPECT_EQ(Client(s.port()).ask("OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n").status, 404);  // the guest's
  EXPECT_EQ(status("OPTIONS *x HTTP/1.1\r\nHost: t\r\n\r\n"), 400);
  EXPECT_EQ(status("GET * HTTP/1.1\r\nHost: t\r\n\r\n"), 400);
  EXPECT_EQ(s.counter(Counter::RefusedRequests), 27u);
  EXPECT_EQ(s.counter(Counter::GuestCalls), 4u + 1u);  // and _initialize
}

// Goal: a client that pipelines without end shares the worker with the others.
// Method: thousands of requests of 1 ms each are sent at once; another client's one request comes back long before them,
// and all of them are answered, in order.
TEST(GuestHttp, APipeliningClientLeavesTurnsToTheOthers) {
  Sandbox s;
  Client greedy(s.port()), other(s.port());
  std::string many;
  for (int i = 0; i < 500; ++i) many += "GET /spin/1000 HTTP/1.1\r\nHost: t\r\n\r\n";
  many += "GET /hello HTTP/1.1\r\nHost: t\r\n\r\n";
  ASSERT_TRUE(greedy.send(many));
  EXPECT_EQ(greedy.read().status, 200);
  EXPECT_EQ(other.get("/hello").body, "hello\n");
  EXPECT_LT(s.counter(Counter::RequestsFinished), 250u);
  greedy.close_sending();  // its end is seen after its requests
  for (int i = 1; i < 500; ++i) ASSERT_EQ(greedy.read().body, "spun\n") << i;
  EXPECT_EQ(greedy.read().body, "hello\n");
  EXPECT_EQ(greedy.read_to_end(), "");
  EXPECT_EQ(s.counter(Counter::RequestsFinished), 502u);
}

TEST(GuestHttp, ADrainServesWhatAPipeliningClientWasPromised) {
  Sandbox s;
  Client greedy(s.port());
  std::string many;
  for (int i = 0; i < 100; ++i) many += "GET /spin/1000 HTTP/1.1\r\nHost: t\r\n\r\n";
  ASSERT_TRUE(greedy.send(many));
  EXPECT_EQ(greedy.read().status, 200);
  s.signal(SIGTERM);
  Reply last;
  for (;;) {
    const auto reply = greedy.read();
    if (reply.status == 0) break;
    last = reply;
  }
  EXPECT_EQ(last.status, 200);
  EXPECT_EQ(last.header("connection"), "close");  // so the client knows that the rest was not served
  greedy.close_sending();
  EXPECT_EQ(s.wait_for_exit(), kExitDone);
}

// Goal: a worker that is never without work hears SIGTERM all the same.
TEST(GuestHttp, SigtermIsHeardUnderLoadWithoutPause) {
  Sandbox s;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<Client>(s.port()));
    ASSERT_TRUE(clients.back()->send("GET /spin/2000 HTTP/1.1\r\nHost: t\r\n\r\n"));
  }
  const auto end = std::chrono::steady_clock::now() + 20s;
  std::size_t closed = 0;
  for (int round = 0; closed < clients.size() && std::chrono::steady_clock::now() < end; ++round) {
    if (round == 5) s.signal(SIGTERM);
    for (auto& c : clients) {  // each sends its next request as soon as it has its answer
      if (c == nullptr) continue;
      const auto reply = c->read();
      // One that was between two requests is half-closed; its next request crosses that on its way and is not begun.
      ASSERT_EQ(reply.status, reply.head.empty() && round > 5 ? 0 : 200);
      if (reply.status == 200 && reply.header("connection") != "close") {
        ASSERT_TRUE(c->send("GET /spin/2000 HTTP/1.1\r\nHost: t\r\n\r\n"));
        continue;
      }
      c.reset();
      ++closed;
    }
  }
  EXPECT_EQ(closed, clients.size());
  EXPECT_EQ(s.wait_for_exit(), kExitDone);
}

TEST(GuestHttp, SlowClientsGet408AndTheOthersDoNotWait) {
  Assignment a;
  a.header_timeout = 300ms;
  a.body_timeout = 300ms;
  Sandbox s({.assignment = a});
  Client silent(s.port()), head(s.port()), body(s.port());
  ASSERT_TRUE(head.send("GET /hello HTTP/1.1\r\nHo"));
  ASSERT_TRUE(body.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc"));
  EXPECT_EQ(s.get("/hello").status, 200);
  EXPECT_EQ(head.read().status, 408);
  EXPECT_EQ(body.read().status, 408);
  EXPECT_EQ(silent.read_to_end(), "");
  EXPECT_EQ(s.counter(Counter::Timeouts), 2u);
}

TEST(GuestHttp, AClientThatReadsNothingIsCutOffAndOthersAreServed) {
  Assignment a;
  a.write_timeout = 300ms;
  a.response_bytes_max = 64u << 20;
  Sandbox s({.assignment = a});
  Client c(s.port());
  const int small = 4096;
  setsockopt(c.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  std::string many;
  for (int i = 0; i < 40; ++i) many += "GET /big/200000 HTTP/1.1\r\nHost: t\r\n\r\n";
  ASSERT_TRUE(c.send(many));
  EXPECT_EQ(s.get("/hello").status, 200);
  for (int i = 0; i < 1000 && s.counter(Counter::Timeouts) == 0; ++i) usleep(5000);
  EXPECT_EQ(s.counter(Counter::Timeouts), 1u);
  EXPECT_EQ(s.get("/hello").status, 200);
}

TEST(GuestHttp, BackPressureLosesNothing) {
  Assignment a;
  Sandbox s({.assignment = a});
  Client c(s.port());
  std::string many;
  for (int i = 0; i < 60; ++i) many += "GET /big/200000 HTTP/1.1\r\nHost: t\r\n\r\n";
  ASSERT_TRUE(c.send(many));
  usleep(50'000);
  for (int i = 0; i < 60; ++i) ASSERT_EQ(c.read().body.size(), 200000u) << i;
}

TEST(GuestHttp, ALargeResponseStreamsInChunks) {
  Assignment a;
  a.response_bytes_max = 8u << 20;
  Sandbox s({.assignment = a});
  Client c(s.port());
  const auto reply = c.get("/big/5000000");
  EXPECT_EQ(reply.header("transfer-encoding"), "chunked");
  EXPECT_EQ(reply.body, std::string(5000000, 'b'));
  EXPECT_EQ(c.get("/hello").status, 200);
}

TEST(GuestHttp, IdleEndsTheProcessAndHalfClosesKeptConnections) {
  Assignment a;
  a.idle_after = 200ms;
  Sandbox s({.assignment = a});
  Client c(s.port());
  EXPECT_EQ(c.get("/hello").status, 200);
  EXPECT_EQ(c.read_to_end(), "");  // half-closed by the sandbox
  EXPECT_TRUE(s.alive());          // it waits for this side
  shutdown(c.fd(), SHUT_RDWR);
  EXPECT_EQ(s.wait_for_exit(), kExitDone);
  EXPECT_EQ(s.counter(Counter::SandboxExits), 1u);
  EXPECT_EQ(s.counter(Counter::ConnectionsOpen), 0u);
}

TEST(GuestHttp, SigtermDrains) {
  Sandbox s;
  Client idle(s.port()), busy(s.port());
  EXPECT_EQ(idle.get("/hello").status, 200);
  ASSERT_TRUE(busy.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nab"));
  EXPECT_EQ(s.get("/hello").status, 200);  // both above were read by now
  s.signal(SIGTERM);
  EXPECT_EQ(idle.read_to_end(), "");
  const auto reply = busy.ask("cd");
  EXPECT_EQ(reply.body, "abcd");
  EXPECT_EQ(reply.header("connection"), "close");
  idle.close_sending();
  busy.close_sending();
  EXPECT_EQ(s.wait_for_exit(), kExitDone);
}

TEST(GuestHttp, TheLogIsCriLinesAndCanBeReplaced) {
  Sandbox s;
  EXPECT_EQ(s.control_packet(), "R");
  EXPECT_EQ(s.get("/log").body, "01\n");
  const auto log = s.log();
  EXPECT_THAT(log, testing::ContainsRegex("2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{9}Z stdout F an info line\n"));
  EXPECT_THAT(log, HasSubstr("stderr F an error line\n"));
  EXPECT_THAT(log, HasSubstr("stdout F to stdout\n"));
  EXPECT_THAT(log, HasSubstr("stderr F to stderr\n"));
  EXPECT_THAT(log, Not(HasSubstr("debug")));
  const int fresh = memfd_create("log2", MFD_CLOEXEC);
  char kind = kControlRelog;
  iovec io{&kind, 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  auto* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(c), &fresh, sizeof fresh);
  ASSERT_EQ(sendmsg(s.control(), &message, 0), 1);
  for (int i = 0; i < 1000 && lseek(fresh, 0, SEEK_END) == 0; ++i) EXPECT_EQ(s.get("/log").status, 200);
  EXPECT_GT(lseek(fresh, 0, SEEK_END), 0);
  const auto old = s.log();
  EXPECT_EQ(s.get("/log").status, 200);
  EXPECT_EQ(s.log(), old);
  close(fresh);
}

TEST(GuestHttp, WorkersShareOneListener) {
  Sandbox s({.workers = 2});
  for (int i = 0; i < 50; ++i) EXPECT_EQ(s.get("/hello").status, 200);
  EXPECT_EQ(s.counter(Counter::RequestsFinished), 50u);
  EXPECT_EQ(s.counter(Counter::Responses2xx), 50u);
}

// --- the http-wasm ABI ---

TEST(HttpWasm, RequestFieldsAndHeaders) {
  Sandbox s;
  Client c(s.port());
  EXPECT_THAT(c.get("/request").body, testing::MatchesRegex("GET HTTP/1.1 127.0.0.1:[0-9]+\n"));
  EXPECT_EQ(c.get("http://t/request-uri?a=b").body, "/request-uri?a=b");
  EXPECT_EQ(c.get("http://t?a=b").status, 404);  // "/?a=b", which the guest does not know
  EXPECT_EQ(c.get("/request-uri/%20x?a=b&c=%41").body, "/request-uri/%20x?a=b&c=%41");
  const auto reply = c.ask("GET /headers HTTP/1.1\r\nHost: t\r\nX-Multi: one \r\nX-EMPTY:\r\nx-multi:\ttwo\r\n\r\n");
  EXPECT_EQ(reply.body, "3:host\0x-multi\0x-empty\0|2:one\0two\0"s);
  EXPECT_EQ(c.get("/limits").body, "3 xx 0 1\n");
}

TEST(HttpWasm, ResponseHeadersAreSetAddedRemovedAndFramedByTheHost) {
  Sandbox s;
  const auto reply = s.get("/response-headers");
  EXPECT_EQ(reply.status, 202);
  EXPECT_EQ(reply.body, "ok");
  EXPECT_EQ(reply.header("x-one"), "uno");
  EXPECT_EQ(reply.header("x-gone"), "");
  EXPECT_THAT(reply.head, HasSubstr("x-two: a\r\nx-two: b\r\n"));
  EXPECT_EQ(reply.header("content-length"), "2");
  EXPECT_EQ(reply.header("transfer-encoding"), "");
}

TEST(HttpWasm, ConfigEnvironmentAndFeatures) {
  Assignment a;
  a.config = "answer: 42\n";
  a.env = {{"GREETING", "moin"}};
  Sandbox s({.assignment = a});
  EXPECT_EQ(s.get("/config").body, "answer: 42\n");
  EXPECT_EQ(s.get("/env").body, "moin");
  EXPECT_EQ(s.get("/features").body, "7");
}

TEST(HttpWasm, TrailersNeedTheirFeature) {
  Sandbox s;
  Client c(s.port());
  const auto reply = c.ask("POST /trailers HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 195\r\n\r\n");
  EXPECT_EQ(reply.body, "trailer:195\0"s);
  EXPECT_EQ(reply.header("trailer"), "x-check");
  EXPECT_EQ(reply.header("x-check"), "abc");
  EXPECT_EQ(c.get("/trailers-disabled").status, 500);
  Assignment a;
  a.env = {{"TRAILERS", "1"}};
  Sandbox always({.assignment = a});
  EXPECT_EQ(always.get("/trailers").header("x-check"), "abc");
}

TEST(HttpWasm, NextIs404AndHandleResponseIsStillCalled) {
  Sandbox s;
  Client c(s.port());
  const auto reply = c.get("/next");
  EXPECT_EQ(reply.status, 404);
  EXPECT_THAT(reply.body, HasSubstr("no next handler"));
  EXPECT_EQ(reply.header("x-response"), "ctx=4711 error=0 status=404 uri=/changed");
  const auto rewritten = c.ask("GET /next HTTP/1.1\r\nHost: t\r\nX-Rewrite: 1\r\n\r\n");
  EXPECT_EQ(rewritten.status, 200);
  EXPECT_EQ(rewritten.body, "rewritten");
}

TEST(HttpWasm, AFreshInstanceForEveryRequestIfAskedFor) {
  Assignment a;
  a.isolation = Isolation::PerRequest;
  Sandbox s({.assignment = a});
  Client c(s.port());
  for (int i = 0; i < 100; ++i) ASSERT_EQ(c.get("/calls").body, "1 1\n");
  EXPECT_GE(s.counter(Counter::InstancesCreated), 100u);
}

// --- WAGI ---

Sandbox::Options wagi() {
  Assignment a;
  a.kind = GuestKind::Wagi;
  a.container_name = "cgi";
  a.env = {{"REGION", "eu"}, {"SERVER_NAME", "overridden"}};
  a.server_port = 8080;
  a.response_bytes_max = 1u << 20;
  return {.image = "wagi", .assignment = a};
}

TEST(Wagi, TheEnvironmentIsComplete) {
  Sandbox s(wagi());
  Client c(s.port());
  const auto reply = c.ask(
      "GET /env?a=1&b HTTP/1.1\r\nHost: edge.example:8080\r\nX-Thing: 1\r\nX-Thing: 2\r\nProxy: evil\r\nX_Under: no\r\nAuthorization: secret\r\n"
      "User-Agent: test\r\n\r\n");
  EXPECT_EQ(reply.status, 200);
  const auto& b = reply.body;
  for (const auto* line : {"GATEWAY_INTERFACE=CGI/1.1\n", "SERVER_SOFTWARE=Skerry/0.1\n", "SERVER_PROTOCOL=HTTP/1.1\n", "SERVER_NAME=edge.example\n",
                           "SERVER_PORT=8080\n", "REQUEST_METHOD=GET\n", "SCRIPT_NAME=\n", "PATH_INFO=/env\n", "PATH_TRANSLATED=/env\n",
                           "QUERY_STRING=a=1&b\n", "REMOTE_ADDR=127.0.0.1\n", "REMOTE_IDENT=\n", "REMOTE_HOST=127.0.0.1\n", "REMOTE_PORT=", "REMOTE_USER=\n", "AUTH_TYPE=\n",
                           "CONTENT_TYPE=\n", "CONTENT_LENGTH=0\n", "HTTP_X_THING=1, 2\n", "HTTP_USER_AGENT=test\n", "HTTP_HOST=edge.example:8080\n",
                           "X_FULL_URL=http://edge.example:8080/env?a=1&b\n", "X_RAW_PATH_INFO=/env\n", "X_MATCHED_ROUTE=/...\n", "REGION=eu\n",
                           "argv[0]=cgi\nargv[1]=a=1\nargv[2]=b\n"}) {
    EXPECT_THAT(b, HasSubstr(line));
  }
  EXPECT_THAT(c.ask("POST /env HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n").body,
              testing::AllOf(HasSubstr("CONTENT_LENGTH=2\n"), Not(HasSubstr("TRANSFER_ENCODING"))));
  for (const auto* gone : {"evil", "UNDER", "secret", "overridden"}) EXPECT_THAT(b, Not(HasSubstr(gone)));
}

TEST(Wagi, StdinIsTheBodyAndEachRequestHasItsOwnInstance) {
  Sandbox s(wagi());
  Client c(s.port());
  const std::string body(100'000, 'z');
  EXPECT_EQ(c.ask(std::format("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)).body, body);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(c.get("/count").body, "1\n");
}

TEST(Wagi, StatusLocationAndExitCodesAreUnderstood) {
  Sandbox s(wagi());
  Client c(s.port());
  const auto teapot = c.get("/status");
  EXPECT_EQ(teapot.status, 418);
  EXPECT_EQ(teapot.header("x-kind"), "teapot");
  EXPECT_EQ(teapot.body, "short and stout\n");
  EXPECT_EQ(c.get("/redirect").status, 302);
  EXPECT_EQ(c.get("/redirect").header("location"), "https://example.com/");
  const auto garbage = c.get("/garbage");
  EXPECT_EQ(garbage.status, 502);
  EXPECT_THAT(garbage.body, HasSubstr("line 1 is no header"));
  EXPECT_EQ(c.get("/nothing").status, 502);
  EXPECT_EQ(c.get("/exit").status, 500);
  EXPECT_EQ(c.get("/exit-after").body, "written\n");
  EXPECT_EQ(c.get("/bad%zz").status, 400);
  EXPECT_EQ(c.get("/flood").status, 500);
  EXPECT_EQ(c.get("/trap").status, 500);
  EXPECT_EQ(c.get("/count").body, "1\n");
  EXPECT_EQ(s.counter(Counter::BadGatewayOutputs), 2u);
  EXPECT_THAT(s.log(), HasSubstr("giving up"));
  EXPECT_THAT(s.log(), HasSubstr("GET /exit: the guest exited with code 7"));
  EXPECT_THAT(s.log(), HasSubstr("no CGI response: line 1 is no header"));
}

}  // namespace
}  // namespace skerry::sandbox::test
