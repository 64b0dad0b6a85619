// SPDX-License-Identifier: Apache-2.0
// The agent with its real surroundings in one test: a real API server (in this process, its disk in memory), a real keeper with
// real sandboxes (processes of their own), the real compiler, a network namespace that plays the host.
#pragma once
#include <gmock/gmock.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <format>
#include <fstream>
#include <stdexcept>

#include "agent/agent.h"
#include "agent/node_status.h"
#include "apiserver/apiserver.h"
#include "base/log.h"
#include "base/text.h"
#include "client/client.h"
#include "http/in_process.h"
#include "net/name_server.h"
#include "net/service_proxy.h"
#include "net/testing.h"
#include "oci/image_store.h"
#include "os/file.h"
#include "os/spawn.h"
#include "rt/blocking_pool.h"
#include "sql/faulty_vfs.h"
#include "tests/run_on.h"

namespace skerry::agent {

namespace fs = std::filesystem;

inline constexpr const char *kImage = "registry.example.com/static:1", *kLogger = "registry.example.com/logger:1";

// Another build's program, for trying things out by hand.
inline fs::path program(const char* variable, const char* built) {
  const char* other = std::getenv(variable);
  return other != nullptr ? other : built;
}

// The value, or a failure of the test's set-up that says why.
template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().what);
  return std::move(*result);
}

// What a server that has lost its mind answers.
enum class Nonsense : std::uint8_t {
  None,
  Errors,      // 500 to everything
  Html,        // 200 and a page, to everything
  NoJson,      // 410 to a watch, and a list that ends in its middle
  EmptyLists,  // 410 to a watch, and a list that is whole and has nothing in it
  CutEvents,   // a watch ends in the middle of each event
};

// A Transport that can be cut, as a network line is, and whose far end may talk nonsense.
class Line final : public http::Transport {
 public:
  explicit Line(http::Handler& handler) : inner_(handler) {}
  rt::Task<http::Response> send(http::Request request, http::BodyMode mode, Duration timeout) override {
    requests.push_back(request.method + " " + request.target);
    if (cut) co_return Fail({Errc::Unavailable, "the line is cut"});
    if (auto wrong = nonsensical(request, mode)) co_return std::move(*wrong);
    CO_TRY(auto response, co_await inner_.send(std::move(request), mode, timeout));
    if (response.stream) response.stream = std::make_unique<Lossy>(std::move(response.stream), *this);
    co_return response;
  }
  bool cut = false;
  std::string swallow;  // what a watch tells with this text in it does not arrive; ""
  Nonsense nonsense = Nonsense::None;  // a watch that is open notices at its next event
  std::vector<std::string> requests;  // method and target of each, those that were cut off too
  std::vector<std::string> wronged;   // of those that were answered with nonsense

 private:
  class Lossy final : public http::Stream {
   public:
    Lossy(std::unique_ptr<http::Stream> inner, Line& line) : inner_(std::move(inner)), line_(line) {}
    rt::Task<std::optional<http::Chunk>> next() override {
      for (;;) {
        if (ended_) co_return std::nullopt;
        CO_TRY(auto chunk, co_await inner_->next());
        ended_ = line_.nonsense != Nonsense::None;
        if (chunk && line_.nonsense == Nonsense::CutEvents) {
          line_.wronged.push_back("event");
          co_return std::make_shared<const std::string>((*chunk)->substr(0, (*chunk)->size() / 2));
        }
        if (!ended_ && (!chunk || line_.swallow.empty() || !(*chunk)->contains(line_.swallow))) co_return chunk;
      }
    }

   private:
    std::unique_ptr<http::Stream> inner_;
    Line& line_;
    bool ended_ = false;
  };
  std::optional<http::Response> nonsensical(const http::Request& request, http::BodyMode mode) {
    const bool watch = request.target.contains("watch="), list = !watch && request.method == "GET" && request.target.contains("limit=");
    const auto say = [&](int status, std::string_view type, std::string body) {
      wronged.push_back(requests.back());
      http::Response out = http::make_response(status, type, std::move(body));
      if (mode == http::BodyMode::Streamed && status == 200) out.stream = http::stream_of(std::exchange(out.body, nullptr));
      return out;
    };
    switch (nonsense) {
      case Nonsense::None:
      case Nonsense::CutEvents: return std::nullopt;
      case Nonsense::Errors: return say(500, "text/plain", "out of luck");
      case Nonsense::Html: return say(200, "text/html", "<html><body>Welcome to this hotel's network</body></html>\n");
      case Nonsense::NoJson:
      case Nonsense::EmptyLists:
        if (watch) return say(410, "application/json", R"({"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired","message":"too old","code":410})");
        if (list && nonsense == Nonsense::NoJson) return say(200, "application/json", R"({"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":"7"},"items":[{"meta)");
        if (list) return say(200, "application/json", R"({"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":"7"},"items":[]})");
        return std::nullopt;
    }
    return std::nullopt;
  }
  http::InProcessTransport inner_;
};

// The machine's clock, until somebody sets it. Monotonic time goes on.
class SetClock final : public Clock {
 public:
  Time now() const override { return real_.now() + off; }
  Instant instant() const override { return real_.instant(); }
  Duration off{};

 private:
  SystemClock real_;
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
    server_ = std::make_unique<apiserver::ApiServer>(*store_, clock_, random_, apiserver::Options{.node_transport = [this](std::string_view) { return node_line_.get(); }});
    ASSERT_TRUE(run_on(loop_, server_->bootstrap()));
    line_ = std::make_unique<Line>(*server_);
    api_.emplace(*line_);
    admin_line_ = std::make_unique<http::InProcessTransport>(*server_);
    admin_.emplace(*admin_line_);
    auto images = must(oci::ImageStore::open(folder_ / "images"));
    for (const auto& [file, name] : {std::pair{SKERRY_TEST_MODULE, kImage}, std::pair{SKERRY_TEST_LOGGER, kLogger}})
      ASSERT_TRUE(images.add(file, name, [](std::string_view) -> Result<std::string> { return std::string("http-wasm"); }, clock_.now()));
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

  // `change`: what differs from a node as it comes; `machine`: readings that are not this machine's.
  void start_agent(const std::function<void(AgentOptions&)>& change = nullptr, std::function<MachineFacts()> machine = nullptr) {
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
    if (change) change(options);
    agent_ = std::make_unique<Agent>(loop_, AgentDeps{.api = *api_, .network = *network_, .services = services_, .names = names_, .clock = agent_clock_, .random = random_, .machine = std::move(machine)}, options);
    auto started = run_on(loop_, agent_->start());
    ASSERT_TRUE(started) << started.error().what;
    node_line_ = std::make_unique<http::InProcessTransport>(agent_->node_api());
  }
  void stop_agent(OnStop how) {
    auto stopped = run_on(loop_, agent_->stop(how));
    EXPECT_TRUE(stopped);
    node_line_.reset();
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
  // The Events' reasons about one object, each so often as it was said.
  std::vector<std::string> events_about(std::string_view name) {
    std::vector<std::string> out;
    auto all = run_on(loop_, admin_->list(client::kEvents, "default"));
    if (!all) return out;
    for (const auto& event : all->items) {
      const kube::JsonDoc doc = event->parse();
      if (doc.root()["involvedObject"]["name"].str() == name) out.emplace_back(doc.root()["reason"].str());
    }
    return out;
  }
  std::string node_condition(std::string_view type) {
    const auto node = get(client::kNodes, "", "edge-1");
    if (!node) return "";
    const kube::JsonDoc doc = node->parse();
    for (kube::Json c : doc.root()["status"]["conditions"].items())
      if (c["type"].str() == type) return std::format("{} {}", c["status"].str(), c["message"].str());
    return "";
  }
  // As a bad sector does; of a stopped agent.
  void damage_checkpoint() {
    for (const char* part : {"agent.db-wal", "agent.db-shm"}) fs::remove(folder_ / "node" / part);
    std::ofstream(folder_ / "node/agent.db") << std::string(8192, 'x');
  }
  // Every process of this node's slots, parked ones too, dies.
  bool kill_sandboxes() const {
    bool killed = false;
    for (const auto& slot : fs::directory_iterator("/sys/fs/cgroup/memory/" + cgroup_)) {
      if (!slot.is_directory()) continue;
      const auto text = os::read_small_file(slot.path() / "cgroup.procs").value_or("");
      for (const auto line : split(text, '\n'))
        if (const auto pid = parse_int<int>(line)) killed = ::kill(*pid, SIGKILL) == 0 || killed;
    }
    return killed;
  }
  // A request from the host to the pod; the loop does not run meanwhile: nothing of the agent is needed.
  std::string call(const std::string& ip, const std::string& path = "/", int port = 8080) {
    const os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (const int error = net::testing::try_connect(fd.get(), ip.c_str(), port); error != 0) return std::format("connect: {}", error);
    const std::string request = std::format("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
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

  SystemClock clock_;      // the server's
  SetClock agent_clock_;  // the agent's; keeper and sandboxes have the machine's
  SystemRandom random_;
  rt::Loop loop_;
  sql::FaultyVfs disk_{"agent-node"};
  std::string cgroup_;
  net::PodNetwork::Options pods_;
  std::optional<net::PodNetwork> network_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<apiserver::ApiServer> server_;
  net::ServiceProxy* services_ = nullptr;  // of agents that are started from now on
  net::NameServer* names_ = nullptr;       // of those too
  std::unique_ptr<Line> line_;
  std::unique_ptr<http::InProcessTransport> node_line_;  // as the API server reaches the node
  std::unique_ptr<http::InProcessTransport> admin_line_;
  std::optional<client::Client> api_, admin_;
  std::unique_ptr<Agent> agent_;
};

}  // namespace skerry::agent
