// SPDX-License-Identifier: Apache-2.0
#include "oci/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::oci {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(Reference, IsNormalisedAsContainerdDoes) {
  const std::pair<std::string, std::string> cases[] = {
      {"nginx", "docker.io/library/nginx:latest"},
      {"nginx:1.27", "docker.io/library/nginx:1.27"},
      {"user/app", "docker.io/user/app:latest"},
      {"docker.io/nginx", "docker.io/library/nginx:latest"},
      {"index.docker.io/nginx", "docker.io/library/nginx:latest"},
      {"registry.example.com/edge-service:latest", "registry.example.com/edge-service:latest"},
      {"localhost/app", "localhost/app:latest"},
      {"localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"},
      {"host:5000/app", "host:5000/app:latest"},
      {"[::1]:5000/app", "[::1]:5000/app:latest"},
      {"Host/app", "Host/app:latest"},
      {"a__b/c-d--e.f", "docker.io/a__b/c-d--e.f:latest"},
      {"app@" + kDigest, "docker.io/library/app@" + kDigest},
      {"h.x/app:t@" + kDigest, "h.x/app:t@" + kDigest},
  };
  for (const auto& [text, expected] : cases) {
    const auto reference = Reference::parse(text);
    ASSERT_TRUE(reference.has_value()) << text << ": " << reference.error().what;
    EXPECT_EQ(reference->text(), expected);
    EXPECT_EQ(Reference::parse(expected).value(), *reference);  // stable
  }
}

TEST(Reference, RefusesWhatIsNone) {
  for (const std::string& text : {std::string(), std::string("UPPER"), std::string("a//b"), std::string("/a"), std::string("a/"), std::string("a:"),
                                  std::string("a:-t"), std::string("a b"), std::string("a..b"), std::string("a___b"), std::string("-a"),
                                  std::string("h.x:99999/a"), std::string("h.x:/a"), std::string("-h.x/a"), std::string("[::1/a"), std::string("a@sha256:12"),
                                  std::string("a@sha512:") + std::string(64, 'a'), std::string("a:") + std::string(129, 't'), std::string(300, 'a'),
                                  std::string("http://h/a"), std::string("../../etc"), std::string("a\0b", 3), "a@" + kDigest + "@" + kDigest}) {
    const auto reference = Reference::parse(text);
    ASSERT_FALSE(reference.has_value()) << text << " -> " << reference->text();
    EXPECT_EQ(reference.error().code, Errc::Invalid);
  }
}

TEST(Reference, KnowsADigest) {
  EXPECT_TRUE(is_digest(kDigest));
  EXPECT_FALSE(is_digest("sha256:" + std::string(64, 'A')));
  EXPECT_FALSE(is_digest("sha256:" + std::string(63, 'a')));
  EXPECT_FALSE(is_digest(""));
}

}  // namespace
}  // namespace skerry::oci
