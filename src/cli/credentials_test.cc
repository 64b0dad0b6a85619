// SPDX-License-Identifier: Apache-2.0
#include "cli/credentials.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <map>

#include "cli/kubeconfig.h"
#include "cli/local_api.h"
#include "os/file.h"
#include "pki/folder.h"
#include "pki/kubeconfig.h"

namespace skerry::cli {
namespace {

constexpr Duration kDay = 24h;
const Time kStart = *from_rfc3339("2026-11-23T10:00:00Z");

class CredentialsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-credentials-XXXXXX";
    layout_.root = ::mkdtemp(name);
    server_.data_dir = node_.data_dir = layout_.root;
    server_.node_name = node_.node_name = "edge-1";
    node_.node_address = "192.0.2.7";
    node_.kubeconfig = layout_.node_kubeconfig();
  }
  void TearDown() override { std::filesystem::remove_all(layout_.root); }
  static void expect_good(std::string_view what, const std::string& pem, Time now, Duration at_least) {
    const auto info = pki::inspect_certificate(pem);
    ASSERT_TRUE(info) << what;
    EXPECT_LE(info->not_before, now) << what;
    EXPECT_GE(info->not_after, now + at_least) << what;
  }
  void write(const pki::Kubeconfig& config) { ASSERT_TRUE(os::write_file_atomically(layout_.node_kubeconfig(), pki::to_yaml(config), 0600)); }
  // The operator gives the node of another machine's server a kubeconfig.
  pki::KeyPair give(const pki::CertificateAuthority& ca, Time now, std::string name = "system:node:edge-1", std::string organization = "system:nodes") {
    const auto pair = ca.issue({.common_name = std::move(name), .organizations = {std::move(organization)}}, now).value();
    write({.user = "n", .server = "https://192.0.2.1:6443", .ca_pem = ca.pair().certificate_pem, .client = pair, .token = {}, .namespace_ = {}});
    return pair;
  }
  // The node has got itself a certificate.
  pki::KeyPair save(const pki::CertificateAuthority& ca, Time now) {
    const auto pair = ca.issue({.common_name = "system:node:edge-1", .organizations = {"system:nodes"}}, now).value();
    EXPECT_TRUE(agent::IdentityFolder::open(layout_.node_pki())->save(agent::RenewalCore::Purpose::Client, {pair, pki::inspect_keys(ca.pair().certificate_pem).value(), false}));
    return pair;
  }
  std::map<std::string, ino_t> files() const {
    std::map<std::string, ino_t> out;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(layout_.root)) {
      struct stat info {};
      if (entry.is_regular_file() && ::stat(entry.path().c_str(), &info) == 0) out[entry.path()] = info.st_ino;
    }
    return out;
  }
  DataLayout layout_;
  ServerOptions server_;
  NodeOptions node_;
};

// Goal: a server and a node that run for years without a restart never show a certificate that has ended.
// Method: what both do every few minutes, once in 30 days of virtual time over two years; every certificate in use is then
// good for at least the next 30 days, and they have changed, though never the authority.
TEST_F(CredentialsTest, AreRenewedWhileTheProgramsRun) {
  const auto first = make_server_credentials(layout_, server_, kStart).value();
  std::string last = first.server.certificate_pem;
  int changes = 0;
  for (Time now = kStart; now < kStart + kDay * 365 * 2; now += kDay * 30) {
    const auto server = make_server_credentials(layout_, server_, now);
    ASSERT_TRUE(server) << server.error().what;
    expect_good("server", server->server.certificate_pem, now, kDay * 30);
    expect_good("kubelet client", server->kubelet_client.certificate_pem, now, kDay * 30);
    const auto node = read_node_credentials(layout_, node_, now);
    ASSERT_TRUE(node) << node.error().what;
    expect_good("node client", node->config.client_certificate_pem, now, kDay * 30);
    expect_good("node serving", node->serving.certificate_pem, now, kDay * 30);
    expect_good("admin", read_kubeconfig(layout_.admin_kubeconfig())->client_certificate_pem, now, kDay * 30);
    EXPECT_EQ(node->config.ca_pem, first.ca_pem);
    changes += server->server.certificate_pem != last ? 1 : 0;
    last = server->server.certificate_pem;
  }
  EXPECT_EQ(changes, 2);  // every 8 to 9 months
}

// Goal: a board whose clock is wrong by decades starts all the same, and again when the clock is put right. Method: server and node at such
// times, with an authority of the cluster's here and (its folder gone) with the node's own; every certificate holds then, its authority too.
TEST_F(CredentialsTest, HoldWhateverTheClockShows) {
  constexpr Time kNoBattery = Time{} + 1min, kFarAhead = std::chrono::sys_days{std::chrono::year{2099} / 1 / 1};
  for (const bool server_here : {true, false}) {
    if (!server_here) std::filesystem::remove_all(layout_.pki());
    for (const Time now : {kStart, kNoBattery, kStart, kFarAhead, kStart}) {
      SCOPED_TRACE(to_rfc3339(now));
      if (server_here) {
        const auto server = make_server_credentials(layout_, server_, now);
        ASSERT_TRUE(server) << server.error().what;
        expect_good("authority", server->ca_pem, now, kDay * 365);
        expect_good("server", server->server.certificate_pem, now, kDay * 30);
        expect_good("admin", read_kubeconfig(layout_.admin_kubeconfig())->client_certificate_pem, now, kDay * 30);
      }
      const auto node = read_node_credentials(layout_, node_, now);
      ASSERT_TRUE(node) << node.error().what;
      expect_good("node serving", node->serving.certificate_pem, now, kDay * 30);
      const auto local = make_local_credentials(layout_.root / "node", "edge-1", 10251, now);
      ASSERT_TRUE(local) << local.error().what;
      expect_good("loopback's authority", local->ca_pem, now, kDay * 365);
      expect_good("loopback", local->serving.certificate_pem, now, kDay * 30);
      expect_good("loopback's admin", read_kubeconfig(layout_.root / "node/local.kubeconfig")->client_certificate_pem, now, kDay * 30);
    }
  }
}

// A node that starts beside its server waits for the kubeconfig alone, and must not take to an authority of its own.
TEST_F(CredentialsTest, TheNodesKubeconfigIsWrittenLast) {
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart));
  const auto last = std::filesystem::last_write_time(layout_.node_kubeconfig());
  for (const auto& [path, inode] : files()) EXPECT_LE(std::filesystem::last_write_time(path), last) << path;
}

TEST_F(CredentialsTest, NothingIsWrittenWhileNothingIsDue) {
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart));
  const auto before = files();
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart + kDay * 100));
  ASSERT_TRUE(read_node_credentials(layout_, node_, kStart + kDay * 100));
  EXPECT_EQ(files(), before);
}

// Goal: a node under a server elsewhere renews its serving certificate too. Method: a kubeconfig, and no pki folder.
TEST_F(CredentialsTest, ANodeOfAnotherServerRenewsItsServingCertificate) {
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart));
  std::filesystem::remove_all(layout_.pki());
  const auto before = read_node_credentials(layout_, node_, kStart);
  ASSERT_TRUE(before) << before.error().what;
  EXPECT_EQ(read_node_credentials(layout_, node_, kStart + kDay * 200)->serving.certificate_pem, before->serving.certificate_pem);
  const auto after = read_node_credentials(layout_, node_, kStart + kDay * 300);
  expect_good("node serving", after->serving.certificate_pem, kStart + kDay * 300, kDay * 360);
}

// Goal: where `skerry server` renews the node's certificates in its data folder, the node does not. Method: `skerry up`'s folder, also
// with a certificate that the node got for itself when the folder was of another server.
TEST_F(CredentialsTest, InTheServersFolderTheNodeAsksForNothing) {
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart));
  auto node = read_node_credentials(layout_, node_, kStart).value();
  EXPECT_FALSE(node.client_managed);
  EXPECT_FALSE(node.serving_managed);
  save(pki::Folder::open(layout_.pki())->authority("skerry").value(), kStart + kDay);
  const auto fresh = read_node_credentials(layout_, node_, kStart + kDay).value();
  EXPECT_EQ(fresh.config.client_certificate_pem, node.config.client_certificate_pem);
  EXPECT_FALSE(fresh.client_managed);
}

// The kubeconfig's or the node's own: the newer one of the same name and cluster; and the operator's word when he gives a newer one.
TEST_F(CredentialsTest, TheNewerOfGivenAndRenewedIsShown) {
  const auto ca = pki::CertificateAuthority::create("elsewhere", kStart).value();
  give(ca, kStart);
  auto node = read_node_credentials(layout_, node_, kStart).value();
  ASSERT_TRUE(node.client_managed);
  ASSERT_TRUE(node.serving_managed);
  EXPECT_EQ(node.client_managed->wanted.common_name, "system:node:edge-1");
  EXPECT_EQ(node.serving_managed->wanted.dns_names, std::vector<std::string>{"edge-1"});
  EXPECT_EQ(node.serving_managed->wanted.addresses, std::vector<std::string>{"192.0.2.7"});
  EXPECT_TRUE(node.serving_managed->pair.certificate_pem.empty()) << "one of its own authority is none of the cluster";
  EXPECT_FALSE(node.serving.certificate_pem.empty());

  const auto renewed = save(ca, kStart + kDay);
  node = read_node_credentials(layout_, node_, kStart + kDay).value();
  EXPECT_EQ(node.config.client_certificate_pem, renewed.certificate_pem);
  EXPECT_EQ(node.config.client_key_pem, renewed.key_pem);
  EXPECT_EQ(node.client_managed->pair.certificate_pem, renewed.certificate_pem);
  EXPECT_TRUE(node.remarks.empty());

  const auto given = give(ca, kStart + kDay * 2);
  node = read_node_credentials(layout_, node_, kStart + kDay * 2).value();
  EXPECT_EQ(node.config.client_certificate_pem, given.certificate_pem);
  ASSERT_EQ(node.remarks.size(), 1u);
  EXPECT_THAT(node.remarks.front(), ::testing::HasSubstr("the kubeconfig's is newer"));
}

TEST_F(CredentialsTest, AnotherClustersOrADamagedOneIsNotShown) {
  const auto here = pki::CertificateAuthority::create("one", kStart).value(), there = pki::CertificateAuthority::create("one", kStart).value();
  const auto given = give(here, kStart);
  save(there, kStart + kDay);
  auto node = read_node_credentials(layout_, node_, kStart + kDay).value();
  EXPECT_EQ(node.config.client_certificate_pem, given.certificate_pem);
  ASSERT_EQ(node.remarks.size(), 1u);
  EXPECT_THAT(node.remarks.front(), ::testing::HasSubstr("another authority"));
  ASSERT_TRUE(os::write_file_atomically(layout_.node_pki() / "client.pem", "junk", 0600));
  node = read_node_credentials(layout_, node_, kStart + kDay).value();
  EXPECT_EQ(node.config.client_certificate_pem, given.certificate_pem);
  EXPECT_TRUE(node.client_managed) << "and is renewed";
  EXPECT_THAT(node.remarks.front(), ::testing::HasSubstr("restore it, or remove it"));
}

TEST_F(CredentialsTest, WithATokenOrSomebodyElsesCertificateNothingIsAskedFor) {
  const auto ca = pki::CertificateAuthority::create("one", kStart).value();
  write({.user = "n", .server = "https://192.0.2.1:6443", .ca_pem = ca.pair().certificate_pem, .client = {}, .token = "secret", .namespace_ = {}});
  auto node = read_node_credentials(layout_, node_, kStart).value();
  EXPECT_EQ(node.config.token, "secret");
  EXPECT_FALSE(node.client_managed || node.serving_managed);
  EXPECT_FALSE(node.serving.certificate_pem.empty());
  give(ca, kStart, "kubernetes-admin", "system:masters");
  node = read_node_credentials(layout_, node_, kStart).value();
  EXPECT_FALSE(node.client_managed || node.serving_managed);
  ASSERT_EQ(node.remarks.size(), 1u);
  EXPECT_THAT(node.remarks.front(), ::testing::AllOf(::testing::HasSubstr("kubernetes-admin"), ::testing::HasSubstr("does not renew it")));
}

TEST_F(CredentialsTest, ASignedServingCertificateIsShownUntilItEnds) {
  const auto ca = pki::CertificateAuthority::create("one", kStart).value();
  give(ca, kStart);
  const auto own = read_node_credentials(layout_, node_, kStart).value().serving;
  const auto folder = agent::IdentityFolder::open(layout_.node_pki()).value();
  const auto signed_pair = ca.issue({.common_name = "system:node:edge-1", .organizations = {"system:nodes"}, .dns_names = {"edge-1"}, .addresses = {"192.0.2.7"}, .usage = pki::Usage::Server, .validity = kDay * 90}, kStart).value();
  ASSERT_TRUE(folder.save(agent::RenewalCore::Purpose::Serving, {signed_pair, pki::inspect_keys(ca.pair().certificate_pem).value(), false}));
  const auto now = read_node_credentials(layout_, node_, kStart + kDay).value();
  EXPECT_EQ(now.serving.certificate_pem, signed_pair.certificate_pem);
  EXPECT_EQ(now.serving_managed->pair.certificate_pem, signed_pair.certificate_pem);
  const auto later = read_node_credentials(layout_, node_, kStart + kDay * 91).value();
  EXPECT_EQ(later.serving.certificate_pem, own.certificate_pem);
  EXPECT_TRUE(later.serving_managed->pair.certificate_pem.empty());
}

// Goal: a node with a data folder of its own on the server's machine gets a serving certificate. Method: its address is the server's, which the server
// does not sign for a node by itself; it asks for its name, by which the server reaches it.
TEST_F(CredentialsTest, OnTheServersMachineANodeAsksForItsNameAlone) {
  give(pki::CertificateAuthority::create("elsewhere", kStart).value(), kStart);  // at 192.0.2.1
  for (const char* address : {"127.0.0.1", "127.8.0.1", "::1", "192.0.2.1"}) {
    node_.node_address = address;
    const auto node = read_node_credentials(layout_, node_, kStart).value();
    EXPECT_EQ(node.serving_managed->wanted.dns_names, std::vector<std::string>{"edge-1"});
    EXPECT_TRUE(node.serving_managed->wanted.addresses.empty()) << address;
    EXPECT_THAT(pki::inspect_certificate(node.serving.certificate_pem)->addresses, ::testing::Contains(std::string("127.0.0.1")));
  }
}

TEST_F(CredentialsTest, WhatIsTheServersNoNodeGetsByItsWord) {
  server_.listen = {"192.0.2.1", 6443};
  server_.tls_names = {"cp.example.com", "2001:DB8::1"};
  const auto made = make_server_credentials(layout_, server_, kStart).value();
  const auto options = signing_options(made, server_).value();
  for (const char* own : {"localhost", "kubernetes.default.svc", "127.0.0.1", "10.43.0.1", "192.0.2.1", "cp.example.com", "2001:db8::1"}) EXPECT_THAT(options.reserved, ::testing::Contains(std::string(own)));
  EXPECT_EQ(options.services, os::Ipv4Range::parse("10.43.0.0/16"));
  const auto host = host_name().value();
  if (host == "localhost") return;
  EXPECT_THAT(options.reserved, ::testing::Not(::testing::Contains(host))) << "what a node on this machine is called by default";
  server_.tls_names = {host};
  EXPECT_THAT(signing_options(made, server_)->reserved, ::testing::Contains(host));
}

// A clock that was years behind when the machine started (no battery, no network) is put right later.
TEST_F(CredentialsTest, AClockThatIsPutRightIsFollowed) {
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart));
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart + kDay * 700));
  expect_good("node client", read_node_credentials(layout_, node_, kStart + kDay * 700)->config.client_certificate_pem, kStart + kDay * 700, kDay * 300);
}

}  // namespace
}  // namespace skerry::cli
