// SPDX-License-Identifier: Apache-2.0
#include "agent/pod_core.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <format>
#include <map>

#include "base/text.h"
#include "tests/golden.h"

namespace skerry::agent {
namespace {

using ::testing::HasSubstr;

class FakeReferences final : public References {
 public:
  Found config_map(std::string_view ns, std::string_view name) const override { return find("configmap", ns, name); }
  Found secret(std::string_view ns, std::string_view name) const override { return find("secret", ns, name); }
  Found runtime_class(std::string_view name) const override { return find("runtimeclass", "", name); }
  void put(const std::string& kind, const std::string& json) {
    auto object = kube::Object::from_json(json).value();
    objects_[kind + "/" + object->namespace_() + "/" + object->name()] = {State::Present, object};
  }
  void missing(const std::string& kind, const std::string& ns, const std::string& name) {
    objects_[kind + "/" + ns + "/" + name] = {State::Missing, nullptr};
  }

 private:
  Found find(std::string_view kind, std::string_view ns, std::string_view name) const {
    const auto it = objects_.find(std::format("{}/{}/{}", kind, ns, name));
    return it == objects_.end() ? Found{} : it->second;
  }
  std::map<std::string, Found> objects_;
};

// One scenario: a pod, its core, virtual time, and the trace of what it decides.
class PodCoreTest : public ::testing::Test {
 protected:
  static std::string pod_json(std::string_view spec_more = "", std::string_view container_more = "", std::string_view metadata_more = "") {
    return std::format(R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"web","namespace":"default","uid":"u-1","resourceVersion":"5"{}}},)"
                       R"("spec":{{"nodeName":"edge-1","restartPolicy":"Always","terminationGracePeriodSeconds":30{},)"
                       R"("containers":[{{"name":"app","image":"reg.example/app:1"{}}}]}},"status":{{"phase":"Pending"}}}})",
                       metadata_more, spec_more, container_more);
  }
  void make(const std::string& json) {
    auto object = kube::Object::from_json(json).value();
    auto plan = plan_pod(*object, {}).value();
    std::vector<KeeperId> ids;
    for (std::size_t i = 0; i < plan.containers.size(); ++i) ids.emplace_back(100 + i);
    core_.emplace(options_, object, std::move(plan), std::move(ids));
  }
  void desire(const std::string& json) {
    auto object = kube::Object::from_json(json).value();
    core_->on_desired(object, plan_pod(*object, {}).value());
  }
  Now now() const { return {clock_.now(), clock_.instant()}; }
  // poll() until nothing more comes; every command goes into the trace.
  std::vector<Command> poll() {
    std::vector<Command> all;
    for (int i = 0; i < 10; ++i) {
      auto commands = core_->poll(now(), references_);
      if (commands.empty()) break;
      for (auto& c : commands) {
        trace_ += "  " + describe(c) + "\n";
        if (const auto* put = std::get_if<command::Put>(&c)) assignment_ = put->assignment;
        all.push_back(std::move(c));
      }
    }
    return all;
  }
  void note(std::string_view text) { trace_ += std::format("{} {}\n", to_human(clock_.instant().time_since_epoch()), text); }
  // Runs the pod to serving with well-behaved surroundings.
  void serve() {
    poll();
    for (std::size_t i = 0; i < core_->containers(); ++i)
      core_->on_image_ready(i, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "reg.example/app@sha256:abc", .key = "k1", .kind = sandbox::GuestKind::HttpHandler}), "image is on the node");
    poll();
    core_->on_address("10.42.0.7");
    poll();
    for (std::size_t i = 0; i < core_->containers(); ++i) core_->on_listening(i);
    poll();
    for (std::size_t i = 0; i < core_->containers(); ++i) core_->on_placed(i, now());
    poll();
  }
  void expect_golden(const std::string& name) { tests::expect_golden("src/agent/testdata/" + name + ".txt", trace_); }
  std::string last_status() const {
    const auto at = trace_.rfind("  status ");
    return at == std::string::npos ? "" : trace_.substr(at + 9, trace_.find('\n', at) - at - 9);
  }

  PodCore::Options options_{.lame_duck = 1s, .node_name = "edge-1", .host_ip = "192.0.2.1"};
  ManualClock clock_{Time{} + std::chrono::seconds(1'790'000'000)};
  FakeReferences references_;
  std::optional<PodCore> core_;
  std::string trace_;
  sandbox::Assignment assignment_;  // of the last Put
};

TEST_F(PodCoreTest, BecomesReadyWithoutAProcessAndIsDeletedInOrder) {
  make(pod_json());
  note("bound");
  serve();
  note("first request");
  core_->on_awake(0);
  poll();
  core_->on_idle(0);
  poll();
  clock_.advance(60s);
  note("deleted");
  desire(pod_json("", "", R"(,"deletionTimestamp":"2026-09-21T10:00:00Z","deletionGracePeriodSeconds":30)"));
  poll();
  clock_.advance(1s);
  note("no Service names it any more");
  poll();
  clock_.advance(1s);
  note("stopped");
  core_->on_stopped(0, {}, now());
  poll();
  note("vanished");
  core_->on_vanished();
  poll();
  expect_golden("lifecycle");
}

// Goal: what is not wanted does not keep the node awake. Method: a pod that waits for an address is held, deleted; when is it due?
TEST_F(PodCoreTest, APodThatNeedsNoAddressIsNotDueForOne) {
  make(pod_json());
  poll();
  core_->on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "i", .key = "k1"}), "");
  poll();
  core_->on_address_failed("no address is left", now());
  poll();
  ASSERT_TRUE(core_->deadline());
  EXPECT_EQ(*core_->deadline(), clock_.instant() + options_.backoff_first);
  core_->hold("fewer were asked for", now());
  clock_.advance(1h);
  poll();
  EXPECT_TRUE(!core_->deadline() || *core_->deadline() > clock_.instant());
  core_->release();
  poll();
  core_->on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "i", .key = "k1"}), "");
  const auto asked = poll();
  EXPECT_TRUE(std::ranges::any_of(asked, [](const Command& c) { return std::holds_alternative<command::AllocateAddress>(c); })) << "started again, it asks again";
}

// Goal: a deleted pod serves on exactly as long as somebody may be sent to it. Method: virtual time; when is Stop decided?
TEST_F(PodCoreTest, ServesOnUntilNoServiceNamesIt) {
  const auto stops = [&] { return std::ranges::any_of(poll(), [](const Command& c) { return std::holds_alternative<command::Stop>(c); }); };
  make(pod_json());
  serve();
  core_->on_unrouted(now());
  EXPECT_FALSE(core_->leaving()) << "that no Service names it is nothing while it lives";
  EXPECT_FALSE(stops());
  desire(pod_json("", "", R"(,"deletionTimestamp":"2026-09-21T10:00:00Z","deletionGracePeriodSeconds":30)"));
  EXPECT_FALSE(stops());
  EXPECT_TRUE(core_->leaving());
  EXPECT_EQ(*core_->deadline(), clock_.instant() + 1s) << "the longest, if nobody says anything";
  clock_.advance(300ms);
  core_->on_unrouted(now());
  clock_.advance(99ms);
  core_->on_unrouted(now());  // again: it does not begin anew
  EXPECT_FALSE(stops());
  clock_.advance(1ms);
  EXPECT_TRUE(stops());
  EXPECT_FALSE(core_->leaving());
}

// Goal: a held pod is drained and refuses connections, keeps its address, and comes back as a new attempt. Method: what is decided, step by step.
TEST_F(PodCoreTest, AHeldPodIsDrainedAndStartsAgainWhenReleased) {
  make(pod_json());
  serve();
  trace_.clear();
  core_->hold("fewer were asked for", now());
  EXPECT_FALSE(core_->ready()) << "no Service sends it anything from now on";
  note("held");
  poll();
  EXPECT_EQ(*core_->deadline(), clock_.instant() + 1s);
  clock_.advance(1s);
  note("connections on their way are served");
  poll();
  core_->on_stopped(0, {}, now());
  note("drained");
  poll();
  EXPECT_TRUE(core_->poll(now(), references_).empty());
  EXPECT_EQ(core_->deadline(), std::nullopt) << "nothing to wait for";
  core_->release();
  note("released");
  poll();
  core_->on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "reg.example/app@sha256:abc", .key = "k1", .kind = sandbox::GuestKind::HttpHandler}), "image is on the node");
  poll();
  core_->on_listening(0);
  poll();
  core_->on_placed(0, now());
  poll();
  EXPECT_TRUE(core_->ready());
  EXPECT_EQ(core_->restarts(0), 1u);
  expect_golden("held");
}

// Goal: after a start of the agent a pod that is held does not serve for a second first. Method: held before its listener is there.
TEST_F(PodCoreTest, HeldBeforeItServesItNeverDoes) {
  make(pod_json());
  poll();
  EXPECT_TRUE(core_->starting());
  trace_.clear();
  core_->hold("fewer were asked for", now());
  EXPECT_FALSE(core_->starting());
  note("held on its way");
  poll();
  core_->on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "reg.example/app@sha256:abc", .key = "k1", .kind = sandbox::GuestKind::HttpHandler}), "image is on the node");
  poll();
  EXPECT_FALSE(core_->serving(0));
  EXPECT_EQ(core_->deadline(), std::nullopt);
  expect_golden("held_early");
}

// What a Service may wait for: a pod that is about to serve, not one that has failed.
TEST_F(PodCoreTest, IsStartingUntilSomethingFails) {
  make(pod_json());
  EXPECT_TRUE(core_->starting());
  serve();
  EXPECT_TRUE(core_->starting());
  core_->on_exited(0, {.code = 1}, now());
  poll();
  EXPECT_TRUE(core_->ready()) << "the first time again at once";
  core_->on_exited(0, {.code = 1}, now());
  poll();
  EXPECT_FALSE(core_->starting()) << "CrashLoopBackOff";
  clock_.advance(10s);
  poll();
  EXPECT_TRUE(core_->starting()) << "and on its way again";
}

TEST_F(PodCoreTest, ReleasedBeforeItStoppedItGoesOn) {
  make(pod_json());
  serve();
  core_->hold("fewer were asked for", now());
  poll();
  clock_.advance(500ms);
  core_->release();
  clock_.advance(10s);
  for (const Command& c : poll()) EXPECT_FALSE(std::holds_alternative<command::Stop>(c));
  EXPECT_TRUE(core_->ready());
  EXPECT_EQ(core_->restarts(0), 0u);
}

// Goal: a restart refuses no connection. Method: the listener is never closed, and put again once the former attempt is drained.
TEST_F(PodCoreTest, IsRestartedInPlaceBehindAnOpenListener) {
  make(pod_json());
  serve();
  trace_.clear();
  core_->restart(now());
  EXPECT_FALSE(core_->ready());
  poll();
  EXPECT_THAT(trace_, HasSubstr("stop 0 id=100 grace=30s"));
  core_->on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "reg.example/app@sha256:abc", .key = "k1", .kind = sandbox::GuestKind::HttpHandler}), "image is on the node");
  poll();
  EXPECT_THAT(trace_, ::testing::Not(HasSubstr("put 0"))) << "two of one uid";
  core_->on_stopped(0, {}, now());
  poll();
  EXPECT_THAT(trace_, ::testing::AllOf(HasSubstr("drop 0 id=100"), HasSubstr("put 0 id=100"), HasSubstr("attempt=1")));
  EXPECT_THAT(trace_, ::testing::Not(::testing::AnyOf(HasSubstr("close-listener"), HasSubstr("open-listener"))));
  core_->on_placed(0, now());
  poll();
  EXPECT_TRUE(core_->ready());
  EXPECT_THAT(last_status(), HasSubstr(R"("phase":"Running")"));
}

TEST_F(PodCoreTest, SaysWhatItWaitsForUntilItRan) {
  make(pod_json());
  EXPECT_EQ(core_->waiting(0), "ContainerCreating");
  poll();
  core_->on_image_failed(0, "ErrImagePull", "no such image", now());
  EXPECT_EQ(core_->waiting(0), "ErrImagePull");
  core_->on_image_maybe_changed();
  serve();
  EXPECT_EQ(core_->waiting(0), "");
}

TEST_F(PodCoreTest, ServesOnNoLongerThanHalfItsGrace) {
  make(pod_json());
  serve();
  desire(pod_json("", "", R"(,"deletionTimestamp":"2026-09-21T10:00:00Z","deletionGracePeriodSeconds":1)"));
  poll();
  EXPECT_EQ(*core_->deadline(), clock_.instant() + 500ms);
}

// Goal: kubelet's rhythm of restarts. Method: crash again and again, look at when it is put again.
TEST_F(PodCoreTest, RestartsAtOnceThenWithDoublingBackoffThatIsForgotten) {
  make(pod_json());
  serve();
  trace_.clear();
  note("first crash");
  core_->on_awake(0);
  core_->on_exited(0, {.signal = 11, .requests_lost = 2}, now());
  poll();
  for (int round = 0; round < 7; ++round) {
    note("crash");
    core_->on_awake(0);
    core_->on_exited(0, {.code = 65, .message = "guest failed to start: trap"}, now());
    poll();
    core_->on_stopped(0, {}, now());
    poll();
    ASSERT_TRUE(core_->deadline());
    clock_.advance(*core_->deadline() - clock_.instant());
    note("back-off over");
    poll();
    core_->on_placed(0, now());
    poll();
  }
  clock_.advance(601s);
  note("crash after a long good time");
  core_->on_exited(0, {.out_of_memory = true}, now());
  poll();
  expect_golden("crash_backoff");
}

// Goal: a worker that crashes takes no request of the healthy ones with it. Method: two workers, one crashes twice; the container is
// drained within its grace, and put again only when nothing of it is left.
TEST_F(PodCoreTest, DrainsTheOtherWorkersBeforeACrashBackoff) {
  make(pod_json("", R"(,"resources":{"limits":{"cpu":"2"}})"));
  serve();
  core_->on_awake(0);
  core_->on_awake(0);
  core_->on_exited(0, {.signal = 11}, now());
  poll();
  clock_.advance(2s);
  core_->on_awake(0);
  core_->on_exited(0, {.signal = 11}, now());
  trace_.clear();
  poll();
  EXPECT_THAT(trace_, HasSubstr("stop 0 id=100 grace=30s"));
  EXPECT_THAT(trace_, ::testing::Not(HasSubstr("drop")));
  EXPECT_THAT(last_status(), HasSubstr("CrashLoopBackOff"));
  EXPECT_EQ(core_->awake(0), 1u);
  clock_.advance(10s);  // the back-off is over, the request is not
  trace_.clear();
  poll();
  EXPECT_THAT(trace_, ::testing::Not(HasSubstr("put 0")));
  core_->on_exited(0, {}, now());
  core_->on_stopped(0, {}, now());
  poll();
  EXPECT_LT(trace_.find("drop 0 id=100"), trace_.find("put 0 id=100"));
  EXPECT_THAT(trace_, HasSubstr("put 0 id=100"));
  EXPECT_EQ(core_->restarts(0), 2u);
}

TEST_F(PodCoreTest, DropsWhatAKeeperDoesNotStop) {
  make(pod_json());
  serve();
  core_->on_exited(0, {.signal = 11}, now());
  poll();
  core_->on_exited(0, {.signal = 11}, now());
  poll();
  clock_.advance(34s);
  trace_.clear();
  poll();
  EXPECT_THAT(trace_, ::testing::Not(HasSubstr("drop")));
  ASSERT_EQ(*core_->deadline(), clock_.instant() + 1s);
  clock_.advance(1s);
  poll();
  EXPECT_THAT(trace_, HasSubstr("drop 0 id=100"));
  EXPECT_THAT(trace_, HasSubstr("put 0 id=100"));
}

// Goal: a sandbox of which nobody knows how it ended is a failure, in the words of a kubelet.
TEST_F(PodCoreTest, AnEndThatNobodySawIsAFailureOfUnknownStatus) {
  make(pod_json());
  serve();
  core_->on_exited(0, {.unknown = true, .requests_lost = 3}, now());
  poll();
  EXPECT_EQ(core_->restarts(0), 1u);
  EXPECT_THAT(last_status(), HasSubstr(R"("exitCode":137,"reason":"ContainerStatusUnknown","message":"How the container ended is not known)"));
  EXPECT_THAT(trace_, HasSubstr("event Warning app Restarted: Container app ended (exit code 137: How the container ended"));
  EXPECT_THAT(trace_, HasSubstr("3 requests were lost"));
  core_->on_exited(0, {.unknown = true}, now());
  poll();
  EXPECT_THAT(last_status(), HasSubstr("CrashLoopBackOff"));
}

TEST_F(PodCoreTest, AnEndThatNobodySawButTheMemoryLimitIsOutOfMemory) {
  make(pod_json());
  serve();
  core_->on_exited(0, {.out_of_memory = true, .unknown = true}, now());
  poll();
  EXPECT_THAT(last_status(), HasSubstr(R"("exitCode":137,"signal":9,"reason":"OOMKilled")"));
}

TEST_F(PodCoreTest, EndsAsFailedWithRestartPolicyNever) {
  std::string json = pod_json();
  json.replace(json.find("Always"), 6, "Never");
  make(json);
  serve();
  core_->on_exited(0, {.signal = 9}, now());
  poll();
  EXPECT_THAT(last_status(), HasSubstr(R"("phase":"Failed")"));
  EXPECT_THAT(last_status(), HasSubstr(R"("exitCode":137)"));
  EXPECT_THAT(trace_, HasSubstr("stop 0 id=100 grace=30s"));
  EXPECT_THAT(trace_, ::testing::Not(HasSubstr("release"))) << "its other workers still use the address";
  core_->on_stopped(0, {}, now());
  poll();
  EXPECT_THAT(trace_, HasSubstr("drop 0 id=100"));
  EXPECT_THAT(trace_, HasSubstr("release"));
}

TEST_F(PodCoreTest, WaitsForConfigurationWithKubeletsWords) {
  references_.missing("configmap", "default", "cfg");
  make(pod_json("", R"~(,"env":[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"cfg","key":"a"}}},{"name":"B","value":"$(A)-$$(A)-$(NOPE)"},)~"
                    R"~({"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}],"args":["--x=$(A)"])~"));
  serve();
  EXPECT_THAT(last_status(), HasSubstr(R"("waiting":{"reason":"CreateContainerConfigError","message":"configmap \"cfg\" not found"})"));
  references_.put("configmap", R"({"kind":"ConfigMap","metadata":{"name":"cfg","namespace":"default","uid":"c","resourceVersion":"1"},"data":{"a":"1"}})");
  core_->on_references_changed();
  poll();
  using Pair = std::pair<std::string, std::string>;
  EXPECT_THAT(assignment_.env, ::testing::ElementsAre(Pair{"A", "1"}, Pair{"B", "1-$(A)-$(NOPE)"}, Pair{"IP", "10.42.0.7"}));
  EXPECT_THAT(assignment_.args, ::testing::ElementsAre("--x=1"));
}

TEST_F(PodCoreTest, TellsTheGuestTheBoundThatAppliesWhereNoLimitIsGiven) {
  make(pod_json("", R"~(,"env":[{"name":"CPU","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}},)~"
                    R"~({"name":"MEMORY","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"1Mi"}}},)~"
                    R"~({"name":"REQUEST","valueFrom":{"resourceFieldRef":{"resource":"requests.cpu"}}}])~"));
  serve();
  using Pair = std::pair<std::string, std::string>;
  EXPECT_THAT(assignment_.env, ::testing::ElementsAre(Pair{"CPU", "1"}, Pair{"MEMORY", "128"}, Pair{"REQUEST", "0"}));
}

TEST_F(PodCoreTest, RefusesWhatIsNotServedWithASentence) {
  struct Case {
    const char *spec, *container, *metadata, *sentence;
  };
  const Case cases[] = {
      {R"(,"volumes":[{"name":"data","emptyDir":{}}])", "", "", "volume data: volumes are not served yet"},
      {R"(,"volumes":[{"name":"api-token-prod1","secret":{"secretName":"api-token-prod1"}}])", "", "", "volume api-token-prod1: volumes are not served yet"},
      {R"(,"volumes":[{"name":"kube-api-access-x","projected":{"sources":[{"configMap":{"name":"mine"}}]}}])", "", "", "volume kube-api-access-x: volumes are not"},
      {R"(,"volumes":[{"name":"kube-api-access-x","projected":{"sources":[{"secret":{"name":"mine"}}]}}])", "", "", "volume kube-api-access-x: volumes are not"},
      {R"(,"volumes":[{"name":"kube-api-access-x","projected":{"sources":[{"serviceAccountToken":{"path":"token"}}]}}])",
       R"(,"volumeMounts":[{"name":"kube-api-access-x","mountPath":"/token"}])", "", "the mount at /token is not served"},
      {"", R"(,"livenessProbe":{"httpGet":{"port":80}})", "", "livenessProbe is not served yet"},
      {"", R"(,"lifecycle":{"preStop":{}, "postStart":{}})", "", "lifecycle hooks"},
      {R"(,"initContainers":[{"name":"i","image":"x"}])", "", "", "init containers"},
      {R"(,"hostNetwork":true)", "", "", "hostNetwork is not served"},
      {"", R"(,"ports":[{"containerPort":80,"hostPort":80}])", "", "hostPort is not served"},
      {"", R"(,"ports":[{"containerPort":80,"protocol":"UDP"}])", "", "protocol UDP"},
      {"", R"(,"securityContext":{"privileged":true})", "", "privileged"},
      {R"(,"securityContext":{"runAsUser":0})", "", "", "pod.securityContext.runAsUser"},
      {"", R"(,"command":["/bin/sh"])", "", "`command` is not served"},
      {"", R"(,"resources":{"limits":{"example.com/gpu":"1"}})", "", "resource example.com/gpu"},
      {"", "", R"(,"annotations":{"skerry.dev/idle-after":"soon"})", "is not a duration"},
      {"", "", R"(,"annotations":{"skerry.dev/idle-afer":"1s"})", "is not known"},
      {"", "", R"(,"annotations":{"skerry.dev/isolation":"full"})", "neither"},
  };
  for (const Case& c : cases) {
    trace_.clear();
    make(pod_json(c.spec, c.container, c.metadata));
    poll();
    EXPECT_THAT(last_status(), HasSubstr(c.sentence));
    EXPECT_THAT(last_status(), HasSubstr(R"("phase":"Pending")"));
    EXPECT_THAT(trace_, ::testing::Not(HasSubstr("prepare-image"))) << c.sentence;
    EXPECT_THAT(trace_, HasSubstr("event Warning")) << c.sentence;
  }
}

TEST_F(PodCoreTest, AcceptsTheTokenVolumeOfAStockApiServer) {
  for (const char* volume : {R"({"name":"v","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},)"
                             R"({"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"kube-root-ca.crt"}},)"
                             R"({"downwardAPI":{"items":[{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"},"path":"namespace"}]}}]}})",
                             R"({"name":"v","secret":{"defaultMode":420,"secretName":"v"}})"}) {
    std::string text = volume;
    const std::string name = text.contains("projected") ? "kube-api-access-x2x4x" : "default-token-x2x4x";
    for (std::size_t at = 0; (at = text.find("\"v\"", at)) != std::string::npos;) text.replace(at + 1, 1, name);
    trace_.clear();
    make(pod_json(std::format(R"(,"volumes":[{}],"tolerations":[{{"key":"a"}}])", text),
                  std::format(R"(,"volumeMounts":[{{"name":"{}","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}}])", name)));
    poll();
    EXPECT_THAT(trace_, HasSubstr("prepare-image 0 reg.example/app:1")) << text;
  }
}

TEST_F(PodCoreTest, RefusesARuntimeClassThatTheNodeDoesNotHave) {
  references_.put("runtimeclass", R"({"kind":"RuntimeClass","metadata":{"name":"kata","uid":"r","resourceVersion":"1"},"handler":"kata"})");
  make(pod_json(R"(,"runtimeClassName":"kata")"));
  poll();
  EXPECT_THAT(last_status(), HasSubstr("asks for the handler kata, which this node does not have"));
  references_.put("runtimeclass", R"({"kind":"RuntimeClass","metadata":{"name":"kata","uid":"r","resourceVersion":"2"},"handler":"wasmedge"})");
  core_->on_references_changed();
  poll();
  EXPECT_THAT(trace_, HasSubstr("prepare-image"));
}

TEST_F(PodCoreTest, RetriesAnImageWithBackoffAndAtOnceWhenOneIsAdded) {
  make(pod_json());
  poll();
  core_->on_image_failed(0, "ErrImagePull", "reg.example/app:1 is not on this node", now());
  poll();
  EXPECT_THAT(last_status(), HasSubstr("ErrImagePull"));
  EXPECT_EQ(core_->deadline(), clock_.instant() + 10s);
  trace_.clear();
  core_->on_image_maybe_changed();
  poll();
  EXPECT_EQ(trace_, "  prepare-image 0 reg.example/app:1\n");
}

TEST_F(PodCoreTest, KillsAtOnceWhenTheObjectVanishes) {
  make(pod_json());
  serve();
  trace_.clear();
  core_->on_vanished();
  poll();
  EXPECT_EQ(trace_, "  stop 0 id=100 grace=0ns\n  event Normal app Killing: Stopping container app\n");
  trace_.clear();
  core_->on_stopped(0, {}, now());
  poll();
  EXPECT_EQ(trace_, "  drop 0 id=100\n  release\n  forget\n");
}

TEST_F(PodCoreTest, OverrulesAKeeperThatDoesNotAnswerAStop) {
  make(pod_json());
  serve();
  desire(pod_json("", "", R"(,"deletionTimestamp":"2026-09-21T10:00:00Z","deletionGracePeriodSeconds":2)"));
  poll();
  clock_.advance(1s);
  poll();
  clock_.advance(6s);
  trace_.clear();
  poll();
  EXPECT_EQ(trace_, "");
  clock_.advance(1s);
  poll();
  EXPECT_THAT(trace_, HasSubstr("drop 0 id=100"));
  EXPECT_THAT(trace_, HasSubstr("delete u-1"));
}

// Goal: an agent that was killed knows all again. Method: save, restore, adopt; nothing is started, the status is the same.
TEST_F(PodCoreTest, RestoredAndAdoptedItStartsNothingAndSaysTheSame) {
  make(pod_json());
  serve();
  core_->on_awake(0);
  core_->on_exited(0, {.signal = 11}, now());
  poll();
  const std::string before = last_status(), saved = core_->save();
  auto doc = kube::JsonDoc::parse(saved).value();
  auto object = core_->object();
  clock_.advance(100s);
  auto restored = PodCore::restore(options_, object, plan_pod(*object, {}).value(), doc.root(), now());
  ASSERT_TRUE(restored);
  EXPECT_EQ(restored->save(), saved);
  core_.emplace(std::move(*restored));
  core_->on_adopted(0, 1);
  trace_.clear();
  poll();
  EXPECT_EQ(trace_, "  status " + before + "\n");
  EXPECT_EQ(core_->restarts(0), 1u);
}

// Goal: an agent that was killed while a container was being stopped kills nothing. Method: restore; the keeper still stops it, or
// the crash was saved and the keeper was not told.
TEST_F(PodCoreTest, RestoredItAwaitsWhatIsBeingStopped) {
  make(pod_json());
  serve();
  const auto restore = [&](PodCore::Held held) {
    auto doc = kube::JsonDoc::parse(core_->save()).value();
    auto object = core_->object();
    core_.emplace(PodCore::restore(options_, object, plan_pod(*object, {}).value(), doc.root(), now()).value());
    core_->on_adopted(0, 1, held);
    trace_.clear();
    poll();
    EXPECT_THAT(trace_, HasSubstr("stop 0 id=100"));
    EXPECT_THAT(trace_, ::testing::Not(HasSubstr("drop")));
    core_->on_stopped(0, {}, now());
    poll();
    EXPECT_THAT(trace_, HasSubstr("drop 0 id=100"));
  };
  restore(PodCore::Held::Stopping);
  core_->on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "i", .key = "k1"}), "");
  poll();
  core_->on_placed(0, now());
  poll();
  for (int i = 0; i < 2; ++i) core_->on_exited(0, {.signal = 11}, now());
  restore(PodCore::Held::Serving);
  EXPECT_THAT(last_status(), HasSubstr("CrashLoopBackOff"));
}

// A keeper that holds nothing (reboot): the same address, the same counts, put again.
TEST_F(PodCoreTest, RestoredWithoutKeeperItIsPutAgainAtItsAddress) {
  make(pod_json());
  serve();
  auto doc = kube::JsonDoc::parse(core_->save()).value();
  auto object = core_->object();
  core_.emplace(PodCore::restore(options_, object, plan_pod(*object, {}).value(), doc.root(), now()).value());
  trace_.clear();
  poll();
  core_->on_image_ready(0, std::make_shared<const PreparedImage>(PreparedImage{.image_id = "i", .key = "k1"}), "");
  poll();
  EXPECT_THAT(trace_, HasSubstr("open-listener 0 10.42.0.7:8080"));
  core_->on_listening(0);
  poll();
  EXPECT_THAT(trace_, HasSubstr("put 0 id=100 image=k1"));
  EXPECT_THAT(trace_, ::testing::Not(HasSubstr("allocate-address")));
}

TEST_F(PodCoreTest, SeveralContainersAreReadyTogether) {
  std::string json = pod_json("", R"(,"ports":[{"containerPort":8080}]},{"name":"b","image":"reg.example/b:1","ports":[{"containerPort":8081}])");
  make(json);
  ASSERT_EQ(core_->containers(), 2u);
  serve();
  EXPECT_TRUE(core_->ready());
  core_->on_exited(1, {.signal = 11}, now());
  core_->on_exited(1, {.signal = 11}, now());
  poll();
  EXPECT_FALSE(core_->ready());
  EXPECT_THAT(last_status(), HasSubstr("containers with unready status: [b]"));
}

}  // namespace
}  // namespace skerry::agent
