// SPDX-License-Identifier: Apache-2.0
#include "net/name_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <fstream>

#include "net/testing.h"
#include "net/testing_dns.h"
#include "net/testing_objects.h"
#include "tests/run_on.h"

namespace skerry::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Error = boost::system::error_code;

// Not open: somebody else has the port.
os::UniqueFd loopback_socket(int type, std::uint16_t port = 0) {
  os::UniqueFd fd(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const sockaddr_in name = testing::name_of("127.0.0.1", port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    EXPECT_TRUE(port != 0 && errno == EADDRINUSE) << std::strerror(errno);
    return {};
  }
  if (type == SOCK_STREAM) {
    EXPECT_EQ(::listen(fd.get(), 16), 0);
  }
  return fd;
}
std::uint16_t port_of(const os::UniqueFd& fd) {
  sockaddr_in name{};
  socklen_t size = sizeof name;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size);
  return ntohs(name.sin_port);
}

// An upstream on UDP and TCP of one port. `reply` decides: no bytes, no reply.
class Upstream {
 public:
  using Reply = std::function<std::string(const std::string& query, Forwarder::Via)>;
  Upstream(rt::Loop& loop, Reply reply)
      : reply_(std::move(reply)), udp_(loop.context()), acceptor_(loop.context()), tasks_(loop) {
    os::UniqueFd datagrams, listener;
    while (!listener) {  // a port that is free for datagrams may be taken for streams
      datagrams = loopback_socket(SOCK_DGRAM);
      port_ = port_of(datagrams);
      listener = loopback_socket(SOCK_STREAM, port_);
    }
    udp_.assign(udp::v4(), datagrams.release());
    acceptor_.assign(tcp::v4(), listener.release());
    tasks_.spawn("upstream udp", serve_udp());
    tasks_.spawn("upstream tcp", serve_tcp());
  }
  std::uint16_t port() const { return port_; }
  rt::Task<> stop() { return tasks_.stop(); }
  std::vector<std::string> seen;

 private:
  rt::Task<> serve_udp() {
    for (;;) {
      std::string bytes(2000, '\0');
      udp::endpoint from;
      bytes.resize(co_await udp_.async_receive_from(asio::buffer(bytes), from, asio::use_awaitable));
      seen.push_back(bytes);
      ports.push_back(from.port());
      if (const std::string out = reply_(bytes, Forwarder::Via::Udp); !out.empty())
        udp_.send_to(asio::buffer(out), from);
    }
  }
  rt::Task<> serve_tcp() {
    for (;;) {
      tcp::socket socket(acceptor_.get_executor());
      co_await acceptor_.async_accept(socket, asio::use_awaitable);
      std::string length(2, '\0');
      co_await asio::async_read(socket, asio::buffer(length), asio::use_awaitable);
      std::string bytes(
          static_cast<std::size_t>(static_cast<unsigned char>(length[0])) << 8 | static_cast<unsigned char>(length[1]),
          '\0');
      co_await asio::async_read(socket, asio::buffer(bytes), asio::use_awaitable);
      const std::string out = reply_(bytes, Forwarder::Via::Tcp);
      const std::string framed =
          std::string{static_cast<char>(out.size() >> 8), static_cast<char>(out.size() & 255)} + out;
      co_await asio::async_write(socket, asio::buffer(framed), asio::use_awaitable);
    }
  }
  Reply reply_;
  udp::socket udp_;
  tcp::acceptor acceptor_;
  std::uint16_t port_ = 0;
  rt::TaskGroup tasks_;

 public:
  std::vector<std::uint16_t> ports;
};

std::string addresses(const std::string& query, std::size_t count, std::size_t limit = 65535) {
  const auto read = read_query(query);
  if (!read) return {};
  DnsAnswer answer;
  for (std::uint32_t i = 0; i < count; ++i)
    answer.answers.push_back({.name = read->question.name, .ttl = 60, .data = os::Ipv4{192u << 24 | 2 << 8 | (i + 1)}});
  return write_answer(*read, answer, limit);
}

class NameServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-names-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    options_.names = {.node = "edge-1"};
    options_.forward.resolv_conf = folder_ / "resolv.conf";
    options_.forward.timeout = 100ms;
    options_.forward.probe_timeout = 50ms;
    options_.forward.timeout_all = 300ms;
    resolv_conf("nameserver 127.0.0.1\n");
  }
  void TearDown() override {
    if (server_) {
      EXPECT_TRUE(run_on(loop_, server_->stop()));
    }
    if (upstream_) {
      EXPECT_TRUE(run_on(loop_, upstream_->stop()));
    }
    std::filesystem::remove_all(folder_);
  }
  void resolv_conf(std::string_view text) { std::ofstream(folder_ / "resolv.conf") << text; }
  void start_upstream(Upstream::Reply reply) {
    upstream_ = std::make_unique<Upstream>(loop_, std::move(reply));
    options_.forward.port = upstream_->port();
  }
  void start() {
    server_ = std::make_unique<NameServer>(loop_, random_, options_);
    server_->names().set_complete();
    server_->names().put_service(*testing::service("web", "10.43.0.20", 80, 0));
    server_->names().put_service(*testing::object(
        R"({"metadata":{"name":"far","namespace":"default"},"spec":{"type":"ExternalName","externalName":"www.example.com"}})"));
    auto datagrams = loopback_socket(SOCK_DGRAM), listener = loopback_socket(SOCK_STREAM);
    udp_port_ = port_of(datagrams);
    tcp_port_ = port_of(listener);
    ASSERT_TRUE(server_->start(std::move(datagrams), std::move(listener)));
  }

  // The bytes that come back within a second, or nothing.
  static rt::Task<std::string> datagram(std::uint16_t port, std::string bytes) {
    auto executor = co_await asio::this_coro::executor;
    const auto socket = std::make_shared<udp::socket>(executor, udp::endpoint(udp::v4(), 0));
    asio::steady_timer timer(executor, std::chrono::seconds(1));
    timer.async_wait([socket](const Error& error) {
      if (!error) socket->close();
    });
    socket->send_to(asio::buffer(bytes), udp::endpoint(asio::ip::make_address("127.0.0.1"), port));
    std::string out(65535, '\0');
    Error error;
    udp::endpoint from;
    out.resize(
        co_await socket->async_receive_from(asio::buffer(out), from, asio::redirect_error(asio::use_awaitable, error)));
    co_return out;
  }
  static rt::Task<std::string> stream(std::uint16_t port, std::string bytes, std::size_t replies) {
    tcp::socket socket(co_await asio::this_coro::executor);
    co_await socket.async_connect({asio::ip::make_address("127.0.0.1"), port}, asio::use_awaitable);
    co_await asio::async_write(socket, asio::buffer(bytes), asio::use_awaitable);
    std::string all;
    Error error;
    for (std::size_t i = 0; i < replies && !error; ++i) {
      std::string length(2, '\0');
      co_await asio::async_read(socket, asio::buffer(length), asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
      std::string out(
          static_cast<std::size_t>(static_cast<unsigned char>(length[0])) << 8 | static_cast<unsigned char>(length[1]),
          '\0');
      co_await asio::async_read(socket, asio::buffer(out), asio::redirect_error(asio::use_awaitable, error));
      all += out;
    }
    if (replies == 0) {  // until it closes
      std::string rest(1, '\0');
      co_await asio::async_read(socket, asio::buffer(rest), asio::redirect_error(asio::use_awaitable, error));
    }
    co_return all;
  }
  std::string ask_bytes(const std::string& bytes) { return *run_on(loop_, datagram(udp_port_, bytes)); }
  std::string ask_stream(const std::string& bytes, std::size_t replies = 1) {
    return *run_on(loop_, stream(tcp_port_, bytes, replies));
  }
  static std::string framed(const std::string& bytes) {
    return std::string{static_cast<char>(bytes.size() >> 8), static_cast<char>(bytes.size() & 255)} + bytes;
  }
  std::string ask(const std::string& name, DnsType type = DnsType::A) {
    const std::string reply = ask_bytes(*write_query(77, {name, type, 1}));
    if (reply.empty()) return "silence";
    EXPECT_EQ(id_of(reply), 77);
    return testing::text_of(*read_reply(reply));
  }

  std::filesystem::path folder_;
  rt::Loop loop_;
  SeededRandom random_{7};
  NameServer::Options options_;
  std::unique_ptr<Upstream> upstream_;
  std::unique_ptr<NameServer> server_;
  std::uint16_t udp_port_ = 0, tcp_port_ = 0;
};

TEST_F(NameServerTest, AnswersWhatItKnowsOnBothWays) {
  start();
  EXPECT_THAT(ask("web.default.svc.cluster.local"), HasSubstr("A 10.43.0.20"));
  EXPECT_THAT(ask("none.default.svc.cluster.local"), StartsWith("NXDOMAIN"));
  const std::string query = *write_query(78, {"web.default.svc.cluster.local", DnsType::A, 1});
  EXPECT_THAT(testing::text_of(*read_reply(ask_stream(framed(query)))), HasSubstr("A 10.43.0.20"));
  const std::string two = ask_stream(framed(query) + framed(query), 2);
  EXPECT_EQ(two.substr(0, two.size() / 2), two.substr(two.size() / 2)) << "two on one connection";
  EXPECT_EQ(server_->counters().udp, 2u);
  EXPECT_EQ(server_->counters().tcp, 3u);
  EXPECT_EQ(server_->counters().no_such_name, 1u);
}

TEST_F(NameServerTest, RefusesWhatItDoesNotServe) {
  start();
  const auto code = [&](const std::string& bytes) { return ask_bytes(bytes)[3] & 15; };
  EXPECT_EQ(code(*write_query(1, {"cluster.local", DnsType::Axfr, 1})), 5);
  EXPECT_EQ(code(*write_query(1, {"version.bind", DnsType::Txt, 3})), 5);
  EXPECT_EQ(code(std::string("\0\1\x28\0\0\1\0\0\0\0\0\0", 12)), 4);
  EXPECT_EQ(code(std::string("\0\1\0\0\0\1\0\0\0\0\0\0", 12)), 1);
  EXPECT_EQ(ask_stream(framed(std::string(4097, 'x')), 0), "") << "the connection is closed";
  EXPECT_EQ(ask_stream(framed("short"), 0), "");
}

TEST_F(NameServerTest, ForwardsTheRestAsItCame) {
  start_upstream([](const std::string& query, Forwarder::Via) { return addresses(query, 1); });
  start();
  EXPECT_THAT(ask("www.Example.com"), HasSubstr("www.Example.com 60 A 192.0.2.1"));
  EXPECT_THAT(ask("www.example.com"), HasSubstr("192.0.2.1"));
  ASSERT_EQ(upstream_->seen.size(), 2u);
  EXPECT_NE(id_of(upstream_->seen[0]), 77) << "an id of our own";
  EXPECT_NE(id_of(upstream_->seen[0]), id_of(upstream_->seen[1]));
  EXPECT_NE(upstream_->ports[0], upstream_->ports[1]);
  EXPECT_EQ(upstream_->seen[0].substr(2), write_query(77, {"www.Example.com", DnsType::A, 1})->substr(2));
  const std::string query = *write_query(9, {"www.example.com", DnsType::A, 1});
  EXPECT_THAT(testing::text_of(*read_reply(ask_stream(framed(query)))), HasSubstr("192.0.2.1"));
}

TEST_F(NameServerTest, TellsTheClientToComeBackByTcp) {
  start_upstream([](const std::string& query, Forwarder::Via via) {
    return addresses(query, 100, via == Forwarder::Via::Udp ? 512 : 65535);
  });
  start();
  EXPECT_THAT(ask("www.example.com"), StartsWith("NOERROR tc"));
  const std::string query = *write_query(9, {"www.example.com", DnsType::A, 1});
  EXPECT_EQ(read_reply(ask_stream(framed(query)))->answers.size(), 100u);
  EXPECT_EQ(
      read_reply(ask_stream(framed(*write_query(9, {"far.default.svc.cluster.local", DnsType::A, 1}))))->answers.size(),
      101u)
      << "what an alias leads to is fetched by TCP";
}

TEST_F(NameServerTest, CutsWhatAnUpstreamSendsBeyondTheClientsSize) {
  start_upstream([](const std::string& query, Forwarder::Via) { return addresses(query, 100); });
  start();
  const std::string reply = ask_bytes(*write_query(77, {"www.example.com", DnsType::A, 1}));
  EXPECT_LE(reply.size(), 1232u);
  EXPECT_TRUE(reply_truncated(reply));
}

TEST_F(NameServerTest, FollowsAliases) {
  start_upstream([](const std::string& query, Forwarder::Via) { return addresses(query, 1); });
  start();
  EXPECT_THAT(ask("far.default.svc.cluster.local"),
              HasSubstr("CNAME www.example.com\n  www.example.com 60 A 192.0.2.1"));
  EXPECT_THAT(ask("far.default.svc.cluster.local", DnsType::Cname), HasSubstr("CNAME www.example.com\n"));
}

// Goal: nobody who does not see the query can answer it. Method: an upstream that sends wrong replies before the right
// one.
TEST_F(NameServerTest, TakesNoReplyToAnotherQuestion) {
  std::string kind;
  start_upstream([&kind](const std::string& query, Forwarder::Via) {
    std::string out = addresses(query, 1);
    if (kind == "id") set_id(out, static_cast<std::uint16_t>(id_of(query) ^ 1));
    if (kind == "question") out[13] = 'X';
    if (kind == "query") out = query;
    if (kind == "cut") out.resize(out.size() - 2);
    return out;
  });
  start();
  for (const std::string wrong : {"id", "question", "query", "cut"}) {
    kind = wrong;
    EXPECT_THAT(ask("abc.example.com"), StartsWith("SERVFAIL")) << wrong;
    kind = "";
    while (!ask("abc.example.com").starts_with("NOERROR")) EXPECT_TRUE(run_on(loop_, rt::sleep_for(20ms)));
  }
}

TEST_F(NameServerTest, FailsFastWhileUpstreamsAreDeadAndRecovers) {
  bool there = false;
  start_upstream(
      [&there](const std::string& query, Forwarder::Via) { return there ? addresses(query, 1) : std::string(); });
  start();
  const SystemClock clock;
  EXPECT_THAT(ask("a.example.com"), StartsWith("SERVFAIL"));
  EXPECT_TRUE(run_on(loop_, rt::sleep_for(500ms)));  // two probes
  const Instant start = clock.instant();
  for (int i = 0; i < 50; ++i) EXPECT_THAT(ask("c.example.com"), StartsWith("SERVFAIL"));
  EXPECT_LT(clock.instant() - start, 1s) << "each would take 100 ms";
  EXPECT_THAT(ask("web.default.svc.cluster.local"), HasSubstr("10.43.0.20"));
  there = true;
  const Instant end = clock.instant() + 5s;
  while (!ask("d.example.com").starts_with("NOERROR")) {
    ASSERT_LT(clock.instant(), end);
    EXPECT_TRUE(run_on(loop_, rt::sleep_for(20ms)));
  }
}

// Goal: a name whose own servers are silent cuts nobody off, and neither does a question by TCP where TCP is not
// served.
TEST_F(NameServerTest, OneSilentNameIsNotASilentUpstream) {
  start_upstream([](const std::string& query, Forwarder::Via) {
    const auto read = read_query(query);
    return read && read->question.name == "hole.example.com" ? std::string() : addresses(query, 1);
  });
  start();
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(ask("hole.example.com"), StartsWith("SERVFAIL"));
    EXPECT_THAT(ask("www.example.com"), HasSubstr("192.0.2.1"));
  }
  const std::string query = *write_query(9, {"hole.example.com", DnsType::A, 1});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(reply_code(ask_stream(framed(query))), DnsCode::ServFail);
  EXPECT_THAT(ask("www.example.com"), HasSubstr("192.0.2.1"));
}

TEST_F(NameServerTest, AsksTheNextUpstreamAndReadsTheFileAgain) {
  start_upstream([](const std::string& query, Forwarder::Via) { return addresses(query, 1); });
  resolv_conf("nameserver 127.0.0.9\nnameserver not-an-address\nnameserver 127.0.0.1\n");
  start();
  EXPECT_THAT(ask("a.example.com"), HasSubstr("192.0.2.1")) << "127.0.0.9 refuses";
  resolv_conf("# nobody\n");
  EXPECT_TRUE(run_on(loop_, rt::sleep_for(1100ms)));
  EXPECT_THAT(ask("a.example.com"), StartsWith("SERVFAIL"));
  resolv_conf("nameserver 127.0.0.1\n");
  EXPECT_TRUE(run_on(loop_, rt::sleep_for(1100ms)));
  EXPECT_THAT(ask("a.example.com"), HasSubstr("192.0.2.1"));
}

TEST_F(NameServerTest, HasItsLimits) {
  options_.forward.in_flight_max = 2;
  options_.connections_max = 2;
  options_.idle_max = 300ms;
  start_upstream([](const std::string&, Forwarder::Via) { return std::string(); });
  start();
  // Two wait for the upstream; the third is told at once.
  std::vector<std::string> replies;
  rt::TaskGroup group(loop_);
  const auto ask_later = [](std::uint16_t port, std::vector<std::string>& out) -> rt::Task<> {
    CO_TRY(auto reply, co_await datagram(port, *write_query(7, {"a.example.com", DnsType::A, 1})));
    out.push_back(reply);
    co_return Result<>{};
  };
  for (int i = 0; i < 3; ++i) group.spawn("ask", ask_later(udp_port_, replies));
  EXPECT_TRUE(run_on(loop_, rt::sleep_for(50ms)));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(reply_code(replies[0]), DnsCode::ServFail);
  EXPECT_TRUE(run_on(loop_, rt::sleep_for(400ms)));
  EXPECT_EQ(replies.size(), 3u);
  EXPECT_TRUE(run_on(loop_, group.stop()));
  // Connections that say nothing: the oldest goes when a third comes, the others when they were idle for too long.
  EXPECT_EQ(ask_stream("", 0), "") << "closed after 300 ms";
  const os::UniqueFd one(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)),
      two(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  for (const auto* fd : {&one, &two}) ASSERT_EQ(testing::try_connect(fd->get(), "127.0.0.1", tcp_port_), 0);
  const std::string query = *write_query(78, {"web.default.svc.cluster.local", DnsType::A, 1});
  EXPECT_THAT(testing::text_of(*read_reply(ask_stream(framed(query)))), HasSubstr("A 10.43.0.20"));
  EXPECT_EQ(server_->counters().connections_dropped, 1u);
}

TEST_F(NameServerTest, ShowsFigures) {
  start();
  ask("web.default.svc.cluster.local");
  metrics::Exposition out;
  server_->write_metrics(out);
  const std::string text = std::move(out).finish();
  EXPECT_THAT(text, HasSubstr("skerry_names_queries_total{proto=\"udp\"} 1"));
  EXPECT_THAT(text, HasSubstr("skerry_names_responses_total{result=\"answered\"} 1"));
  EXPECT_THAT(text, HasSubstr("skerry_names_upstreams{state=\"alive\"} 1"));
}

}  // namespace
}  // namespace skerry::net
