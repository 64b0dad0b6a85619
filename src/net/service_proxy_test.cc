// SPDX-License-Identifier: Apache-2.0
// ClusterIP and NodePort through the real kernel, in a namespace that plays the host (needs root and nft); coalescing
// and recovery with a fake nft.
#include "net/service_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/testing_needs.h"
#include "net/testing.h"
#include "net/testing_objects.h"

namespace skerry::net {
namespace {

using testing::service;
using testing::slice;

class ServicesOnTheKernel : public testing::HostNamespace {
 protected:
  void SetUp() override {
    NEEDS(std::filesystem::exists("/usr/sbin/nft"), "nft is not installed");
    HostNamespace::SetUp();
  }
  void apply() {
    const auto batch = rules_.update();
    ASSERT_TRUE(batch);
    const auto applied = os::apply_nft(*batch);
    ASSERT_TRUE(applied) << applied.error().what << *batch;
    rules_.applied();
  }
  ServiceRules rules_{{.node = "edge-1"}};
};

TEST_F(ServicesOnTheKernel, ReachesPodsThroughClusterIpAndNodePort) {
  auto network = PodNetwork::open(options());
  ASSERT_TRUE(network) << network.error().what;
  const auto pod = network->listen(testing::address("10.42.0.3"), 8080);
  ASSERT_TRUE(pod);
  const auto host = testing::listen_anywhere(80);  // must not answer on the ClusterIP
  ASSERT_TRUE(host);
  apply();
  EXPECT_EQ(testing::connect_to("10.43.0.10", 80), ECONNREFUSED) << "no Service yet";
  rules_.put_service(*service("web", "10.43.0.10", 80, 30080));
  EXPECT_FALSE(rules_.update()) << "without an endpoint nothing changes";
  rules_.put_slice(*slice("web", {"10.42.0.3"}));
  apply();
  EXPECT_EQ(testing::connect_and_accept("10.43.0.10", 80, pod->get()).value_or("failed"), "10.42.0.1");
  EXPECT_TRUE(testing::connect_and_accept("10.42.0.1", 30080, pod->get()));
  EXPECT_EQ(testing::connect_to("10.43.0.10", 81), ECONNREFUSED) << "another port of the Service's address";
  EXPECT_EQ(testing::connect_to("127.0.0.1", 30080), ECONNREFUSED) << "loopback has no NodePort (ADR 0010)";
  rules_.put_slice(*slice("web", {}));
  apply();
  EXPECT_EQ(testing::connect_to("10.43.0.10", 80), ECONNREFUSED) << "no endpoint";
  EXPECT_EQ(testing::connect_to("10.42.0.1", 30080), ECONNREFUSED);
  ASSERT_TRUE(network->remove());
}

// Goal: requests of other machines to a NodePort reach the pod and see it with their own address.
// Method: a second namespace is the other machine, linked to the host.
TEST_F(ServicesOnTheKernel, ReachesPodsFromAnotherMachine) {
  auto network = PodNetwork::open(options());
  ASSERT_TRUE(network) << network.error().what;
  const auto pod = network->listen(testing::address("10.42.0.3"), 8080);
  rules_.put_service(*service("web", "10.43.0.10", 80, 30080));
  rules_.put_slice(*slice("web", {"10.42.0.3"}));
  apply();
  auto other = os::create_anonymous_netns();
  ASSERT_TRUE(other);
  auto here = os::Netlink::open();
  ASSERT_TRUE(here->add_veth("wan0", "wan1", other->get()));
  const int wan = here->link("wan0")->index;
  ASSERT_TRUE(here->set_up(wan));
  ASSERT_TRUE(here->add_address(wan, testing::address("192.0.2.1"), 24));
  const auto inside = os::NetnsScope::enter(other->get());
  auto there = os::Netlink::open();
  const int link = there->link("wan1")->index;
  ASSERT_TRUE(there->set_up(link));
  ASSERT_TRUE(there->add_address(link, testing::address("192.0.2.2"), 24));
  EXPECT_EQ(testing::connect_and_accept("192.0.2.1", 30080, pod->get()).value_or("failed"), "192.0.2.2");
}

TEST_F(ServicesOnTheKernel, UpdatesElementByElement) {
  auto network = PodNetwork::open(options());
  ASSERT_TRUE(network);
  const auto first = network->listen(testing::address("10.42.0.3"), 8080);
  const auto second = network->listen(testing::address("10.42.0.4"), 8080);
  rules_.put_service(*service("web", "10.43.0.10", 80, 30080));
  rules_.put_service(
      *testing::object(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"sticky","namespace":"default"},
    "spec":{"clusterIP":"10.43.0.11","sessionAffinity":"ClientIP","ports":[{"name":"http","port":80}]}})"));
  rules_.put_slice(*slice("web", {"10.42.0.3"}));
  rules_.put_slice(*slice("sticky", {"10.42.0.4"}));
  apply();
  EXPECT_TRUE(testing::connect_and_accept("10.43.0.10", 80, first->get()));
  EXPECT_TRUE(testing::connect_and_accept("10.43.0.11", 80, second->get()));
  rules_.put_slice(*slice("web", {"10.42.0.4"}));
  apply();
  EXPECT_TRUE(testing::connect_and_accept("10.43.0.10", 80, second->get()));
  rules_.put_service(*service("web", "10.43.0.10", 8088, 30081));
  apply();
  EXPECT_EQ(testing::connect_to("10.43.0.10", 80), ECONNREFUSED);
  EXPECT_TRUE(testing::connect_and_accept("10.43.0.10", 8088, second->get()));
  EXPECT_TRUE(testing::connect_and_accept("10.42.0.1", 30081, second->get()));
  rules_.remove_service("default", "web");
  apply();
  EXPECT_EQ(testing::connect_to("10.43.0.10", 8088), ECONNREFUSED);
  EXPECT_TRUE(os::apply_nft(rules_.removal()));
  ASSERT_TRUE(network->remove());
}

struct FakeNft {
  std::vector<std::string> batches;
  int fail = 0;  // the next so many calls
  Result<std::string> apply(std::string batch) {
    batches.push_back(std::move(batch));
    if (fail > 0) {
      --fail;
      return Fail({Errc::Invalid, "refused"});
    }
    return "";
  }
};

// Goal: a hundred changes at once cost two nft calls (the table, then all of them), and a failure leads to a full
// table.
rt::Task<> coalesce_and_recover(ServiceProxy& proxy, FakeNft& nft) {
  int told = 0;
  proxy.on_in_sync([&] { ++told; });
  proxy.start();
  const auto settle = [&]() -> rt::Task<> {
    for (int i = 0; i < 500 && !proxy.in_sync(); ++i) CO_TRY_OK(co_await rt::sleep_for(1ms));
    co_return Result<>{};
  };
  CO_TRY_OK(co_await rt::sleep_for(5ms));
  EXPECT_TRUE(nft.batches.empty()) << "what an earlier process made serves until there is something to say";
  proxy.changed();
  CO_TRY_OK(co_await settle());
  EXPECT_EQ(nft.batches.size(), 1u);
  for (int i = 0; i < 100; ++i) {
    const auto name = std::format("s{}", i);
    proxy.rules().put_service(*service(name, std::format("10.43.1.{}", i + 1), 80, 0));
    proxy.rules().put_slice(*slice(name, {"10.42.0.3"}));
    proxy.changed();
  }
  CO_TRY_OK(co_await settle());
  EXPECT_EQ(nft.batches.size(), 2u);
  EXPECT_EQ(told, 2) << "once for each time that the kernel has it all";
  EXPECT_EQ(nft.batches[1].find("\"delete\""), std::string::npos);
  nft.fail = 1;
  proxy.rules().remove_service("default", "s0");
  proxy.changed();
  CO_TRY_OK(co_await settle());
  CO_TRY_OK(co_await settle());
  EXPECT_EQ(nft.batches.size(), 4u);
  EXPECT_NE(nft.batches[3].find(R"({"delete":{"table")"), std::string::npos);
  EXPECT_EQ(proxy.counters().failures, 1u);
  CO_TRY_OK(co_await proxy.stop());
  proxy.on_in_sync(nullptr);
  co_return Result<>{};
}

rt::Task<> then_stop(rt::Loop& loop, ServiceProxy& proxy, FakeNft& nft) {
  const auto done = co_await coalesce_and_recover(proxy, nft);
  EXPECT_TRUE(done);
  loop.stop();
  co_return Result<>{};
}

TEST(ServiceProxy, CoalescesChangesAndRecoversFromAFailure) {
  rt::Loop loop;
  rt::BlockingPool pool({.name = "nft"});
  FakeNft nft;
  ServiceProxy proxy(loop, pool, {.rules = {.node = "edge-1"}, .interval = 5ms, .apply = [&](std::string batch) {
                                    return nft.apply(std::move(batch));
                                  }});
  rt::TaskGroup group(loop);
  group.spawn("test", then_stop(loop, proxy, nft));
  loop.run();
}

}  // namespace
}  // namespace skerry::net
