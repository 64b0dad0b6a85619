// SPDX-License-Identifier: Apache-2.0
#include "metrics/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/testing_needs.h"
#include "metrics/process.h"

namespace skerry::metrics {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

void fill(Registry& registry) {
  registry.counter("skerry_requests_total", "Requests, by verb and code.", {{"verb", "get"}, {"code", "200"}}).add(7);
  registry.counter("skerry_requests_total", "", {{"code", "404"}, {"verb", "get"}}).add();
  registry.gauge("skerry_build_info", "A \\ and a\nline end.", {{"version", "say \"hi\"\\\n"}}).set(1);
  auto& latency = registry.histogram("skerry_request_seconds", "How long requests take.", {0.5, 1, 2.5});
  latency.observe(0.5);
  latency.observe(700ms);
  latency.observe(9.25);
  registry.on_expose([](Exposition& out) {
    out.family("skerry_pods", Type::Gauge, "Pods, by state.");
    out.sample({{"state", "idle"}}, std::uint64_t{3});
    out.sample({{"state", "odd"}}, 0.1);
  });
}

constexpr const char* kExpected = R"(# HELP skerry_build_info A \\ and a\nline end.
# TYPE skerry_build_info gauge
skerry_build_info{version="say \"hi\"\\\n"} 1
# HELP skerry_request_seconds How long requests take.
# TYPE skerry_request_seconds histogram
skerry_request_seconds_bucket{le="0.5"} 1
skerry_request_seconds_bucket{le="1"} 2
skerry_request_seconds_bucket{le="2.5"} 2
skerry_request_seconds_bucket{le="+Inf"} 3
skerry_request_seconds_sum 10.45
skerry_request_seconds_count 3
# HELP skerry_requests_total Requests, by verb and code.
# TYPE skerry_requests_total counter
skerry_requests_total{code="200",verb="get"} 7
skerry_requests_total{code="404",verb="get"} 1
# HELP skerry_pods Pods, by state.
# TYPE skerry_pods gauge
skerry_pods{state="idle"} 3
skerry_pods{state="odd"} 0.1
)";

TEST(Registry, ExposesTheTextFormat) {
  Registry registry;
  fill(registry);
  EXPECT_EQ(registry.expose(), kExpected);
}

TEST(Registry, SatisfiesPromtool) {
  NEEDS(std::filesystem::exists("/usr/bin/promtool"), "promtool is not installed");
  Registry registry;
  fill(registry);
  FILE* peer = ::popen("/usr/bin/promtool check metrics", "w");
  ASSERT_NE(peer, nullptr);
  const std::string text = registry.expose();
  EXPECT_EQ(std::fwrite(text.data(), 1, text.size(), peer), text.size());
  EXPECT_EQ(::pclose(peer), 0);
}

TEST(Registry, GivesTheSameSeriesForTheSameLabels) {
  Registry registry;
  auto& one = registry.counter("a_total", "A.", {{"x", "1"}, {"y", "2"}});
  EXPECT_EQ(&one, &registry.counter("a_total", "A.", {{"y", "2"}, {"x", "1"}}));
  EXPECT_NE(&one, &registry.counter("a_total", "A.", {{"y", "2"}}));
}

TEST(Registry, CountsSeriesBeyondItsLimit) {
  Registry registry(2);
  for (int i = 0; i < 5; ++i) registry.counter("a_total", "A.", {{"x", std::to_string(i)}}).add();
  EXPECT_THAT(registry.expose(), AllOf(HasSubstr("a_total{x=\"1\"} 1"), Not(HasSubstr("x=\"2\"")),
                                       HasSubstr("skerry_metrics_dropped_series_total 3")));
}

TEST(Registry, WritesSpecialNumbers) {
  Registry registry;
  registry.gauge("a", "A.", {{"x", "1"}}).set(std::numeric_limits<double>::infinity());
  registry.gauge("a", "A.", {{"x", "2"}}).set(std::nan(""));
  EXPECT_THAT(registry.expose(), AllOf(HasSubstr("{x=\"1\"} +Inf\n"), HasSubstr("{x=\"2\"} NaN\n")));
}

TEST(ProcessMetrics, SaysWhatThisProcessUses) {
  Exposition out;
  write_process_metrics(out);
  const std::string text = std::move(out).finish();
  for (const char* name : {"process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_virtual_memory_bytes ", "process_start_time_seconds ",
                           "process_open_fds ", "process_max_fds "}) {
    const auto at = text.find(std::string("\n") + name);
    ASSERT_NE(at, text.npos) << name;
    EXPECT_GE(std::stod(text.substr(at + 1 + std::string_view(name).size())), 0) << name;
  }
  const auto resident = std::stod(text.substr(text.find("\nprocess_resident_memory_bytes ") + 31));
  EXPECT_GT(resident, 1 << 20);
}

}  // namespace
}  // namespace skerry::metrics
