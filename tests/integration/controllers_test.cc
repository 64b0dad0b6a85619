// SPDX-License-Identifier: Apache-2.0
// All controllers and the scheduler against the real API server and store, in this process, with a node that says it
// runs what it is given. Real time, bounded: what is waited for comes within milliseconds.
#include "control/controllers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>
#include <functional>

#include "apiserver/apiserver.h"
#include "client/informer.h"
#include "control/testing_world.h"
#include "http/in_process.h"
#include "sql/faulty_vfs.h"
#include "tests/run_on.h"

namespace skerry::control {
namespace {

using ::testing::HasSubstr;

// Reports every pod of its node as running and ready; lets go of what is deleted.
class FakeNode {
 public:
  FakeNode(rt::Loop& loop, client::Client& client, Random& random, std::string name)
      : client_(client),
        name_(std::move(name)),
        tasks_(loop),
        pods_(loop, client, random, {.resource = client::kPods, .selectors = {.field = "spec.nodeName=" + name_}},
              [this](const ObjectPtr&, const ObjectPtr& after) {
                if (after) tasks_.spawn("fake pod", act(after));
              }) {}
  rt::Task<> join(std::string labels) {
    CO_TRY_OK(co_await client_.create(
        client::kNodes, "",
        std::format(
            R"({{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{}","labels":{{{}}}}},"status":{{"capacity":{{"cpu":"100","memory":"100Gi","pods":"1000"}},)"
            R"("allocatable":{{"cpu":"100","memory":"100Gi","pods":"1000"}},"conditions":[{{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:00Z"}}]}}}})",
            name_, labels)));
    pods_.start();
    co_return Result<>{};
  }
  rt::Task<> leave() {
    CO_TRY_OK(co_await pods_.stop());
    co_return co_await tasks_.stop();
  }
  bool report = true;

 private:
  rt::Task<> act(ObjectPtr pod) {
    if (pod->deleting()) {
      (void)co_await client_.remove(client::kPods, pod->namespace_(), pod->name(), {.grace_seconds = 0, .uid = pod->uid()});
    } else if (pod->phase() != "Running" && report) {
      const std::string time = to_rfc3339(SystemClock().now());
      const int address = ++addresses_;
      (void)co_await client_.patch_status(
          client::kPods, pod->namespace_(), pod->name(), client::PatchType::Merge,
          std::format(
              R"({{"status":{{"phase":"Running","podIP":"10.42.{}.{}","hostIP":"192.0.2.1","conditions":[{{"type":"PodScheduled","status":"True"}},{{"type":"Ready","status":"True","lastTransitionTime":"{}"}}]}}}})",
              address / 250, address % 250 + 1, time));
    }
    co_return Result<>{};
  }
  client::Client& client_;
  std::string name_;
  int addresses_ = 0;
  rt::TaskGroup tasks_;
  client::Informer pods_;
};

class ControlPlane : public ::testing::Test {
 protected:
  explicit ControlPlane(Controllers::Options options = {}) {
    auto database = sql::Database::open("control.db", {.vfs = disk_.name()}, store::Store::migrations()).value();
    store_ =
        store::Store::open(loop_, clock_, std::move(database), {.resources = apiserver::ApiServer::store_resources()})
            .value();
    api_ = std::make_unique<apiserver::ApiServer>(*store_, clock_, random_, apiserver::Options{});
    CHECK(run_on(loop_, api_->bootstrap()).has_value());
    transport_ = std::make_unique<http::InProcessTransport>(*api_);
    client_ = std::make_unique<client::Client>(*transport_);
    controllers_ = std::make_unique<Controllers>(loop_, *client_, clock_, random_, std::move(options));
    node_ = std::make_unique<FakeNode>(loop_, *client_, random_, "edge-1");
    controllers_->start();
    wait("the controllers", [&] { return controllers_->synced(); });
  }
  ~ControlPlane() override {
    (void)run_on(loop_, node_->leave());
    (void)run_on(loop_, controllers_->stop());
    controllers_.reset();
    api_.reset();
    (void)run_on(loop_, store_->stop());
  }
  // Runs the loop until it is so; the time it took.
  Duration wait(std::string_view what, const std::function<bool()>& done, Duration most = 30s) {
    const Instant start = clock_.instant();
    while (!done()) {
      loop_.context().run_one_for(std::chrono::milliseconds(5));
      if (clock_.instant() - start > most) {
        ADD_FAILURE() << "waited in vain for " << what;
        break;
      }
    }
    return clock_.instant() - start;
  }
  template <class T>
  T must(rt::Task<T> task) {
    auto result = run_on(loop_, std::move(task));
    if (!result) ADD_FAILURE() << result.error().what;
    CHECK(result.has_value());
    return std::move(*result);
  }
  std::vector<ObjectPtr> list(const client::ResourcePath& path, const std::string& namespace_ = "default") {
    return must(client_->list(path, namespace_)).items;
  }
  std::size_t count(const client::ResourcePath& path, std::string_view part = "",
                    const std::string& namespace_ = "default") {
    const auto id = store_->find_resource(path.group.empty() ? path.resource : path.resource + "." + path.group);
    std::size_t found = 0;
    const auto all = store_->list(*id, {.namespace_ = namespace_}).value();
    for (const auto& one : all.items) found += one->json()->find(part) != std::string::npos;
    return found;
  }
  std::string deployment(const std::string& name, int replicas, const std::string& image = "v1") {
    return std::format(
        R"({{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"{0}","namespace":"default"}},"spec":{{"replicas":{1},"selector":{{"matchLabels":{{"app":"{0}"}}}},
      "template":{{"metadata":{{"labels":{{"app":"{0}"}}}},"spec":{{"nodeSelector":{{"node-type":"edge"}},"containers":[{{"name":"c","image":"registry.example.com/{2}","resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}}}}}}]}}}}}}}})",
        name, replicas, image);
  }
  void join(const std::string& labels = R"("node-type":"edge")") { must(node_->join(labels)); }
  void must(rt::Task<> task) {
    const auto result = run_on(loop_, std::move(task));
    ASSERT_TRUE(result) << result.error().what;
  }
  bool rolled_out(const std::string& name) {
    const auto object = must(client_->get(client::kDeployments, "default", name));
    const auto doc = object->parse();
    const Json status = doc.root()["status"], spec = doc.root()["spec"];
    const auto wanted = spec["replicas"].i64();
    return status["observedGeneration"].i64() >= doc.root()["metadata"]["generation"].i64() &&
           status["updatedReplicas"].i64() == wanted && status["replicas"].i64() == wanted &&
           status["availableReplicas"].i64() == wanted;
  }

  SystemClock clock_;
  SeededRandom random_{7};
  rt::Loop loop_;
  sql::FaultyVfs disk_{"control-test"};
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<apiserver::ApiServer> api_;
  std::unique_ptr<http::InProcessTransport> transport_;
  std::unique_ptr<client::Client> client_;
  std::unique_ptr<Controllers> controllers_;
  std::unique_ptr<FakeNode> node_;
};

TEST_F(ControlPlane, BringsAHundredPodsToTheirNode) {
  join();
  must(client_->create(
      client::kServices, "default",
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},"spec":{"selector":{"app":"web"},"ports":[{"port":80,"targetPort":8080}]}})"));
  node_->report = true;
  const Instant start = clock_.instant();
  must(client_->create(client::kDeployments, "default", deployment("web", 100)));
  wait("100 pods with a node", [&] { return count(client::kPods, R"("nodeName":"edge-1")") == 100; });
  RecordProperty("milliseconds_to_100_bound", static_cast<int>((clock_.instant() - start) / 1ms));
  wait("the rollout", [&] { return rolled_out("web"); });
  RecordProperty("milliseconds_to_rolled_out", static_cast<int>((clock_.instant() - start) / 1ms));
  std::printf("100 replicas: bound and rolled out after %d ms\n", static_cast<int>((clock_.instant() - start) / 1ms));
  wait("the endpoints", [&] {
    std::size_t ready = 0;
    for (const auto& slice : list(client::kEndpointSlices)) {
      const auto doc = slice->parse();
      for (const Json endpoint : doc.root()["endpoints"].items()) ready += endpoint["conditions"]["ready"].boolean();
    }
    return ready == 100;
  });
  EXPECT_EQ(count(client::kPods), 100u);
}

TEST_F(ControlPlane, RollsScalesAndDeletes) {
  join();
  must(client_->create(client::kDeployments, "default", deployment("web", 4)));
  wait("the first rollout", [&] { return rolled_out("web"); });
  must(client_->patch(
      client::kDeployments, "default", "web", client::PatchType::Merge,
      R"({"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}})"));
  wait("the restart",
       [&] { return rolled_out("web") && count(client::kPods) == 4 && count(client::kPods, "restartedAt") == 4; });
  EXPECT_EQ(count(client::kReplicaSets), 2u);
  must(client_->patch(client::kDeployments, "default", "web", client::PatchType::Merge, R"({"spec":{"replicas":1}})"));
  wait("the scaling", [&] { return rolled_out("web") && count(client::kPods) == 1; });
  const auto condition = *must(client_->get(client::kDeployments, "default", "web"))->json();
  EXPECT_THAT(condition, HasSubstr("NewReplicaSetAvailable"));
  must(client_->remove(client::kDeployments, "default", "web"));
  wait("the garbage collector", [&] { return count(client::kReplicaSets) == 0 && count(client::kPods) == 0; });
}

// Goal: controllers keep nothing that the API does not have.
// Method: stop them in the middle of a rollout, and start others.
TEST_F(ControlPlane, LosesNothingWhenItsControllersAreReplaced) {
  join();
  must(client_->create(client::kDeployments, "default", deployment("web", 40)));
  wait("some pods", [&] { return count(client::kPods) >= 5; });
  must(controllers_->stop());
  controllers_ = std::make_unique<Controllers>(loop_, *client_, clock_, random_, Controllers::Options{});
  controllers_->start();
  wait("the rollout", [&] { return rolled_out("web"); });
  EXPECT_EQ(count(client::kPods), 40u);
  EXPECT_EQ(count(client::kReplicaSets), 1u);
}

TEST_F(ControlPlane, SaysWhyAPodFitsNowhereAndPlacesItWhenItDoes) {
  join(R"("node-type":"core")");
  must(client_->create(client::kDeployments, "default", deployment("web", 1)));
  wait("the condition", [&] {
    return count(client::kPods, "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.") == 1;
  });
  // An earlier one may say that there is no node at all; this message comes once.
  wait("the event", [&] { return count(client::kEvents, "didn't match Pod's node affinity") == 1; });
  must(client_->patch(client::kNodes, "", "edge-1", client::PatchType::Merge,
                      R"({"metadata":{"labels":{"node-type":"edge"}}})"));
  wait("the rollout", [&] { return rolled_out("web"); });
}

TEST_F(ControlPlane, EmptiesNamespaces) {
  join();
  must(
      client_->create(client::kNamespaces, "", R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}})"));
  wait("the default ServiceAccount", [&] { return count(client::kServiceAccounts, "", "shop") == 1; });
  auto text = deployment("web", 3);
  text.replace(text.find("\"namespace\":\"default\""), 21, "\"namespace\":\"shop\"");
  must(client_->create(client::kDeployments, "shop", text));
  wait("the pods", [&] { return count(client::kPods, "\"phase\":\"Running\"", "shop") == 3; });
  must(client_->create(
      client::kConfigMaps, "shop",
      R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"shop"},"data":{"a":"b"}})"));
  must(client_->remove(client::kNamespaces, "", "shop"));
  wait("the end of the namespace", [&] { return count(client::kNamespaces, "\"name\":\"shop\"", "") == 0; });
  EXPECT_EQ(count(client::kPods, "", "shop"), 0u);
  EXPECT_EQ(count(client::kConfigMaps, "", "shop"), 0u);
}

TEST_F(ControlPlane, SaysWhyPodsCannotBeMadeAndMakesThemWhenTheyCan) {
  join();
  auto text = deployment("web", 2);
  text.replace(text.find(R"("nodeSelector")"), 0, R"("runtimeClassName":"nobody",)");
  must(client_->create(client::kDeployments, "default", text));
  wait("the condition of the ReplicaSet", [&] { return count(client::kReplicaSets, "RuntimeClass \\\"nobody\\\" not found") == 1; });
  wait("that of the Deployment", [&] { return count(client::kDeployments, R"("type":"ReplicaFailure","status":"True")") == 1; });
  wait("the event", [&] { return count(client::kEvents, R"("reason":"FailedCreate")") > 0; });
  must(client_->create(client::kRuntimeClasses, "", R"({"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{"name":"nobody"},"handler":"x"})"));
  wait("the rollout", [&] { return rolled_out("web"); });
  wait("the end of the condition", [&] {
    return count(client::kReplicaSets, "ReplicaFailure") == 0 && count(client::kDeployments, "ReplicaFailure") == 0;
  });
  metrics::Exposition out;
  controllers_->write_metrics(out);
  const std::string figures = std::move(out).finish();
  EXPECT_THAT(figures, HasSubstr("scheduler_schedule_attempts_total{result=\"scheduled\"} 2\n"));
  EXPECT_THAT(figures, HasSubstr("workqueue_depth{name=\"replicaset\"} "));
  EXPECT_THAT(figures, ::testing::Not(HasSubstr("workqueue_retries_total{name=\"replicaset\"} 0\n")));
  EXPECT_THAT(figures, HasSubstr("skerry_controllers_synced 1\n"));
}

// Times short enough to wait for. The nodes in `heard_` renew their leases while something is waited for.
class Silence : public ControlPlane {
 protected:
  Silence()
      : ControlPlane({.node_lifecycle = {.grace = std::chrono::milliseconds(1500), .eviction_pause = std::chrono::milliseconds(10), .patience = std::chrono::seconds(0)},
                      .poll = std::chrono::milliseconds(50)}) {
    must(client_->create(client::kNodes, "", R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"alive"},"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T00:00:00Z"}]}})"));
    for (const auto& name : heard_) {
      must(client_->create(client::kLeases, "kube-node-lease",
                           std::format(R"({{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{{"name":"{0}","namespace":"kube-node-lease"}},"spec":{{"holderIdentity":"{0}"}}}})", name)));
    }
  }
  void renew() {
    if (clock_.instant() - renewed_ < std::chrono::milliseconds(100)) return;
    renewed_ = clock_.instant();
    for (const auto& name : heard_) {
      must(client_->patch(client::kLeases, "kube-node-lease", name, client::PatchType::Merge,
                          std::format(R"({{"spec":{{"renewTime":"2026-01-01T00:00:00.{:06}Z"}}}})", ++renewals_)));
    }
  }
  void wait_alive(std::string_view what, const std::function<bool()>& done) {
    wait(what, [&] {
      renew();
      return done();
    });
  }
  void run_alive(Duration time) {
    const Instant end = clock_.instant() + time;
    wait_alive("time", [&] { return clock_.instant() >= end; });
  }
  std::size_t ready_endpoints() {
    std::size_t ready = 0;
    for (const auto& slice : list(client::kEndpointSlices)) {
      const auto doc = slice->parse();
      for (const Json endpoint : doc.root()["endpoints"].items()) ready += endpoint["conditions"]["ready"].boolean();
    }
    return ready;
  }
  std::string pods() {
    std::string all;
    for (const auto& pod : list(client::kPods)) all += pod->name() + (pod->deleting() ? " goes " : " stays ");
    return all;
  }
  std::vector<std::string> heard_{"alive", "edge-1"};
  Instant renewed_{};
  int renewals_ = 0;
};

TEST_F(Silence, OfAnAutonomousNodeChangesNothingForItsPods) {
  must(client_->create(client::kServices, "default",
                       R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}})"));
  join();
  must(client_->create(client::kDeployments, "default", deployment("web", 4)));
  wait_alive("the rollout", [&] { return rolled_out("web"); });
  wait_alive("the endpoints", [&] { return ready_endpoints() == 4; });
  const std::string before = pods();
  heard_ = {"alive"};
  wait_alive("the silence", [&] { return count(client::kNodes, R"("key":"node.kubernetes.io/unreachable","effect":"NoSchedule")", "") == 1; });
  run_alive(std::chrono::seconds(1));
  EXPECT_EQ(pods(), before);
  EXPECT_EQ(ready_endpoints(), 4u);
  EXPECT_TRUE(rolled_out("web"));
  EXPECT_EQ(count(client::kNodes, R"("effect":"NoExecute")", ""), 0u);
  wait_alive("the Event", [&] { return count(client::kEvents, R"("reason":"NodeAutonomous")") == 1; });
  // Its return is said as well; switched off, the next silence takes its pods' readiness, and then the pods.
  heard_ = {"alive", "edge-1"};
  must(client_->patch_status(client::kNodes, "", "edge-1", client::PatchType::Strategic, R"({"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T01:00:00Z"}]}})"));
  wait_alive("its return", [&] { return count(client::kEvents, "its pods stayed on it") == 1; });
  must(client_->patch(client::kNodes, "", "edge-1", client::PatchType::Merge, R"({"metadata":{"annotations":{"skerry.dev/autonomy":"false"}}})"));
  heard_ = {"alive"};
  wait_alive("the end of the endpoints", [&] { return ready_endpoints() == 0; });
  wait_alive("the eviction", [&] { return count(client::kNodes, R"("effect":"NoExecute")", "") == 1; });
}

TEST_F(ControlPlane, SplitsEndpointsOverSlicesOfAHundred) {
  join();
  must(client_->create(
      client::kServices, "default",
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}})"));
  must(client_->create(client::kDeployments, "default", deployment("web", 230)));
  const auto sizes = [&] {
    std::vector<std::size_t> all;
    for (const auto& slice : list(client::kEndpointSlices)) {
      const auto doc = slice->parse();
      all.push_back(doc.root()["endpoints"].size());
    }
    std::ranges::sort(all);
    return all;
  };
  const auto total = [&] {
    std::size_t sum = 0;
    for (const std::size_t size : sizes()) sum += size;
    return sum;
  };
  wait("230 endpoints", [&] { return total() == 230; });
  EXPECT_EQ(sizes(), (std::vector<std::size_t>{30, 100, 100}));
  must(client_->patch(client::kDeployments, "default", "web", client::PatchType::Merge, R"({"spec":{"replicas":0}})"));
  wait("no endpoints, in the one slice that stays", [&] { return sizes() == std::vector<std::size_t>{0}; });
}

TEST_F(ControlPlane, DeletesInTheForegroundAndOrphans) {
  join();
  must(client_->create(client::kDeployments, "default", deployment("web", 3)));
  wait("the rollout", [&] { return rolled_out("web"); });
  must(client_->remove(client::kDeployments, "default", "web", {.propagation = "Orphan"}));
  wait("the end of the Deployment", [&] { return count(client::kDeployments) == 0; });
  EXPECT_EQ(count(client::kReplicaSets), 1u);
  EXPECT_EQ(count(client::kPods), 3u);
  EXPECT_EQ(count(client::kReplicaSets, R"("kind":"Deployment")"), 0u);
  // One with the same selector and template takes them over.
  must(client_->create(client::kDeployments, "default", deployment("web", 3)));
  wait("the adoption", [&] { return rolled_out("web"); });
  EXPECT_EQ(count(client::kReplicaSets), 1u);
  EXPECT_EQ(count(client::kPods), 3u);
  // In the foreground the owner stays until what it owns is gone.
  bool early = false;
  must(client_->remove(client::kDeployments, "default", "web", {.propagation = "Foreground"}));
  wait("the end of all", [&] {
    early = early || (count(client::kDeployments) == 0 && count(client::kPods) > 0);
    return count(client::kDeployments) == 0;
  });
  EXPECT_FALSE(early);
  EXPECT_EQ(count(client::kReplicaSets), 0u);
}

}  // namespace
}  // namespace skerry::control
