// SPDX-License-Identifier: Apache-2.0
// A node that was alone and comes back (agent_node.h): it resumes where it stopped, and recreates nothing.
#include <filesystem>
#include <set>

#include "tests/integration/agent_node.h"
#include "tests/test_main.h"

namespace skerry::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;

class AgentOffline : public AgentNode {
 protected:
  void SetUp() override {
    AgentNode::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    stop_agent(OnStop::StopPods);
    start();
  }
  void start() {
    start_agent([](AgentOptions& o) { o.slow_write_period = 50ms; });
  }
  std::string statuses(const std::string& pod) { return field(pod, "status.containerStatuses"); }
  // Until what came last is on the disk.
  void settle() {
    loop_.context().run_for(std::chrono::milliseconds(1200));
  }
  // The lists that the node asked for since the last call, but that of its one edge-config.
  std::vector<std::string> lists() {
    std::vector<std::string> out;
    for (const std::string& request : std::exchange(line_->requests, {}))
      if (request.starts_with("GET ") && request.contains("limit=") && !request.contains("edge-config")) out.push_back(request);
    return out;
  }
};

// Goal: after a restart nothing is listed, and what happened meanwhile is heard of. Method: an agent stops; a pod is deleted, another
// made, a refused one deleted; the next agent's requests are looked at.
TEST_F(AgentOffline, ResumesItsWatchesWithoutAList) {
  create_pod("stays");
  create_pod("goes");
  create_pod("refused", R"("skerry.dev/idle-after":"300ms")", R"(,"stdin":true)");
  ASSERT_TRUE(until([&] { return is_ready("stays") && is_ready("goes"); }));
  ASSERT_TRUE(until([&] { return field("refused", "status").contains("stdin"); })) << field("refused", "status");
  const std::string statuses = field("stays", "status.containerStatuses"), ip = field("stays", "status.podIP");
  settle();
  stop_agent(OnStop::KeepPods);
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "goes")));
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "refused")));
  create_pod("comes");
  lists();
  start();
  ASSERT_TRUE(until([&] { return is_ready("comes"); })) << field("comes", "status");
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "goes") == nullptr; }));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "refused") == nullptr; }));
  EXPECT_THAT(lists(), IsEmpty());
  EXPECT_EQ(field("stays", "status.containerStatuses"), statuses);
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
}

// Goal: a machine without network that starts from its disk resumes too when the line is back. Method: as a reboot: no keeper, no
// process; the line is cut at the start.
TEST_F(AgentOffline, ResumesAfterAColdBootWithoutNetwork) {
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web"); }));
  const std::string ip = field("web", "status.podIP"), uid = field("web", "metadata.uid");
  settle();
  stop_agent(OnStop::StopPods);
  line_->cut = true;
  start();
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 1; }));
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  lists();
  line_->cut = false;
  ASSERT_TRUE(until([&] { return agent_->summary().connected; }));
  settle();
  EXPECT_THAT(lists(), IsEmpty());
  EXPECT_EQ(field("web", "metadata.uid"), uid);
  EXPECT_EQ(field("web", "status.podIP"), ip);
  EXPECT_EQ(metric("skerry_agent_drift_total"), "0");
}

// Goal: what a watch did not tell is found and repaired, and counted. Method: the event of one pod and the deletion of another are
// swallowed; both come by the digests.
TEST_F(AgentOffline, WhatHasDriftedIsFoundByTheDigests) {
  ASSERT_TRUE(run_on(loop_, admin_->create(client::kConfigMaps, "default", R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"edge-config","namespace":"default"},"data":{"sync_interval":"5s"}})")));
  stop_agent(OnStop::StopPods);
  start_agent([](AgentOptions& o) { o.lease_period = 100ms; });
  create_pod("goes");
  create_pod("stays");
  ASSERT_TRUE(until([&] { return is_ready("goes") && is_ready("stays"); }));
  const std::string statuses = field("stays", "status.containerStatuses");
  ASSERT_TRUE(until([&] { return metric("skerry_agent_digests_compared_total") != "0"; }));
  line_->swallow = "\"lost\"";
  create_pod("lost");
  loop_.context().run_for(std::chrono::milliseconds(500));
  line_->swallow = "DELETED";
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "goes", {.grace_seconds = 0})));
  loop_.context().run_for(std::chrono::milliseconds(500));
  line_->swallow.clear();
  EXPECT_EQ(field("lost", "status.podIP"), "") << "the node has not heard of it";
  ASSERT_TRUE(until([&] { return is_ready("lost") && agent_->summary().pods == 2; })) << field("lost", "status");
  EXPECT_EQ(metric("skerry_agent_drift_total"), "1");
  EXPECT_EQ(field("stays", "status.containerStatuses"), statuses);
}

// --- a server that answers nonsense -----------------------------------------------------------------------------------------

class AgentNonsense : public AgentOffline, public ::testing::WithParamInterface<Nonsense> {
 protected:
  // How often the node was told nonsense about its pods.
  std::size_t wrong_about_pods() const {
    return static_cast<std::size_t>(std::ranges::count_if(line_->wronged, [](const std::string& r) { return r == "event" || r.starts_with("GET /api/v1/pods?"); }));
  }
};

// Goal: what a server says that has lost its mind stops, restarts and fails nothing here, and when it has come to its senses the node
// follows it. Method: two pods, one with a process and one without, are called all the while; meanwhile one more is deleted and one
// made, which open watches notice the nonsense by.
TEST_P(AgentNonsense, StopsNothingAndIsForgottenAfterwards) {
  create_pod("awake", R"("skerry.dev/idle-after":"never")");
  create_pod("idle");
  create_pod("goes");
  ASSERT_TRUE(until([&] { return is_ready("awake") && is_ready("idle") && is_ready("goes"); }));
  const std::string awake = field("awake", "status.podIP"), idle = field("idle", "status.podIP");
  ASSERT_THAT(call(awake), HasSubstr("200 OK"));
  const std::string awake_before = statuses("awake"), idle_before = statuses("idle");
  line_->nonsense = GetParam();
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "goes")));
  create_pod("comes");
  std::size_t calls = 0, answered = 0;
  ASSERT_TRUE(until([&] {
    for (const std::string& ip : {awake, idle}) ++calls, answered += call(ip).contains("200 OK") ? 1 : 0;
    return wrong_about_pods() >= 4;
  })) << wrong_about_pods();
  EXPECT_EQ(answered, calls);
  EXPECT_EQ(agent_->summary().awake, 2u) << "both were called just now";
  line_->nonsense = Nonsense::None;
  ASSERT_TRUE(until([&] { return is_ready("comes") && get(client::kPods, "default", "goes") == nullptr; })) << field("comes", "status") << field("goes", "metadata");
  ASSERT_TRUE(until([&] { return agent_->summary().pods == 3 && agent_->summary().ready == 3; }));
  EXPECT_EQ(statuses("awake"), awake_before);
  EXPECT_EQ(statuses("idle"), idle_before);
  EXPECT_EQ(metric("skerry_agent_container_failures_total"), "0");
  EXPECT_EQ(metric("skerry_agent_requests_lost_total"), "0");
  for (const std::string& ip : {awake, idle, field("comes", "status.podIP")}) EXPECT_THAT(call(ip), HasSubstr("200 OK")) << ip;
}

// Goal: what happened while the server answered nonsense is told when it does no more. Method: a sandbox is killed meanwhile.
TEST_P(AgentNonsense, WhatHappenedMeanwhileIsTold) {
  create_pod("web", R"("skerry.dev/idle-after":"never")");
  ASSERT_TRUE(until([&] { return is_ready("web"); }));
  const std::string ip = field("web", "status.podIP");
  ASSERT_THAT(call(ip), HasSubstr("200 OK"));
  line_->nonsense = GetParam();
  create_pod("comes");
  ASSERT_TRUE(kill_sandboxes());
  ASSERT_TRUE(until([&] { return wrong_about_pods() >= 2 && metric("skerry_agent_container_failures_total") == "1"; }));
  ASSERT_TRUE(until([&] { return call(ip).contains("200 OK"); }));
  line_->nonsense = Nonsense::None;
  ASSERT_TRUE(until([&] { return is_ready("comes") && statuses("web").contains("\"restartCount\":1"); })) << field("web", "status");
}

INSTANTIATE_TEST_SUITE_P(All, AgentNonsense, ::testing::Values(Nonsense::Errors, Nonsense::Html, Nonsense::NoJson, Nonsense::EmptyLists, Nonsense::CutEvents), [](const auto& one) {
  switch (one.param) {
    case Nonsense::None: break;
    case Nonsense::Errors: return "Errors";
    case Nonsense::Html: return "Html";
    case Nonsense::NoJson: return "NoJson";
    case Nonsense::EmptyLists: return "EmptyLists";
    case Nonsense::CutEvents: return "CutEvents";
  }
  return "None";
});

// --- a clock that is set ----------------------------------------------------------------------------------------------------

// Goal: a wall clock that jumps moves nothing: pods go on, statuses are told, back-off ends when it is due; a board that has lost the
// time starts from its disk. Method: the agent's clock is set a day ahead, and, while a container is in back-off, two days back; then a
// boot without network in 1970.
TEST_F(AgentOffline, AClockThatIsSetMovesNothing) {
  stop_agent(OnStop::StopPods);
  const auto boot = [&] {
    start_agent([](AgentOptions& o) { o.lease_period = 100ms, o.slow_write_period = 50ms; });
  };
  boot();
  create_pod("web");
  create_pod("crasher", R"("skerry.dev/idle-after":"never")");
  ASSERT_TRUE(until([&] { return is_ready("web") && is_ready("crasher"); }));
  const std::string web = field("web", "status.podIP"), crasher = field("crasher", "status.podIP");
  std::string web_before = statuses("web");
  const auto crash = [&] {
    ASSERT_TRUE(until([&] { return call(crasher).contains("200 OK"); }));
    loop_.context().run_for(std::chrono::milliseconds(600));  // the others have been idle for long enough, and the agent has heard of it
    ASSERT_TRUE(until([&] { return agent_->summary().awake == 1; })) << "only that one has a process";
    ASSERT_TRUE(kill_sandboxes());
  };
  // Set, and the node has said so.
  const auto set_clock = [&](Duration off) {
    agent_clock_.off = off;
    ASSERT_TRUE(until([&] {
      const auto lease = get(client::kLeases, "kube-node-lease", "edge-1");
      const auto renewed = lease ? from_rfc3339(lease->parse().root()["spec"]["renewTime"].str()) : std::nullopt;
      return renewed && std::chrono::abs(*renewed - agent_clock_.now()) < 1h;
    }));
  };
  const auto goes_on = [&](const std::string& comes) {
    EXPECT_THAT(call(web), HasSubstr("200 OK"));
    create_pod(comes);
    ASSERT_TRUE(until([&] { return is_ready(comes); })) << field(comes, "status");
    EXPECT_THAT(call(field(comes, "status.podIP")), HasSubstr("200 OK"));
    EXPECT_EQ(statuses("web"), web_before);
  };
  set_clock(24h);
  goes_on("ahead");
  crash();
  ASSERT_TRUE(until([&] { return statuses("crasher").contains("\"restartCount\":1"); })) << statuses("crasher");
  crash();
  ASSERT_TRUE(until([&] { return statuses("crasher").contains("CrashLoopBackOff"); })) << statuses("crasher");
  set_clock(-24h);
  goes_on("back");
  ASSERT_TRUE(until([&] { return statuses("crasher").contains("\"restartCount\":2") && is_ready("crasher"); })) << statuses("crasher");
  EXPECT_THAT(call(crasher), HasSubstr("200 OK"));
  EXPECT_THAT(statuses("web"), HasSubstr("\"restartCount\":0"));
  settle();
  stop_agent(OnStop::StopPods);
  line_->cut = true;
  agent_clock_.off = Time{} - clock_.now();
  boot();
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 4; }));
  for (const std::string& ip : {web, crasher}) EXPECT_THAT(call(ip), HasSubstr("200 OK")) << ip;
  line_->cut = false;
  // Started anew by the boot, and told so by the board's time.
  ASSERT_TRUE(until([&] { return statuses("web").contains("\"startedAt\":\"1970-"); })) << statuses("web");
  web_before = statuses("web");
  EXPECT_THAT(web_before, HasSubstr("\"restartCount\":0"));
  goes_on("later");
  EXPECT_THAT(statuses("crasher"), HasSubstr("\"restartCount\":2"));
}

// --- edge-config ----------------------------------------------------------------------------------------------------------

class EdgeConfigOfANode : public AgentOffline {
 protected:
  void configure(std::string_view data) {
    const std::string body = std::format(R"({{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"edge-config","namespace":"default"}},"data":{{{}}}}})", data);
    const bool there = get(client::kConfigMaps, "default", "edge-config") != nullptr;
    const auto done = there ? run_on(loop_, admin_->update(client::kConfigMaps, "default", "edge-config", body)) : run_on(loop_, admin_->create(client::kConfigMaps, "default", body));
    ASSERT_TRUE(done) << done.error().what;
  }
  std::string autonomy() {
    const auto node = get(client::kNodes, "", "edge-1");
    return node ? std::string(node->parse().root()["metadata"]["annotations"]["skerry.dev/autonomy"].str()) : "";
  }
  // Which files of the checkpoint have this text in clear: itself, its log, its good copy, whatever else stands beside them.
  std::set<std::string> on_disk(std::string_view text) {
    std::set<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "node")) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("agent.db")) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(in), {}};
      if (bytes.contains(text)) out.insert(name);
    }
    return out;
  }
};

// Goal: with offline_mode false a node that starts without the API server starts nothing, as a kubelet, and starts it when the server
// is there; with true it serves at once. Changed at run time, and kept over a start without network. Method: two cold boots.
TEST_F(EdgeConfigOfANode, OfflineModeDecidesWhetherABootWithoutNetworkServes) {
  configure(R"("offline_mode":"false")");
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web") && autonomy() == "false"; })) << autonomy();
  const std::string ip = field("web", "status.podIP");
  settle();
  stop_agent(OnStop::StopPods);
  line_->cut = true;
  start();
  EXPECT_EQ(agent_->summary().pods, 1u);
  loop_.context().run_for(std::chrono::milliseconds(1000));
  EXPECT_EQ(agent_->summary().ready, 0u) << "it waits for the API server";
  line_->cut = false;
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 1; }));
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));

  configure(R"("offline_mode":"true")");
  ASSERT_TRUE(until([&] { return autonomy() == "true"; }));
  settle();
  stop_agent(OnStop::StopPods);
  line_->cut = true;
  start();
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 1; }));
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
}

// Goal: a wrong value is said once, in an Event and the log, and the value in force stays, over a start too.
TEST_F(EdgeConfigOfANode, AWrongValueIsAnEventAndTheOldOneStays) {
  configure(R"("offline_mode":"false","sync_interval":"60s")");
  ASSERT_TRUE(until([&] { return autonomy() == "false"; }));
  const CountLog said("edge-config has a wrong value");
  const CountLog which("reason=\"offline_mode");
  configure(R"("offline_mode":"maybe","sync_interval":"60s")");
  ASSERT_TRUE(until([&] { return std::ranges::count(events_about("edge-config"), "InvalidEdgeConfig") == 1; }));
  configure(R"("offline_mode":"maybe","sync_interval":"61s")");
  settle();
  EXPECT_EQ(autonomy(), "false");
  EXPECT_EQ(std::ranges::count(events_about("edge-config"), "InvalidEdgeConfig"), 1) << "said once";
  EXPECT_EQ(said.lines(), 1u);
  EXPECT_EQ(which.lines(), 1u);
  stop_agent(OnStop::StopPods);
  start();
  settle();
  EXPECT_EQ(autonomy(), "false") << "the wrong value does not bring the default back";
  stop_agent(OnStop::StopPods);
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kConfigMaps, "default", "edge-config")));
  start();
  ASSERT_TRUE(until([&] { return autonomy().empty(); })) << "taken away while no agent ran: " << autonomy();
}

// Goal: with local_storage false nothing of what pods are given is on the node's disk; back to true it is again.
TEST_F(EdgeConfigOfANode, LocalStorageDecidesWhatIsOnTheDisk) {
  ASSERT_TRUE(run_on(loop_, admin_->create(client::kConfigMaps, "default", R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"default"},"data":{"k":"written-on-disk-1"}})")));
  create_pod("web", R"("skerry.dev/idle-after":"300ms")", R"(,"envFrom":[{"configMapRef":{"name":"settings"}}])");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  settle();
  stop_agent(OnStop::StopPods);
  EXPECT_THAT(on_disk("written-on-disk-1"), IsSupersetOf({"agent.db", "agent.db.good"}));
  start();
  ASSERT_TRUE(until([&] { return is_ready("web") && agent_->summary().ready == 1; }));
  configure(R"("local_storage":"false")");
  ASSERT_TRUE(until([&] { return !on_disk("written-on-disk-1").contains("agent.db.good"); })) << "while the agent runs";
  stop_agent(OnStop::StopPods);
  EXPECT_THAT(on_disk("written-on-disk-1"), IsEmpty());
  line_->cut = true;
  start();
  loop_.context().run_for(std::chrono::milliseconds(1000));
  EXPECT_EQ(agent_->summary().ready, 0u) << "what it is given is not here";
  line_->cut = false;
  ASSERT_TRUE(until([&] { return is_ready("web") && agent_->summary().ready == 1; }));
  configure(R"("local_storage":"true")");
  settle();
  stop_agent(OnStop::StopPods);
  line_->cut = true;
  start();
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 1; }));
}

// Goal: what a pod is given is kept as the server has it, also while nothing starts. Method: a ConfigMap changes under a pod that is ready,
// and is deleted; the checkpoint has the new value, then none; both are how changes arrive, not drift.
TEST_F(EdgeConfigOfANode, WhatPodsReferToIsKeptAsTheServerHasIt) {
  const auto settings = [](std::string_view value) {
    return std::format(R"({{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"settings","namespace":"default"}},"data":{{"k":"{}"}}}})", value);
  };
  ASSERT_TRUE(run_on(loop_, admin_->create(client::kConfigMaps, "default", settings("first-value"))));
  stop_agent(OnStop::StopPods);
  start_agent([](AgentOptions& o) { o.lease_period = 100ms, o.slow_write_period = 50ms; });
  create_pod("web", R"("skerry.dev/idle-after":"300ms")", R"(,"envFrom":[{"configMapRef":{"name":"settings"}}])");
  ASSERT_TRUE(until([&] { return is_ready("web"); })) << field("web", "status");
  const std::string statuses = field("web", "status.containerStatuses");
  configure(R"("sync_interval":"5s")");  // else they are compared once a minute, which is too late here
  ASSERT_TRUE(run_on(loop_, admin_->update(client::kConfigMaps, "default", "settings", settings("second-value"))));
  ASSERT_TRUE(until([&] { return !on_disk("second-value").empty(); }));
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kConfigMaps, "default", "settings")));
  const auto asked = [&] { return std::ranges::count_if(std::exchange(line_->requests, {}), [](const std::string& r) { return r.contains("configmaps/settings"); }); };
  asked();
  ASSERT_TRUE(until([&] { return asked() > 0; }));
  EXPECT_EQ(metric("skerry_agent_drift_total"), "0");
  EXPECT_EQ(field("web", "status.containerStatuses"), statuses) << "nothing was started anew";
}

// Goal: a power cut at any moment takes back nothing that anybody was told. Method: the checkpoint on a disk that forgets what was not
// synced; pods are being made when the power goes; a start from that disk without network.
TEST_F(AgentOffline, APowerCutTakesBackNothingThatWasTold) {
  sql::FaultyVfs disk("agent-power");
  const auto boot = [&] {
    start_agent([&](AgentOptions& o) {
      o.slow_write_period = 50ms;
      o.checkpoint.vfs = disk.name();
    });
  };
  stop_agent(OnStop::StopPods);
  boot();
  std::size_t pods = 0;
  for (int cut = 1; cut <= 5; ++cut) {
    SCOPED_TRACE(cut);
    const std::string first = std::format("web-{}", pods);
    for (int i = 0; i < 3; ++i) create_pod(std::format("web-{}", pods++));
    ASSERT_TRUE(until([&] { return is_ready(first); })) << field(first, "status");
    loop_.context().run_for(std::chrono::milliseconds(15 * cut * cut));
    std::map<std::string, std::string> told;
    for (std::size_t i = 0; i < pods; ++i)
      if (const std::string name = std::format("web-{}", i); is_ready(name)) told[name] = field(name, "status.podIP");
    ASSERT_TRUE(told.contains(first));
    {
      ExpectErrorLog expected("the checkpoint cannot be written");
      disk.crash(&random_);
      create_pod(std::format("web-{}", pods++));  // something to write
      ASSERT_TRUE(until([&] { return ask_node("/healthz").status == 503; }));
      line_->cut = true;
      stop_agent(OnStop::StopPods);
    }
    disk.restart();
    boot();
    ASSERT_TRUE(until([&] { return agent_->summary().ready >= told.size(); })) << agent_->summary().ready << " of " << told.size();
    for (const auto& [name, ip] : told) EXPECT_THAT(call(ip), HasSubstr("200 OK")) << name;
    line_->cut = false;
    ASSERT_TRUE(until([&] {
      for (std::size_t i = 0; i < pods; ++i)
        if (!is_ready(std::format("web-{}", i))) return false;
      return true;
    }));
    for (const auto& [name, ip] : told) EXPECT_EQ(field(name, "status.podIP"), ip) << name;
  }
  stop_agent(OnStop::StopPods);
}

}  // namespace
}  // namespace skerry::agent
