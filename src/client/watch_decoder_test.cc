// SPDX-License-Identifier: Apache-2.0
#include "client/watch_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::client {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kAdded =
    R"({"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"d","uid":"u","resourceVersion":"7"}}})";

Result<std::optional<WatchEvent>> decode(std::string_view text) {
  WatchDecoder decoder;
  decoder.push(text);
  return decoder.next();
}

TEST(WatchDecoder, ReadsEventsCutAnywhere) {
  const std::string text = std::string(kAdded) + "\n\r\n" + R"({"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9"}}})" + "\n" +
                           R"({"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"10"}}})" + "\n";
  for (const std::size_t step : {std::size_t{1}, std::size_t{7}, text.size()}) {
    WatchDecoder decoder;
    std::vector<WatchEvent> events;
    for (std::size_t at = 0; at < text.size(); at += step) {
      decoder.push(std::string_view(text).substr(at, step));
      while (auto event = decoder.next().value()) events.push_back(*event);
    }
    ASSERT_EQ(events.size(), 3U);
    EXPECT_EQ(events[0].type, WatchEvent::Type::Added);
    EXPECT_EQ(events[0].object->name(), "a");
    EXPECT_EQ(events[0].revision, kube::Revision(7));
    EXPECT_EQ(events[1].type, WatchEvent::Type::Bookmark);
    EXPECT_EQ(events[1].object, nullptr);
    EXPECT_EQ(events[1].revision, kube::Revision(9));
    EXPECT_EQ(events[2].type, WatchEvent::Type::Deleted);
    EXPECT_TRUE(decoder.empty());
  }
}

TEST(WatchDecoder, AnErrorEventIsItsError) {
  const auto gone = decode(R"({"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}})" "\n");
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(gone.error().code, Errc::Gone);
  EXPECT_THAT(gone.error().what, HasSubstr("too old"));
  EXPECT_EQ(decode(R"({"type":"ERROR"})" "\n").error().code, Errc::Internal);
}

TEST(WatchDecoder, RefusesWhatIsNoEvent) {
  for (const std::string_view text : {"x\n", "{}\n", R"({"type":"ADDED"})" "\n", R"({"type":"ADDED","object":{"metadata":{}}})" "\n",
                                      R"({"type":"BOOKMARK","object":{}})" "\n", R"({"type":"NEW","object":{}})" "\n"}) {
    const auto event = decode(text);
    ASSERT_FALSE(event.has_value()) << text;
    EXPECT_EQ(event.error().code, Errc::Corrupt) << text;
  }
}

TEST(WatchDecoder, BoundsAnEvent) {
  WatchDecoder decoder(100);
  decoder.push(std::string(100, ' '));
  EXPECT_TRUE(decoder.next().has_value());
  decoder.push(" ");
  EXPECT_EQ(decoder.next().error().code, Errc::Corrupt);
  WatchDecoder other(100);
  other.push(std::string(kAdded) + "\n");
  EXPECT_EQ(other.next().error().code, Errc::Corrupt);
}

}  // namespace
}  // namespace skerry::client
