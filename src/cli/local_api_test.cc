// SPDX-License-Identifier: Apache-2.0
// kubectl on the node's loopback, without sockets: who is answered, what is shown, what is passed to the agent, and when the mirror
// comes and goes. Method: a view of a few objects that the test changes; a clock that moves when told.
#include "cli/local_api.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <format>

#include "kube/json.h"
#include "tests/run_on.h"

namespace skerry::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class FakeView final : public agent::LocalView {
 public:
  std::vector<kube::ObjectPtr> objects() const override {
    ++asked;
    return held;
  }
  rt::Task<Changed> change(agent::LocalChange c) override {
    changes.push_back(std::format("{}/{} {} {}={}", c.namespace_, c.name, c.uid, c.field == agent::LocalChange::Field::Replicas ? "replicas" : "restartedAt", c.value));
    if (refuse) co_return Fail({Errc::Exhausted, "no room for stand-ins"});
    co_return outcome;
  }
  std::vector<kube::ObjectPtr> held;
  mutable int asked = 0;
  std::vector<std::string> changes;
  Changed outcome = Changed::Here;
  bool refuse = false;
};

class FakeLogs final : public http::Handler {
 public:
  rt::Task<http::Response> handle(http::Request request) override { co_return http::make_response(200, "text/plain", "log of " + request.target); }
};

class LocalApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    put(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","namespace":"shop","uid":"u-1","labels":{"app":"web"},"resourceVersion":"77"},)"
        R"("spec":{"nodeName":"edge-1","containers":[{"name":"app","image":"i"}]},"status":{"phase":"Running"}})");
    put(R"({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop","uid":"d-1","generation":1},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},)"
        R"("template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"i"}]}}},"status":{}})");
    api_.start();
  }
  void TearDown() override { EXPECT_TRUE(run_on(loop_, api_.stop())); }
  void put(std::string_view json) {
    auto object = kube::Object::from_json(std::string(json)).value();
    std::erase_if(view_.held, [&](const auto& one) { return one->kind() == object->kind() && one->name() == object->name(); });
    view_.held.push_back(std::move(object));
  }
  struct Reply {
    int code;
    std::string body, warning;
    std::unique_ptr<http::Stream> stream;
    std::string at(std::string_view path) const {
      const auto doc = kube::JsonDoc::parse(body).value();
      const kube::Json value = doc.root().path(path);
      return value.is_string() ? std::string(value.str()) : value.exists() ? value.dump() : "";
    }
  };
  Reply send(std::string_view method, std::string_view target, std::string body = "", std::string_view type = "application/merge-patch+json", std::string_view accept = "") {
    http::Request request{.method = std::string(method), .target = std::string(target), .body = std::move(body)};
    request.headers.set("Content-Type", type);
    if (!accept.empty()) request.headers.set("Accept", accept);
    request.peer.certificate_common_name = known_ ? "skerry-local-admin" : "";
    if (known_) request.peer.certificate_organizations = {"system:masters"};
    auto response = run_on(loop_, api_.handle(std::move(request))).value();
    return {response.status, std::string(response.text()), std::string(response.headers.get("Warning")), std::move(response.stream)};
  }
  Reply get(std::string_view target, std::string_view accept = "") { return send("GET", target, "", "", accept); }
  // Lets the api's own task run.
  void later(Duration d) {
    clock_.advance(d);
    loop_.context().run_for(std::chrono::milliseconds(30));
  }

  rt::Loop loop_;
  ManualClock clock_;
  SeededRandom random_{3};
  FakeView view_;
  FakeLogs logs_;
  bool known_ = true;
  LocalApi api_{loop_, view_, logs_, clock_, random_, {.node = "edge-1", .idle_max = 40ms, .fresh_for = 1s, .watch_period = 5ms}};
  const std::string pods_ = "/api/v1/namespaces/shop/pods", deployment_ = "/apis/apps/v1/namespaces/shop/deployments/web";
};

TEST_F(LocalApiTest, NobodyWithoutItsOwnCertificateIsAnsweredOrMakesWork) {
  known_ = false;
  for (const char* target : {"/api/v1/pods", "/version", "/healthz", "/api/v1/secrets"}) EXPECT_EQ(get(target).code, 401) << target;
  EXPECT_THAT(get("/api/v1/pods").body, HasSubstr("local.kubeconfig"));
  EXPECT_EQ(send("PATCH", deployment_, "{}").code, 401);
  EXPECT_EQ(view_.asked, 0);
  EXPECT_FALSE(api_.has_mirror());
}

TEST_F(LocalApiTest, ShowsWhatTheAgentHoldsAsTablesListsAndLogs) {
  EXPECT_FALSE(api_.has_mirror()) << "nothing is made before somebody asks";
  const auto table = get(pods_ + "?limit=500", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
  EXPECT_EQ(table.at("kind"), "Table");
  EXPECT_THAT(table.body, HasSubstr("web-1"));
  EXPECT_EQ(get(pods_ + "/web-1").at("metadata.uid"), "u-1");
  EXPECT_THAT(get("/api/v1/pods?fieldSelector=spec.nodeName%3Dother").at("items"), "[]");
  EXPECT_THAT(get("/api/v1/namespaces").body, AllOf(HasSubstr("shop"), HasSubstr("default")));
  auto log = get(pods_ + "/web-1/log?tailLines=3");
  ASSERT_TRUE(log.stream);
  EXPECT_EQ(**run_on(loop_, log.stream->next()).value(), "log of /containerLogs/shop/web-1/app?tailLines=3");
  EXPECT_EQ(get("/version").code, 200);
  put(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","namespace":"shop","uid":"u-1"},"spec":{"nodeName":"edge-1","containers":[{"name":"app","image":"i"}]},"status":{"phase":"Failed"}})");
  view_.held.erase(view_.held.begin());  // the Deployment, by now the first
  clock_.advance(2s);
  EXPECT_EQ(get(pods_ + "/web-1").at("status.phase"), "Failed");
  EXPECT_EQ(get(deployment_).code, 404);
}

TEST_F(LocalApiTest, AWatchTellsWhatChanges) {
  const auto list = get(pods_);
  auto watch = get(pods_ + "?watch=true&resourceVersion=" + list.at("metadata.resourceVersion"));
  ASSERT_TRUE(watch.stream);
  put(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","namespace":"shop","uid":"u-1"},"spec":{"nodeName":"edge-1","containers":[{"name":"app","image":"i"}]},"status":{"phase":"Failed"}})");
  const auto event = run_on(loop_, watch.stream->next()).value();
  ASSERT_TRUE(event);
  EXPECT_THAT(**event, AllOf(HasSubstr(R"("type":"MODIFIED")"), HasSubstr(R"("phase":"Failed")")));
  later(1h);
  EXPECT_TRUE(api_.has_mirror()) << "somebody watches";
  watch.stream.reset();
  later(0s);
  later(1h);
  later(1h);
  EXPECT_FALSE(api_.has_mirror());
  EXPECT_EQ(get(pods_).code, 200) << "and comes again";
}

// Goal: an object that the mirror does not take costs the others nothing. Method: room for one of a kind.
TEST_F(LocalApiTest, WhatItCannotShowIsLeftOutAndTheRestIsShown) {
  EXPECT_TRUE(run_on(loop_, api_.stop()));
  LocalApi small(loop_, view_, logs_, clock_, random_, {.node = "edge-1", .objects_max = 1});
  small.start();
  const auto names = [&] {
    http::Request request{.method = "GET", .target = pods_, .body = ""};
    request.peer = {.certificate_common_name = "skerry-local-admin", .certificate_organizations = {"system:masters"}};
    const auto doc = kube::JsonDoc::parse(run_on(loop_, small.handle(std::move(request))).value().text()).value();
    std::string out;
    for (const kube::Json pod : doc.root()["items"].items()) out += std::format("{} ", pod["metadata"]["name"].str());
    return out;
  };
  put(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-2","namespace":"shop","uid":"u-2"},"spec":{"nodeName":"edge-1","containers":[{"name":"app","image":"i"}]}})");
  EXPECT_EQ(names(), "web-1 ");
  clock_.advance(2s);
  view_.held.erase(view_.held.begin());
  EXPECT_EQ(names(), "") << "its room is free by now";
  clock_.advance(2s);
  EXPECT_EQ(names(), "web-2 ");
  EXPECT_TRUE(run_on(loop_, small.stop()));
}

// Goal: a stop in the midst of a mirror's end is a stop. Method: it goes for want of questions, and is not waited for.
TEST_F(LocalApiTest, IsStoppedWhileTheMirrorGoes) {
  EXPECT_EQ(get(pods_).code, 200);
  clock_.advance(1h);
  while (api_.has_mirror()) loop_.context().run_one_for(std::chrono::milliseconds(50));
  EXPECT_TRUE(run_on(loop_, api_.stop()));
}

TEST_F(LocalApiTest, SecretsAndAllOtherWritesAreRefusedWithASentence) {
  for (const char* target : {"/api/v1/secrets", "/api/v1/namespaces/shop/secrets", "/api/v1/namespaces/shop/secrets/x"}) {
    const auto reply = get(target);
    EXPECT_EQ(reply.code, 403) << target;
    EXPECT_THAT(reply.at("message"), HasSubstr("Secrets are not shown here"));
  }
  const auto gone = send("DELETE", pods_ + "/web-1");
  EXPECT_EQ(gone.code, 405);
  EXPECT_THAT(gone.at("message"), HasSubstr("restart its Deployment"));
  for (const auto& [method, target] : std::vector<std::pair<std::string, std::string>>{{"POST", pods_}, {"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"}, {"DELETE", deployment_}, {"PATCH", pods_ + "/web-1"},
                                                                                      {"PUT", deployment_ + "/status"}, {"PATCH", "/apis/apps/v1/namespaces/shop/replicasets/x/scale"}, {"POST", deployment_}}) {
    const auto reply = send(method, target, "{}");
    EXPECT_EQ(reply.code, 405) << method << target;
    EXPECT_THAT(reply.at("message"), HasSubstr("this is node edge-1 itself")) << target;
  }
  const std::string image = R"({"spec":{"template":{"spec":{"containers":[{"name":"app","image":"other"}]}}}})";
  const auto changed = send("PATCH", deployment_, image, "application/strategic-merge-patch+json");
  EXPECT_EQ(changed.code, 403);
  EXPECT_THAT(changed.at("message"), HasSubstr("Change the rest at the control plane"));
  EXPECT_EQ(send("PATCH", deployment_, R"({"spec":{"replicas":3,"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"t"}}}}})").code, 403);
  EXPECT_EQ(send("PATCH", deployment_, R"({"metadata":{"labels":{"a":"b"}}})").code, 403);
  EXPECT_THAT(view_.changes, IsEmpty());
}

TEST_F(LocalApiTest, ScaleAndRestartGoToTheAgentWhateverTheirForm) {
  auto reply = send("PATCH", deployment_ + "/scale", R"({"spec":{"replicas":4}})");
  EXPECT_EQ(reply.code, 200) << reply.body;
  EXPECT_EQ(reply.at("spec.replicas"), "4");
  EXPECT_THAT(reply.warning, HasSubstr("control plane has not taken it yet"));
  view_.outcome = agent::LocalView::Changed::Upstream;
  reply = send("PUT", deployment_ + "/scale", R"({"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"web","namespace":"shop"},"spec":{"replicas":5}})", "application/json");
  EXPECT_EQ(reply.code, 200) << reply.body;
  EXPECT_THAT(reply.warning, IsEmpty());
  EXPECT_EQ(send("PATCH", deployment_, R"([{"op":"replace","path":"/spec/replicas","value":6}])", "application/json-patch+json").code, 200);
  EXPECT_EQ(send("PATCH", deployment_ + "?fieldManager=kubectl-rollout", R"({"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z"}}}}})",
                 "application/strategic-merge-patch+json").code, 200);
  EXPECT_THAT(view_.changes, ElementsAre("shop/web d-1 replicas=4", "shop/web d-1 replicas=5", "shop/web d-1 replicas=6", "shop/web d-1 restartedAt=2026-01-01T00:00:00Z"));
}

// What is shown may be a second old: the server may have another number than that by now.
TEST_F(LocalApiTest, AScaleToTheNumberThatIsShownIsPassedOnToo) {
  EXPECT_EQ(send("PATCH", deployment_ + "/scale", R"({"spec":{"replicas":2}})").code, 200);
  EXPECT_THAT(view_.changes, ElementsAre("shop/web d-1 replicas=2"));
}

TEST_F(LocalApiTest, WhatChangesNothingIsDryOrIsNotValidNeverReachesTheAgent) {
  EXPECT_EQ(send("PATCH", deployment_, "{}").code, 200);
  EXPECT_EQ(send("PATCH", deployment_ + "/scale?dryRun=All", R"({"spec":{"replicas":9}})").code, 200);
  EXPECT_EQ(send("PATCH", deployment_ + "/scale", R"({"spec":{"replicas":-1}})").code, 422);
  EXPECT_EQ(send("PATCH", deployment_ + "/scale", "nonsense").code, 400);
  EXPECT_EQ(send("PATCH", "/apis/apps/v1/namespaces/shop/deployments/none/scale", R"({"spec":{"replicas":1}})").code, 404);
  EXPECT_EQ(send("PATCH", deployment_ + "/scale", R"({"metadata":{"resourceVersion":"1"},"spec":{"replicas":3}})").code, 409);
  EXPECT_THAT(view_.changes, IsEmpty());
  view_.refuse = true;
  const auto refused = send("PATCH", deployment_ + "/scale", R"({"spec":{"replicas":9}})");
  EXPECT_GE(refused.code, 400);
  EXPECT_THAT(refused.at("message"), HasSubstr("no room for stand-ins"));
}

TEST(LocalCredentials, ArePrivateAndStayTheSame) {
  char name[] = "/tmp/skerry-local-XXXXXX";
  const std::filesystem::path folder = ::mkdtemp(name);
  const Time now = SystemClock().now();
  const auto first = make_local_credentials(folder, "edge-1", 10251, now).value(), again = make_local_credentials(folder, "edge-1", 10251, now).value();
  EXPECT_EQ(first.serving.certificate_pem, again.serving.certificate_pem);
  struct stat info {};
  ASSERT_EQ(::stat((folder / "local.kubeconfig").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(pki::inspect_certificate(first.serving.certificate_pem).value().addresses, std::vector<std::string>{"127.0.0.1"});
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace skerry::cli
