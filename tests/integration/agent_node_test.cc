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

// Goal: names are answered from the first moment of an agent that finds no API server. Method: one that saw a Service and its
// slice is stopped; the next starts with the line cut, and asks nobody.
TEST_F(AgentNode, KnowsTheNamesWithoutTheApiServer) {
  stop_agent(OnStop::StopPods);
  const auto ask = [](net::NameServer& server, const std::string& name) -> std::size_t {
    const auto answer = server.names().answer({.name = name});
    return answer ? answer->message.answers.size() : 0;
  };
  net::NameServer first(loop_, random_, {.names = {.node = "edge-1"}});
  names_ = &first;
  start_agent();
  ASSERT_TRUE(run_on(loop_, admin_->create(client::kServices, "default", R"({"metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}})")));
  ASSERT_TRUE(run_on(loop_, admin_->create(client::kServices, "default", R"({"metadata":{"name":"pods"},"spec":{"clusterIP":"None","ports":[{"port":80}]}})")));
  ASSERT_TRUE(run_on(loop_, admin_->create(client::kEndpointSlices, "default",
      R"({"metadata":{"name":"pods-1","labels":{"kubernetes.io/service-name":"pods"}},"addressType":"IPv4","endpoints":[{"addresses":["10.99.0.7"]}]})")));
  ASSERT_TRUE(until([&] { return ask(first, "web.default.svc.cluster.local") == 1 && ask(first, "pods.default.svc.cluster.local") == 1; }));
  const auto begin = std::chrono::steady_clock::now();
  until([&] { return std::chrono::steady_clock::now() - begin > 6s; });  // Services are written every five seconds
  stop_agent(OnStop::StopPods);
  line_->cut = true;
  net::NameServer second(loop_, random_, {.names = {.node = "edge-1"}});
  names_ = &second;
  start_agent();
  EXPECT_EQ(ask(second, "web.default.svc.cluster.local"), 1u);
  EXPECT_EQ(ask(second, "pods.default.svc.cluster.local"), 1u);
  line_->cut = false;
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kServices, "default", "web")));
  EXPECT_TRUE(until([&] { return ask(second, "web.default.svc.cluster.local") == 0; }));
  stop_agent(OnStop::StopPods);
  names_ = nullptr;
  start_agent();
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

// Goal: agent and keeper die together, and awake pods serve on. Method: no agent is there when the keeper is killed, a request is inside
// a sandbox; another agent takes the pod back as it was, answers what was asked, and the idle pod is made ready again.
TEST_F(AgentNode, TakesAwakePodsBackAfterAgentAndKeeperDiedTogether) {
  create_pod("web", R"("skerry.dev/idle-after":"never")", R"(,"resources":{"limits":{"cpu":"2"}})");
  create_pod("sleeper");
  ASSERT_TRUE(until([&] { return is_ready("web") && is_ready("sleeper"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP"), sleeper = field("sleeper", "status.podIP"), statuses = field("web", "status.containerStatuses");
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return metric("skerry_pods_awake") == "1"; }));
  const os::UniqueFd open(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ASSERT_EQ(net::testing::try_connect(open.get(), ip.c_str(), 8080), 0);
  ASSERT_TRUE(os::write_all(open.get(), "GET / HTTP/1.1\r\nHost: x\r\n"));  // half of a request
  const auto keeper = agent_->summary().keeper_pid;
  stop_agent(OnStop::KeepPods);
  ASSERT_EQ(::kill(keeper, SIGKILL), 0);
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  start_agent();
  EXPECT_NE(agent_->summary().keeper_pid, keeper);
  EXPECT_GE(agent_->summary().ready, 1u) << "it was never gone";
  EXPECT_EQ(agent_->summary().awake, 1u);
  ASSERT_TRUE(until([&] { return is_ready("sleeper") && call(sleeper).contains("200 OK"); })) << field("sleeper", "status");
  EXPECT_FALSE(until([] { return false; }, 6s));  // past the moment when what nobody claims is killed
  ASSERT_TRUE(os::write_all(open.get(), "\r\n"));
  pollfd answered{.fd = open.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&answered, 1, 10'000), 1);
  char text[13] = {};
  EXPECT_EQ(::recv(open.get(), text, 12, 0), 12);
  EXPECT_STREQ(text, "HTTP/1.1 200");
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  EXPECT_EQ(field("web", "status.containerStatuses"), statuses);
  EXPECT_EQ(metric("skerry_agent_requests_lost_total"), "0");
  EXPECT_EQ(metric("skerry_agent_connections_lost_total"), "0");
}

// Goal: what cannot be taken back is dropped, its losses are counted, and the pod is started as a new one. Method: as above, but the native
// code that the pod's next sandbox needs is gone; a connection is open.
TEST_F(AgentNode, DropsWhatItCannotTakeBackAndCountsWhatWasInside) {
  create_pod("web", R"("skerry.dev/idle-after":"never")");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP");
  const os::UniqueFd open(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ASSERT_EQ(net::testing::try_connect(open.get(), ip.c_str(), 8080), 0);
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  const auto keeper = agent_->summary().keeper_pid;
  stop_agent(OnStop::KeepPods);
  ASSERT_EQ(::kill(keeper, SIGKILL), 0);
  for (const auto& file : fs::directory_iterator(folder_ / "node" / "native"))
    if (file.path().extension() == ".so") fs::remove(file.path());
  start_agent();
  ASSERT_TRUE(until([&] { return metric("skerry_agent_connections_lost_total") == "1"; }));
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 1 && call(ip).contains("200 OK"); })) << field("web", "status");
}

// Goal: what was taken back is as any other pod: it falls idle, wakes, restarts after a crash, and ends when it is deleted.
TEST_F(AgentNode, WhatWasTakenBackLivesOnAsAnyOther) {
  create_pod("web", R"("skerry.dev/idle-after":"2s")");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP");
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  const auto keeper = agent_->summary().keeper_pid;
  stop_agent(OnStop::KeepPods);
  ASSERT_EQ(::kill(keeper, SIGKILL), 0);
  start_agent();
  ASSERT_TRUE(until([&] { return metric("skerry_pods_awake") == "0"; })) << "it falls idle";
  EXPECT_TRUE(until([&] { return call(ip).contains("200 OK"); })) << "and wakes";
  ASSERT_TRUE(until([&] { return metric("skerry_pods_awake") == "1"; }));
  EXPECT_THAT(field("web", "status.containerStatuses"), HasSubstr("\"restartCount\":0"));
  ASSERT_TRUE(kill_sandboxes());
  ASSERT_TRUE(until([&] { return field("web", "status.containerStatuses").contains("\"restartCount\":1"); })) << field("web", "status");
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "web")));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "web") == nullptr; }));
  EXPECT_THAT(call(ip), HasSubstr("connect"));
}

// Goal: on a kernel that keeps no exit status, a taken-over sandbox that leaves idle is no failure and one that is killed is. Method:
// the keeper's option plays such a kernel; the keeper is killed while the pod is awake.
TEST_F(AgentNode, AnAdoptedSandboxOfUnknownEndIsAFailureUnlessItLeftInOrder) {
  stop_agent(OnStop::StopPods);
  start_agent([](AgentOptions& options) { options.keeper_arguments.insert(options.keeper_arguments.end(), {"--exit-info", "none"}); });
  create_pod("web", R"("skerry.dev/idle-after":"2s")");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP");
  const auto adopt = [&] {
    EXPECT_THAT(call(ip), HasSubstr("200 OK"));
    ASSERT_TRUE(until([&] { return metric("skerry_pods_awake") == "1"; }));
    const auto keeper = agent_->summary().keeper_pid;
    ASSERT_EQ(::kill(keeper, SIGKILL), 0);
    ASSERT_TRUE(until([&] { return agent_->summary().keeper_pid != keeper && metric("skerry_pods_awake") == "1"; }));
  };
  adopt();
  ASSERT_TRUE(until([&] { return metric("skerry_pods_awake") == "0"; })) << "it leaves idle";
  EXPECT_THAT(field("web", "status.containerStatuses"), HasSubstr("\"restartCount\":0"));
  EXPECT_EQ(metric("skerry_agent_container_failures_total"), "0");
  adopt();
  ASSERT_TRUE(kill_sandboxes());
  ASSERT_TRUE(until([&] { return field("web", "status.containerStatuses").contains("\"restartCount\":1"); })) << field("web", "status");
  EXPECT_THAT(field("web", "status.containerStatuses"), HasSubstr("\"exitCode\":137"));
  EXPECT_THAT(field("web", "status.containerStatuses"), HasSubstr("\"reason\":\"ContainerStatusUnknown\""));
  EXPECT_EQ(metric("skerry_agent_container_failures_total"), "1");
  ASSERT_TRUE(until([&] { return std::ranges::contains(events_about("web"), "Restarted"); }));
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

// Goal: a worker that keeps crashing fails no request of the others. Method: two workers; one has half of a request, the other is killed
// until the container is in back-off, which drains what is left; then the other half is sent.
TEST_F(AgentNode, FinishesTheRequestsOfHealthyWorkersBeforeACrashBackoff) {
  create_pod("web", R"("skerry.dev/idle-after":"never")", R"(,"resources":{"limits":{"cpu":"2"}})");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP");
  os::UniqueFd open(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ASSERT_EQ(net::testing::try_connect(open.get(), ip.c_str(), 8080), 0);
  ASSERT_TRUE(os::write_all(open.get(), "GET / HTTP/1.1\r\nHost: x\r\n"));
  // A worker holds its control socket and the listener, and one socket more for each connection.
  const auto workers_with = [&](std::ptrdiff_t sockets) {
    std::vector<int> out;
    for (const auto& slot : fs::directory_iterator("/sys/fs/cgroup/memory/" + cgroup_)) {
      if (!slot.is_directory()) continue;
      const auto text = os::read_small_file(slot.path() / "cgroup.procs").value_or("");
      for (const auto line : split(text, '\n')) {
        const auto pid = parse_int<int>(line);
        std::error_code error;
        std::ptrdiff_t count = 0;
        if (pid)
          for (const auto& fd : fs::directory_iterator(std::format("/proc/{}/fd", *pid), error))
            count += fs::read_symlink(fd, error).native().starts_with("socket:") ? 1 : 0;
        if (pid && count == sockets) out.push_back(*pid);
      }
    }
    return out;
  };
  ASSERT_TRUE(until([&] { return workers_with(3).size() == 1 && workers_with(2).size() == 1; }));
  ASSERT_EQ(::kill(workers_with(2).at(0), SIGKILL), 0);
  ASSERT_TRUE(until([&] { return field("web", "status.containerStatuses").contains("\"restartCount\":1"); })) << field("web", "status");
  EXPECT_FALSE(until([] { return false; }, 1100ms));  // sooner, it would be taken for the same failure
  ASSERT_TRUE(until([&] { return workers_with(2).size() == 1; }));
  ASSERT_EQ(::kill(workers_with(2).at(0), SIGKILL), 0);
  ASSERT_TRUE(until([&] { return field("web", "status.containerStatuses").contains("CrashLoopBackOff"); })) << field("web", "status");
  EXPECT_FALSE(until([] { return false; }, 200ms));
  ASSERT_TRUE(os::write_all(open.get(), "\r\n"));
  pollfd answered{.fd = open.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&answered, 1, 10'000), 1);
  char text[13] = {};
  EXPECT_EQ(::recv(open.get(), text, 12, 0), 12);
  EXPECT_STREQ(text, "HTTP/1.1 200");
  open.reset();
  EXPECT_EQ(metric("skerry_agent_requests_lost_total"), "0");
  // Not by calling: the loop, and with it the agent, stands still while a call waits for an answer.
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  EXPECT_THAT(call(ip), HasSubstr("200 OK")) << "after the back-off it serves again";
}

TEST_F(AgentNode, SaysWhyItRefuses) {
  create_pod("probed", "", R"(,"livenessProbe":{"httpGet":{"path":"/","port":80}})");
  ASSERT_TRUE(until([&] { return field("probed", "status.containerStatuses").contains("Unsupported"); })) << field("probed", "status");
  EXPECT_EQ(field("probed", "status.phase"), "Pending");
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "probed")));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "probed") == nullptr; }));
}

// Goal: a damaged checkpoint is replaced by its last good copy: nothing is restarted, also without the API server; what came after the
// copy comes again from the server, under ids that were never used. Method: a copy, another pod, damage.
TEST_F(AgentNode, ADamagedCheckpointIsReplacedByItsGoodCopy) {
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP"), statuses = field("web", "status.containerStatuses");
  stop_agent(OnStop::KeepPods);  // makes a copy
  ASSERT_TRUE(fs::exists(folder_ / "node/agent.db.good"));
  fs::copy_file(folder_ / "node/agent.db.good", folder_ / "kept");
  start_agent();
  create_pod("later");
  ASSERT_TRUE(until([&] { return is_ready("later"); })) << field("later", "status");
  stop_agent(OnStop::KeepPods);
  fs::rename(folder_ / "kept", folder_ / "node/agent.db.good");
  damage_checkpoint();
  ExpectErrorLog expected("the checkpoint was damaged: the node starts from its last good copy");
  line_->cut = true;
  start_agent();
  EXPECT_EQ(agent_->summary().pods, 1u);
  EXPECT_EQ(agent_->summary().ready, 1u) << "adopted";
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  EXPECT_THAT(call(field("later", "status.podIP")), HasSubstr("200 OK")) << "it serves on until the server was asked";
  line_->cut = false;
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 2 && is_ready("later"); })) << field("later", "status");
  EXPECT_EQ(field("web", "status.containerStatuses"), statuses);
  ASSERT_TRUE(until([&] { return call(field("later", "status.podIP")).contains("200 OK"); }));
}

// Goal: an agent that lost its checkpoint takes nothing away before it knows better. Method: damage the file, cut the line, start
// an agent: the pod serves on; with the line back it is made anew.
TEST_F(AgentNode, ADamagedCheckpointStopsNothingWhileTheServerIsAway) {
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string ip = field("web", "status.podIP");
  stop_agent(OnStop::KeepPods);
  damage_checkpoint();
  fs::remove(folder_ / "node/agent.db.good");
  ExpectErrorLog expected("the checkpoint was damaged and is empty now");
  line_->cut = true;
  start_agent();
  EXPECT_EQ(agent_->summary().pods, 0u);
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  stop_agent(OnStop::KeepPods);
  start_agent();
  EXPECT_THAT(call(ip), HasSubstr("200 OK")) << "the next agent knows as little";
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
