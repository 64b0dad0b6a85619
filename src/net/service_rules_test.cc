// SPDX-License-Identifier: Apache-2.0
#include "net/service_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>

#include "net/testing_objects.h"
#include "tests/golden.h"

namespace skerry::net {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::service;
using testing::slice;

ServiceRules::Options options() { return {.node = "edge-1"}; }

void expect_golden(const std::string& name, const std::string& text) { tests::expect_golden("src/net/testdata/" + name, text); }  // one batch

TEST(ServiceRules, MakesTheWholeTableFirst) {
  ServiceRules rules(options());
  rules.put_service(*service("web", "10.43.0.10", 80, 30080));
  rules.put_slice(*slice("web", {"10.42.0.3", "10.42.0.4"}));
  rules.set_awake({*Ipv4::parse("10.42.0.3"), *Ipv4::parse("10.42.0.4")});
  const auto batch = rules.update();
  ASSERT_TRUE(batch);
  expect_golden("whole_table.json", *batch);
  rules.applied();
  EXPECT_FALSE(rules.update());
}

TEST(ServiceRules, UpdatesOnlyWhatChanged) {
  ServiceRules rules(options());
  rules.put_service(*service("web", "10.43.0.10", 80, 30080));
  rules.put_service(*service("other", "10.43.0.11", 80, 0));
  rules.put_slice(*slice("web", {"10.42.0.3"}));
  rules.put_slice(*slice("other", {"10.42.0.9"}));
  ASSERT_TRUE(rules.update());
  rules.applied();
  std::string trace;
  const auto step = [&](std::string_view what) {
    const auto batch = rules.update();
    trace += std::format("{}\n----\n{}\n", what, batch.value_or("nothing\n"));
    rules.applied();
  };
  step("again");
  rules.put_slice(*slice("web", {"10.42.0.3", "10.42.0.4"}));
  step("a second endpoint");
  rules.set_awake({*Ipv4::parse("10.42.0.4")});
  step("10.42.0.4 wakes");
  rules.put_slice(*slice("web", {}));
  step("no endpoint is left");
  rules.put_slice(*slice("web", {"10.42.0.4"}));
  step("one is back");
  rules.put_service(*service("web", "10.43.0.10", 8080, 30080));
  step("another port");
  rules.remove_service("default", "web");
  step("the Service goes");
  expect_golden("updates.txt", trace);
  rules.lost();
  EXPECT_THAT(*rules.update(), HasSubstr(R"({"delete":{"table":)"));
}

// Goal: names are answered whatever the API says of their address. Method: no Service, a Service of that address, none again.
TEST(ServiceRules, LeadTheNamesAddressToTheNodesOwnServer) {
  auto with_names = options();
  with_names.names = {.address = *Ipv4::parse("10.43.0.10"), .server = *Ipv4::parse("10.42.0.2")};
  ServiceRules rules(with_names);
  const auto first = rules.update();
  ASSERT_TRUE(first);
  EXPECT_THAT(*first, AllOf(HasSubstr(R"([{"concat":["10.43.0.10","udp",53]},{"goto":{"target":"names-udp"}}])"),
                            HasSubstr(R"([{"concat":["10.43.0.10","tcp",53]},{"goto":{"target":"names-tcp"}}])"),
                            HasSubstr(R"({"dnat":{"family":"ip","addr":"10.42.0.2","port":53}})")));
  rules.applied();
  rules.put_service(*testing::object(
      R"({"metadata":{"name":"kube-dns","namespace":"default"},"spec":{"clusterIP":"10.43.0.10","ports":[{"name":"dns","port":53,"protocol":"UDP"},{"name":"http","port":9153}]}})"));
  rules.put_slice(*testing::object(
      R"({"metadata":{"name":"kube-dns-1","namespace":"default","labels":{"kubernetes.io/service-name":"kube-dns"}},"addressType":"IPv4","ports":[{"name":"dns","port":5353,"protocol":"UDP"},{"name":"http","port":9153}],"endpoints":[{"addresses":["10.42.0.7"]}]})"));
  const auto second = rules.update();
  ASSERT_TRUE(second);
  EXPECT_THAT(*second, AllOf(HasSubstr(R"(["10.43.0.10","tcp",9153])"), Not(HasSubstr(R"("udp",53]})"))));
}

TEST(ServiceRules, OffersAwakePodsFirstAndIdleOnesWhenThoseAreBusy) {
  ServiceRules rules(options());
  rules.put_service(*service("web", "10.43.0.10", 80, 0));
  rules.put_slice(*slice("web", {"10.42.0.3", "10.42.0.4", "10.42.0.5", "10.42.0.6"}));
  EXPECT_THAT(*rules.update(), AllOf(HasSubstr("10.42.0.3"), HasSubstr("10.42.0.4"), Not(HasSubstr("10.42.0.5"))));
  const Ipv4 five = *Ipv4::parse("10.42.0.5");
  rules.set_awake({five});
  EXPECT_THAT(*rules.update(), AllOf(HasSubstr("10.42.0.5"), Not(HasSubstr("10.42.0.3")), Not(HasSubstr("10.42.0.6"))));
  rules.set_busy({five});
  EXPECT_THAT(*rules.update(), AllOf(HasSubstr("10.42.0.5"), HasSubstr("10.42.0.3"), HasSubstr("10.42.0.4"),
                                     Not(HasSubstr("10.42.0.6"))));
}

TEST(ServiceRules, PrefersReadyPodsAndFallsBackToServingOnes) {
  ServiceRules rules(options());
  rules.put_service(*service("web", "10.43.0.10", 80, 0));
  rules.put_slice(
      *testing::object(R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-1",
    "namespace":"default","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","ports":[{"name":"http","port":8080}],
    "endpoints":[{"addresses":["10.42.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true}},
                 {"addresses":["10.42.0.4"],"conditions":{"ready":false,"serving":false}},
                 {"addresses":["10.42.0.5"],"conditions":{"ready":true},"nodeName":"edge-2"}]})"));
  EXPECT_THAT(*rules.update(), AllOf(HasSubstr("10.42.0.3"), Not(HasSubstr("10.42.0.4")), Not(HasSubstr("10.42.0.5"))));
}

// Goal: a pod that leaves may stop when nobody can be sent to it. Method: its slice, and what is in the kernel, one after the other.
TEST(ServiceRules, SaysWhenNobodyIsSentToAPodAnyMore) {
  ServiceRules rules(options());
  const Ipv4 three = *Ipv4::parse("10.42.0.3"), four = *Ipv4::parse("10.42.0.4");
  EXPECT_FALSE(rules.free_of(three)) << "what the kernel has is not known yet";
  rules.put_service(*service("web", "10.43.0.10", 80, 0));
  rules.put_slice(*slice("web", {"10.42.0.3", "10.42.0.4"}));
  rules.set_awake({four});
  ASSERT_TRUE(rules.update());
  rules.applied();
  EXPECT_FALSE(rules.free_of(four));
  EXPECT_FALSE(rules.free_of(three)) << "not in the kernel's table, but it may be there any moment";
  EXPECT_TRUE(rules.free_of(*Ipv4::parse("10.42.0.9"))) << "in no Service";
  rules.put_slice(*slice("web", {"10.42.0.3"}));
  EXPECT_FALSE(rules.free_of(four)) << "the kernel's table has it still";
  ASSERT_TRUE(rules.update());
  EXPECT_FALSE(rules.free_of(four)) << "the batch is not applied yet";
  rules.applied();
  EXPECT_TRUE(rules.free_of(four));
  rules.lost();
  EXPECT_FALSE(rules.free_of(four));
}

TEST(ServiceRules, KeepsAClientOnItsPod) {
  ServiceRules rules(options());
  rules.put_service(
      *testing::object(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},
    "spec":{"clusterIP":"10.43.0.10","sessionAffinity":"ClientIP","ports":[{"name":"http","port":80}]}})"));
  rules.put_slice(*slice("web", {"10.42.0.3", "10.42.0.4", "10.42.0.5"}));
  EXPECT_THAT(*rules.update(), HasSubstr(R"("jhash":{"mod":3)"));
}

TEST(ServiceRules, SaysWhatItCannotServe) {
  ServiceRules rules(options());
  rules.put_service(
      *testing::object(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"bad","namespace":"default"},
    "spec":{"clusterIP":"fd00::1","ports":[{"port":80,"protocol":"SCTP"}]}})"));
  rules.put_service(*service("a", "10.43.0.1", 80, 30080));
  rules.put_service(*service("b", "10.43.0.2", 80, 30080));
  std::string text;
  for (const auto& problem : rules.problems())
    text += std::format("{} {}: {}\n", problem.service, problem.reason, problem.message);
  EXPECT_EQ(text,
            "b PortAlreadyAllocated: node port 30080 belongs to Service default/a already\n"
            "bad Unsupported: port 80: protocol SCTP is not served; use TCP or UDP\n"
            "bad Unsupported: spec.clusterIP fd00::1 is not an IPv4 address; this node serves IPv4 Services\n");
}

TEST(ServiceRules, HasAnEndpointLimit) {
  auto small = options();
  small.endpoints_max = 2;
  ServiceRules rules(small);
  rules.put_service(*service("web", "10.43.0.10", 80, 0));
  rules.put_slice(*slice("web", {"10.42.0.3", "10.42.0.4", "10.42.0.5"}));
  rules.set_awake({*Ipv4::parse("10.42.0.3"), *Ipv4::parse("10.42.0.4"), *Ipv4::parse("10.42.0.5")});
  EXPECT_THAT(*rules.update(), Not(HasSubstr("10.42.0.5")));
  ASSERT_EQ(rules.problems().size(), 1u);
  EXPECT_EQ(rules.problems()[0].reason, "TooManyEndpoints");
}

}  // namespace
}  // namespace skerry::net
