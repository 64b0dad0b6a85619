// SPDX-License-Identifier: Apache-2.0
#include "control/endpointslice_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/testing_world.h"

namespace skerry::control {
namespace {

using ::testing::HasSubstr;
using testing::World;

class EndpointSlices : public ::testing::Test {
 protected:
  void SetUp() override { service(R"({"name":"http","port":80,"targetPort":8080,"protocol":"TCP"})"); }
  void service(const std::string& port, const std::string& more = "") {
    world_.put(
        "services",
        std::format(
            R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"web","namespace":"default","uid":"s-1","labels":{{"team":"a"}}}},
      "spec":{{"clusterIP":"10.43.0.1","selector":{{"app":"web"}},"ports":[{}]{}}}}})",
            port, more));
  }
  void pod(const std::string& name, const std::string& ip, bool ready, const std::string& more = "",
           int container_port = 8080) {
    world_.put(
        "pods",
        std::format(
            R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{0}","namespace":"default","uid":"u-{0}","labels":{{"app":"web"}}{1}}},
      "spec":{{"nodeName":"n","containers":[{{"name":"c","ports":[{{"name":"web","containerPort":{2}}}]}}]}}}})",
            name, more, container_port));
    world_.set_ready(name, ready, ip);
  }
  Plan step(std::size_t most = 100) {
    const auto pods = world_.pods();
    const auto slices = world_.all("endpointslices");
    Plan plan = reconcile_endpoint_slices(
        {.service = world_.get("services", "web"), .pods = pods, .slices = slices, .endpoints_max = most}, random_);
    world_.apply(plan);
    return plan;
  }
  World world_;
  SeededRandom random_{7};
};

TEST_F(EndpointSlices, FollowsThePods) {
  std::string text = "no pod\n" + testing::trace(step());
  pod("a", "10.42.0.3", true);
  pod("b", "10.42.0.4", false);
  world_.put(
      "pods",
      R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"no-address","namespace":"default","labels":{"app":"web"}},"spec":{}})");
  world_.put(
      "pods",
      R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"other","namespace":"default","labels":{"app":"db"}},"status":{"podIP":"10.42.0.5"}})");
  text += "two pods\n" + testing::trace(step());
  text += "again\n" + testing::trace(step());
  world_.set_ready("b", true, "10.42.0.4");
  text += "b is ready\n" + testing::trace(step());
  world_.patch("pods", "a", R"({"metadata":{"deletionTimestamp":"2026-11-23T00:00:00Z"}})");
  text += "a goes\n" + testing::trace(step());
  world_.remove("pods", "a");
  world_.remove("pods", "b");
  text += "none left\n" + testing::trace(step());
  testing::expect_golden("endpointslices.txt", text);
}

TEST_F(EndpointSlices, CarriesTheLabelsThatTheServiceHasNow) {
  pod("a", "10.42.0.3", true);
  step();
  world_.patch("services", "web", R"({"metadata":{"labels":{"team":null,"tier":"edge"}}})");
  EXPECT_EQ(step().actions.size(), 1u);
  const auto slice = world_.all("endpointslices").front();
  EXPECT_EQ(slice->label("team"), "");
  EXPECT_EQ(slice->label("tier"), "edge");
  EXPECT_EQ(slice->label(kServiceNameLabel), "web");
  EXPECT_TRUE(step().actions.empty());
}

TEST_F(EndpointSlices, SplitsAtTheLimitAndKeepsEndpointsWhereTheyAre) {
  for (int i = 0; i < 5; ++i) pod(std::format("p{}", i), std::format("10.42.0.{}", i + 3), true);
  EXPECT_EQ(step(2).actions.size(), 3u);
  EXPECT_EQ(world_.all("endpointslices").size(), 3u);
  EXPECT_TRUE(step(2).actions.empty());
  world_.remove("pods", "p0");
  EXPECT_EQ(step(2).actions.size(), 1u) << "one slice changes, or one goes";
  pod("p9", "10.42.0.99", true);
  EXPECT_EQ(step(2).actions.size(), 1u);
}

TEST_F(EndpointSlices, ResolvesNamedPortsForEachPod) {
  service(R"({"name":"http","port":80,"targetPort":"web","protocol":"TCP"})");
  pod("a", "10.42.0.3", true, "", 8080);
  pod("b", "10.42.0.4", true, "", 9090);
  step();
  ASSERT_EQ(world_.all("endpointslices").size(), 2u);
  std::string text;
  for (const auto& slice : world_.all("endpointslices")) text += *slice->json();
  EXPECT_THAT(text, HasSubstr(R"("port":8080)"));
  EXPECT_THAT(text, HasSubstr(R"("port":9090)"));
}

TEST_F(EndpointSlices, PublishesPodsThatAreNotReadyWhenAsked) {
  service(R"({"port":80,"protocol":"TCP"})", R"(,"publishNotReadyAddresses":true)");
  pod("a", "10.42.0.3", false);
  EXPECT_THAT(testing::trace(step()), HasSubstr(R"("conditions":{"ready":true,"serving":false,"terminating":false})"));
}

// A StatefulSet's pods, and others with hostname and subdomain, have names of their own under a headless Service.
TEST_F(EndpointSlices, NamesTheHostsOfAHeadlessService) {
  service(R"({"port":80,"protocol":"TCP"})", R"(,"clusterIP":"None")");
  pod("a", "10.42.0.3", true);
  pod("b", "10.42.0.4", true);
  world_.patch("pods", "a", R"({"spec":{"hostname":"host-a","subdomain":"web"}})");
  world_.patch("pods", "b", R"({"spec":{"hostname":"host-b","subdomain":"other"}})");
  const std::string text = testing::trace(step());
  EXPECT_THAT(text, HasSubstr(R"("hostname":"host-a")"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("host-b")));
  EXPECT_TRUE(step().actions.empty()) << "what is stored is what is wanted";
}

TEST_F(EndpointSlices, LeavesServicesWithoutSelectorAlone) {
  world_.patch("services", "web", R"({"spec":{"selector":null}})");
  EXPECT_TRUE(step().actions.empty());
}

}  // namespace
}  // namespace skerry::control
