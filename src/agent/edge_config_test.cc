// SPDX-License-Identifier: Apache-2.0
#include "agent/edge_config.h"

#include <gmock/gmock.h>

#include <format>

namespace skerry::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

EdgeConfigRead read(std::string_view data, const EdgeConfig& former = {}) {
  const auto map = kube::Object::from_json(std::format(
      R"({{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"edge-config","namespace":"default","resourceVersion":"1"}},"data":{{{}}}}})", data)).value();
  return read_edge_config(map.get(), former);
}

TEST(EdgeConfig, IsTheCasesConfigMap) {
  const auto r = read(R"("offline_mode":"true","local_storage":"true","sync_interval":"60s")");
  EXPECT_THAT(r.problems, IsEmpty());
  EXPECT_EQ(r.config, (EdgeConfig{.offline_mode = true, .local_storage = true, .sync_interval = 60s}));
  const auto off = read(R"("offline_mode":"false","local_storage":" false\n","sync_interval":"5m")");
  EXPECT_THAT(off.problems, IsEmpty());
  EXPECT_EQ(off.config, (EdgeConfig{.offline_mode = false, .local_storage = false, .sync_interval = 5min}));
}

TEST(EdgeConfig, AWrongValueIsReportedAndTheOldOneStays) {
  const EdgeConfig former{.offline_mode = false, .local_storage = false, .sync_interval = 30s};
  const auto r = read(R"("offline_mode":"yes","local_storage":"","sync_interval":"1s")", former);
  EXPECT_EQ(r.config, former);
  EXPECT_THAT(r.problems, ElementsAre(HasSubstr("offline_mode: \"yes\""), HasSubstr("local_storage: \"\""), HasSubstr("sync_interval: \"1s\" is no duration from 5s to 1h")));
  for (const char* bad : {"61m", "-60s", "60", "soon", ""}) EXPECT_EQ(read(std::format(R"("sync_interval":"{}")", bad), former).config.sync_interval, 30s) << bad;
}

TEST(EdgeConfig, WhatIsNotThereHasItsDefault) {
  const EdgeConfig former{.offline_mode = false, .local_storage = false, .sync_interval = 30s};
  EXPECT_EQ(read("", former).config, EdgeConfig{});
  EXPECT_EQ(read_edge_config(nullptr, former).config, EdgeConfig{});
  EXPECT_TRUE(EdgeConfig{}.works_offline());
}

TEST(EdgeConfig, AKeyThatIsUnknownIsNamed) {
  EXPECT_THAT(read(R"("ofline_mode":"true")").problems, ElementsAre(HasSubstr("ofline_mode: there is no such key")));
  EXPECT_LT(read(std::format(R"("sync_interval":"{}")", std::string(100'000, 'x'))).problems[0].size(), 300u);
}

}  // namespace
}  // namespace skerry::agent
