// SPDX-License-Identifier: Apache-2.0
#include "metrics/page.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <set>

namespace skerry::metrics {
namespace {

TEST(MetricsPage, CountersOfAllWorkersAddUp) {
  const int fd = create_page(3).value();
  auto writer = Page::map(fd).value();
  auto reader = Page::map(fd).value();
  EXPECT_EQ(reader.workers(), 3);
  writer.block(0).add(Counter::RequestsStarted, 5);
  writer.block(2).add(Counter::RequestsStarted);
  writer.block(1).observe_latency(10'000);
  writer.block(1).observe_latency(10'001);
  writer.block(1).observe_latency(99'000'000'000);
  const auto got = read_snapshot(reader);
  EXPECT_EQ(got[Counter::RequestsStarted], 6u);
  EXPECT_EQ(got.latency[0], 1u);
  EXPECT_EQ(got.latency[1], 1u);
  EXPECT_EQ(got.latency.back(), 1u);
  EXPECT_EQ(got.latency_sum_ns, 99'000'020'001u);
  close(fd);
}

TEST(MetricsPage, ADeathCountsWhatWasStartedAndNeverFinishedOnce) {
  const int fd = create_page(1).value();
  auto page = Page::map(fd).value();
  page.block(0).add(Counter::RequestsStarted, 7);
  page.block(0).add(Counter::RequestsFinished, 5);
  page.block(0).add(Counter::ConnectionsOpen, 9);
  EXPECT_EQ(account_for_death(page, 0), (Losses{2, 9}));
  EXPECT_EQ(account_for_death(page, 0), Losses());
  EXPECT_EQ(account_for_death(page, 5), Losses());
  const auto got = read_snapshot(page);
  EXPECT_EQ(got[Counter::RequestsLost], 2u);
  EXPECT_EQ(got[Counter::ConnectionsLost], 9u);
  EXPECT_EQ(got[Counter::ConnectionsOpen], 0u);
  close(fd);
}

TEST(MetricsPage, CannotBeResizedAndForeignDescriptorsAreRefused) {
  const int fd = create_page(1).value();
  EXPECT_LT(ftruncate(fd, 0), 0);
  EXPECT_LT(ftruncate(fd, 1 << 20), 0);
  close(fd);
  const int unsealed = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  EXPECT_THAT(Page::map(unsealed).error().what, testing::HasSubstr("not sealed"));
  ASSERT_EQ(ftruncate(unsealed, 100), 0);
  ASSERT_EQ(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  EXPECT_THAT(Page::map(unsealed).error().what, testing::HasSubstr("100 bytes"));
  close(unsealed);
  EXPECT_EQ(create_page(0).error().code, Errc::Invalid);
}

TEST(MetricsPage, AHostileWriterCanNeitherCrashNorOverflowTheReader) {
  const int fd = create_page(2).value();
  auto reader = Page::map(fd).value();
  auto hostile = Page::map(fd).value();
  for (std::uint16_t w = 0; w < 2; ++w) {
    for (auto& c : hostile.block(w).counters) c.store(~0ull);
    for (auto& c : hostile.block(w).latency) c.store(~0ull);
  }
  EXPECT_EQ(read_snapshot(reader)[Counter::BytesSent], ~0ull);
  const std::uint64_t zeros[8] = {};
  ASSERT_EQ(pwrite(fd, zeros, sizeof zeros, 0), 64);  // the header is destroyed
  EXPECT_EQ(read_snapshot(reader)[Counter::BytesSent], ~0ull);
  EXPECT_EQ(Page::map(fd).error().code, Errc::Corrupt);
  close(fd);
}

TEST(MetricsPage, EveryCounterHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kCounterCount; ++i) names.insert(counter_name(static_cast<Counter>(i)));
  EXPECT_EQ(names.size(), kCounterCount);
  EXPECT_FALSE(names.contains(""));
}

}  // namespace
}  // namespace skerry::metrics
