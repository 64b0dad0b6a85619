// SPDX-License-Identifier: Apache-2.0
// Which owners are asked for, when, and what is kept of the answers. Method: an API that answers what the test gives it, at once or
// when told; a clock that is moved.
#include "agent/owner_cache.h"

#include <gmock/gmock.h>

#include <format>

#include "tests/run_on.h"

namespace skerry::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Line = OwnerCache::Line;

class FakeOwners final : public http::Transport {
 public:
  explicit FakeOwners(rt::Loop& loop) : open(loop) { open.set(); }
  rt::Task<http::Response> send(http::Request request, http::BodyMode, Duration) override {
    const std::string name = request.target.substr(request.target.rfind('/') + 1);
    asked.push_back(name);
    const auto there = objects.find(name);
    auto answer = denied ? http::make_response(403, "application/json", R"({"kind":"Status","status":"Failure","reason":"Forbidden","code":403,"message":"no"})")
                  : there == objects.end() ? http::make_response(404, "application/json", R"({"kind":"Status","status":"Failure","reason":"NotFound","code":404,"message":"no"})")
                                           : http::make_response(200, "application/json", there->second);
    CO_TRY_OK(co_await open.wait());  // the answer is on its way until then
    co_return std::move(answer);
  }
  std::map<std::string, std::string> objects;
  std::vector<std::string> asked;
  bool denied = false;
  rt::Event open;
};

class OwnerCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    api_.objects["web"] = deployment(2, 10);
    api_.objects["web-1"] = std::format(R"({{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{{"name":"web-1","namespace":"d","uid":"r-1","resourceVersion":"3",{}}}}})", owner("Deployment", "web", "d-1"));
  }
  void TearDown() override { EXPECT_TRUE(run_on(loop_, cache_.stop())); }
  static std::string owner(std::string_view kind, std::string_view name, std::string_view uid) {
    return std::format(R"("ownerReferences":[{{"apiVersion":"apps/v1","kind":"{}","name":"{}","uid":"{}","controller":true}}])", kind, name, uid);
  }
  static std::string deployment(int replicas, int revision) {
    return std::format(R"({{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"web","namespace":"d","uid":"d-1","resourceVersion":"{}"}},"spec":{{"replicas":{}}}}})", revision, replicas);
  }
  static kube::ObjectPtr pod(std::string_view name, std::string_view set = "web-1", std::string_view set_uid = "r-1") {
    return kube::Object::from_json(std::format(R"({{"kind":"Pod","metadata":{{"name":"{0}","namespace":"d","uid":"u-{0}",{1}}}}})", name, owner("ReplicaSet", set, set_uid))).value();
  }
  // A tick, and all that comes of it; who was asked for.
  std::vector<std::string> tick(Line line = Line::There) {
    cache_.tick(clock_.instant(), line);
    settle();
    return std::exchange(api_.asked, {});
  }
  void settle() { loop_.context().run_for(std::chrono::milliseconds(10)); }
  std::int64_t replicas() {
    const auto found = cache_.find("Deployment", "d", "web");
    return found ? found->parse().root()["spec"]["replicas"].i64() : -1;
  }

  rt::Loop loop_;
  ManualClock clock_;
  FakeOwners api_{loop_};
  client::Client client_{api_};
  std::vector<std::string> stored_;
  OwnerCache cache_{loop_, client_, clock_, {}, [this](std::string_view kind, std::string_view, std::string_view name, const kube::ObjectPtr& object) {
                      stored_.push_back(std::format("{}{} {}", object ? "" : "-", kind, name));
                    }};
};

TEST_F(OwnerCacheTest, AsksForThePodsOwnersAndTheirsOnceAndSeldomAgain) {
  cache_.put_pod(*pod("a"), OwnerCache::Came::Now);
  EXPECT_THAT(tick(Line::Away), IsEmpty());
  EXPECT_THAT(tick(), ElementsAre("web-1", "web"));
  EXPECT_THAT(stored_, ElementsAre("ReplicaSet web-1", "Deployment web"));
  EXPECT_THAT(cache_.pods_of(*cache_.find("Deployment", "d", "web")), ElementsAre("u-a"));
  EXPECT_EQ(cache_.deployment_of("u-a"), cache_.find("Deployment", "d", "web"));
  clock_.advance(5h);
  EXPECT_THAT(tick(), IsEmpty());
  cache_.put_pod(*pod("b"), OwnerCache::Came::Now);
  cache_.put_pod(*pod("c"), OwnerCache::Came::FromCheckpoint);
  EXPECT_THAT(tick(), IsEmpty()) << "pods come in bursts";
  clock_.advance(2s);
  EXPECT_THAT(tick(), ElementsAre("web-1"));
  clock_.advance(5h);
  EXPECT_THAT(tick(), ElementsAre("web"));
}

// Goal: nodes that come back after a day do not all ask at once for what only has grown old; what was asked for meanwhile is asked.
TEST_F(OwnerCacheTest, WhatGrewOldWhileTheLineWasAwayWaitsForAWhile) {
  cache_.put_pod(*pod("a"), OwnerCache::Came::Now);
  EXPECT_THAT(tick(), ElementsAre("web-1", "web"));
  for (int hour = 0; hour < 24; ++hour) {
    clock_.advance(1h);
    EXPECT_THAT(tick(Line::Away), IsEmpty());
  }
  EXPECT_THAT(tick(), IsEmpty());
  cache_.refresh("d-1");
  EXPECT_THAT(tick(Line::Away), IsEmpty());
  EXPECT_THAT(tick(), ElementsAre("web"));
  clock_.advance(1h);
  EXPECT_THAT(tick(), ElementsAre("web-1"));
}

// Goal: what was changed while an answer was on its way is asked for again. Method: the answer is held back; refresh() comes between.
TEST_F(OwnerCacheTest, ARefreshDuringAnAnswerCounts) {
  cache_.put_pod(*pod("a"), OwnerCache::Came::Now);
  tick();
  cache_.refresh("d-1");
  api_.open.reset();
  EXPECT_THAT(tick(), ElementsAre("web"));
  api_.objects["web"] = deployment(5, 11);  // behind the answer that is under way
  cache_.refresh("d-1");
  api_.open.set();
  settle();
  EXPECT_THAT(std::exchange(api_.asked, {}), ElementsAre("web"));
  EXPECT_EQ(replicas(), 5);
  EXPECT_THAT(tick(), IsEmpty());
}

TEST_F(OwnerCacheTest, WhatWasChangedFromHereIsKnownBeforeItIsAskedFor) {
  cache_.put_pod(*pod("a"), OwnerCache::Came::Now);
  tick();
  api_.objects["web"] = deployment(4, 11);
  cache_.changed(kube::Object::from_json(deployment(4, 10)).value());
  EXPECT_EQ(replicas(), 4);
  EXPECT_EQ(stored_.back(), "Deployment web");
  EXPECT_THAT(tick(Line::Away), IsEmpty());
  EXPECT_EQ(replicas(), 4);
  EXPECT_THAT(tick(), ElementsAre("web"));
  EXPECT_EQ(cache_.find("Deployment", "d", "web")->revision().value(), 11u);
}

TEST_F(OwnerCacheTest, ForgetsWhatOwnsNothingAnyMore) {
  cache_.put_pod(*pod("a"), OwnerCache::Came::Now);
  tick();
  cache_.remove_pod("u-a");
  tick();
  EXPECT_THAT(cache_.all(), IsEmpty());
  EXPECT_THAT(stored_, ElementsAre("ReplicaSet web-1", "Deployment web", "-Deployment web", "-ReplicaSet web-1"));
  clock_.advance(24h);
  EXPECT_THAT(tick(), IsEmpty());
}

// Goal: where nothing may be read, owners come and go all the same and are seldom asked for. Method: 403 to everything, a pod that goes.
TEST_F(OwnerCacheTest, WhereTheyMayNotBeReadOwnersAreForgottenToo) {
  api_.denied = true;
  cache_.put_pod(*pod("a"), OwnerCache::Came::Now);
  cache_.put_pod(*pod("b", "old-1", "r-0"), OwnerCache::Came::Now);
  EXPECT_THAT(tick(), ElementsAre("old-1", "web-1"));
  EXPECT_TRUE(cache_.denied());
  clock_.advance(2s);
  tick();
  clock_.advance(9min);
  EXPECT_THAT(tick(), IsEmpty());
  cache_.remove_pod("u-b");
  tick();
  clock_.advance(10min);
  EXPECT_THAT(tick(), ElementsAre("web-1")) << "the other is forgotten";
  api_.denied = false;
  clock_.advance(10min);
  EXPECT_THAT(tick(), ElementsAre("web-1", "web"));
  EXPECT_FALSE(cache_.denied());
}

// In a rollout the Deployment is needed by a ReplicaSet that nobody has read yet.
TEST_F(OwnerCacheTest, TheDeploymentStaysWhileANewReplicaSetIsAskedFor) {
  cache_.put_pod(*pod("a"), OwnerCache::Came::Now);
  tick();
  cache_.put_pod(*pod("b", "web-2", "r-2"), OwnerCache::Came::Now);
  cache_.remove_pod("u-a");
  clock_.advance(3s);
  tick(Line::Away);
  EXPECT_EQ(replicas(), 2);
  api_.objects["web-2"] = std::format(R"({{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{{"name":"web-2","namespace":"d","uid":"r-2","resourceVersion":"12",{}}}}})", owner("Deployment", "web", "d-1"));
  tick();
  tick();
  EXPECT_EQ(replicas(), 2);
  EXPECT_EQ(cache_.find("ReplicaSet", "d", "web-1"), nullptr);
  EXPECT_THAT(cache_.pods_of(*cache_.find("Deployment", "d", "web")), ElementsAre("u-b"));
}

}  // namespace
}  // namespace skerry::agent
