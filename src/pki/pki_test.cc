// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "os/file.h"
#include "pki/certificate.h"
#include "pki/folder.h"
#include "pki/kubeconfig.h"

namespace skerry::pki {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono;

const Time kNow = Time{} + hours(24 * 365 * 56);

struct Authority : ::testing::Test {
  CertificateAuthority ca = CertificateAuthority::create("skerry-ca", kNow).value();
  LeafSpec node{.common_name = "system:node:edge-1", .organizations = {"system:nodes"}};
  LeafSpec server{.common_name = "skerry", .dns_names = {"localhost", "edge-1"}, .addresses = {"127.0.0.1", "::1"}, .usage = Usage::Server};
};

TEST_F(Authority, IssuesWhatTheSpecSays) {
  const auto pair = ca.issue(server, kNow).value();
  const auto info = inspect_certificate(pair.certificate_pem).value();
  EXPECT_EQ(info.common_name, "skerry");
  EXPECT_EQ(info.issuer_common_name, "skerry-ca");
  EXPECT_THAT(info.dns_names, ElementsAre("localhost", "edge-1"));
  EXPECT_THAT(info.addresses, ElementsAre("127.0.0.1", "::1"));
  EXPECT_EQ(info.not_before, kNow - 1h);
  EXPECT_EQ(info.not_after, kNow + hours(24 * 365));
  const auto client = inspect_certificate(ca.issue(node, kNow).value().certificate_pem).value();
  EXPECT_EQ(client.common_name, "system:node:edge-1");
  EXPECT_THAT(client.organizations, ElementsAre("system:nodes"));
}

TEST_F(Authority, RefusesNamesThatACertificateCannotHold) {
  const auto refused = [&](LeafSpec spec) {
    const auto pair = ca.issue(spec, kNow);
    EXPECT_FALSE(pair.has_value());
    return pair ? Errc::Internal : pair.error().code;
  };
  EXPECT_EQ(refused({.common_name = ""}), Errc::Invalid);
  EXPECT_EQ(refused({.common_name = std::string(65, 'x')}), Errc::Invalid);
  EXPECT_EQ(refused({.common_name = "a\nb"}), Errc::Invalid);
  EXPECT_EQ(refused({.common_name = "a", .dns_names = {"x,DNS:evil"}}), Errc::Invalid);
  EXPECT_EQ(refused({.common_name = "a", .addresses = {"1.2.3"}}), Errc::Invalid);
  EXPECT_EQ(refused({.common_name = "a", .organizations = std::vector<std::string>(100, "o")}), Errc::Invalid);
}

TEST_F(Authority, ALeafNeverOutlivesItsAuthority) {
  const Time late = kNow + hours(24 * 3650) - hours(24);
  const auto pair = ca.issue(node, late).value();
  EXPECT_EQ(inspect_certificate(pair.certificate_pem).value().not_after, kNow + hours(24 * 3650));
  EXPECT_FALSE(ca.issue(node, late + hours(48)).has_value());
}

TEST_F(Authority, LoadsItselfAndNothingBroken) {
  EXPECT_TRUE(CertificateAuthority::load(ca.pair()).has_value());
  const auto other = CertificateAuthority::create("other", kNow).value();
  EXPECT_EQ(CertificateAuthority::load({ca.pair().certificate_pem, other.pair().key_pem}).error().code, Errc::Corrupt);
  EXPECT_EQ(CertificateAuthority::load({"x", "y"}).error().code, Errc::Corrupt);
  EXPECT_EQ(CertificateAuthority::load(ca.issue(node, kNow).value()).error().code, Errc::Corrupt);
}

TEST_F(Authority, RenewsInTheLastThirdAndWhenTheSpecChanged) {
  const auto pair = ca.issue(server, kNow).value();
  EXPECT_EQ(renewal_reason(pair, server, ca, kNow), "");
  EXPECT_EQ(renewal_reason(pair, server, ca, kNow + hours(24 * 240)), "");
  EXPECT_THAT(renewal_reason(pair, server, ca, kNow + hours(24 * 250)), HasSubstr("third"));
  EXPECT_THAT(renewal_reason(pair, server, ca, kNow - hours(2)), HasSubstr("not valid yet"));
  auto more = server;
  more.addresses.push_back("10.0.0.1");
  EXPECT_THAT(renewal_reason(pair, more, ca, kNow), HasSubstr("address"));
  more = server;
  more.addresses = {"0:0::1"};
  EXPECT_EQ(renewal_reason(pair, more, ca, kNow), "");
  const auto other = CertificateAuthority::create("other", kNow).value();
  EXPECT_THAT(renewal_reason(pair, server, other, kNow), HasSubstr("another authority"));
  EXPECT_THAT(renewal_reason({pair.certificate_pem, "x"}, server, ca, kNow), HasSubstr("read"));
}

struct FolderTest : ::testing::Test {
  std::filesystem::path root = [] {
    char name[] = "/tmp/skerry-pki-XXXXXX";
    return std::filesystem::path(::mkdtemp(name));
  }();
  ~FolderTest() override { std::filesystem::remove_all(root); }
  Folder folder = Folder::open(root / "pki").value();
};

TEST_F(FolderTest, KeepsWhatIsGoodAndRenewsWhatIsNot) {
  const LeafSpec spec{.common_name = "admin", .organizations = {"system:masters"}};
  const auto ca = folder.authority("skerry-ca").value();
  const auto first = folder.leaf("admin", spec, ca, kNow).value();
  const auto again = Folder::open(root / "pki").value();
  const auto ca_again = again.authority("skerry-ca").value();
  EXPECT_EQ(ca_again.pair().certificate_pem, ca.pair().certificate_pem);
  EXPECT_EQ(again.leaf("admin", spec, ca_again, kNow).value().key_pem, first.key_pem);
  EXPECT_NE(again.leaf("admin", spec, ca_again, kNow + hours(24 * 300)).value().key_pem, first.key_pem);
  struct stat found{};
  ASSERT_EQ(::stat((root / "pki/ca.key").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600U);
  ASSERT_EQ(::stat((root / "pki").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0700U);
}

TEST_F(FolderTest, NeverReplacesAnAuthoritySilently) {
  ASSERT_TRUE(folder.authority("skerry-ca").has_value());
  const std::string key = os::read_small_file(root / "pki/ca.key").value();
  std::filesystem::remove(root / "pki/ca.key");
  const auto lost = folder.authority("skerry-ca");
  ASSERT_FALSE(lost.has_value());
  EXPECT_EQ(lost.error().code, Errc::Corrupt);
  EXPECT_THAT(lost.error().what, HasSubstr("restore ca.key"));
  std::ofstream(root / "pki/ca.key") << key.substr(0, key.size() / 2);
  const auto broken = folder.authority("skerry-ca");
  ASSERT_FALSE(broken.has_value());
  EXPECT_EQ(broken.error().code, Errc::Corrupt);
  EXPECT_THAT(broken.error().what, Not(HasSubstr(key.substr(40, 20))));
}

TEST_F(FolderTest, ALoneKeyOfACrashIsNoAuthority) {
  std::ofstream(root / "pki/ca.key") << "half";
  EXPECT_TRUE(folder.authority("skerry-ca").has_value());
  EXPECT_TRUE(folder.authority("skerry-ca").has_value());
}

TEST(KubeconfigTest, HoldsOneContextWithEverythingEmbedded) {
  const Kubeconfig config{.user = "ad\"min", .server = "https://127.0.0.1:6443", .ca_pem = "CA", .client = {"CERT", "KEY"}, .token = "t\\o\n", .namespace_ = "default"};
  EXPECT_EQ(to_yaml(config), R"(apiVersion: v1
kind: Config
preferences: {}
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: "https://127.0.0.1:6443"
  name: "skerry"
contexts:
- context:
    cluster: "skerry"
    user: "ad\"min"
    namespace: "default"
  name: "ad\"min@skerry"
current-context: "ad\"min@skerry"
users:
- name: "ad\"min"
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
    token: "t\\o\u000a"
)");
  EXPECT_THAT(to_yaml({.server = "s", .token = "t"}), Not(HasSubstr("client-key")));
}

}  // namespace
}  // namespace skerry::pki
