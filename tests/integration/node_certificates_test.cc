// SPDX-License-Identifier: Apache-2.0
// Goal: a node that comes back with a client certificate that ended renews it by itself, over TLS, with its own key; a copy of the
// former credentials is refused from then on, also by the next server.
// Method: API server, controllers and HTTPS front of `skerry server`; the test plays the node with real keys and certificates.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>
#include <optional>

#include "apiserver/apiserver.h"
#include "base/text.h"
#include "control/controllers.h"
#include "http/client.h"
#include "http/in_process.h"
#include "http/server.h"
#include "kube/json.h"
#include "pki/request.h"
#include "sql/faulty_vfs.h"
#include "tests/run_on.h"

namespace skerry {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono;

constexpr std::string_view kRequests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

class Renewal : public ::testing::Test {
 protected:
  Renewal() { start(); }
  ~Renewal() override { stop(); }
  void start() {
    auto database = sql::Database::open("api.db", {.vfs = disk_.name()}, store::Store::migrations()).value();
    store_ = store::Store::open(loop_, clock_, std::move(database), {.resources = apiserver::ApiServer::store_resources()}).value();
    api_.emplace(*store_, clock_, random_, apiserver::Options{});
    CHECK(run_on(loop_, api_->bootstrap()).has_value());
    const auto pair = ca_.issue({.common_name = "kube-apiserver", .addresses = {"127.0.0.1"}, .usage = pki::Usage::Server}, clock_.now()).value();
    server_.emplace(loop_, *api_, http::Server::Options{.tls = http::ServerTls{pair.certificate_pem, pair.key_pem, ca_.pair().certificate_pem}});
    CHECK(server_->start().has_value());
    inside_.emplace(*api_);
    client_.emplace(*inside_);
    const auto sign = [this](std::string_view request, const pki::LeafSpec& spec) { return ca_.sign(request, spec, clock_.now()); };
    controllers_.emplace(loop_, *client_, clock_, random_, control::Controllers::Options{.sign = sign});
    controllers_->start();
  }
  void stop() {
    (void)run_on(loop_, controllers_->stop());
    (void)run_on(loop_, store_->stop());
    (void)run_on(loop_, server_->stop(1s));
    controllers_.reset(), client_.reset(), inside_.reset(), server_.reset(), api_.reset(), store_.reset();
  }
  static rt::Task<http::Response> send_task(http::Transport& to, http::Request request) { co_return co_await to.send(std::move(request), http::BodyMode::Whole, 30s); }
  http::Response send(http::Transport& to, std::string method, std::string target, std::string body = {}) {
    http::Request request{.method = std::move(method), .target = std::move(target)};
    request.body = std::move(body);
    if (!request.body.empty()) request.headers.set("Content-Type", "application/json");
    return run_on(loop_, send_task(to, std::move(request))).value();
  }
  // As whoever holds this certificate and key.
  http::Response as(const pki::KeyPair& pair, std::string method, std::string target, std::string body = {}) {
    const auto way = http::HttpsTransport::create(loop_, {.host = "127.0.0.1",
                                                          .port = server_->port(),
                                                          .tls = http::ClientTls{.ca_pem = ca_.pair().certificate_pem, .certificate_pem = pair.certificate_pem, .key_pem = pair.key_pem}})
                         .value();
    return send(*way, std::move(method), std::move(target), std::move(body));
  }
  std::string request_body(std::string_view name, const std::string& key, const pki::LeafSpec& spec, std::string_view signer, std::string_view usage) {
    return std::format(R"({{"kind":"CertificateSigningRequest","apiVersion":"certificates.k8s.io/v1","metadata":{{"name":"{}"}},"spec":{{"request":"{}","signerName":"{}","usages":["digital signature","{}"]}}}})",
                       name, to_base64(pki::make_request(key, spec).value()), signer, usage);
  }
  // Reads the request back until it is signed; without a pair, as the administrator.
  std::string certificate(const std::optional<pki::KeyPair>& pair, std::string_view name) {
    for (int i = 0; i < 500; ++i) {
      const std::string target = std::format("{}/{}", kRequests, name);
      const auto reply = pair ? as(*pair, "GET", target) : send(*inside_, "GET", target);
      if (reply.status != 200) return std::string(reply.text());
      const auto doc = kube::JsonDoc::parse(reply.text()).value();
      if (const auto pem = doc.root()["status"]["certificate"].str(); !pem.empty()) return from_base64(pem).value();
      loop_.context().run_for(5ms);
    }
    return "never";
  }

  sql::FaultyVfs disk_{"renewal"};
  SystemClock clock_;
  SeededRandom random_{3};
  rt::Loop loop_;
  pki::CertificateAuthority ca_ = pki::CertificateAuthority::create("skerry", clock_.now() - hours(24 * 400)).value();
  pki::LeafSpec node_{.common_name = "system:node:edge-1", .organizations = {"system:nodes"}};
  std::unique_ptr<store::Store> store_;
  std::optional<apiserver::ApiServer> api_;
  std::optional<http::Server> server_;
  std::optional<http::InProcessTransport> inside_;
  std::optional<client::Client> client_;
  std::optional<control::Controllers> controllers_;
};

TEST_F(Renewal, ACertificateThatEndedOfflineIsRenewedAndItsCopyDies) {
  ASSERT_EQ(send(*inside_, "POST", "/api/v1/nodes", R"({"metadata":{"name":"edge-1"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}})").status, 201);
  auto brief = node_;
  brief.validity = hours(24);
  const auto ended = ca_.issue(brief, clock_.now() - hours(24 * 30)).value();
  // It still holds, and is as old as the ended one: what a thief took from a backup in between.
  const auto copied = ca_.issue(node_, clock_.now() - hours(24 * 20)).value();
  EXPECT_EQ(as(copied, "GET", "/api/v1/nodes/edge-1").status, 200);
  EXPECT_EQ(as(ended, "GET", "/api/v1/nodes/edge-1").status, 401);
  // The former is the older now: refused, also for its renewal. The one that is newest may be renewed.
  constexpr std::string_view kClient = "kubernetes.io/kube-apiserver-client-kubelet";
  EXPECT_EQ(as(ended, "POST", std::string(kRequests), request_body("late", ended.key_pem, node_, kClient, "client auth")).status, 401);

  const auto newest = ca_.issue(brief, clock_.now() - hours(24 * 3)).value();  // ended two days ago
  const auto refused = as(newest, "GET", "/api/v1/nodes/edge-1");
  EXPECT_EQ(refused.status, 401);
  EXPECT_THAT(std::string(refused.text()), HasSubstr("all that it may do now is to be renewed"));
  EXPECT_EQ(as(newest, "POST", std::string(kRequests), request_body("stolen", copied.key_pem, node_, kClient, "client auth")).status, 403);
  const auto asked = as(newest, "POST", std::string(kRequests), request_body("renewal", newest.key_pem, node_, kClient, "client auth"));
  ASSERT_EQ(asked.status, 201) << asked.text();
  const pki::KeyPair renewed{certificate(newest, "renewal"), newest.key_pem};
  ASSERT_THAT(renewed.certificate_pem, HasSubstr("BEGIN CERTIFICATE"));
  EXPECT_EQ(as(copied, "GET", "/api/v1/nodes/edge-1").status, 200);  // nothing newer was used yet
  EXPECT_EQ(as(renewed, "GET", "/api/v1/nodes/edge-1").status, 200);
  for (int round = 0; round < 2; ++round) {
    const auto gone = as(copied, "GET", "/api/v1/nodes/edge-1");
    EXPECT_EQ(gone.status, 401);
    EXPECT_THAT(std::string(gone.text()), HasSubstr("was replaced by one begun"));
    EXPECT_EQ(as(newest, "POST", std::string(kRequests), request_body("again", newest.key_pem, node_, kClient, "client auth")).status, 401);
    EXPECT_EQ(as(renewed, "GET", "/api/v1/nodes/edge-1").status, 200);
    stop();
    start();
  }
  // With a valid one: a serving certificate for the node's own address, and a new key.
  auto serving = node_;
  serving.dns_names = {"edge-1"};
  serving.addresses = {"192.0.2.1"};
  ASSERT_EQ(as(renewed, "POST", std::string(kRequests), request_body("serving", renewed.key_pem, serving, "kubernetes.io/kubelet-serving", "server auth")).status, 201);
  const auto info = pki::inspect_certificate(certificate(renewed, "serving"));
  ASSERT_TRUE(info);
  EXPECT_EQ(info->addresses, std::vector<std::string>{"192.0.2.1"});
}

// What docs/node.md tells the operator to do about a stolen certificate that holds; and that to delete the Node is no remedy.
TEST_F(Renewal, TheOperatorsNewerCertificateEndsAStolenOne) {
  ASSERT_EQ(send(*inside_, "POST", "/api/v1/nodes", R"({"metadata":{"name":"edge-1"}})").status, 201);
  const auto stolen = ca_.issue(node_, clock_.now() - hours(24 * 20)).value();
  ASSERT_EQ(send(*inside_, "DELETE", "/api/v1/nodes/edge-1").status, 200);
  EXPECT_EQ(as(stolen, "POST", "/api/v1/nodes", R"({"metadata":{"name":"edge-1"}})").status, 201);
  const std::string key = pki::make_key().value();
  ASSERT_EQ(send(*inside_, "POST", std::string(kRequests), request_body("fresh", key, node_, "kubernetes.io/kube-apiserver-client-kubelet", "client auth")).status, 201);
  auto approval = kube::JsonEdit::copy(kube::JsonDoc::parse(send(*inside_, "GET", std::format("{}/fresh", kRequests)).text()).value().root());
  kube::MutJson approved = approval.root().object("status").array("conditions").push_object();
  approved.set("type", "Approved");
  approved.set("status", "True");
  ASSERT_EQ(send(*inside_, "PUT", std::format("{}/fresh/approval", kRequests), approval.dump()).status, 200);
  const pki::KeyPair fresh{certificate(std::nullopt, "fresh"), key};
  EXPECT_EQ(as(stolen, "GET", "/api/v1/nodes/edge-1").status, 200);
  EXPECT_EQ(as(fresh, "GET", "/api/v1/nodes/edge-1").status, 200);
  EXPECT_EQ(as(stolen, "GET", "/api/v1/nodes/edge-1").status, 401);
  EXPECT_EQ(as(stolen, "POST", std::string(kRequests), request_body("again", stolen.key_pem, node_, "kubernetes.io/kube-apiserver-client-kubelet", "client auth")).status, 401);
}

}  // namespace
}  // namespace skerry
