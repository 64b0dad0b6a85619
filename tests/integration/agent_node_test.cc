// SPDX-License-Identifier: Apache-2.0
// A node's life with real surroundings (agent_node.h): pods from idle to deletion, adoption, a lost API server, a lost keeper.
#include "tests/integration/agent_node.h"
#include "tests/test_main.h"

namespace skerry::agent {
namespace {

using ::testing::HasSubstr;

TEST_F(AgentNode, ServesAHandBoundPodFromIdleToDeletion) {
  ASSERT_TRUE(until([&] { return get(client::kNodes, "", "edge-1") != nullptr && get(client::kLeases, "kube-node-lease", "edge-1") != nullptr; }));
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  EXPECT_EQ(field("web", "status.phase"), "Running");
  const std::string ip = field("web", "status.podIP");
  EXPECT_TRUE(ip.starts_with("10.99.0.")) << ip;
  EXPECT_EQ(agent_->summary().awake, 0u);
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return agent_->summary().awake == 1; }));
  EXPECT_EQ(metric("skerry_pods_awake"), "1");
  ASSERT_TRUE(until([&] { return agent_->summary().awake == 0; })) << "it did not fall idle";
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  EXPECT_EQ(metric("skerry_container_requests_started_total"), "2");
  EXPECT_EQ(metric("skerry_container_requests_lost_total"), "0");
  EXPECT_EQ(ask_node("/containerLogs/default/web/app").status, 200);
  EXPECT_EQ(ask_node("/exec/default/web/app?command=ls").status, 501);
  EXPECT_TRUE(is_ready("web"));
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "web")));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "web") == nullptr; })) << field("web", "status");
  ASSERT_TRUE(until([&] { return agent_->summary().pods == 0; }));
  EXPECT_THAT(call(ip), HasSubstr("connect"));
}

// Goal: an agent that dies takes nothing with it. Method: drop the agent without any farewell to keeper and pods, call the idle pod
// meanwhile, start another agent: it adopts; uid, start time and restart count of the status are the same.
TEST_F(AgentNode, AnotherAgentAdoptsWhatTheFirstLeft) {
  create_pod("web");
  create_pod("web-2");
  ASSERT_TRUE(until([&] { return is_ready("web") && is_ready("web-2"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP"), statuses = field("web", "status.containerStatuses");
  const auto keeper = agent_->summary().keeper_pid;
  stop_agent(OnStop::KeepPods);
  EXPECT_THAT(call(ip), HasSubstr("200 OK")) << "an idle pod wakes without an agent";
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "web-2")));  // while nobody looks
  start_agent();
  EXPECT_EQ(agent_->summary().keeper_pid, keeper);
  EXPECT_GE(agent_->summary().ready, 1u);  // web-2 may be on its way out already
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "web-2") == nullptr; }));
  EXPECT_EQ(field("web", "status.containerStatuses"), statuses);
  EXPECT_TRUE(is_ready("web"));
}

// Goal: without the API server nothing stops, and an agent starts and serves. Method: cut the line, restart the agent, call.
TEST_F(AgentNode, StartsAndServesWithoutTheApiServer) {
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP");
  stop_agent(OnStop::StopPods);  // as after a reboot: no keeper, no process
  line_->cut = true;
  start_agent();
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 1; }));
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "web")));
  line_->cut = false;
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "web") == nullptr; }));
}

TEST_F(AgentNode, FillsANewKeeperAfterTheOldOneWasKilled) {
  create_pod("web", R"("skerry.dev/idle-after":"never")");
  create_pod("sleeper");
  ASSERT_TRUE(until([&] { return is_ready("web") && is_ready("sleeper"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP"), sleeper = field("sleeper", "status.podIP");
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return agent_->summary().awake == 1; }));
  const auto keeper = agent_->summary().keeper_pid;
  ASSERT_EQ(::kill(keeper, SIGKILL), 0);
  EXPECT_THAT(call(ip), HasSubstr("200 OK")) << "a running sandbox outlives the keeper";
  ASSERT_TRUE(until([&] { return agent_->summary().keeper_pid != keeper; }));
  ASSERT_TRUE(until([&] { return agent_->summary().awake == 1; })) << "the new keeper claims the living sandbox";
  ASSERT_TRUE(until([&] { return call(sleeper).contains("200 OK"); }));
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  EXPECT_EQ(field("web", "status.containerStatuses").find("\"restartCount\":0") == std::string::npos, false);
}

TEST_F(AgentNode, AKilledSandboxIsARestartAndTheNextRequestIsServed) {
  create_pod("web", R"("skerry.dev/idle-after":"never")");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP");
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return agent_->summary().awake == 1; }));
  ASSERT_TRUE(kill_sandboxes());  // whoever serves is in one of the slots
  ASSERT_TRUE(until([&] { return field("web", "status.containerStatuses").contains("\"restartCount\":1"); })) << field("web", "status");
  EXPECT_THAT(field("web", "status.containerStatuses"), HasSubstr("\"exitCode\":137"));
  ASSERT_TRUE(until([&] { return call(ip).contains("200 OK"); }));
}

TEST_F(AgentNode, SaysWhyItRefuses) {
  create_pod("probed", "", R"(,"livenessProbe":{"httpGet":{"path":"/","port":80}})");
  ASSERT_TRUE(until([&] { return field("probed", "status.containerStatuses").contains("Unsupported"); })) << field("probed", "status");
  EXPECT_EQ(field("probed", "status.phase"), "Pending");
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "probed")));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "probed") == nullptr; }));
}

// Goal: an agent that lost its checkpoint takes nothing away before it knows better. Method: damage the file, cut the line, start
// an agent: the pod serves on; with the line back it is made anew.
TEST_F(AgentNode, ADamagedCheckpointStopsNothingWhileTheServerIsAway) {
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP");
  stop_agent(OnStop::KeepPods);
  for (const char* part : {"agent.db-wal", "agent.db-shm"}) fs::remove(folder_ / "node" / part);
  std::ofstream(folder_ / "node/agent.db") << std::string(8192, 'x');
  ExpectErrorLog expected("the checkpoint was damaged");
  line_->cut = true;
  start_agent();
  EXPECT_EQ(agent_->summary().pods, 0u);
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  line_->cut = false;
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 1 && is_ready("web"); })) << field("web", "status");
  ASSERT_TRUE(until([&] { return call(field("web", "status.podIP")).contains("200 OK"); }));
}

TEST_F(AgentNode, APodBeyondTheLimitFailsSoThatItsOwnerMakesAnother) {
  stop_agent(OnStop::StopPods);
  start_agent([](AgentOptions& options) { options.pods_max = 1; });
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  create_pod("more");
  ASSERT_TRUE(until([&] { return field("more", "status.phase") == "Failed"; })) << field("more", "status");
  EXPECT_EQ(field("more", "status.reason"), "OutOfpods");
  EXPECT_TRUE(is_ready("web"));
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "more")));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "more") == nullptr; })) << field("more", "status");
}

TEST_F(AgentNode, AHundredPodsAreReadyInAMoment) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) create_pod(std::format("web-{}", i));
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 100; }));
  ASSERT_TRUE(until([&] {
    for (int i = 99; i >= 0; --i)
      if (!is_ready(std::format("web-{}", i))) return false;
    return true;
  }));
  const auto took = std::chrono::steady_clock::now() - begin;
  RecordProperty("ms", static_cast<int>(took / 1ms));
  std::printf("100 pods ready at the API server after %lld ms\n", static_cast<long long>(took / 1ms));
  EXPECT_THAT(call(field("web-57", "status.podIP")), HasSubstr("200 OK"));
}

}  // namespace
}  // namespace skerry::agent
