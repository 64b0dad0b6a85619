// SPDX-License-Identifier: Apache-2.0
// Golden: each kind of request and what becomes of it, step by step. The certificates themselves are shown as what they say.
#include "control/signing_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "control/testing_world.h"
#include "pki/request.h"

namespace skerry::control {
namespace {

using testing::object;
using testing::World;

class Signing : public ::testing::Test {
 protected:
  Signing() {
    node("edge-1", "192.0.2.1");
    node("edge-2", "192.0.2.2");
  }
  void node(const std::string& name, const std::string& address, std::string_view more = "") {
    nodes_.insert(world_.put("nodes", std::format(R"({{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{}"}},"status":{{"addresses":[{{"type":"InternalIP","address":"{}"}}{}]}}}})", name, address, more)));
  }
  struct Asked {
    std::string as = "system:node:edge-1", groups = R"("system:nodes","system:authenticated")";
    std::string signer = "kubernetes.io/kube-apiserver-client-kubelet", usages = R"("digital signature","client auth")";
    std::string more = "", request = "";  // of the spec; instead of one that is made
    pki::LeafSpec subject{.common_name = "system:node:edge-1", .organizations = {"system:nodes"}};
  };
  static Asked serving(std::vector<std::string> dns_names, std::vector<std::string> addresses) {
    Asked out{.signer = "kubernetes.io/kubelet-serving", .usages = R"("digital signature","server auth")"};
    out.subject.dns_names = std::move(dns_names);
    out.subject.addresses = std::move(addresses);
    return out;
  }
  void ask(const Asked& asked) {
    world_.put("certificatesigningrequests",
               std::format(R"({{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{{"name":"r"}},"spec":{{"request":"{}","signerName":"{}","usages":[{}],"username":"{}","groups":[{}]{}}}}})",
                           to_base64(asked.request.empty() ? pki::make_request(key_, asked.subject).value() : asked.request), asked.signer, asked.usages, asked.as, asked.groups, asked.more));
  }
  void approve() { world_.patch("certificatesigningrequests", "r", R"({"status":{"conditions":[{"type":"Approved","status":"True","reason":"KubectlApprove"}]}})", Verb::PatchApproval); }
  Plan look() {
    const SigningOptions options{.reserved = {"kubernetes.default.svc", "Control.example.com", "192.0.2.200", "2001:db8::200"}, .services = os::Ipv4Range::parse("10.43.0.0/16")};
    return reconcile_signing_request(*world_.get("certificatesigningrequests", "r"), nodes_, world_.now, options, [this](std::string_view request, const pki::LeafSpec& spec) {
      return ca_.sign(request, spec, world_.now);
    });
  }
  // What is done until nothing is done any more.
  std::string run(bool by_hand = false) {
    std::string text;
    for (int step = 0; step < 4; ++step) {
      if (step == 1 && by_hand) approve(), text += "  approved by hand\n";
      const Plan plan = look();
      world_.apply(plan);
      for (const auto& action : plan.actions) {
        const auto doc = kube::JsonDoc::parse(action.body.empty() ? "{}" : action.body).value();
        const auto status = doc.root()["status"];
        text += std::format("  {} {}", action.trace().substr(0, action.trace().find(" certificatesigning")), action.name);
        for (const auto condition : status["conditions"].items()) text += std::format(" {}({}: {})", condition["type"].str(), condition["reason"].str(), condition["message"].str());
        if (const auto pem = status["certificate"].str(); !pem.empty()) {
          const auto info = pki::inspect_certificate(from_base64(pem).value()).value();
          text += std::format(" certificate CN={} O={} {} {} from {:+}s for {}", info.common_name, info.organizations.front(), ::testing::PrintToString(info.dns_names),
                              ::testing::PrintToString(info.addresses), duration_cast<std::chrono::seconds>(info.not_before - world_.now).count(), to_human(info.not_after - world_.now));
        }
        text += "\n";
      }
      if (plan.actions.empty() && (step > 0 || !by_hand)) break;
    }
    return text.empty() ? "  waits\n" : text;
  }
  World world_;
  pki::CertificateAuthority ca_ = pki::CertificateAuthority::create("ca", world_.now).value();
  std::string key_ = ca_.issue({.common_name = "k"}, world_.now).value().key_pem;
  kube::Objects nodes_;
};

TEST_F(Signing, WhatBecomesOfEachRequest) {
  std::string text;
  const auto scene = [&](std::string_view title, const Asked& asked, bool by_hand = false) {
    ask(asked);
    text += std::format("{}\n{}", title, run(by_hand));
  };
  scene("a node's client certificate", {});
  scene("… for ten minutes", {.more = R"(,"expirationSeconds":600)"});
  scene("… newer than the last one, whatever the clock says", {.more = std::format(R"(,"extra":{{"skerry.dev/newer-than":["{}"]}})", to_rfc3339(world_.now + std::chrono::minutes(2)))});
  scene("… newer than one of the day when a clock was two years ahead", {.more = std::format(R"(,"extra":{{"skerry.dev/newer-than":["{}"]}})", to_rfc3339(world_.now + std::chrono::hours(24 * 730)))});
  Asked other;
  other.subject.common_name = "system:node:edge-2";
  scene("… of another node", other);
  scene("… of another node, approved by hand", other, true);
  scene("asked by an administrator", {.as = "admin", .groups = R"("system:masters")"});
  scene("by somebody who only has a node's name", {.groups = R"("system:authenticated")"});
  Asked master;
  master.subject.organizations = {"system:masters"};
  scene("for system:masters", master);
  scene("for system:masters, approved by hand", master, true);
  scene("usages of a server", {.usages = R"("digital signature","server auth")"}, true);
  scene("usages of both", {.usages = R"("client auth","server auth")"}, true);
  Asked named;
  named.subject.dns_names = {"edge-1"};
  scene("a client with alternative names", named, true);
  scene("another signer", {.signer = "example.com/mine"}, true);
  scene("no request", {.request = "x"}, true);
  scene("a serving certificate", serving({"edge-1"}, {"192.0.2.1"}));
  scene("… of a foreign address", serving({"edge-1"}, {"192.0.2.9"}));
  scene("… of another node's address", serving({"edge-1"}, {"192.0.2.2"}));
  scene("… of another node's name", serving({"edge-2"}, {}));
  scene("… of a foreign name, approved by hand", serving({"edge-1.example.com"}, {}), true);
  scene("… without a name", serving({}, {}), true);
  node("edge-3", "192.0.2.1");
  scene("… of an address that two nodes say is theirs", serving({}, {"192.0.2.1"}));
  // It writes its Node object itself, and says there that it is the API server.
  node("edge-4", "192.0.2.4", R"(,{"type":"ExternalIP","address":"198.51.100.4"},{"type":"Hostname","address":"kubernetes.default.svc"},{"type":"InternalDNS","address":"cp.example.com"},
    {"type":"InternalDNS","address":"*"},{"type":"InternalDNS","address":"192.0.2.44"},{"type":"InternalIP","address":"192.0.2.200"},{"type":"InternalIP","address":"2001:db8::200"},
    {"type":"InternalIP","address":"10.43.0.1"},{"type":"InternalIP","address":"127.0.0.1"},{"type":"InternalIP","address":"::1"},
    {"type":"InternalIP","address":"::ffff:192.0.2.200"})");
  const auto fourth = [&](std::string_view title, std::vector<std::string> dns_names, std::vector<std::string> addresses, bool by_hand = false, std::string name = "edge-4") {
    Asked asked = serving(std::move(dns_names), std::move(addresses));
    asked.as = asked.subject.common_name = "system:node:" + name;
    scene(title, asked, by_hand);
  };
  fourth("a serving certificate of two addresses", {"edge-4"}, {"192.0.2.4", "198.51.100.4"});
  fourth("… of its name alone", {"edge-4"}, {});
  fourth("… of the API server's name, which its Node has", {"kubernetes.default.svc"}, {});
  fourth("… of another name that its Node has", {"edge-4", "cp.example.com"}, {});
  fourth("… of any name", {"*"}, {});
  fourth("… of an address that its Node has as a name", {}, {"192.0.2.44"});
  for (const char* address : {"192.0.2.200", "2001:db8::200", "10.43.0.1", "127.0.0.1", "::1", "::ffff:192.0.2.200"}) fourth(std::format("… of the API server's address {}, which its Node has", address), {"edge-4"}, {address});
  fourth("… of the API server's address, approved by hand", {}, {"192.0.2.200"}, true);
  node("control.example.com", "192.0.2.5");
  fourth("… of its own name, which is the API server's", {"control.example.com"}, {}, false, "control.example.com");
  testing::expect_golden("signing.txt", text);
}

TEST_F(Signing, RequestsDoNotStay) {
  ask({});
  world_.apply(look()), world_.apply(look());
  EXPECT_EQ(testing::trace(look()), "again in 1h0m\n");
  world_.now += std::chrono::hours(1);
  EXPECT_EQ(testing::trace(look()), "delete certificatesigningrequests r\n");
  ask({.as = "admin"});
  world_.now += std::chrono::hours(23);
  EXPECT_EQ(testing::trace(look()), "again in 1h0m\n");
  world_.now += std::chrono::hours(1);
  EXPECT_EQ(testing::trace(look()), "delete certificatesigningrequests r\n");
}

}  // namespace
}  // namespace skerry::control
