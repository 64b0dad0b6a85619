// SPDX-License-Identifier: Apache-2.0
#include "cli/registries_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <format>
#include <fstream>

namespace skerry::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct RegistriesFile : ::testing::Test {
  std::filesystem::path folder = [] {
    char name[] = "/tmp/skerry-registries-XXXXXX";
    return std::filesystem::path(::mkdtemp(name));
  }();
  ~RegistriesFile() override { std::filesystem::remove_all(folder); }
  Result<oci::Registries> read(const std::string& text, unsigned mode = 0600) {
    const auto path = folder / "registries.yaml";
    std::ofstream(path) << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return read_registries(path);
  }
};

TEST_F(RegistriesFile, IsReadAsK3sReadsIt) {
  std::ofstream(folder / "ca.pem") << "CA";
  const auto r = read(std::format(R"(
mirrors:
  docker.io:
    endpoint: ["https://mirror.example.com", "http://10.0.0.1:5000"]
  "registry.local:5000":
    endpoint:
      - registry.local:5000
configs:
  "registry.local:5000":
    auth: {{username: al, password: "pa:ss"}}
    tls: {{ca_file: {}/ca.pem, insecure_skip_verify: true}}
)", folder.string())).value();
  EXPECT_THAT(r.hosts.at("docker.io").mirrors, ElementsAre("https://mirror.example.com", "http://10.0.0.1:5000"));
  const auto& local = r.hosts.at("registry.local:5000");
  EXPECT_THAT(local.mirrors, ElementsAre("https://registry.local:5000"));
  EXPECT_EQ(local.credential, (oci::Credential{"al", "pa:ss", ""}));
  EXPECT_EQ(local.ca_pem, "CA");
  EXPECT_FALSE(local.verify);
  EXPECT_TRUE(read("").value().hosts.empty());
  EXPECT_TRUE(read("mirrors:\n").value().hosts.empty());
}

TEST_F(RegistriesFile, AllMistakesAreToldAtOnceAndNoPasswordIs) {
  const auto wrong = read(R"(
mirror: {}
mirrors: {a: {endpoints: []}, b: {endpoint: ["ftp://x"]}}
configs: {c: {auth: {user: al, password: hunter2}, tls: {ca_file: /nonexistent/ca, cert_file: /nonexistent/cert}}}
)");
  ASSERT_FALSE(wrong);
  for (const char* part : {"mirror is not known", "mirrors.\"a\".endpoints is not known", "\"ftp://x\" is no address", "configs.\"c\".auth.user is not known", "neither username nor", "/nonexistent/ca"})
    EXPECT_THAT(wrong.error().what, HasSubstr(part));
  EXPECT_EQ(wrong.error().what.find("hunter2"), std::string::npos);
  EXPECT_FALSE(read("[1"));
  EXPECT_FALSE(read("- a\n"));
  EXPECT_EQ(read("configs: {c: {auth: {username: a, password: b}}}", 0644).error().code, Errc::Denied);
  EXPECT_TRUE(read("mirrors: {a: {endpoint: [\"http://b\"]}}", 0644));
  EXPECT_EQ(read_registries(folder / "none.yaml").error().code, Errc::NotFound);
}

}  // namespace
}  // namespace skerry::cli
