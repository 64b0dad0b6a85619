// SPDX-License-Identifier: Apache-2.0
// The agent with its real surroundings in one test: a real API server (in this process, its disk in memory), a real keeper with
// real sandboxes (processes of their own), the real compiler, a network namespace that plays the host.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <format>
#include <fstream>
#include <stdexcept>

#include "agent/agent.h"
#include "apiserver/apiserver.h"
#include "base/log.h"
#include "base/text.h"
#include "client/client.h"
#include "http/in_process.h"
#include "net/service_proxy.h"
#include "net/testing.h"
#include "oci/image_store.h"
#include "os/file.h"
#include "os/spawn.h"
#include "rt/blocking_pool.h"
#include "sql/faulty_vfs.h"
#include "tests/run_on.h"

namespace skerry::agent {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr const char* kImage = "registry.example.com/static:1";

// Another build's program, for trying things out by hand.
fs::path program(const char* variable, const char* built) {
  const char* other = std::getenv(variable);
  return other != nullptr ? other : built;
}

// The value, or a failure of the test's set-up that says why.
template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().what);
  return std::move(*result);
}

// A Transport that can be cut, as a network line is.
class Line final : public http::Transport {
 public:
  explicit Line(http::Handler& handler) : inner_(handler) {}
  rt::Task<http::Response> send(http::Request request, http::BodyMode mode, Duration timeout) override {
    if (cut) co_return Fail({Errc::Unavailable, "the line is cut"});
    co_return co_await inner_.send(std::move(request), mode, timeout);
  }
  bool cut = false;

 private:
  http::InProcessTransport inner_;
};

class AgentNode : public net::testing::HostNamespace {
 protected:
  void SetUp() override {
    net::testing::HostNamespace::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    cgroup_ = "skerry-agent-" + folder_.filename().native().substr(11);
    pods_ = options();
    pods_.pods = {{10u << 24 | 99u << 16}, 24};
    network_.emplace(must(net::PodNetwork::open(pods_)));
    auto database = must(sql::Database::open("agent-node.db", {.vfs = disk_.name()}, store::Store::migrations()));
    store_ = must(store::Store::open(loop_, clock_, std::move(database), {.resources = apiserver::ApiServer::store_resources()}));
    server_ = std::make_unique<apiserver::ApiServer>(*store_, clock_, random_, apiserver::Options{});
    ASSERT_TRUE(run_on(loop_, server_->bootstrap()));
    line_ = std::make_unique<Line>(*server_);
    api_.emplace(*line_);
    admin_line_ = std::make_unique<http::InProcessTransport>(*server_);
    admin_.emplace(*admin_line_);
    auto images = must(oci::ImageStore::open(folder_ / "images"));
    ASSERT_TRUE(images.add(SKERRY_TEST_MODULE, kImage, [](std::string_view) -> Result<std::string> { return std::string("http-wasm"); }, clock_.now()));
    start_agent();
  }
  void TearDown() override {
    if (agent_) stop_agent(OnStop::StopPods);
    if (store_) {
      admin_.reset();
      api_.reset();
      server_.reset();
      EXPECT_TRUE(run_on(loop_, store_->stop()));
      store_.reset();
    }
    if (network_) {
      EXPECT_TRUE(network_->remove());
    }
    network_.reset();
    if (!cgroup_.empty()) {
      EXPECT_FALSE(fs::exists("/sys/fs/cgroup/memory/" + cgroup_)) << "the keeper left its cgroups";
    }
    net::testing::HostNamespace::TearDown();
  }

  void start_agent() {
    AgentOptions options;
    options.node_name = "edge-1";
    options.node_address = "192.0.2.1";
    options.data_folder = folder_ / "node";
    options.image_folder = folder_ / "images";
    options.keeper_program = program("SKERRY_SANDBOX", SKERRY_SANDBOX);
    options.keeper_arguments = {"--cgroup", cgroup_, "--parked-max", "8"};
    options.keeper_environment = {"ASAN_OPTIONS=handle_segv=0:use_sigaltstack=0:detect_leaks=0"};
    options.compile_program = program("SKERRY_COMPILE", SKERRY_COMPILE);
    options.overcommit = {10, 4};
    agent_ = std::make_unique<Agent>(loop_, AgentDeps{.api = *api_, .network = *network_, .services = nullptr, .clock = clock_, .random = random_}, options);
    auto started = run_on(loop_, agent_->start());
    ASSERT_TRUE(started) << started.error().what;
  }
  void stop_agent(OnStop how) {
    auto stopped = run_on(loop_, agent_->stop(how));
    EXPECT_TRUE(stopped);
    agent_.reset();
  }
  // Lets the loop run until `done` or the patience ends.
  bool until(const std::function<bool()>& done, Duration patience = 30s) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      loop_.context().run_for(std::chrono::milliseconds(5));
    }
    return true;
  }
  kube::ObjectPtr get(const client::ResourcePath& path, const std::string& ns, const std::string& name) {
    auto object = run_on(loop_, admin_->get(path, ns, name));
    return object ? *object : nullptr;
  }
  std::string field(const std::string& pod, std::string_view path) {
    const auto object = get(client::kPods, "default", pod);
    if (!object) return "(gone)";
    const kube::JsonDoc doc = object->parse();
    const kube::Json value = doc.root().path(path);
    return value.is_string() ? std::string(value.str()) : value.exists() ? value.dump() : "";
  }
  bool is_ready(const std::string& pod) {
    const auto object = get(client::kPods, "default", pod);
    if (!object) return false;
    const kube::JsonDoc doc = object->parse();
    for (kube::Json c : doc.root()["status"]["conditions"].items())
      if (c["type"].str() == "Ready") return c["status"].str() == "True";
    return false;
  }
  void create_pod(const std::string& name, std::string_view annotations = R"("skerry.dev/idle-after":"300ms")", std::string_view container_more = "") {
    auto made = run_on(loop_, admin_->create(client::kPods, "default", std::format(
        R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default","annotations":{{{}}}}},)"
        R"("spec":{{"nodeName":"edge-1","containers":[{{"name":"app","image":"{}"{}}}]}}}})", name, annotations, kImage, container_more)));
    ASSERT_TRUE(made) << made.error().what;
  }
  // A request from the host to the pod; the loop does not run meanwhile: nothing of the agent is needed.
  std::string call(const std::string& ip, int port = 8080) {
    const os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (const int error = net::testing::try_connect(fd.get(), ip.c_str(), port); error != 0) return std::format("connect: {}", error);
    const std::string request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    if (!os::write_all(fd.get(), request)) return "write";
    std::string out;
    char buffer[4096];
    for (;;) {
      pollfd waiting{.fd = fd.get(), .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, 10'000) <= 0) return out + "(timeout)";
      const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (n <= 0) return out;
      out.append(buffer, static_cast<std::size_t>(n));
    }
  }
  http::Response ask_node(const std::string& target) {
    http::Request request;
    request.method = "GET";
    request.target = target;
    request.peer.certificate_common_name = "kube-apiserver-kubelet-client";
    return run_on(loop_, agent_->node_api().handle(std::move(request))).value();
  }
  std::string metric(const std::string& name) {
    const std::string text(ask_node("/metrics").text());
    for (std::string_view line : split(text, '\n'))
      if (line.starts_with(name)) return std::string(line.substr(line.rfind(' ') + 1));
    return "";
  }

  SystemClock clock_;
  SystemRandom random_;
  rt::Loop loop_;
  sql::FaultyVfs disk_{"agent-node"};
  std::string cgroup_;
  net::PodNetwork::Options pods_;
  std::optional<net::PodNetwork> network_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<apiserver::ApiServer> server_;
  std::unique_ptr<Line> line_;
  std::unique_ptr<http::InProcessTransport> admin_line_;
  std::optional<client::Client> api_, admin_;
  std::unique_ptr<Agent> agent_;
};

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
  // Whoever serves is in one of the slots; kill the one that has done work: all of them but the keeper are ours.
  bool killed = false;
  for (const auto& slot : fs::directory_iterator("/sys/fs/cgroup/memory/" + cgroup_)) {
    if (!slot.is_directory()) continue;
    const auto text = os::read_small_file(slot.path() / "cgroup.procs").value_or("");
    for (const auto line : split(text, '\n'))
      if (const auto pid = parse_int<int>(line)) killed = ::kill(*pid, SIGKILL) == 0 || killed;
  }
  ASSERT_TRUE(killed);
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
