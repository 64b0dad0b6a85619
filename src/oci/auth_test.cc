// SPDX-License-Identifier: Apache-2.0
#include "oci/auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"

namespace skerry::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Challenges, AreReadAsRegistriesWriteThem) {
  EXPECT_THAT(parse_challenges(R"(Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:a/b:pull")").value(),
              ElementsAre(Challenge{"bearer", "https://auth.example.com/token", "registry.example.com", "repository:a/b:pull"}));
  EXPECT_THAT(parse_challenges(R"(Basic realm="Registry Realm")").value(), ElementsAre(Challenge{"basic", "Registry Realm", "", ""}));
  EXPECT_THAT(parse_challenges(R"(BEARER realm = "a \"b\"" , service=plain, error="invalid_token", Basic realm="x")").value(),
              ElementsAre(Challenge{"bearer", "a \"b\"", "plain", ""}, Challenge{"basic", "x", "", ""}));
  EXPECT_THAT(parse_challenges("Negotiate, Basic realm=x").value(), ElementsAre(Challenge{"negotiate", "", "", ""}, Challenge{"basic", "x", "", ""}));
  EXPECT_THAT(parse_challenges("").value(), IsEmpty());
  for (const char* bad : {"=", "Bearer realm=\"open", "Bearer \x01", "Bearer ="}) EXPECT_FALSE(parse_challenges(bad)) << bad;
  EXPECT_FALSE(parse_challenges(std::string(100'000, 'x')));
}

std::vector<std::string> users(std::string_view config, std::string_view image) {
  std::vector<std::string> out;
  const auto found = credentials_for(config, Reference::parse(image).value()).value();
  for (const auto& c : found) out.push_back(c.username + ":" + c.password);
  return out;
}

TEST(PullSecret, IsMatchedAsTheKubeletDoes) {
  const std::string config = R"({"auths":{
    "registry.example.com":{"username":"host","password":"1"},
    "https://registry.example.com/v1/":{"auth":")" + to_base64("login:2") + R"("},
    "registry.example.com/team":{"username":"team","password":"3"},
    "registry.example.com/team/app":{"username":"app","password":"4"},
    "*.example.com":{"username":"star","password":"5"},
    "registry.example.com:5000":{"username":"port","password":"6"},
    "https://index.docker.io/v1/":{"username":"hub","password":"7"},
    "other.example.org":{"username":"other","password":"8"},
    "registry.example.com/empty":{}}})";
  EXPECT_THAT(users(config, "registry.example.com/team/app:1"), ElementsAre("app:4", "team:3", "host:1", "login:2", "star:5"));
  EXPECT_THAT(users(config, "registry.example.com/teamwork/app:1"), ElementsAre("host:1", "login:2", "star:5"));
  EXPECT_THAT(users(config, "registry.example.com:5000/a:1"), ElementsAre("port:6"));
  EXPECT_THAT(users(config, "nginx"), ElementsAre("hub:7"));
  EXPECT_THAT(users(config, "a.b.example.com/x:1"), IsEmpty());
  EXPECT_THAT(users(R"({"registry.example.com":{"username":"old","password":"form"}})", "registry.example.com/x:1"), ElementsAre("old:form"));
}

TEST(PullSecret, WhatIsMalformedIsLeftOutOrRefusedWithoutItsContent) {
  EXPECT_THAT(users(R"({"auths":{"r.example.com":{"auth":"!!"},"r.example.com/a":{"auth":"bm9jb2xvbg=="},"r.example.com/b":5}})", "r.example.com/a:1"), IsEmpty());
  EXPECT_THAT(users("{\"auths\":{\"r.example.com\":{\"username\":\"a\\r\\nX: y\",\"password\":\"p\"}}}", "r.example.com/a:1"), IsEmpty());
  const auto image = Reference::parse("r.example.com/a:1").value();
  EXPECT_FALSE(credentials_for("secret-token", image));
  EXPECT_EQ(credentials_for("secret-token", image).error().what.find("secret-token"), std::string::npos);
  EXPECT_FALSE(credentials_for("[]", image));
}

}  // namespace
}  // namespace skerry::oci
