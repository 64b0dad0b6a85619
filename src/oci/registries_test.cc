// SPDX-License-Identifier: Apache-2.0
#include "oci/registries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> urls(const Registries& r, std::string_view image) {
  std::vector<std::string> out;
  for (const auto& e : r.endpoints(Reference::parse(image).value(), {})) out.push_back(e.url);
  return out;
}

TEST(Registries, MirrorsComeFirstAndTheRegistryItselfLast) {
  const Registries r{.hosts = {{"docker.io", {.mirrors = {"https://mirror.example.com/hub/", "http://10.0.0.1:5000"}}},
                               {"registry.local:5000", {.mirrors = {"http://registry.local:5000"}}}}};
  EXPECT_THAT(urls(r, "nginx"), ElementsAre("https://mirror.example.com/hub", "http://10.0.0.1:5000", "https://registry-1.docker.io"));
  EXPECT_THAT(urls(r, "registry.local:5000/a"), ElementsAre("http://registry.local:5000")) << "plain http where it is configured";
  EXPECT_THAT(urls(r, "other.example.com/a"), ElementsAre("https://other.example.com"));
  const Registries all{.hosts = {{"*", {.mirrors = {"https://all.example.com"}}}}};
  EXPECT_THAT(urls(all, "other.example.com/a"), ElementsAre("https://all.example.com", "https://other.example.com"));
}

TEST(Registries, SecretsGoToTheRegistryAlone) {
  const Credential secret{"of", "the pod", ""}, configured{"of", "the file", ""}, mirrors{"of", "the mirror", ""};
  const Registries r{.hosts = {{"r.example.com", {.mirrors = {"https://m.example.com"}, .credential = configured, .ca_pem = "CA"}}, {"m.example.com", {.credential = mirrors, .verify = false}}}};
  const auto endpoints = r.endpoints(Reference::parse("r.example.com/a").value(), {secret});
  ASSERT_EQ(endpoints.size(), 2u);
  EXPECT_THAT(endpoints[0].credentials, ElementsAre(mirrors));
  EXPECT_FALSE(endpoints[0].verify);
  EXPECT_THAT(endpoints[0].ca_pem, IsEmpty());
  EXPECT_THAT(endpoints[1].credentials, ElementsAre(secret, configured));
  EXPECT_EQ(endpoints[1].ca_pem, "CA");
  EXPECT_TRUE(endpoints[1].verify);
}

}  // namespace
}  // namespace skerry::oci
