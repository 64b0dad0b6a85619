// SPDX-License-Identifier: Apache-2.0
#include "cli/credentials.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <map>

#include "cli/kubeconfig.h"
#include "os/file.h"

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

// A clock that was years behind when the machine started (no battery, no network) is put right later.
TEST_F(CredentialsTest, AClockThatIsPutRightIsFollowed) {
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart));
  ASSERT_TRUE(make_server_credentials(layout_, server_, kStart + kDay * 700));
  expect_good("node client", read_node_credentials(layout_, node_, kStart + kDay * 700)->config.client_certificate_pem, kStart + kDay * 700, kDay * 300);
}

}  // namespace
}  // namespace skerry::cli
