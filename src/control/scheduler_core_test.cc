// SPDX-License-Identifier: Apache-2.0
#include "control/scheduler_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "control/testing_world.h"

namespace skerry::control {
namespace {

using testing::object;

ObjectPtr node(const std::string& name, const std::string& spec = "", const std::string& labels = "", int cpu = 4,
               int pods = 110) {
  return object(std::format(
      R"({{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{0}","labels":{{"kubernetes.io/hostname":"{0}"{1}}}}},"spec":{{{2}}},
    "status":{{"allocatable":{{"cpu":"{3}","memory":"8Gi","pods":"{4}"}}}}}})",
      name, labels.empty() ? "" : "," + labels, spec, cpu, pods));
}
int next_uid = 0;
ObjectPtr pod(const std::string& spec = "", const std::string& requests = R"("cpu":"100m","memory":"128Mi")",
              const std::string& metadata = "") {
  const int id = ++next_uid;
  return object(std::format(
      R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p{0}","namespace":"default","uid":"u{0}"{3}}},
    "spec":{{"containers":[{{"name":"c","resources":{{"requests":{{{1}}}}}}}]{2}}}}})",
      id, requests, spec.empty() ? "" : "," + spec, metadata));
}
constexpr const char* kOwned = R"(,"ownerReferences":[{"kind":"ReplicaSet","uid":"rs","controller":true}])";

TEST(Scheduler, SaysThatThereIsNoNode) {
  SchedulerCore core;
  EXPECT_EQ(core.schedule(*pod()).message, "no nodes available to schedule pods");
}

TEST(Scheduler, FiltersWithKubeSchedulersWords) {
  const struct {
    ObjectPtr node, pod;
    std::string message;
  } cases[] = {
      {node("n", R"("unschedulable":true)"), pod(), "1 node(s) were unschedulable"},
      {node("n", R"("taints":[{"key":"k","value":"v","effect":"NoSchedule"}])"), pod(),
       "1 node(s) had untolerated taint {k: v}"},
      {node("n"), pod(R"("nodeSelector":{"node-type":"edge"})"), "1 node(s) didn't match Pod's node affinity/selector"},
      {node("n"), pod("", R"("cpu":"4001m")"), "1 Insufficient cpu"},
      {node("n"), pod("", R"("cpu":"5","memory":"9Gi","example.com/gpu":"1")"),
       "1 Insufficient cpu, 1 Insufficient example.com/gpu, 1 Insufficient memory"},
      {node("n", "", "", 4, 0), pod(), "1 Too many pods"},
  };
  for (const auto& one : cases) {
    SchedulerCore core;
    core.put_node(*one.node);
    const auto decision = core.schedule(*one.pod);
    EXPECT_EQ(decision.node, "");
    EXPECT_EQ(decision.message,
              "0/1 nodes are available: " + one.message + ". preemption: not served by this scheduler.");
  }
}

TEST(Scheduler, CountsEachReason) {
  SchedulerCore core;
  core.put_node(*node("a", R"("unschedulable":true)"));
  core.put_node(*node("b", "", "", 1));
  core.put_node(*node("c", "", "", 2));
  EXPECT_EQ(core.schedule(*pod("", R"("cpu":"3")")).message,
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: not served by this "
            "scheduler.");
}

TEST(Scheduler, HonoursTolerationsAndAffinity) {
  SchedulerCore core;
  core.put_node(*node("a", R"("taints":[{"key":"k","value":"v","effect":"NoSchedule"}])", R"("zone":"1","gen":"7")"));
  EXPECT_EQ(
      core.schedule(*pod(R"("tolerations":[{"key":"k","operator":"Equal","value":"v","effect":"NoSchedule"}])")).node,
      "a");
  EXPECT_EQ(core.schedule(*pod(R"("tolerations":[{"operator":"Exists"}])")).node, "a");
  EXPECT_EQ(core.schedule(*pod(R"("tolerations":[{"key":"k","value":"w"}])")).node, "");
  core.put_node(*node("a", "", R"("gen":"7","zone":"1")"));
  const auto required = [](const std::string& term) {
    return pod(std::format(
        R"("affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{}]}}}}}})",
        term));
  };
  EXPECT_EQ(
      core
          .schedule(*required(
              R"({"matchExpressions":[{"key":"zone","operator":"In","values":["1","2"]},{"key":"gen","operator":"Gt","values":["6"]}]})"))
          .node,
      "a");
  EXPECT_EQ(
      core
          .schedule(*required(
              R"({"matchExpressions":[{"key":"zone","operator":"NotIn","values":["1"]}]},{"matchFields":[{"key":"metadata.name","operator":"In","values":["a"]}]})"))
          .node,
      "a");
  EXPECT_EQ(core.schedule(*required(R"({"matchExpressions":[{"key":"zone","operator":"DoesNotExist"}]})")).node, "");
  EXPECT_EQ(core.schedule(*required("{}")).node, "");
  EXPECT_THAT(
      core
          .schedule(*pod(
              R"("affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"x"}]}})"))
          .message,
      ::testing::StartsWith("Unsupported: required podAntiAffinity"));
}

TEST(Scheduler, KeepsHostPortsApart) {
  SchedulerCore core;
  core.put_node(*node("a"));
  const auto with_port = [](const std::string& ip) {
    return object(std::format(
        R"({{"kind":"Pod","metadata":{{"name":"p","uid":"h{}"}},"spec":{{"containers":[{{"ports":[{{"containerPort":80,"hostPort":80,"hostIP":"{}"}}]}}]}}}})",
        ++next_uid, ip));
  };
  EXPECT_EQ(core.schedule(*with_port("10.0.0.1")).node, "a");
  EXPECT_EQ(core.schedule(*with_port("10.0.0.2")).node, "a");
  EXPECT_THAT(core.schedule(*with_port("")).message,
              ::testing::HasSubstr("1 node(s) didn't have free ports for the requested pod ports"));
}

TEST(Scheduler, SpreadsOverEqualNodes) {
  SchedulerCore core;
  for (const auto* name : {"a", "b", "c", "d"}) core.put_node(*node(name));
  std::map<std::string, int> count;
  for (int i = 0; i < 20; ++i) ++count[core.schedule(*pod("", R"("cpu":"100m")", kOwned)).node];
  for (const auto& [name, pods] : count) EXPECT_EQ(pods, 5) << name;
}

TEST(Scheduler, PrefersTheEmptierNodeAndThePreferredLabels) {
  SchedulerCore core;
  core.put_node(*node("small", "", R"("disk":"ssd")", 1));
  core.put_node(*node("large", "", "", 16));
  EXPECT_EQ(core.schedule(*pod("", R"("cpu":"500m","memory":"256Mi")")).node, "large");
  EXPECT_EQ(
      core
          .schedule(*pod(
              R"("affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":100,"preference":{"matchExpressions":[{"key":"disk","operator":"Exists"}]}}]}})",
              R"("cpu":"10m","memory":"16Mi")"))
          .node,
      "small");
}

TEST(Scheduler, AccountsForPodsAsTheyComeAndGo) {
  SchedulerCore core;
  core.put_node(*node("a", "", "", 1));
  const auto first = pod("", R"("cpu":"800m")");
  ASSERT_EQ(core.schedule(*first).node, "a");
  EXPECT_EQ(core.schedule(*pod("", R"("cpu":"800m")")).node, "");
  core.forget(first->uid());  // its binding failed
  const auto second = pod("", R"("cpu":"800m")");
  ASSERT_EQ(core.schedule(*second).node, "a");
  const auto bound = object(std::format(
      R"({{"kind":"Pod","metadata":{{"name":"x","uid":"{}"}},"spec":{{"nodeName":"a","containers":[{{"resources":{{"requests":{{"cpu":"800m"}}}}}}]}}}})",
      second->uid()));
  core.put_pod(*bound);
  core.forget(second->uid());  // bound by now: nothing to take back
  EXPECT_EQ(core.usage("a")->requested.cpu, 800);
  const auto done = object(std::format(
      R"({{"kind":"Pod","metadata":{{"name":"x","uid":"{}"}},"spec":{{"nodeName":"a"}},"status":{{"phase":"Succeeded"}}}})",
      second->uid()));
  core.put_pod(*done);
  EXPECT_EQ(core.usage("a")->requested.cpu, 0);
  EXPECT_EQ(core.usage("a")->pods, 0);
}

TEST(Scheduler, SumsRequestsAsKubernetesDoes) {
  const auto doc = kube::JsonDoc::parse(
      R"({"containers":[{"resources":{"requests":{"cpu":"1"}}},{"resources":{"requests":{"cpu":"500m","memory":"1Gi"}}}],
    "initContainers":[{"resources":{"requests":{"cpu":"100m"}},"restartPolicy":"Always"},{"resources":{"requests":{"cpu":"2"}}}],"overhead":{"cpu":"10m"}})");
  const auto all = pod_requests(doc->root());
  EXPECT_EQ(all.cpu, 2110);  // the init container beside the sidecar is larger
  EXPECT_EQ(all.memory, std::int64_t{1} << 30);
}

TEST(Scheduler, PlacesAThousandPodsOnAThousandNodesQuickly) {
  SchedulerCore core;
  for (int i = 0; i < 1000; ++i) core.put_node(*node(std::format("n{}", i)));
  std::vector<ObjectPtr> pods;
  for (int i = 0; i < 1000; ++i) pods.push_back(pod("", R"("cpu":"100m")", kOwned));
  const SystemClock clock;
  const auto start = clock.instant();
  std::set<std::string> used;
  for (const auto& one : pods) used.insert(core.schedule(*one).node);
  RecordProperty("milliseconds", static_cast<int>((clock.instant() - start) / 1ms));
  EXPECT_FALSE(used.contains(""));
  EXPECT_GT(used.size(), 500u);
}

}  // namespace
}  // namespace skerry::control
