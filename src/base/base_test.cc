// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "base/time.h"

namespace skerry {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return Fail({Errc::Invalid, std::to_string(n) + " is odd"});
  return n / 2;
}
Result<int> quarter(int n) {
  TRY(const auto h, half(n));
  return half(h);
}

TEST(Result, TryReturnsTheFirstError) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().what, "3 is odd");
}

TEST(Error, ErrnoKeepsOperationAndCode) {
  const auto e = errno_error(ENOENT, "open /nowhere");
  EXPECT_EQ(e.code, Errc::NotFound);
  EXPECT_EQ(e.with("load").what, "load: open /nowhere: No such file or directory");
}

TEST(Time, FormatsAndParsesRfc3339) {
  const auto t = from_rfc3339("2026-11-23T04:05:06.000007Z");
  ASSERT_TRUE(t);
  EXPECT_EQ(to_rfc3339(*t), "2026-11-23T04:05:06Z");
  EXPECT_EQ(to_rfc3339_micro(*t), "2026-11-23T04:05:06.000007Z");
  EXPECT_EQ(to_rfc3339(*from_rfc3339("2026-11-23T01:00:00+02:30")), "2026-11-22T22:30:00Z");
  for (const auto* bad : {"", "2026-11-23", "2026-02-30T00:00:00Z", "2026-11-23T00:00:00", "2026-11-23T25:00:00Z", "2026-11-23T00:00:00Zx"})
    EXPECT_FALSE(from_rfc3339(bad)) << bad;
}

TEST(Time, ParsesGoDurations) {
  EXPECT_EQ(parse_duration("1m30s"), Duration(90s));
  EXPECT_EQ(parse_duration("1.5s"), Duration(1500ms));
  EXPECT_EQ(parse_duration("0"), Duration::zero());
  for (const auto* bad : {"", "5", "s", "1x", "9999999h9", "--1s"}) EXPECT_FALSE(parse_duration(bad)) << bad;
}

TEST(Text, Base64RoundTripsAndRefusesGarbage) {
  for (const std::string text : {"", "a", "ab", "abc", "abcd"}) EXPECT_EQ(from_base64(to_base64(text)), text);
  EXPECT_EQ(to_base64("hello"), "aGVsbG8=");
  for (const auto* bad : {"a", "a===", "====", "aGVs*G8=", "aG=sbG8="}) EXPECT_FALSE(from_base64(bad)) << bad;
}

TEST(Text, ParsesWholeIntegersOnly) {
  EXPECT_EQ(parse_int<int>("-12"), -12);
  for (const auto* bad : {"", "1x", " 1", "99999999999"}) EXPECT_FALSE(parse_int<int>(bad)) << bad;
}

TEST(Random, UuidIsVersion4) {
  SeededRandom random(1);
  const auto id = make_uuid(random);
  EXPECT_EQ(id.size(), 36U);
  EXPECT_EQ(id[14], '4');
  EXPECT_THAT(std::string("89ab"), ::testing::HasSubstr(std::string(1, id[19])));
}

TEST(Log, QuotesWhatWouldBreakTheLine) {
  std::string line;
  set_log_sink([&](LogLevel, std::string_view text) { line = text; });
  LOG_INFO("pod started", {"pod", "default/a b"}, {"took", Duration(1500us)}, {"n", 3});
  set_log_sink({});
  EXPECT_THAT(line, ::testing::EndsWith("info pod started pod=\"default/a b\" took=1.5ms n=3"));
}

}  // namespace
}  // namespace skerry
