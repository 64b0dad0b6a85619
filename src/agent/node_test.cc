// SPDX-License-Identifier: Apache-2.0
// NodeStatus, NodeApi, StatusWriter and EventWriter: what the node says to the API server and answers on :10250.
#include <fcntl.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <format>

#include "agent/api_writers.h"
#include "agent/node_api.h"
#include "agent/node_status.h"
#include "metrics/page.h"
#include "os/fd.h"
#include "os/file.h"
#include "tests/run_on.h"

namespace skerry::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const Time kStart = *from_rfc3339("2026-11-23T10:00:00Z");

MachineFacts small_machine() {
  MachineFacts m;
  m.cpus = 4;
  m.memory_bytes = 8LL << 30;
  m.memory_available_bytes = 6LL << 30;
  m.disk_bytes = 100LL << 30;
  m.disk_available_bytes = 50LL << 30;
  m.architecture = "arm64";
  return m;
}

TEST(Overcommit, IsParsedStrictly) {
  const auto both = Overcommit::parse("cpu=10,memory=4");
  ASSERT_TRUE(both);
  EXPECT_EQ(both->text(), "cpu=10,memory=4");
  EXPECT_EQ(Overcommit::parse("memory=1.5")->memory, 1.5);
  for (const char* bad : {"", "cpu", "cpu=0", "cpu=101", "cpu=ten", "disk=2", "cpu=2,,memory=2", "cpu=nan"}) EXPECT_FALSE(Overcommit::parse(bad)) << bad;
}

TEST(NodeStatus, CapacityIsTheMachineAndAllocatableTheOffer) {
  AgentOptions options;
  options.node_name = "edge-1";
  options.node_address = "192.0.2.1";
  options.overcommit = {10, 4};
  NodeStatus status(options);
  const std::string node = status.node(small_machine(), {{.name = "registry.example.com/a:1", .size = 7}}, kStart);
  EXPECT_THAT(node, HasSubstr(R"("capacity":{"cpu":"4","memory":"8388608Ki","pods":"1100")"));
  EXPECT_THAT(node, HasSubstr(R"("allocatable":{"cpu":"39000m","memory":"32505856Ki","pods":"1100")"));
  EXPECT_THAT(node, HasSubstr(R"("skerry.dev/overcommit":"cpu=10,memory=4")"));
  EXPECT_THAT(node, HasSubstr(R"("kubernetes.io/arch":"arm64")"));
  EXPECT_THAT(node, HasSubstr(R"("kubeletEndpoint":{"Port":10250})"));
  EXPECT_THAT(node, HasSubstr(R"({"type":"Ready","status":"True","reason":"KubeletReady")"));
}

TEST(NodeStatus, TransitionsAreKeptAndHeartbeatsAreNoNews) {
  AgentOptions options;
  NodeStatus status(options);
  MachineFacts m = small_machine();
  const std::string essence = status.essence(m, {});
  (void)status.status_patch(m, {}, kStart);
  m.memory_available_bytes -= 1 << 20;
  EXPECT_EQ(status.essence(m, {}), essence) << "that memory is used now is no news";
  EXPECT_THAT(status.status_patch(m, {}, kStart + 60s), HasSubstr(R"("lastHeartbeatTime":"2026-11-23T10:01:00Z","lastTransitionTime":"2026-11-23T10:00:00Z")"));
  m.memory_available_bytes = 50 << 20;
  EXPECT_NE(status.essence(m, {}), essence);
  EXPECT_THAT(status.status_patch(m, {}, kStart + 70s), HasSubstr(R"({"type":"MemoryPressure","status":"True","reason":"NodeHasInsufficientMemory")"));
}

TEST(NodeStatus, ADiskThatTakesNothingIsPressureAndNoReasonToLeaveTheServices) {
  AgentOptions options;
  NodeStatus status(options);
  const std::string before = status.essence(small_machine(), {});
  status.set_disk_trouble("the node's checkpoint cannot be written: full");
  EXPECT_NE(status.essence(small_machine(), {}), before);
  const std::string patch = status.status_patch(small_machine(), {}, kStart);
  EXPECT_THAT(patch, HasSubstr(R"({"type":"DiskPressure","status":"True","reason":"NodeHasDiskPressure","message":"the node's checkpoint cannot be written: full")"));
  EXPECT_THAT(patch, HasSubstr(R"({"type":"Ready","status":"True")"));
  status.set_disk_trouble("");
  EXPECT_EQ(status.essence(small_machine(), {}), before);
}

TEST(Lease, HasMicroTime) {
  EXPECT_THAT(lease_body("edge-1", "u", "", 10s, kStart), HasSubstr(R"("leaseDurationSeconds":40,"renewTime":"2026-11-23T10:00:00.000000Z")"));
  EXPECT_EQ(lease_renewal("edge-1", "", 60s, kStart), R"({"spec":{"holderIdentity":"edge-1","leaseDurationSeconds":240,"renewTime":"2026-11-23T10:00:00.000000Z"}})");
}

class FakeView final : public NodeView {
 public:
  std::vector<ContainerView> containers() const override {
    return {{.place = {"default", "web", "u-1", "app"}, .attempt = attempt_now, .awake = 1, .serving = true, .waiting = waiting, .metrics_fd = page, .pids = {}, .started = {}}};
  }
  std::optional<std::uint32_t> attempt(const std::string&, std::string_view) const override { return attempt_now; }
  std::vector<kube::ObjectPtr> pods() const override { return {}; }
  const MachineFacts& machine() const override { return facts; }
  const std::string& node_name() const override { return name; }
  std::string health() const override { return wrong; }
  std::uint32_t attempt_now = 0;
  int page = -1;
  MachineFacts facts = small_machine();
  std::string name = "edge-1", wrong, waiting;
};

class NodeApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-nodeapi-XXXXXX";
    folder_ = ::mkdtemp(name);
    logs_.emplace(LogFolder::Options{.folder = folder_});
    api_.emplace(NodeApi::Options{.organizations = {"system:masters"}, .users = {"kube-apiserver-kubelet-client"}}, view_, *logs_, registry_, clock_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  http::Response ask(const std::string& target, const std::string& user = "kube-apiserver-kubelet-client", std::vector<std::string> groups = {}) {
    http::Request request;
    request.method = "GET";
    request.target = target;
    request.peer.certificate_common_name = user;
    request.peer.certificate_organizations = std::move(groups);
    request.peer.certificate_not_after = not_after_;
    return run_on(loop_, api_->handle(std::move(request))).value();
  }
  std::string body(http::Response response) {
    std::string out(response.text());
    while (response.stream) {
      auto chunk = run_on(loop_, response.stream->next());
      if (!chunk || !*chunk) break;
      out += ***chunk;
    }
    return out;
  }
  std::filesystem::path folder_;
  rt::Loop loop_;
  ManualClock clock_;
  FakeView view_;
  metrics::Registry registry_;
  std::optional<LogFolder> logs_;
  std::optional<NodeApi> api_;
  Time not_after_ = Time::max();  // of the caller's certificate
};

TEST_F(NodeApiTest, ACertificateEndsOnAnOpenConnectionToo) {
  not_after_ = clock_.now() + 1h;
  EXPECT_EQ(ask("/metrics").status, 200);
  clock_.advance(1h);
  EXPECT_EQ(ask("/metrics").status, 401);
  EXPECT_EQ(ask("/healthz").status, 200);
}

TEST_F(NodeApiTest, AnswersOnlyTheApiServer) {
  EXPECT_EQ(ask("/metrics", "").status, 401);
  EXPECT_EQ(ask("/metrics", "system:node:edge-2", {"system:nodes"}).status, 403);
  EXPECT_EQ(ask("/metrics").status, 200);
  EXPECT_EQ(ask("/metrics", "admin", {"system:masters"}).status, 200);
  EXPECT_EQ(ask("/healthz", "").status, 200);
  view_.wrong = "no keeper";
  EXPECT_EQ(ask("/healthz", "").status, 503);
}

TEST_F(NodeApiTest, RefusesWhatItDoesNotServeWithASentence) {
  for (const char* path : {"/exec/default/web/app?command=ls", "/attach/default/web/app", "/portForward/default/web"}) {
    auto response = ask(path);
    EXPECT_EQ(response.status, 501) << path;
    EXPECT_THAT(std::string(response.text()), HasSubstr("is not served"));
  }
  EXPECT_EQ(ask("/nothing").status, 404);
}

TEST_F(NodeApiTest, GivesLogsOfThePresentAndTheFormerAttempt) {
  const LogPlace place{"default", "web", "u-1", "app"};
  ASSERT_TRUE(os::write_all(logs_->open(place, 0).value().get(), "2026-11-23T10:00:00Z stdout F first\n"));
  ASSERT_TRUE(os::write_all(logs_->open(place, 1).value().get(), "2026-11-23T10:00:01Z stdout F second\n"));
  EXPECT_EQ(ask("/containerLogs/default/web/app?previous=true").status, 400);
  view_.attempt_now = 1;
  EXPECT_EQ(body(ask("/containerLogs/default/web/app")), "second\n");
  EXPECT_EQ(body(ask("/containerLogs/default/web/app?previous=true&timestamps=true")), "2026-11-23T10:00:00Z first\n");
  EXPECT_EQ(ask("/containerLogs/default/web/other").status, 404);
  view_.waiting = "ErrImagePull";
  EXPECT_EQ(ask("/containerLogs/default/web/app").text(), "container \"app\" in pod \"web\" is waiting to start: ErrImagePull\n");
  view_.waiting = "";
  EXPECT_EQ(ask("/containerLogs/default/web/app?tailLines=many").status, 400);
}

TEST_F(NodeApiTest, CountsFromThePageOfAContainerAndDistrustsIt) {
  os::UniqueFd fd(metrics::create_page(1).value());
  {
    auto page = metrics::Page::map(fd.get()).value();
    page.block(0).add(metrics::Counter::RequestsStarted, 3);
    page.block(0).add(metrics::Counter::GuestTraps, 1);
    page.block(0).observe_latency(200'000);
  }
  view_.page = fd.get();
  std::string text = body(ask("/metrics"));
  EXPECT_THAT(text, HasSubstr("skerry_container_requests_started_total{namespace=\"default\",pod=\"web\",container=\"app\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("skerry_container_guest_traps_total{"));
  EXPECT_THAT(text, HasSubstr("skerry_container_request_seconds_count{namespace=\"default\",pod=\"web\",container=\"app\"} 1\n"));
  auto garbage = os::open_file(folder_ / "garbage", O_RDWR | O_CREAT).value();
  view_.page = garbage.get();
  EXPECT_THAT(body(ask("/metrics")), HasSubstr("skerry_metrics_pages_unreadable 1\n"));
  EXPECT_EQ(ask("/metrics/resource").status, 200);
  EXPECT_THAT(body(ask("/stats/summary")), HasSubstr(R"("podRef":{"name":"web","namespace":"default","uid":"u-1"})"));
}

// Answers what it is told to, and remembers what it was asked.
class FakeServer final : public http::Transport {
 public:
  rt::Task<http::Response> send(http::Request request, http::BodyMode, Duration) override {
    asked.push_back(std::format("{} {} {}", request.method, request.target, request.body));
    const int code = codes.empty() ? 200 : codes.front();
    if (!codes.empty()) codes.pop_front();
    if (code == 0) co_return Fail({Errc::Unavailable, "away"});
    if (code != 200) co_return http::make_response(code, "application/json", std::format(R"({{"kind":"Status","status":"Failure","code":{},"reason":"{}","message":"no"}})", code, code == 409 ? "AlreadyExists" : ""));
    co_return http::make_response(200, "application/json", R"({"kind":"Pod","metadata":{"name":"web","namespace":"default","uid":"u-1","resourceVersion":"9"}})");
  }
  std::vector<std::string> asked;
  std::deque<int> codes;
};

class WriterTest : public ::testing::Test {
 protected:
  void settle(std::size_t requests) {
    for (int i = 0; i < 2000 && server_.asked.size() < requests; ++i) loop_.context().run_one_for(std::chrono::milliseconds(1));
    for (int i = 0; i < 5; ++i) loop_.context().run_one_for(std::chrono::milliseconds(1));
  }
  rt::Loop loop_;
  SystemClock clock_;
  SeededRandom random_{3};
  FakeServer server_;
  client::Client api_{server_};
  const PodName kWeb{"u-1", "default", "web"};
};

TEST_F(WriterTest, SendsOnlyTheLatestStatusAndThenTheDeletion) {
  StatusWriter writer(loop_, api_, clock_, random_, {});
  writer.start();
  writer.post(kWeb, R"({"n":1})", StatusWriter::Urgency::Now);
  writer.post(kWeb, R"({"n":2})", StatusWriter::Urgency::Now);
  writer.remove(kWeb);
  settle(2);
  EXPECT_THAT(server_.asked, ElementsAre(R"(PATCH /api/v1/namespaces/default/pods/web/status {"n":2})", HasSubstr("DELETE /api/v1/namespaces/default/pods/web ")));
  EXPECT_THAT(server_.asked[1], HasSubstr(R"("uid":"u-1")"));
  EXPECT_EQ(writer.waiting(), 0u);
  EXPECT_TRUE(run_on(loop_, writer.stop()));
}

TEST_F(WriterTest, TriesAgainUntilTheServerIsThereAndGivesUpWhenThePodIsGone) {
  StatusWriter writer(loop_, api_, clock_, random_, {.backoff_min = 2ms, .backoff_max = 4ms});
  writer.start();
  server_.codes = {0, 0, 500, 200, 404};
  writer.post(kWeb, R"({"n":1})", StatusWriter::Urgency::Now);
  settle(4);
  EXPECT_EQ(server_.asked.size(), 4u);
  EXPECT_EQ(writer.counters().failures, 3u);
  writer.post(kWeb, R"({"n":2})", StatusWriter::Urgency::Now);
  settle(5);
  EXPECT_EQ(writer.waiting(), 0u);
  EXPECT_TRUE(run_on(loop_, writer.stop()));
}

// Goal: a node with many pods does not hammer a server that is away. Method: a hundred statuses, a server that fails ten times: ten
// requests, not a thousand; then each status arrives.
TEST_F(WriterTest, WhileTheServerIsAwayOneStatusAsksForAll) {
  StatusWriter writer(loop_, api_, clock_, random_, {.at_once = 4, .backoff_min = 2ms, .backoff_max = 4ms});
  server_.codes = std::deque<int>(10, 0);
  for (int i = 0; i < 100; ++i) writer.post({std::format("u-{}", i), "default", std::format("web-{}", i)}, "{}", StatusWriter::Urgency::Now);
  writer.start();
  settle(110);
  EXPECT_EQ(server_.asked.size(), 110u);
  EXPECT_EQ(writer.counters().failures, 10u);
  EXPECT_EQ(writer.waiting(), 0u);
  EXPECT_TRUE(run_on(loop_, writer.stop()));
}

TEST_F(WriterTest, CountsARepeatedEvent) {
  EventWriter writer(loop_, api_, clock_, random_, {.node = "edge-1", .pause = 1ms});
  writer.start();
  const EventText event{.warning = true, .kind = "Pod", .object = kWeb, .field_path = "", .reason = "BackOff", .message = "again"};
  writer.post(event);
  settle(1);
  writer.post(event);
  settle(2);
  ASSERT_EQ(server_.asked.size(), 2u);
  EXPECT_THAT(server_.asked[0], HasSubstr("POST /api/v1/namespaces/default/events"));
  EXPECT_THAT(server_.asked[1], HasSubstr("PATCH /api/v1/namespaces/default/events/web."));
  EXPECT_THAT(server_.asked[1], HasSubstr(R"("count":2)"));
  // Made, but the answer was lost.
  server_.codes = {500, 409};
  const EventText other{.warning = true, .kind = "Pod", .object = kWeb, .field_path = "", .reason = "BackOff", .message = "and again"};
  for (std::size_t n = 3; n <= 5; ++n) {
    writer.post(other);
    settle(n);
  }
  ASSERT_EQ(server_.asked.size(), 5u);
  EXPECT_THAT(server_.asked[3], HasSubstr("POST /api/v1/namespaces/default/events"));
  EXPECT_THAT(server_.asked[4], HasSubstr(R"("count":3)"));
  EXPECT_TRUE(run_on(loop_, writer.stop()));
}

// Goal: an Event that is said once only outlives an answer that failed; one that nobody takes does not hold up the others for good.
TEST_F(WriterTest, AnEventIsTriedThreeTimes) {
  EventWriter writer(loop_, api_, clock_, random_, {.node = "edge-1", .pause = 1ms, .away_min = 1ms, .away_max = 1ms});
  writer.start();
  server_.codes = {503, 503, 201, 503, 503, 503, 201};
  for (const char* reason : {"One", "Two", "Three"}) writer.post({.warning = true, .kind = "Pod", .object = kWeb, .field_path = "", .reason = reason, .message = "m"});
  settle(7);
  ASSERT_EQ(server_.asked.size(), 7u);
  EXPECT_THAT(server_.asked[2], HasSubstr("One"));
  EXPECT_THAT(server_.asked[5], HasSubstr("Two"));
  EXPECT_THAT(server_.asked[6], HasSubstr("Three"));
  EXPECT_EQ(writer.dropped(), 1u);
  EXPECT_TRUE(run_on(loop_, writer.stop()));
}

// What the node itself shows of its Events: also while nobody takes them, the newest first, each counted, so many and no more.
TEST_F(WriterTest, KeepsTheLastEventsWhetherDeliveredOrNot) {
  EventWriter writer(loop_, api_, clock_, random_, {.node = "edge-1", .recent_max = 2, .pause = 1ms});
  const auto say = [&](std::string reason) { writer.post({.warning = true, .kind = "Pod", .object = kWeb, .field_path = "spec.containers{app}", .reason = std::move(reason), .message = "m"}); };
  for (const char* reason : {"Pulled", "Started", "BackOff", "Started"}) say(reason);
  const auto recent = writer.recent();
  ASSERT_EQ(recent.size(), 2u) << "the oldest is gone";
  const auto first = recent[0]->parse(), second = recent[1]->parse();
  EXPECT_EQ(recent[0]->kind(), "Event");
  EXPECT_EQ(first.root()["reason"].str(), "Started");
  EXPECT_EQ(first.root()["count"].i64(), 2);
  EXPECT_EQ(first.root()["type"].str(), "Warning");
  EXPECT_EQ(first.root()["involvedObject"]["name"].str(), "web");
  EXPECT_EQ(first.root()["involvedObject"]["fieldPath"].str(), "spec.containers{app}");
  EXPECT_FALSE(recent[0]->uid().empty());
  EXPECT_NE(recent[0]->name(), recent[1]->name());
  EXPECT_EQ(second.root()["reason"].str(), "BackOff");
}

TEST_F(WriterTest, TellsTheServerNothingAboutWhatItDoesNotKnow) {
  EventWriter writer(loop_, api_, clock_, random_, {.node = "edge-1", .local_uids = "stand-in-", .pause = 1ms});
  writer.start();
  writer.post({.warning = false, .kind = "Pod", .object = {"stand-in-7", "default", "web-standin"}, .field_path = "", .reason = "Started", .message = "m"});
  writer.post({.warning = false, .kind = "Pod", .object = kWeb, .field_path = "", .reason = "Started", .message = "m"});
  settle(2);
  ASSERT_EQ(server_.asked.size(), 1u);
  EXPECT_THAT(server_.asked[0], HasSubstr(R"("uid":"u-1")"));
  EXPECT_EQ(writer.recent().size(), 2u) << "who asks this node hears of both";
  EXPECT_TRUE(run_on(loop_, writer.stop()));
}

}  // namespace
}  // namespace skerry::agent
