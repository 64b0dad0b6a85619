// SPDX-License-Identifier: Apache-2.0
// The certificates of pki in the server and the client of http: who is trusted, and who a client is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/client.h"
#include "http/server.h"
#include "pki/certificate.h"
#include "rt/task_group.h"

namespace skerry::pki {
namespace {

using http::BodyMode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WhoAmI final : public http::Handler {
 public:
  class Waits final : public http::Stream {
   public:
    explicit Waits(WhoAmI& owner) : owner_(owner) {}
    ~Waits() override { ++owner_.ended; }
    rt::Task<std::optional<http::Chunk>> next() override {
      if (!first_) CO_TRY_OK(co_await rt::sleep_for(1h));
      first_ = false;
      co_return std::make_shared<const std::string>("one");
    }

   private:
    WhoAmI& owner_;
    bool first_ = true;
  };
  rt::Task<http::Response> handle(http::Request request) override {
    last = std::move(request);
    http::Response response = http::make_response(200, "text/plain", "");
    if (last.target == "/watch") response.stream = std::make_unique<Waits>(*this);
    else response.body = std::make_shared<const std::string>(std::string(500'000, 'z'));
    co_return response;
  }
  http::Request last;
  int ended = 0;
};

struct Tls : ::testing::Test {
  Time now = SystemClock().now();
  CertificateAuthority ca = CertificateAuthority::create("ca", now).value();
  CertificateAuthority other = CertificateAuthority::create("ca", now).value();  // the same name, another key
  LeafSpec server_spec{.common_name = "skerry", .dns_names = {"localhost"}, .addresses = {"127.0.0.1"}, .usage = Usage::Server};
  LeafSpec node_spec{.common_name = "system:node:a", .organizations = {"system:nodes", "more"}};
  KeyPair server_pair = ca.issue(server_spec, now).value();
  rt::Loop loop;
  WhoAmI handler;
  http::Server server{loop, handler, {.tls = http::ServerTls{server_pair.certificate_pem, server_pair.key_pem, ca.pair().certificate_pem}}};
  bool finished = false;

  using Scenario = rt::Task<> (*)(Tls&);
  void run(Scenario scenario) {
    ASSERT_TRUE(server.start().has_value());
    rt::TaskGroup tasks(loop);
    tasks.spawn("scenario", whole(*this, scenario));
    loop.run();
    EXPECT_TRUE(finished);
  }
  static rt::Task<> whole(Tls& t, Scenario scenario) {
    const auto result = co_await scenario(t);
    EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().what);
    t.finished = true;
    CO_TRY_OK(co_await t.server.stop(1s));
    t.loop.stop();
    co_return Result<>{};
  }
  std::unique_ptr<http::HttpsTransport> client(KeyPair pair, std::string host = "127.0.0.1", std::string server_name = "", std::string token = "") {
    return http::HttpsTransport::create(loop, {.host = host, .port = server.port(),
                                               .tls = http::ClientTls{ca.pair().certificate_pem, pair.certificate_pem, pair.key_pem, server_name},
                                               .bearer_token = token}).value();
  }
};

rt::Task<http::Response> get(http::Transport& transport, BodyMode mode = BodyMode::Whole) {
  return transport.send({.method = "GET", .target = mode == BodyMode::Whole ? "/" : "/watch"}, mode, 5s);
}

TEST_F(Tls, TheClientCertificateNamesThePeer) {
  run([](Tls& t) -> rt::Task<> {
    const auto node = t.client(t.ca.issue(t.node_spec, t.now).value());
    for (int i = 0; i < 3; ++i) {
      CO_TRY(const auto response, co_await get(*node));
      EXPECT_EQ(response.text().size(), 500'000U);
      EXPECT_EQ(t.handler.last.peer.certificate_common_name, "system:node:a");
      EXPECT_THAT(t.handler.last.peer.certificate_organizations, ElementsAre("system:nodes", "more"));
    }
    EXPECT_EQ(t.server.stats().connections_total, 1U);
    const auto token = t.client({}, "localhost", "", "secret-token");
    CO_TRY_OK(co_await get(*token));
    EXPECT_EQ(t.handler.last.peer.certificate_common_name, "");
    EXPECT_EQ(t.handler.last.headers.get("authorization"), "Bearer secret-token");
    co_return Result<>{};
  });
}

// Watches need a connection each: certificates are moved for the first alone, and every one of them knows whose it is.
TEST_F(Tls, FurtherConnectionsResumeTheFirst) {
  run([](Tls& t) -> rt::Task<> {
    const auto node = t.client(t.ca.issue(t.node_spec, t.now).value());
    CO_TRY_OK(co_await get(*node));
    std::vector<http::Response> watches;
    for (int i = 0; i < 3; ++i) {
      t.handler.last = {};
      CO_TRY(auto watch, co_await get(*node, BodyMode::Streamed));
      watches.push_back(std::move(watch));
      EXPECT_EQ(t.handler.last.peer.certificate_common_name, "system:node:a");
      EXPECT_NE(t.handler.last.peer.certificate_serial, "");
    }
    // The first watch took the kept connection; the others resumed its session.
    EXPECT_EQ(t.server.stats().connections_total, 3U);
    EXPECT_EQ(t.server.stats().handshakes_resumed, 2U);
    // Another certificate is another client: nothing of the former is resumed.
    auto changed = t.node_spec;
    changed.common_name = "system:node:b";
    const auto b = t.ca.issue(changed, t.now).value();
    CO_TRY_OK(node->set_credentials(http::ClientTls{t.ca.pair().certificate_pem, b.certificate_pem, b.key_pem, ""}, ""));
    CO_TRY_OK(co_await get(*node));
    EXPECT_EQ(t.handler.last.peer.certificate_common_name, "system:node:b");
    EXPECT_EQ(t.server.stats().handshakes_resumed, 2U);
    // A server that has a new certificate knows no former ticket: a whole handshake, no failure.
    const auto renewed = t.ca.issue(t.server_spec, t.now).value();
    CO_TRY_OK(t.server.set_tls({renewed.certificate_pem, renewed.key_pem, t.ca.pair().certificate_pem}));
    CO_TRY(auto held, co_await get(*node, BodyMode::Streamed));  // takes the kept connection
    CO_TRY_OK(co_await get(*node));
    EXPECT_EQ(t.handler.last.peer.certificate_common_name, "system:node:b");
    EXPECT_EQ(t.server.stats().handshakes_resumed, 2U);
    EXPECT_EQ(t.server.stats().handshakes_failed, 0U);
    co_return Result<>{};
  });
}

TEST_F(Tls, OneGoesAheadOfThoseThatBeginTogether) {
  run([](Tls& t) -> rt::Task<> {
    const auto node = t.client(t.ca.issue(t.node_spec, t.now).value());
    rt::TaskGroup group(t.loop);
    int answered = 0;
    const auto ask = [](http::Transport& transport, int& count) -> rt::Task<> {
      CO_TRY(auto watch, co_await get(transport, BodyMode::Streamed));
      CO_TRY_OK(co_await watch.stream->next());
      ++count;
      co_return co_await rt::sleep_for(1h);  // an open watch
    };
    for (int i = 0; i < 4; ++i) group.spawn("watch", ask(*node, answered));
    for (int i = 0; i < 3000 && answered < 4; ++i) CO_TRY_OK(co_await rt::sleep_for(1ms));
    EXPECT_EQ(answered, 4);
    EXPECT_EQ(t.server.stats().connections_total, 4U);
    EXPECT_EQ(t.server.stats().handshakes_resumed, 3U);
    CO_TRY_OK(co_await group.stop());
    // Given up, without a word to the server: their session is as good as before.
    CO_TRY_OK(co_await get(*node));
    EXPECT_EQ(t.server.stats().handshakes_resumed, 4U);
    co_return Result<>{};
  });
}

// Goal: a ticket is no longer good than the certificate in it. Method: a session begins three seconds or four before its certificate's
// end, which leaves two handshakes their time on a busy machine, and is resumed a second after it.
TEST_F(Tls, AResumedSessionIsJudgedAnew) {
  run([](Tls& t) -> rt::Task<> {
    auto short_lived = t.node_spec;
    short_lived.validity = 1h;
    const auto pair = t.ca.issue(short_lived, SystemClock().now() - 1h + 4s).value();
    const auto node = t.client(pair);
    CO_TRY(auto first, co_await get(*node));
    CO_TRY(auto watch, co_await get(*node, BodyMode::Streamed));
    EXPECT_EQ(t.handler.last.peer.certificate_common_name, "system:node:a");
    CO_TRY_OK(co_await rt::sleep_for(inspect_certificate(pair.certificate_pem)->not_after + 1s - SystemClock().now()));
    CO_TRY_OK(co_await get(*node));
    EXPECT_EQ(t.server.stats().handshakes_resumed, 1U);
    EXPECT_EQ(t.handler.last.peer.certificate_common_name, "");
    EXPECT_NE(t.handler.last.peer.expired_certificate, nullptr);
    co_return Result<>{};
  });
}

TEST_F(Tls, AnUnknownOrExpiredOrWrongCertificateIsNobody) {
  run([](Tls& t) -> rt::Task<> {
    auto short_lived = t.node_spec;
    short_lived.validity = 30min;
    for (const auto& pair : {t.other.issue(t.node_spec, t.now).value(), t.ca.issue(t.server_spec, t.now).value(),
                             t.ca.issue(short_lived, t.now - 40min).value(), t.ca.issue(t.node_spec, t.now + std::chrono::hours(3)).value()}) {
      const auto nobody = t.client(pair);
      CO_TRY_OK(co_await get(*nobody));
      EXPECT_EQ(t.handler.last.peer.certificate_common_name, "");
      EXPECT_THAT(t.handler.last.peer.certificate_organizations, IsEmpty());
    }
    co_return Result<>{};
  });
}

TEST_F(Tls, WhoseCertificateHasEndedIsToldApart) {
  run([](Tls& t) -> rt::Task<> {
    auto short_lived = t.node_spec;
    short_lived.validity = 30min;
    const auto ended = t.ca.issue(short_lived, t.now - 40min).value();
    CO_TRY_OK(co_await get(*t.client(ended)));
    const auto& peer = t.handler.last.peer;
    const auto info = inspect_certificate(ended.certificate_pem).value();
    EXPECT_EQ(peer.certificate_common_name, "");
    EXPECT_EQ(peer.certificate_serial, "");
    EXPECT_NE(peer.expired_certificate, nullptr);
    if (!peer.expired_certificate) co_return Result<>{};
    EXPECT_EQ(peer.expired_certificate->common_name, "system:node:a");
    EXPECT_EQ(peer.expired_certificate->key, info.key);
    EXPECT_EQ(peer.expired_certificate->serial, info.serial);
    EXPECT_EQ(peer.expired_certificate->not_after, info.not_after);
    // Ended and wrong in another way as well: nobody. A stranger's, and a server's.
    auto short_server = t.server_spec;
    short_server.validity = 30min;
    for (const auto& pair : {t.other.issue(short_lived, t.now - 40min).value(), t.ca.issue(short_server, t.now - 40min).value()}) {
      CO_TRY_OK(co_await get(*t.client(pair)));
      EXPECT_EQ(t.handler.last.peer.expired_certificate, nullptr);
    }
    // A good one: its number and when it began, and nothing expired.
    const auto good = t.ca.issue(t.node_spec, t.now).value();
    CO_TRY_OK(co_await get(*t.client(good)));
    EXPECT_EQ(t.handler.last.peer.expired_certificate, nullptr);
    EXPECT_EQ(t.handler.last.peer.certificate_serial, inspect_certificate(good.certificate_pem)->serial);
    EXPECT_EQ(t.handler.last.peer.certificate_key, inspect_certificate(good.certificate_pem)->key);
    EXPECT_EQ(t.handler.last.peer.certificate_not_before, inspect_certificate(good.certificate_pem)->not_before);
    EXPECT_EQ(t.handler.last.peer.certificate_not_after, inspect_certificate(good.certificate_pem)->not_after);
    co_return Result<>{};
  });
}

TEST_F(Tls, TheClientTrustsOnlyItsAuthorityAndTheRightName) {
  run([](Tls& t) -> rt::Task<> {
    auto foreign = http::HttpsTransport::create(t.loop, {.host = "127.0.0.1", .port = t.server.port(),
                                                         .tls = http::ClientTls{.ca_pem = t.other.pair().certificate_pem}}).value();
    const auto untrusted = co_await get(*foreign);
    EXPECT_FALSE(untrusted.has_value());
    if (!untrusted) { EXPECT_EQ(untrusted.error().code, Errc::Unavailable); }
    if (!untrusted) { EXPECT_THAT(untrusted.error().what, HasSubstr("cannot trust")); }
    for (const std::string name : {"example.com", "127.0.0.2", "ocalhost"}) {
      const auto wrong = co_await get(*t.client({}, "127.0.0.1", name));
      EXPECT_FALSE(wrong.has_value()) << name;
      if (!wrong) { EXPECT_THAT(wrong.error().what, HasSubstr(name)); }
    }
    CO_TRY_OK(co_await get(*t.client({}, "127.0.0.1", "localhost")));
    EXPECT_GE(t.server.stats().connections_total, 5U);
    co_return Result<>{};
  });
}

TEST_F(Tls, AWatchEndsWhenTheClientLeaves) {
  run([](Tls& t) -> rt::Task<> {
    const auto node = t.client(t.ca.issue(t.node_spec, t.now).value());
    CO_TRY(auto response, co_await get(*node, BodyMode::Streamed));
    CO_TRY(const auto part, co_await response.stream->next());
    EXPECT_TRUE(part.has_value());
    if (part) { EXPECT_EQ(**part, "one"); }
    response.stream.reset();
    for (int i = 0; i < 1000 && t.handler.ended == 0; ++i) CO_TRY_OK(co_await rt::sleep_for(1ms));
    EXPECT_EQ(t.handler.ended, 1);
    co_return Result<>{};
  });
}

TEST_F(Tls, NewConnectionsSeeARotatedCertificate) {
  run([](Tls& t) -> rt::Task<> {
    auto renamed = t.server_spec;
    renamed.dns_names = {"renamed"};
    const auto pair = t.ca.issue(renamed, t.now).value();
    CO_TRY_OK(t.server.set_tls({pair.certificate_pem, pair.key_pem, t.ca.pair().certificate_pem}));
    CO_TRY_OK(co_await get(*t.client({}, "127.0.0.1", "renamed")));
    EXPECT_EQ(t.server.set_tls({"x", "y", ""}).error().code, Errc::Invalid);
    EXPECT_EQ(t.server.set_tls({pair.certificate_pem, t.server_pair.key_pem, ""}).error().code, Errc::Invalid);
    const auto still = t.client({}, "127.0.0.1", "renamed");
    CO_TRY_OK(co_await get(*still));
    const auto node = t.ca.issue(t.node_spec, t.now).value();
    CO_TRY_OK(still->set_credentials(http::ClientTls{t.ca.pair().certificate_pem, node.certificate_pem, node.key_pem, "renamed"}, ""));
    CO_TRY_OK(co_await get(*still));
    EXPECT_EQ(t.handler.last.peer.certificate_common_name, "system:node:a");
    co_return Result<>{};
  });
}

TEST_F(Tls, PlainBytesAtATlsPortDoNotHarm) {
  run([](Tls& t) -> rt::Task<> {
    auto plain = http::HttpsTransport::create(t.loop, {.host = "127.0.0.1", .port = t.server.port()}).value();
    EXPECT_FALSE((co_await get(*plain)).has_value());
    EXPECT_EQ(t.server.stats().handshakes_failed, 1U);
    CO_TRY_OK(co_await get(*t.client({})));
    co_return Result<>{};
  });
}

}  // namespace
}  // namespace skerry::pki
