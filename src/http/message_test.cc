// SPDX-License-Identifier: Apache-2.0
#include "http/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::http {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(Headers, NamesCompareWithoutCaseAndOrderIsKept) {
  Headers headers;
  headers.add("Accept", "a");
  headers.add("X-Other", "1");
  headers.add("ACCEPT", "b");
  EXPECT_EQ(headers.get("accept"), "a");
  EXPECT_TRUE(headers.has("x-other"));
  EXPECT_FALSE(headers.has("x-othe"));
  headers.set("accept", headers.get("ACCEPT"));  // a view into itself
  EXPECT_THAT(headers.all(), ElementsAre(Pair("X-Other", "1"), Pair("accept", "a")));
  headers.remove("X-OTHER");
  EXPECT_EQ(headers.get("X-Other"), "");
}

TEST(Target, DecodesPathAndQuery) {
  const Target target = Target::parse("/api/v1/pods?limit=5&labelSelector=a%3Db%2Cc+d&watch&=x&&e=").value();
  EXPECT_EQ(target.path, "/api/v1/pods");
  EXPECT_THAT(target.query, ElementsAre(Pair("limit", "5"), Pair("labelSelector", "a=b,c d"), Pair("watch", ""), Pair("", "x"), Pair("e", "")));
  EXPECT_EQ(target.param("limit"), "5");
  EXPECT_EQ(target.param("none"), "");
  EXPECT_TRUE(target.has_param("watch"));
  EXPECT_FALSE(target.has_param("watc"));
}

TEST(Target, KeepsPlusInPathsAndDropsTheFragment) {
  EXPECT_EQ(Target::parse("/a+b%20c#x?y").value().path, "/a+b c");
  EXPECT_EQ(Target::parse("/?").value().path, "/");
  EXPECT_EQ(Target::parse("/a?b=c=d").value().param("b"), "c=d");
}

TEST(Target, AcceptsTheAbsoluteForm) {
  EXPECT_EQ(Target::parse("http://host:1/a?b=1").value().path, "/a");
  EXPECT_EQ(Target::parse("https://host").value().path, "/");
  EXPECT_FALSE(Target::parse("https://host?x").has_value());
}

TEST(Target, RefusesWhatIsNotATarget) {
  for (const std::string_view raw : {"", "a", "*", "/%", "/%4", "/%zz", "/a%00b", "/a?b=%0", "host:80", "?a"}) {
    const auto target = Target::parse(raw);
    ASSERT_FALSE(target.has_value()) << raw;
    EXPECT_EQ(target.error().code, Errc::Invalid);
  }
  EXPECT_TRUE(Target::parse("/%41").has_value());
}

TEST(PercentEncode, RoundTripsEveryByte) {
  std::string all;
  for (int c = 1; c < 256; ++c) all += static_cast<char>(c);
  const auto target = Target::parse("/x/" + percent_encode(all) + "?k=" + percent_encode(all));
  ASSERT_TRUE(target.has_value());
  EXPECT_EQ(target->path, "/x/" + all);
  EXPECT_EQ(target->param("k"), all);
  EXPECT_EQ(percent_encode("a-b_c.~/"), "a-b_c.~%2F");
}

}  // namespace
}  // namespace skerry::http
