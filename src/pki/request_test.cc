// SPDX-License-Identifier: Apache-2.0
#include "pki/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"

namespace skerry::pki {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono;

const Time kNow = Time{} + hours(24 * 365 * 56);

struct Request : ::testing::Test {
  CertificateAuthority ca = CertificateAuthority::create("ca", kNow).value();
  LeafSpec node{.common_name = "system:node:a", .organizations = {"system:nodes"}};
  std::string key = ca.issue(node, kNow).value().key_pem;
};

TEST_F(Request, SaysWhatItAsksFor) {
  LeafSpec serving = node;
  serving.dns_names = {"a", "a.example"};
  serving.addresses = {"192.0.2.7", "2001:db8::1"};
  const auto info = inspect_request(make_request(key, serving).value()).value();
  EXPECT_EQ(info.common_name, "system:node:a");
  EXPECT_THAT(info.organizations, ElementsAre("system:nodes"));
  EXPECT_THAT(info.dns_names, ElementsAre("a", "a.example"));
  EXPECT_THAT(info.addresses, ElementsAre("192.0.2.7", "2001:db8::1"));
  EXPECT_TRUE(info.plain);
  EXPECT_EQ(info.key.size(), 64U);
}

TEST_F(Request, IsSignedForItsKeyWithWhatTheSpecSays) {
  LeafSpec other{.common_name = "system:node:b", .organizations = {"system:nodes"}, .validity = 30min};
  other.not_before = kNow - 10min;
  const auto pem = ca.sign(make_request(key, node).value(), other, kNow).value();
  const auto info = inspect_certificate(pem).value();
  EXPECT_EQ(info.common_name, "system:node:b");
  EXPECT_EQ(info.not_before, kNow - 10min);
  EXPECT_EQ(info.not_after, kNow + 30min);
  EXPECT_EQ(info.key, inspect_request(make_request(key, node).value())->key);
  EXPECT_EQ(renewal_reason({pem, key}, other, ca, kNow), "");
  other.not_before = kNow + 1h;
  EXPECT_THAT(ca.sign(make_request(key, node).value(), other, kNow).error().what, HasSubstr("clock"));
}

TEST_F(Request, RefusesWhatIsNone) {
  const std::string good = make_request(key, node).value();
  const auto why = [](std::string_view pem) {
    const auto info = inspect_request(pem);
    return info ? std::string("accepted") : info.error().what;
  };
  EXPECT_EQ(why(good), "accepted");
  EXPECT_EQ(why("\n " + good + "\r\n"), "accepted");
  for (const auto& bad : {std::string(), std::string("x"), good + good, "x" + good, good + "x", key, ca.pair().certificate_pem, good.substr(0, 80)}) {
    EXPECT_THAT(why(bad), HasSubstr("CERTIFICATE REQUEST"));
  }
  // Another body under the same signature.
  std::string changed = good;
  const auto line = good.find('\n') + 1;
  const auto der = [&] {
    std::string text = good.substr(line, good.find("-----END") - line);
    std::erase(text, '\n');
    return from_base64(text).value();
  }();
  std::string other = der;
  other[other.find("system:node:a") + 12] = 'b';
  EXPECT_THAT(why("-----BEGIN CERTIFICATE REQUEST-----\n" + to_base64(other) + "\n-----END CERTIFICATE REQUEST-----"), HasSubstr("not signed with the key"));
  EXPECT_THAT(why("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"), HasSubstr("cannot be read"));
  EXPECT_THAT(why(std::string(kRequestBytesMax + 1, ' ')), HasSubstr("longer"));
  EXPECT_EQ(make_request("x", node).error().code, Errc::Invalid);
}

}  // namespace
}  // namespace skerry::pki
