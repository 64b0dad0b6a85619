// SPDX-License-Identifier: Apache-2.0
// What an agent shows of itself, and what it does with changes that are asked of it while its line is cut (agent_node.h, ADR 0036).
#include "agent/local_view.h"

#include "tests/integration/agent_node.h"
#include "tests/test_main.h"

namespace skerry::agent {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class AgentLocal : public AgentNode {
 protected:
  void SetUp() override {
    AgentNode::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    stop_agent(OnStop::StopPods);
    start();
    const std::string spec = std::format(R"("replicas":2,"selector":{{"matchLabels":{{"app":"web"}}}},"template":{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{"containers":[{{"name":"app","image":"{}"}}]}}}})", kImage);
    deployment_ = must(run_on(loop_, admin_->create(client::kDeployments, "default", std::format(R"({{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"web","namespace":"default"}},"spec":{{{}}}}})", spec))))->uid();
    set_ = must(run_on(loop_, admin_->create(client::kReplicaSets, "default",
                                             std::format(R"({{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{{"name":"web-1","namespace":"default",{}}},"spec":{{{}}}}})", owner("Deployment", "web", deployment_), spec))))->uid();
    make_pod("web-1-a");
    make_pod("web-1-b");
    ASSERT_TRUE(until([&] { return is_ready("web-1-a") && is_ready("web-1-b"); }));
    ASSERT_TRUE(until([&] { return shown("Deployment", "web") != nullptr; })) << "its owners were not got";
  }
  void start(std::function<MachineFacts()> machine = nullptr) {
    start_agent([](AgentOptions& o) {
      o.slow_write_period = o.relief_period = 50ms;
      o.lease_period = 1s;
    }, std::move(machine));
  }
  static std::string owner(std::string_view kind, std::string_view name, std::string_view uid) {
    return std::format(R"("ownerReferences":[{{"apiVersion":"apps/v1","kind":"{}","name":"{}","uid":"{}","controller":true}}])", kind, name, uid);
  }
  void make_pod(const std::string& name, std::string_view annotations = "") {
    must(run_on(loop_, admin_->create(client::kPods, "default", std::format(
        R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default","labels":{{"app":"web"}},"annotations":{{{}}},{}}},"spec":{{"nodeName":"edge-1","containers":[{{"name":"app","image":"{}","resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}}}}}}]}}}})",
        name, annotations, owner("ReplicaSet", "web-1", set_), kImage))));
  }
  kube::ObjectPtr shown(std::string_view kind, std::string_view name) {
    for (const auto& object : agent_->local_view().objects())
      if (object->kind() == kind && object->name() == name) return object;
    return nullptr;
  }
  std::string shown_field(std::string_view kind, std::string_view name, std::string_view path) {
    const auto object = shown(kind, name);
    if (!object) return "(none)";
    const auto doc = object->parse();
    const kube::Json value = doc.root().path(path);
    return value.is_string() ? std::string(value.str()) : value.exists() ? value.dump() : "";
  }
  std::vector<std::string> pods(bool stand_ins) {
    std::vector<std::string> out;
    for (const auto& object : agent_->local_view().objects())
      if (object->kind() == "Pod" && object->uid().starts_with("stand-in-") == stand_ins) out.push_back(object->name());
    return out;
  }
  std::size_t ready() { return agent_->summary().ready; }
  Result<LocalView::Changed> change(LocalChange::Field field, std::string value) {
    return run_on(loop_, agent_->local_view().change({.namespace_ = "default", .name = "web", .uid = deployment_, .field = field, .value = std::move(value)}));
  }
  Result<LocalView::Changed> scale(int n) { return change(LocalChange::Field::Replicas, std::to_string(n)); }
  void cut() {
    line_->cut = true;
    ASSERT_TRUE(until([&] { return !agent_->summary().connected; }));
  }
  std::string replicas() {
    const auto doc = get(client::kDeployments, "default", "web")->parse();
    return doc.root()["spec"]["replicas"].dump();
  }
  std::string restarts(const std::string& pod) {
    const auto object = shown("Pod", pod);
    if (!object) return "(none)";
    const auto doc = object->parse();
    return doc.root()["status"]["containerStatuses"][std::size_t{0}]["restartCount"].dump();
  }
  std::string deployment_, set_;
  bool short_of_memory_ = false;  // outlives the agent, which reads it until it has stopped
};

TEST_F(AgentLocal, ShowsWhatItKnowsWhileItIsAlone) {
  EXPECT_EQ(shown_field("Pod", "web-1-a", "status.phase"), "Running");
  EXPECT_EQ(shown_field("Node", "edge-1", "metadata.name"), "edge-1");
  EXPECT_NE(shown("ReplicaSet", "web-1"), nullptr);
  cut();
  EXPECT_EQ(shown_field("Deployment", "web", "status.readyReplicas"), "2") << "counted here: the server's controllers are not there";
  bool started = false;
  for (const auto& object : agent_->local_view().objects()) {
    if (object->kind() == "Event" && object->parse().root()["reason"].str() == "Started") started = true;
    EXPECT_NE(object->kind(), "Secret");
  }
  EXPECT_TRUE(started);
}

// Goal: who looks at the node costs no bytes on the wire, and what has not changed looks so. Method: a look every tenth of a second for three and a half.
TEST_F(AgentLocal, ShowingAsksTheServerNothing) {
  EXPECT_FALSE(until([] { return false; }, 2500ms));  // the owners' second reading
  line_->requests.clear();
  std::set<std::string> nodes;
  for (int i = 0; i < 35; ++i) {
    nodes.insert(*shown("Node", "edge-1")->json());
    EXPECT_FALSE(until([] { return false; }, 100ms));
  }
  EXPECT_THAT(line_->requests, Not(Contains(HasSubstr("GET"))));
  EXPECT_LE(nodes.size(), 2u) << "the machine is read every ten seconds, and shown as it was then";
}

// Goal: while the node is alone a pod that crashes again and again is in back-off as ever, and costs the Service nothing; back on its
// feet it is offered again. Method: two pods, a real Service; the sandbox of one dies twice; connections go on all the while.
TEST_F(AgentLocal, APodInBackOffIsLeftOutOfItsServiceWhileItIsAlone) {
  NEEDS(fs::exists("/usr/sbin/nft"), "nft is not installed");
  stop_agent(OnStop::StopPods);
  rt::BlockingPool nft({.name = "nft"});
  net::ServiceProxy proxy(loop_, nft, {.rules = {.node = "edge-1", .pods = pods_.pods, .services = pods_.services}});
  proxy.start();
  services_ = &proxy;
  start();
  ASSERT_TRUE(until([&] { return ready() == 2; }));
  const std::string a = field("web-1-a", "status.podIP"), b = field("web-1-b", "status.podIP");
  const std::string ip = must(run_on(loop_, admin_->create(client::kServices, "default", R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},
    "spec":{"selector":{"app":"web"},"ports":[{"name":"http","port":80,"targetPort":8080}]}})")))->parse().root()["spec"]["clusterIP"].dump();
  const std::string service = ip.substr(1, ip.size() - 2);
  const auto endpoint = [&](const std::string& pod, const std::string& address) {
    return std::format(R"({{"addresses":["{}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"nodeName":"edge-1","targetRef":{{"kind":"Pod","name":"{}","namespace":"default","uid":"{}"}}}})",
                       address, pod, field(pod, "metadata.uid"));
  };
  must(run_on(loop_, admin_->create(client::kEndpointSlices, "default", std::format(
      R"({{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"web-x","namespace":"default","labels":{{"kubernetes.io/service-name":"web"}}}},)"
      R"("addressType":"IPv4","ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],"endpoints":[{},{}]}})", endpoint("web-1-a", a), endpoint("web-1-b", b)))));
  ASSERT_TRUE(until([&] { return call(service, "/", 80).contains("200 OK"); }));
  const auto leads_to = [&] {
    std::set<std::string> out;
    for (const auto& route : proxy.rules().routes())
      for (const auto& [address, port] : route.pods) out.insert(address.str());
    return out;
  };
  const auto shown_ready = [&](const std::string& address) {
    const auto doc = shown("EndpointSlice", "web-x")->parse();
    for (const kube::Json one : doc.root()["endpoints"].items())
      if (one["addresses"][std::size_t{0}].str() == address) return one["conditions"]["ready"].boolean();
    return false;
  };
  cut();
  for (const char* count : {"1", "2"}) {
    ASSERT_TRUE(until([&] { return call(a).contains("200 OK"); }));
    EXPECT_FALSE(until([] { return false; }, 1100ms));
    ASSERT_TRUE(kill_sandboxes());
    if (*count == '1') {
      ASSERT_TRUE(until([&] { return restarts("web-1-a") == count; }));
    } else {
      ASSERT_TRUE(until([&] { return shown_field("Pod", "web-1-a", "status.containerStatuses").contains("CrashLoopBackOff"); })) << shown_field("Pod", "web-1-a", "status");
    }
  }
  ASSERT_TRUE(until([&] { return leads_to() == std::set{b}; }));
  EXPECT_FALSE(until([] { return false; }, 300ms));  // the kernel's rules
  for (int i = 0; i < 12; ++i) EXPECT_THAT(call(service, "/", 80), HasSubstr("200 OK"));
  EXPECT_FALSE(shown_ready(a));
  EXPECT_TRUE(shown_ready(b));
  bool said = false;
  for (const auto& object : agent_->local_view().objects())
    said = said || (object->kind() == "Event" && object->parse().root()["reason"].str() == "BackOff" && object->parse().root()["involvedObject"]["name"].str() == "web-1-a");
  EXPECT_TRUE(said);
  ASSERT_TRUE(until([&] { return restarts("web-1-a") == "2" && shown_ready(a); })) << "ten seconds later it starts again";
  EXPECT_THAT(call(a), HasSubstr("200 OK"));
  EXPECT_THAT(field("web-1-a", "status.containerStatuses"), HasSubstr("\"restartCount\":0")) << "the server knows nothing of it yet";
  line_->cut = false;
  ASSERT_TRUE(until([&] { return field("web-1-a", "status.containerStatuses").contains("\"restartCount\":2"); }));
  stop_agent(OnStop::StopPods);
  services_ = nullptr;
  EXPECT_TRUE(run_on(loop_, proxy.stop()));
}

TEST_F(AgentLocal, PassesAChangeOnWhileTheLineIsThere) {
  EXPECT_EQ(scale(5).value(), LocalView::Changed::Upstream);
  EXPECT_EQ(replicas(), "5");
  EXPECT_TRUE(pods(true).empty());
  EXPECT_EQ(change(LocalChange::Field::RestartedAt, "2026-01-01T00:00:00Z").value(), LocalView::Changed::Upstream);
  EXPECT_THAT(*get(client::kDeployments, "default", "web")->json(), HasSubstr("2026-01-01T00:00:00Z"));
}

// Goal: more replicas serve at once, over a crash of everything too; the server is told, and its pods take over. Method: the line is cut,
// the agent is started anew in the middle.
TEST_F(AgentLocal, StandInsServeOutliveARebootAndGoWhenTheServersPodsAreThere) {
  cut();
  ASSERT_EQ(scale(4).value(), LocalView::Changed::Here);
  ASSERT_TRUE(until([&] { return ready() == 4; }));
  EXPECT_EQ(pods(true).size(), 2u);
  EXPECT_EQ(shown_field("Deployment", "web", "spec.replicas"), "4");
  const std::string standin = pods(true)[0], ip = shown_field("Pod", standin, "status.podIP"), uid = shown_field("Pod", standin, "metadata.uid");
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  stop_agent(OnStop::StopPods);
  start();
  ASSERT_TRUE(until([&] { return ready() == 4; }));
  EXPECT_EQ(shown_field("Pod", standin, "metadata.uid"), uid);
  EXPECT_EQ(shown_field("Pod", standin, "status.podIP"), ip);
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  line_->cut = false;
  ASSERT_TRUE(until([&] { return replicas() == "4"; }));
  ASSERT_TRUE(until([&] { return std::ranges::contains(events_about("web"), "LocalChangeReplayed"); }));
  EXPECT_EQ(get(client::kPods, "default", standin), nullptr) << "the server knows nothing of stand-ins";
  make_pod("web-1-c");
  ASSERT_TRUE(until([&] { return pods(true).size() == 1; }));
  make_pod("web-1-d");
  ASSERT_TRUE(until([&] { return pods(true).empty(); }));
  EXPECT_EQ(pods(false).size(), 4u);
}

// Goal: a stand-in that the node ends for want of memory is removed, and made again when there may be memory again, not at once.
// Method: readings of a machine that stalls until it is gone; it is the only pod awake, and may not be idle.
TEST_F(AgentLocal, AnEvictedStandInIsRemovedAndMadeAgainLater) {
  stop_agent(OnStop::StopPods);
  start([this] {
    MachineFacts facts = read_machine("/");
    facts.memory_bytes = 8LL << 30;
    facts.memory_available_bytes = short_of_memory_ ? 600LL << 20 : 4LL << 30;
    facts.memory_pressure_10s = short_of_memory_ ? 60 : 0;
    return facts;
  });
  EXPECT_FALSE(until([] { return false; }, 1100ms));  // the youngest, by whole seconds, is the one that is copied
  make_pod("web-1-c", R"("skerry.dev/idle-after":"never")");
  ASSERT_TRUE(until([&] { return ready() == 3 && shown_field("Deployment", "web", "metadata.name") == "web"; }));
  ASSERT_TRUE(until([&] { return is_ready("web-1-c"); }));
  EXPECT_FALSE(until([] { return false; }, 2500ms));
  cut();
  ASSERT_EQ(scale(3).value(), LocalView::Changed::Here);
  ASSERT_TRUE(until([&] { return ready() == 4; }));
  const std::string first = pods(true).at(0);
  EXPECT_THAT(call(shown_field("Pod", first, "status.podIP")), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return agent_->summary().awake == 1; }));
  short_of_memory_ = true;
  ASSERT_TRUE(until([&] { return metric("skerry_agent_evictions_total") == "1"; }));
  short_of_memory_ = false;
  ASSERT_TRUE(until([&] { return pods(true).empty(); }));
  EXPECT_FALSE(until([&] { return !pods(true).empty(); }, 3s)) << "not at once";
  ASSERT_TRUE(until([&] { return ready() == 4; }));
  EXPECT_THAT(pods(true), Not(Contains(first)));
  EXPECT_EQ(pods(true).size(), 1u);
}

TEST_F(AgentLocal, HeldPodsStartAgainWhenTheServerHasAnotherNumber) {
  const std::string a = field("web-1-a", "status.podIP"), b = field("web-1-b", "status.podIP");
  cut();
  ASSERT_EQ(scale(1).value(), LocalView::Changed::Here);
  ASSERT_TRUE(until([&] { return ready() == 1; }));
  loop_.context().run_for(std::chrono::milliseconds(2500));  // until it is drained and its listener closed; call() lets nothing run
  ASSERT_TRUE(until([&] { return call(a).starts_with("connect") != call(b).starts_with("connect"); })) << "one refuses, one serves";
  must(run_on(loop_, admin_->patch(client::kDeployments, "default", "web", client::PatchType::Merge, R"({"spec":{"replicas":3}})")));
  line_->cut = false;
  ASSERT_TRUE(until([&] { return std::ranges::contains(events_about("web"), "LocalChangeLost"); }));
  EXPECT_EQ(replicas(), "3");
  ASSERT_TRUE(until([&] { return ready() == 2; }));
  EXPECT_THAT(call(a), HasSubstr("200 OK"));
  EXPECT_THAT(call(b), HasSubstr("200 OK"));
}

TEST_F(AgentLocal, RestartsInPlaceWhileCutOff) {
  cut();
  ASSERT_EQ(change(LocalChange::Field::RestartedAt, "2026-01-01T00:00:00Z").value(), LocalView::Changed::Here);
  ASSERT_TRUE(until([&] { return restarts("web-1-a") == "1" && restarts("web-1-b") == "1" && ready() == 2; }));
  EXPECT_THAT(call(shown_field("Pod", "web-1-a", "status.podIP")), HasSubstr("200 OK"));
  loop_.context().run_for(std::chrono::milliseconds(500));
  EXPECT_EQ(restarts("web-1-a"), "1");
}

TEST_F(AgentLocal, RefusesWhatDoesNotFitAndWhatItDoesNotRun) {
  cut();
  EXPECT_EQ(scale(9000).error().code, Errc::Exhausted);
  EXPECT_EQ(run_on(loop_, agent_->local_view().change({.namespace_ = "default", .name = "other", .uid = "u", .value = "1"})).error().code, Errc::NotFound);
  EXPECT_TRUE(pods(true).empty());
}

// Goal: a disk that spoils the checkpoint under a living agent costs nothing: all that it holds is written anew, a change that is made at that moment
// too. Method: each page is damaged while the line is cut and a change waits; then another change, a power cut, a boot, and the line's return.
TEST_F(AgentLocal, ADamagedCheckpointIsMadeAnewFromWhatTheAgentHolds) {
  sql::FaultyVfs disk("agent-damage");
  const auto boot = [&] {
    start_agent([&](AgentOptions& o) {
      o.slow_write_period = 50ms;
      o.lease_period = 1s;
      o.checkpoint = {.cache_kib = 1, .vfs = disk.name()};
    });
  };
  stop_agent(OnStop::StopPods);
  boot();
  must(run_on(loop_, admin_->create(client::kSecrets, "default", R"({"apiVersion":"v1","kind":"Secret","metadata":{"name":"password","namespace":"default"},"stringData":{"word":"hunter2"}})")));
  create_pod("secretive", R"("skerry.dev/idle-after":"300ms")", R"(,"envFrom":[{"secretRef":{"name":"password"}}])");
  create_pod("refused", "", R"(,"stdin":true)");
  ASSERT_TRUE(until([&] { return ready() == 3 && field("refused", "status").contains("stdin") && shown("Deployment", "web") != nullptr; }));
  loop_.context().run_for(std::chrono::milliseconds(500));  // what came last is on the disk
  const auto id_of = [this](const std::string& pod) {
    const std::string statuses = field(pod, "status.containerStatuses");
    return statuses.substr(std::min(statuses.find("skerry://"), statuses.size()), 25);
  };
  const std::string id = id_of("secretive"), ip = field("secretive", "status.podIP");
  cut();
  ASSERT_EQ(must(scale(3)), LocalView::Changed::Here);
  ASSERT_TRUE(until([&] { return ready() == 4; }));
  {
    ExpectErrorLog expected("the checkpoint was damaged: it was made anew");
    const std::string file = folder_ / "node/agent.db";
    for (const auto& [path, first, step] : {std::tuple{file, 4096u, 4096u}, std::tuple{file + "-wal", 32u + 24u, 24u + 4096u}})
      for (std::uint64_t at = first; at < disk.file_bytes(path); at += step)
        for (std::uint64_t i = 0; i < 16; ++i) disk.damage(path, at + i);
    ASSERT_EQ(must(scale(4)), LocalView::Changed::Here);
  }
  ASSERT_TRUE(until([&] { return ready() == 5; }));
  EXPECT_EQ(ask_node("/healthz").status, 200);
  bool said = false;
  for (const auto& object : agent_->local_view().objects()) said = said || (object->kind() == "Event" && object->parse().root()["reason"].str() == "CheckpointDamaged");
  EXPECT_TRUE(said);
  stop_agent(OnStop::StopPods);
  line_->requests.clear();
  boot();
  ASSERT_TRUE(until([&] { return ready() == 5; })) << ready();
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  EXPECT_EQ(shown_field("Deployment", "web", "spec.replicas"), "4");
  EXPECT_EQ(shown_field("Pod", "refused", "metadata.name"), "refused");
  line_->cut = false;
  ASSERT_TRUE(until([&] { return replicas() == "4"; })) << replicas();
  EXPECT_EQ(id_of("secretive"), id);
  EXPECT_THAT(field("secretive", "status.containerStatuses"), HasSubstr("\"restartCount\":0"));
  for (const std::string& request : line_->requests) EXPECT_FALSE(request.contains("limit=") && request.contains("/pods")) << "its watch resumes: " << request;
  stop_agent(OnStop::StopPods);
}

// Goal: a server that marked this node's pods unready while it was silent is told otherwise as soon as that is heard, not at the next check.
TEST_F(AgentLocal, PodsThatTheServerMarkedUnreadyAreToldAtOnce) {
  must(run_on(loop_, admin_->patch_status(client::kPods, "default", "web-1-a", client::PatchType::Strategic, R"({"status":{"conditions":[{"type":"Ready","status":"False"}]}})")));
  ASSERT_FALSE(is_ready("web-1-a"));
  EXPECT_TRUE(until([&] { return is_ready("web-1-a"); }, 20s)) << field("web-1-a", "status.conditions");
  EXPECT_EQ(metric("skerry_agent_drift_total"), "1");
}

}  // namespace
}  // namespace skerry::agent
