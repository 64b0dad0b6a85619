// SPDX-License-Identifier: Apache-2.0
// What a node does when its machine runs short, with real surroundings (agent_node.h): memory, the size of logs, the disk.
#include <fcntl.h>
#include <sys/mount.h>

#include <deque>

#include "base/testing_needs.h"
#include "rt/task_group.h"
#include "tests/integration/agent_node.h"
#include "tests/test_main.h"

namespace skerry::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class AgentTrouble : public AgentNode {
 protected:
  void TearDown() override {
    EXPECT_TRUE(run_on(loop_, tasks_.stop()));
    if (agent_) stop_agent(OnStop::StopPods);
    if (!mounted_.empty()) {
      EXPECT_EQ(::umount2(mounted_.c_str(), MNT_DETACH), 0) << std::strerror(errno);
    }
    AgentNode::TearDown();
  }
  void create(const std::string& name, std::string_view idle_after, int priority, const char* image = kImage) {
    auto made = run_on(loop_, admin_->create(client::kPods, "default", std::format(
        R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default","annotations":{{"skerry.dev/idle-after":"{}"}}}},)"
        R"("spec":{{"nodeName":"edge-1","priority":{},"containers":[{{"name":"app","image":"{}"}}]}}}})", name, idle_after, priority, image)));
    ASSERT_TRUE(made) << made.error().what;
    ASSERT_TRUE(until([&] { return is_ready(name); })) << field(name, "status");
  }
  // As `kubectl logs` asks.
  std::string logs(const std::string& pod, const std::string& query = "") {
    auto answer = run_on(loop_, admin_line_->send(log_request(pod, query), http::BodyMode::Streamed, 10s));
    if (!answer || answer->status != 200) return answer ? std::format("({})", answer->status) : answer.error().what;
    return run_on(loop_, http::collect(std::move(answer->stream), 1 << 20)).value_or("(broken)");
  }
  static http::Request log_request(const std::string& pod, const std::string& query) {
    http::Request request;
    request.method = "GET";
    request.target = std::format("/api/v1/namespaces/default/pods/{}/log?{}", pod, query);
    return request;
  }
  // So often a request that takes long.
  rt::Task<> spin(rt::BlockingPool& pool, std::string ip, int times, bool& ended) {
    CO_TRY_OK(co_await pool.run<void>([this, ip, times]() -> Result<> {
      for (int i = 0; i < times; ++i) (void)call(ip, "/spin");
      return {};
    }));
    ended = true;
    co_return Result<>{};
  }
  fs::path mounted_;
  bool short_of_memory_ = false;  // outlives the agent, which reads it until it has stopped
  rt::TaskGroup tasks_{loop_};
};

// --- memory ---------------------------------------------------------------------------------------------------------------

// Goal: under memory pressure sandboxes that may be idle leave first and their pods stay; then the least important pod is ended;
// each with an Event; and no more than needed. Method: readings of a machine that stalls for memory (PSI) until one pod is gone.
TEST_F(AgentTrouble, GivesMemoryBackIdleAbleFirstThenByPriority) {
  stop_agent(OnStop::StopPods);
  start_agent([](AgentOptions& options) { options.relief_period = 50ms; options.status_period = 50ms; },
              [this] {
                MachineFacts facts = read_machine("/");
                const bool relieved = agent_ && agent_->summary().pods == 3 && agent_->summary().ready < 3;
                facts.memory_bytes = 8LL << 30;
                facts.memory_available_bytes = short_of_memory_ && !relieved ? 600LL << 20 : 4LL << 30;
                facts.memory_pressure_10s = short_of_memory_ && !relieved ? 60 : 0;
                return facts;
              });
  create("idler", "1h", 100);
  create("low", "never", 10);
  create("high", "never", 20);
  const std::string idler = field("idler", "status.podIP"), high = field("high", "status.podIP");
  for (const char* name : {"idler", "low", "high"}) EXPECT_THAT(call(field(name, "status.podIP")), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return agent_->summary().awake == 3; }));
  EXPECT_THAT(node_condition("MemoryPressure"), HasSubstr("False"));
  short_of_memory_ = true;
  ASSERT_TRUE(until([&] { return metric("skerry_agent_trims_total") == "1"; })) << "the sandbox that may be idle leaves first";
  EXPECT_EQ(metric("skerry_agent_evictions_total"), "0");
  ASSERT_TRUE(until([&] { return field("low", "status.reason") == "Evicted"; })) << field("low", "status");
  EXPECT_EQ(field("low", "status.phase"), "Failed");
  EXPECT_THAT(field("low", "status.message"), HasSubstr("600 MiB of memory are available"));
  EXPECT_TRUE(is_ready("idler") && is_ready("high"));
  EXPECT_THAT(field("idler", "status.containerStatuses"), HasSubstr("\"restartCount\":0"));
  EXPECT_THAT(call(idler), HasSubstr("200 OK")) << "it wakes again";
  EXPECT_THAT(call(high), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return std::ranges::count(events_about("low"), "Evicted") == 1 && std::ranges::count(events_about("idler"), "MemoryPressure") >= 1; }));
  EXPECT_THAT(events_about("high"), Not(Contains("Evicted")));
  EXPECT_EQ(metric("skerry_agent_evictions_total"), "1");
  ASSERT_TRUE(until([&] { return node_condition("MemoryPressure").starts_with("False"); }));
}

// --- processor time -------------------------------------------------------------------------------------------------------

// Goal: a Service goes to awake pods first, and to idle ones too when those are busy; a deleted pod leaves its rules and ends.
// Method: two pods, one awake; a dozen calls go to that one alone. Then it works at its limit all the time: sooner or later a
// connection wakes the other.
TEST_F(AgentTrouble, OffersIdlePodsWhenTheAwakeOneIsBusy) {
  NEEDS(fs::exists("/usr/sbin/nft"), "nft is not installed");
  stop_agent(OnStop::StopPods);
  rt::BlockingPool nft({.name = "nft"}), callers({.name = "callers"});
  net::ServiceProxy proxy(loop_, nft, {.rules = {.node = "edge-1", .pods = pods_.pods, .services = pods_.services}});
  proxy.start();
  services_ = &proxy;
  start_agent();
  for (const char* name : {"one", "two"}) {
    auto made = run_on(loop_, admin_->create(client::kPods, "default", std::format(
        R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default","annotations":{{"skerry.dev/idle-after":"1h"}}}},)"
        R"("spec":{{"nodeName":"edge-1","containers":[{{"name":"app","image":"{}","resources":{{"limits":{{"cpu":"200m"}}}}}}]}}}})", name, kLogger)));
    ASSERT_TRUE(made) << made.error().what;
    ASSERT_TRUE(until([&] { return is_ready(name); })) << field(name, "status");
  }
  const std::string one = field("one", "status.podIP"), two = field("two", "status.podIP");
  ASSERT_TRUE(run_on(loop_, admin_->create(client::kServices, "default", R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},
    "spec":{"selector":{"app":"web"},"ports":[{"name":"http","port":80,"targetPort":8080}]}})")));
  const std::string service = run_on(loop_, admin_->get(client::kServices, "default", "web")).value()->parse().root().path("spec.clusterIP").dump();
  const std::string cluster_ip = service.substr(1, service.size() - 2);
  ASSERT_TRUE(run_on(loop_, admin_->create(client::kEndpointSlices, "default", std::format(
      R"({{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"web-1","namespace":"default","labels":{{"kubernetes.io/service-name":"web"}}}},)"
      R"("addressType":"IPv4","ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],)"
      R"("endpoints":[{{"addresses":["{}"],"conditions":{{"ready":true}}}},{{"addresses":["{}"],"conditions":{{"ready":true}}}}]}})", one, two))));
  EXPECT_THAT(call(one), HasSubstr("200 OK"));
  ASSERT_TRUE(until([&] { return agent_->summary().awake == 1 && call(cluster_ip, "/", 80).contains("200 OK"); }));
  loop_.context().run_for(std::chrono::milliseconds(300));  // the rules follow what is awake
  for (int i = 0; i < 12; ++i) EXPECT_THAT(call(cluster_ip, "/", 80), HasSubstr("200 OK"));
  EXPECT_EQ(agent_->summary().awake, 1u) << "the awake one has room";
  bool ended = false;
  tasks_.spawn("spin", spin(callers, one, 6, ended));
  std::deque<os::UniqueFd> connections;  // an answer of the busy one would be waited for; who gets a connection is decided when it is opened
  ASSERT_TRUE(until([&] {
    connections.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    EXPECT_EQ(net::testing::try_connect(connections.back().get(), cluster_ip.c_str(), 80), 0);
    if (connections.size() > 32) connections.pop_front();
    loop_.context().run_for(std::chrono::milliseconds(50));
    return agent_->summary().awake == 2;
  })) << "the idle one was not offered";
  connections.clear();
  ASSERT_TRUE(until([&] { return ended; }));

  // The slice is rewritten as its controller does at a deletion.
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "two")));
  ASSERT_TRUE(run_on(loop_, admin_->patch(client::kEndpointSlices, "default", "web-1", client::PatchType::Merge, std::format(
      R"({{"endpoints":[{{"addresses":["{}"],"conditions":{{"ready":true}}}}]}})", one))));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "two") == nullptr; })) << field("two", "status");
  stop_agent(OnStop::StopPods);
  services_ = nullptr;
  EXPECT_TRUE(run_on(loop_, proxy.stop()));
}

// --- logs -----------------------------------------------------------------------------------------------------------------

std::string numbered(int from, int to) {
  std::string out;
  for (int i = from; i < to; ++i) out += std::format("/line-{:04}\n", i);
  return out;
}

rt::Task<> follow(http::Transport& api, http::Request request, std::string& out, bool& ended) {
  CO_TRY(auto answer, co_await api.send(std::move(request), http::BodyMode::Streamed, 10s));
  while (answer.stream) {
    CO_TRY(auto chunk, co_await answer.stream->next());
    if (!chunk) break;
    out += **chunk;
  }
  ended = true;
  co_return Result<>{};
}

// Goal: a log is rotated while its sandbox writes, loses no line, and is followed over rotations until its container ends; then
// there is the former one and the new one. Method: small files, real sandboxes, the API server in between as for kubectl.
TEST_F(AgentTrouble, RotatesLogsUnderAFollowerAndARestart) {
  stop_agent(OnStop::StopPods);
  constexpr std::uint64_t kFileMax = 4096;
  start_agent([](AgentOptions& options) { options.log_bytes_max = kFileMax; options.log_files_max = 6; options.log_check_period = 20ms; });
  create("talker", "never", 0, kLogger);
  const std::string ip = field("talker", "status.podIP"), uid = field("talker", "metadata.uid");
  std::string followed;
  bool ended = false;
  tasks_.spawn("follow", follow(*admin_line_, log_request("talker", "follow=true"), followed, ended));
  constexpr int kLines = 600;
  for (int i = 0; i < kLines; ++i) {
    ASSERT_THAT(call(ip, std::format("/line-{:04}", i)), HasSubstr("200 OK"));
    if (i % 10 == 9) loop_.context().run_for(std::chrono::milliseconds(20));
  }
  ASSERT_TRUE(until([&] { return followed.size() >= numbered(0, kLines).size(); })) << followed.size();
  ASSERT_EQ(followed, numbered(0, kLines));
  EXPECT_FALSE(ended);

  const fs::path folder = folder_ / "node/logs" / ("default_talker_" + uid) / "app";
  std::size_t files = 0;
  for (const auto& file : fs::directory_iterator(folder)) {
    ++files;
    EXPECT_TRUE(file.path().filename().native().starts_with("0.log")) << file.path();
    EXPECT_LT(file.file_size(), 4 * kFileMax) << file.path() << ": lines of a few milliseconds go over the limit, no more";
  }
  EXPECT_EQ(files, 6u);
  const std::string kept = logs("talker");  // older files are gone, what is kept ends with the last line
  EXPECT_TRUE(numbered(0, kLines).ends_with(kept)) << kept;
  EXPECT_GE(kept.size(), numbered(0, 150).size());
  EXPECT_EQ(logs("talker", "tailLines=3"), numbered(kLines - 3, kLines));

  ASSERT_TRUE(kill_sandboxes());
  ASSERT_TRUE(until([&] { return field("talker", "status.containerStatuses").contains("\"restartCount\":1"); })) << field("talker", "status");
  ASSERT_TRUE(until([&] { return ended; })) << "it follows one container, as kubectl does";
  EXPECT_EQ(followed, numbered(0, kLines));
  ASSERT_TRUE(until([&] { return call(ip, "/after").contains("200 OK"); }));
  EXPECT_TRUE(logs("talker").ends_with("/after\n")) << logs("talker");
  EXPECT_THAT(logs("talker"), Not(HasSubstr("/line-")));
  EXPECT_TRUE(logs("talker", "previous=true").ends_with(numbered(kLines - 1, kLines)));
}

// --- the disk -------------------------------------------------------------------------------------------------------------

// Goal: a full disk under the checkpoint stops nothing that runs, begins nothing new, is said, and is over once there is room.
// Method: the node's folder on a small file system of its own, filled to the last block; another agent reads it afterwards.
TEST_F(AgentTrouble, GoesOnWithAFullDiskAndRecovers) {
  stop_agent(OnStop::StopPods);
  const fs::path node = folder_ / "node";
  ASSERT_EQ(::mount("skerry-test", node.c_str(), "tmpfs", 0, "size=16m"), 0) << std::strerror(errno);
  mounted_ = node;
  const auto quick = [](AgentOptions& options) { options.status_period = 50ms; };
  start_agent(quick);
  create("web", "300ms", 0);
  const std::string ip = field("web", "status.podIP");
  {
    auto filler = os::open_file(node / "filler", O_WRONLY | O_CREAT, 0600).value();
    const std::string block(4096, 'x');
    while (::write(filler.get(), block.data(), block.size()) > 0) {
    }
  }
  {
    ExpectErrorLog expected("the checkpoint cannot be written");
    // Larger than the room that the database's files have inside.
    auto made = run_on(loop_, admin_->create(client::kPods, "default", std::format(
        R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"late","namespace":"default","annotations":{{"note":"{}"}}}},)"
        R"("spec":{{"nodeName":"edge-1","containers":[{{"name":"app","image":"{}"}}]}}}})", std::string(200'000, 'n'), kImage)));
    ASSERT_TRUE(made) << made.error().what;
    ASSERT_TRUE(until([&] { return ask_node("/healthz").status == 503; }));
    EXPECT_THAT(std::string(ask_node("/healthz").text()), HasSubstr("the checkpoint cannot be written"));
    ASSERT_TRUE(until([&] { return node_condition("DiskPressure").starts_with("True the node's checkpoint cannot be written"); })) << node_condition("DiskPressure");
    EXPECT_THAT(node_condition("Ready"), HasSubstr("True")) << "what serves stays in its Services";
    ASSERT_TRUE(until([&] { return std::ranges::count(events_about("edge-1"), "CheckpointNotWritable") == 1; }));
    for (int i = 0; i < 3; ++i) {  // it wakes, serves and falls idle as ever
      EXPECT_THAT(call(ip), HasSubstr("200 OK"));
      ASSERT_TRUE(until([&] { return agent_->summary().awake == 1; }));
      ASSERT_TRUE(until([&] { return agent_->summary().awake == 0; }));
    }
    EXPECT_EQ(field("late", "status.podIP"), "") << "nothing is begun that would be forgotten";
    // The power goes, and comes back without line and without room: what is on the disk serves.
    line_->cut = true;
    stop_agent(OnStop::StopPods);
    start_agent(quick);
    ASSERT_TRUE(until([&] { return agent_->summary().ready == 1; }));
    EXPECT_THAT(call(ip), HasSubstr("200 OK"));
    EXPECT_EQ(ask_node("/healthz").status, 503);
    line_->cut = false;
  }
  ASSERT_TRUE(fs::remove(node / "filler"));
  ASSERT_TRUE(until([&] { return is_ready("late"); })) << field("late", "status");
  EXPECT_EQ(ask_node("/healthz").status, 200);
  ASSERT_TRUE(until([&] { return node_condition("DiskPressure").starts_with("False"); }));
  const std::string late = field("late", "status.podIP");
  stop_agent(OnStop::KeepPods);
  line_->cut = true;  // all it knows is on its disk
  start_agent(quick);
  EXPECT_EQ(agent_->summary().ready, 2u);
  EXPECT_THAT(call(late), HasSubstr("200 OK"));
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  line_->cut = false;
}

}  // namespace
}  // namespace skerry::agent
