// SPDX-License-Identifier: Apache-2.0
// Goal: a node's credentials renew themselves, also after their end, and a copy of them dies of it or is told apart.
// Method: the test plays the node: it sets what a TLS front would say of the certificate, and the machine that the node reports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apiserver/node_identities.h"
#include "apiserver/testing.h"
#include "base/text.h"
#include "http/message.h"
#include "pki/request.h"

namespace skerry::apiserver {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace std::chrono;

constexpr std::string_view kRequests = "/apis/certificates.k8s.io/v1/certificatesigningrequests", kLease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
constexpr std::string_view kTable = "application/json;as=Table;v=v1;g=meta.k8s.io";

class NodeCertificates : public ::testing::Test {
 protected:
  NodeCertificates() {
    EXPECT_EQ(s.post("/api/v1/nodes", R"({"metadata":{"name":"n1"},"status":{"nodeInfo":{"machineID":"m1","systemUUID":"u1"}}})").code, 201);
    EXPECT_EQ(s.post(kLease, R"({"metadata":{"name":"n1"},"spec":{"holderIdentity":"n1","leaseDurationSeconds":40}})").code, 201);
  }
  std::string body(std::string_view name, const pki::LeafSpec& spec, const std::string& with, std::string_view signer = "kubernetes.io/kube-apiserver-client-kubelet") {
    return std::format(R"({{"metadata":{{"name":"{}"}},"spec":{{"request":"{}","signerName":"{}","usages":["digital signature","client auth"],"username":"somebody"}}}})", name,
                       to_base64(pki::make_request(with, spec).value()), signer);
  }
  void as_certificate(std::string serial, Time begun) {
    s.as_node("n1");
    s.expired.reset();
    s.serial = std::move(serial);
    s.not_before = begun;
    s.not_after = Time::max();
  }
  void as_ended(std::string serial, Time begun, const std::string& key_of) {
    s.user.clear();
    s.groups.clear();
    s.serial.clear();
    const auto info = pki::inspect_request(pki::make_request(key_of, node).value()).value();
    s.expired = std::make_shared<const http::ClientCertificate>(
        http::ClientCertificate{"system:node:n1", {"system:nodes", "system:masters"}, std::move(serial), info.key, begun, begun + hours(24)});
  }
  void as_admin() {
    s.as_admin();
    s.expired.reset();
    s.serial.clear();
    s.not_after = Time::max();
  }
  std::string events() {
    as_admin();
    return s.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dn1").body;
  }

  TestServer s{{.tokens = {{"secret", {"operator", {"system:masters"}}}}}};
  pki::CertificateAuthority ca = pki::CertificateAuthority::create("ca", s.clock.now()).value();
  pki::LeafSpec node{.common_name = "system:node:n1", .organizations = {"system:nodes"}};
  std::string key = ca.issue(node, s.clock.now()).value().key_pem, other_key = ca.issue(node, s.clock.now()).value().key_pem;
  Time t0 = s.clock.now();
  int renewals = 0;
};

TEST_F(NodeCertificates, TheServerWritesDownWhoAsks) {
  as_certificate("01", t0);
  const auto made = s.post(kRequests, body("r", node, key));
  ASSERT_EQ(made.code, 201) << made.body;
  EXPECT_EQ(made.at("spec.username"), "system:node:n1");
  EXPECT_EQ(made.at("spec.groups"), R"(["system:nodes","system:authenticated"])");
  EXPECT_EQ(made.doc().root()["spec"]["extra"]["skerry.dev/newer-than"].dump(), std::format(R"(["{}"])", to_rfc3339(t0)));
  EXPECT_EQ(s.get(std::format("{}/r", kRequests)).code, 200);
  EXPECT_EQ(s.get(std::format("{}?watch=1&fieldSelector=metadata.name%3Dr", kRequests)).code, 200);
  EXPECT_EQ(s.put(std::format("{}/r/approval", kRequests), made.body).code, 403);
  EXPECT_THAT(s.get(kRequests).message(), HasSubstr("a node can only read its own requests, by name"));
  EXPECT_EQ(s.get(std::format("{}?fieldSelector=metadata.name%3Dx", kRequests)).code, 403);
  EXPECT_EQ(s.get(std::format("{}/x", kRequests)).code, 404);
  s.as_node("n2");
  s.serial.clear();
  EXPECT_EQ(s.get(std::format("{}/r", kRequests)).code, 403);
  EXPECT_EQ(s.get(std::format("{}?watch=1&fieldSelector=metadata.name%3Dr", kRequests)).code, 403);
  s.as_node("n1");
  EXPECT_EQ(s.remove(std::format("{}/r", kRequests)).code, 403);
}

TEST_F(NodeCertificates, ApprovalAndStatusChangeWhatIsTheirsOnce) {
  const auto made = s.post(kRequests, body("r", node, key));
  const std::string at = std::format("{}/r", kRequests);
  const auto row = [&] {
    const auto table = s.get(at, kTable);
    return table.doc().root()["rows"].items().begin().operator*()["cells"].dump();
  };
  EXPECT_EQ(row(), R"(["r","0s","kubernetes.io/kube-apiserver-client-kubelet","admin","<none>","Pending"])");
  // A certificate before it is signed for, by the wrong way, or a decision by the wrong way.
  EXPECT_EQ(s.merge(at + "/approval", R"({"status":{"certificate":"eA=="}})").at("status.certificate"), "");
  EXPECT_EQ(s.merge(at + "/status", R"({"status":{"conditions":[{"type":"Approved","status":"True"}]}})").at("status.conditions"), "");
  EXPECT_EQ(s.merge(at, R"({"status":{"certificate":"eA=="},"spec":{"username":"x"}})").at("spec.username"), "admin");
  EXPECT_EQ(s.merge(at + "/approval", R"({"status":{"conditions":[{"type":"Approved","status":"False"}]}})").code, 422);
  // As kubectl certificate approve sends it.
  const auto approved = s.merge(at + "/approval", R"({"status":{"conditions":[{"type":"Approved","status":"True","reason":"KubectlApprove","message":"m"}]}})");
  ASSERT_EQ(approved.code, 200) << approved.body;
  EXPECT_THAT(approved.at("status.conditions"), AllOf(HasSubstr("lastUpdateTime"), HasSubstr("lastTransitionTime")));
  EXPECT_THAT(s.merge(at + "/approval", R"({"status":{"conditions":[]}})").message(), HasSubstr("updates may not remove a condition of type \"Approved\""));
  EXPECT_THAT(s.merge(at + "/approval", R"({"status":{"conditions":[{"type":"Approved","status":"True"},{"type":"Denied","status":"True"}]}})").message(), HasSubstr("mutually exclusive"));
  EXPECT_EQ(s.merge(at + "/status", R"({"status":{"certificate":"eA=="}})").code, 200);
  EXPECT_THAT(s.merge(at + "/status", R"({"status":{"certificate":"eQ=="}})").message(), HasSubstr("updates may not modify certificate content"));
  EXPECT_THAT(row(), HasSubstr("Approved,Issued"));
  EXPECT_EQ(s.get(std::format("{}?fieldSelector=spec.signerName%3Dkubernetes.io/kubelet-serving", kRequests)).at("items"), "[]");
}

TEST_F(NodeCertificates, BadRequestsAreRefused) {
  const auto refused = [&](std::string change_from, std::string change_to) {
    std::string text = body("bad", node, key);
    const auto at = text.find(change_from);
    EXPECT_NE(at, text.npos) << change_from;
    text.replace(at, change_from.size(), change_to);
    const auto reply = s.post(kRequests, text);
    EXPECT_EQ(reply.code, 422) << reply.body;
    return reply.message();
  };
  EXPECT_THAT(refused("\"request\":\"LS0t", "\"request\":\"AAAA"), HasSubstr("PEM block type must be CERTIFICATE REQUEST"));
  EXPECT_THAT(refused("client auth", "flying"), HasSubstr("spec.usages[1]: Unsupported value: \"flying\""));
  EXPECT_THAT(refused("kubernetes.io/kube-apiserver-client-kubelet", "nobody"), HasSubstr("must be a fully qualified domain and path"));
  EXPECT_THAT(refused("\"usages\"", "\"expirationSeconds\":60,\"usages\""), HasSubstr("may not specify a duration less than 600 seconds"));
  EXPECT_THAT(refused("[\"digital signature\",\"client auth\"]", "[]"), HasSubstr("spec.usages: Required value"));
}

TEST_F(NodeCertificates, AnEndedCertificateIsGoodForItsRenewalAlone) {
  as_ended("01", t0, key);
  for (const auto* path : {"/api/v1/nodes/n1", "/api/v1/pods", "/version", "/metrics", "/apis/certificates.k8s.io/v1/certificatesigningrequests"}) {
    const auto reply = s.get(path);
    EXPECT_TRUE(reply.code == 401 || reply.code == 403) << path << reply.code;
  }
  EXPECT_THAT(s.get("/api/v1/nodes/n1").message(), HasSubstr("all that it may do now is to be renewed"));
  EXPECT_EQ(s.merge("/api/v1/nodes/n1", "{}").code, 401);
  // Another key, another name, another signer, another rank.
  EXPECT_THAT(s.post(kRequests, body("r", node, other_key)).message(), HasSubstr("for its own key alone"));
  auto other = node;
  other.common_name = "system:node:n2";
  EXPECT_THAT(s.post(kRequests, body("r", other, key)).message(), HasSubstr("for its own name alone"));
  auto master = node;
  master.organizations = {"system:masters"};
  EXPECT_EQ(s.post(kRequests, body("r", master, key)).code, 403);
  EXPECT_THAT(s.post(kRequests, body("r", node, key, "kubernetes.io/kubelet-serving")).message(), HasSubstr("only signerName"));
  s.token = "secret";  // whoever has other credentials as well is known by those
  EXPECT_EQ(s.get("/api/v1/nodes").code, 200);
  s.token.clear();
  s.headers = {{"Impersonate-User", "admin"}};
  EXPECT_EQ(s.get("/api/v1/nodes").code, 403);
  s.headers.clear();
  const auto made = s.post(kRequests, body("r", node, key));
  ASSERT_EQ(made.code, 201) << made.body;
  EXPECT_EQ(made.at("spec.groups"), R"(["system:nodes","system:authenticated"])");
  EXPECT_EQ(s.get(std::format("{}/r", kRequests)).code, 200);
  as_admin();
  EXPECT_EQ(s.post(kRequests, body("theirs", node, key)).code, 201);
  as_ended("01", t0, key);
  EXPECT_EQ(s.get(std::format("{}/theirs", kRequests)).code, 401);
  EXPECT_EQ(s.remove(std::format("{}/r", kRequests)).code, 401);
  // A node that was taken out of the cluster does not come back by itself.
  as_admin();
  EXPECT_EQ(s.remove("/api/v1/nodes/n1").code, 200);
  as_ended("01", t0, key);
  EXPECT_THAT(s.post(kRequests, body("r2", node, key)).message(), HasSubstr("give the machine new credentials"));
}

// Goal: a certificate has ended when its time is over, not when its connection is. Method: the front says the same of the peer before and after.
TEST_F(NodeCertificates, OneThatEndsOnAnOpenConnectionHasEnded) {
  as_certificate("01", t0);
  s.key = pki::inspect_request(pki::make_request(key, node).value())->key;
  s.not_after = s.clock.now() + 1h;
  s.clock.advance(1h - 1s);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  s.clock.advance(1s);
  const auto reply = s.get("/api/v1/nodes/n1");
  EXPECT_EQ(reply.code, 401);
  EXPECT_THAT(reply.message(), HasSubstr("all that it may do now is to be renewed"));
  EXPECT_THAT(s.post(kRequests, body("r", node, other_key)).message(), HasSubstr("for its own key alone"));
  EXPECT_EQ(s.post(kRequests, body("r", node, key)).code, 201);
  s.as_admin();  // who is no node, and has no token, is nobody
  EXPECT_EQ(s.get("/api/v1/nodes").code, 401);
  s.token = "secret";
  EXPECT_EQ(s.get("/api/v1/nodes").code, 200);
  s.token.clear();
  // First shown when it had ended: it is not the newest in use by that.
  as_certificate("02", t0 + 10s);
  s.not_after = s.clock.now();
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 401);
  as_certificate("01", t0);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
}

// Goal: a clock that was years ahead, and is right again, shuts nobody out; also after a start. Method: a certificate of that time was used.
TEST_F(NodeCertificates, OneOfAWrongClocksFutureRefusesNobodyAndIsReplaced) {
  as_certificate("future", t0 + hours(24 * 730));
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  s.reopen();
  as_certificate("02", t0 + 1h);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  s.reopen();
  as_certificate("01", t0);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 401) << "what was used in its place ends what is older";
  as_certificate("02", t0 + 1h);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
}

// To delete a Node is no amnesty: whoever has an old copy could otherwise make the Node anew.
TEST_F(NodeCertificates, ADeletedNodesOldCertificatesStayRefused) {
  as_certificate("02", t0 + 1h);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  as_admin();
  EXPECT_EQ(s.remove("/api/v1/nodes/n1").code, 200);
  as_certificate("01", t0);
  EXPECT_EQ(s.post("/api/v1/nodes", R"({"metadata":{"name":"n1"}})").code, 401);
  as_certificate("02", t0 + 1h);
  EXPECT_EQ(s.post("/api/v1/nodes", R"({"metadata":{"name":"n1"}})").code, 201);
}

TEST_F(NodeCertificates, OneNodeDoesNotTakeTheRoomOfAll) {
  as_certificate("01", t0);
  int made = 0;
  const auto ask = [&] { return s.post(kRequests, body(std::format("r{}", made++), node, key)); };
  for (std::size_t i = 0; i < NodeIdentities::kRequestsMax; ++i) EXPECT_EQ(ask().code, 201);
  const auto refused = ask();
  EXPECT_EQ(refused.code, 429);
  EXPECT_THAT(refused.message(), HasSubstr("node \"n1\" has asked for 10 certificates within an hour, which is the limit"));
  as_ended("01", t0, key);  // the same node
  EXPECT_EQ(ask().code, 429);
  as_admin();
  EXPECT_EQ(ask().code, 201);
  s.as_node("n2");
  EXPECT_EQ(ask().code, 201);
  s.clock.advance(1h);
  as_certificate("01", t0);
  EXPECT_EQ(ask().code, 201);
}

TEST_F(NodeCertificates, ACopyDiesWithTheFirstUseOfANewerOne) {
  as_certificate("01", t0);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  as_certificate("02", t0 + 1h);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  for (int start = 0; start < 2; ++start) {
    as_certificate("01", t0);
    const auto reply = s.get("/api/v1/nodes/n1");
    EXPECT_EQ(reply.code, 401);
    EXPECT_THAT(reply.message(), AllOf(HasSubstr("was replaced by one begun"), HasSubstr("a copy")));
    as_ended("01", t0, key);  // nor is it renewed
    EXPECT_EQ(s.post(kRequests, body("r", node, key)).code, 401);
    as_certificate("02", t0 + 1h);
    EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
    as_certificate("03", t0 + 1h);  // given out in the same second as 02
    EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
    s.reopen();
  }
  as_certificate("01", t0);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 401);
  as_admin();
  EXPECT_THAT(s.get("/metrics").body, HasSubstr("skerry_node_certificates_refused_total 1\n"));
  EXPECT_THAT(events(), AllOf(HasSubstr("CertificateReplaced"), HasSubstr(R"("kind":"Node")")));
}

// The clock of a machine without one may have gone back when the server made its own node's certificate anew.
TEST_F(NodeCertificates, WhatThisMachineMadeForItsOwnNodeIsTheNewest) {
  as_certificate("02", t0);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  ASSERT_TRUE(run_on(s.loop, s.api->node_certificate_issued("n1", "03", t0 - hours(100))));
  s.reopen();
  as_certificate("03", t0 - hours(100));
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  // Made in order: the node has not read it yet, and goes on with the former.
  ASSERT_TRUE(run_on(s.loop, s.api->node_certificate_issued("n1", "04", t0)));
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  as_certificate("04", t0);
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 200);
  as_certificate("03", t0 - hours(100));
  EXPECT_EQ(s.get("/api/v1/nodes/n1").code, 401);
}

TEST_F(NodeCertificates, TheSecondMachineOfOneNameIsRefused) {
  const std::string first = R"({"status":{"nodeInfo":{"machineID":"m1","systemUUID":"u1","kernelVersion":"6"}}})";
  const std::string second = R"({"status":{"nodeInfo":{"machineID":"m2","systemUUID":"u2"}}})";
  const auto lease = [&](std::string_view machine) {
    return s.merge(std::format("{}/n1", kLease), std::format(R"({{"metadata":{{"annotations":{{"skerry.dev/machine":"{}"}}}},"spec":{{"renewTime":"2026-11-23T00:00:00.{:06}Z"}}}})", machine, ++renewals));
  };
  s.as_node("n1");
  EXPECT_EQ(s.strategic("/api/v1/nodes/n1/status", first).code, 200);
  EXPECT_EQ(lease("m1/u1").code, 200);
  for (int i = 0; i < 3; ++i) {
    s.clock.advance(10s);
    const auto reply = s.strategic("/api/v1/nodes/n1/status", second);
    EXPECT_EQ(reply.code, 403);
    EXPECT_THAT(reply.message(), AllOf(HasSubstr("is live on machine m1/u1"), HasSubstr("machine m2/u2")));
    EXPECT_EQ(lease("m2/u2").code, 403);
  }
  EXPECT_EQ(s.strategic("/api/v1/nodes/n1/status", R"({"status":{"nodeInfo":{"machineID":"","systemUUID":""}}})").code, 403);
  EXPECT_EQ(s.strategic("/api/v1/nodes/n1/status", first).code, 200);
  const auto seen = events();
  EXPECT_THAT(seen, AllOf(HasSubstr(R"("reason":"MachineConflict")"), HasSubstr("m1/u1"), HasSubstr("m2/u2")));
  s.as_node("n1");
  // The first is silent until its lease has ended: the second takes its place, and the first is refused from then on.
  s.clock.advance(31s);
  EXPECT_EQ(s.strategic("/api/v1/nodes/n1/status", second).code, 200);
  EXPECT_EQ(lease("m2/u2").code, 200);
  EXPECT_EQ(s.strategic("/api/v1/nodes/n1/status", first).code, 403);
  EXPECT_EQ(lease("m1/u1").code, 403);
  // After a start of the server every node counts as live until it was silent for the time of a lease.
  s.reopen();
  EXPECT_EQ(s.strategic("/api/v1/nodes/n1/status", first).code, 403);
  s.clock.advance(41s);
  EXPECT_EQ(s.strategic("/api/v1/nodes/n1/status", first).code, 200);
}

TEST(NodeIdentities, KnowsTheNewestOfEachNode) {
  using enum NodeIdentities::Judgement;
  const Time t = Time{} + hours(1000);
  NodeIdentities all{Instant{}};
  EXPECT_EQ(all.judge("a", "1", t, t), Newer);
  all.remember("a", {"1", t}, t);
  EXPECT_EQ(all.judge("a", "1", t, t), Known);
  EXPECT_EQ(all.judge("a", "2", t, t), Known);
  EXPECT_EQ(all.judge("a", "0", t - 1s, t), Older);
  EXPECT_EQ(all.judge("a", "3", t + 1s, t), Newer);
  EXPECT_EQ(all.judge("b", "0", t - 1s, t), Newer);
  all.remember("a", {"0", t - 1h}, t);
  EXPECT_EQ(all.newest("a")->serial, "1");
  // The clock goes back: by as much as certificates are backdated nothing changes; by more, it was wrong.
  EXPECT_EQ(all.judge("a", "0", t - 1h, t - pki::kBackdate), Older);
  EXPECT_EQ(all.judge("a", "0", t - 1h, t - pki::kBackdate - 1s), Newer);
  all.remember("a", {"0", t - 1h}, t - pki::kBackdate - 1s);
  EXPECT_EQ(all.newest("a")->serial, "0");
}

}  // namespace
}  // namespace skerry::apiserver
