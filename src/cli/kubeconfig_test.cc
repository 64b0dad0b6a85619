// SPDX-License-Identifier: Apache-2.0
#include "cli/kubeconfig.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>
#include <fstream>

namespace skerry::cli {
namespace {

using ::testing::HasSubstr;

class KubeconfigTest : public ::testing::Test {
 protected:
  KubeconfigTest() {
    std::string name = ::testing::TempDir() + "kubeconfigXXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~KubeconfigTest() override { std::filesystem::remove_all(folder_); }
  Result<Kubeconfig> read(std::string_view server, std::string_view user, std::string_view ca = "certificate-authority-data: Q0E=") {
    std::ofstream(folder_ / "config") << std::format(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
        "clusters:\n- name: k\n  cluster:\n    server: {}\n    {}\n"
        "users:\n- name: u\n  user: {}\n",
        server, ca, user);
    return read_kubeconfig(folder_ / "config");
  }
  std::filesystem::path folder_;
};

TEST_F(KubeconfigTest, ReadsInlineDataAndFiles) {
  std::ofstream(folder_ / "key.pem") << "KEY";
  const auto config = read("https://127.0.0.1:6443", "{client-certificate-data: Q0VSVA==, client-key: key.pem}").value();
  EXPECT_EQ(config.host, "127.0.0.1");
  EXPECT_EQ(config.port, 6443);
  EXPECT_EQ(config.ca_pem, "CA");
  EXPECT_EQ(config.client_certificate_pem, "CERT");
  EXPECT_EQ(config.client_key_pem, "KEY");
  EXPECT_EQ(read("https://[::1]:1", "{token: t}").value().host, "::1");
  EXPECT_EQ(read("https://edge.example.com", "{token: t}").value().port, 443);
}

TEST_F(KubeconfigTest, SaysWhatIsMissing) {
  EXPECT_THAT(read("http://127.0.0.1", "{token: t}").error().what, HasSubstr("https://"));
  EXPECT_THAT(read("https://h:99999", "{token: t}").error().what, HasSubstr("host and port"));
  EXPECT_THAT(read("https://h", "{}").error().what, HasSubstr("neither a token nor a client certificate"));
  EXPECT_THAT(read("https://h", "{exec: {command: x}}").error().what, HasSubstr("\"exec\""));
  EXPECT_THAT(read("https://h", "{token: t}", "tls-server-name: x").error().what, HasSubstr("impostor"));
  EXPECT_THAT(read("https://h", "{client-certificate-data: '*'}").error().what, HasSubstr("not base64"));
  std::ofstream(folder_ / "config") << "a: [";
  EXPECT_EQ(read_kubeconfig(folder_ / "config").error().code, Errc::Invalid);
  EXPECT_EQ(read_kubeconfig(folder_ / "none").error().code, Errc::NotFound);
}

}  // namespace
}  // namespace skerry::cli
