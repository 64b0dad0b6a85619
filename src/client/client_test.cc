// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/fake_api.h"
#include "http/in_process.h"

namespace skerry::client {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kPod = R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"d","uid":"u","resourceVersion":"5"}})";

struct ClientTest : ::testing::Test {
  rt::Loop loop;
  FakeApi api{loop};
  http::InProcessTransport transport{api};
  Client client{transport, {.list_page = 2}};
  const http::Request& last() const { return api.requests.back(); }
};

TEST_F(ClientTest, BuildsThePathsOfTheApi) {
  EXPECT_EQ(kPods.url(), "/api/v1/pods");
  EXPECT_EQ(kPods.url("d", "a", "status"), "/api/v1/namespaces/d/pods/a/status");
  EXPECT_EQ(kNodes.url("ignored", "n"), "/api/v1/nodes/n");
  EXPECT_EQ(kDeployments.url("d"), "/apis/apps/v1/namespaces/d/deployments");
  EXPECT_EQ(kPods.url("d/x", "a b"), "/api/v1/namespaces/d%2Fx/pods/a%20b");
}

TEST_F(ClientTest, JoinsThePagesOfAList) {
  for (const char* name : {"a", "b", "c", "d", "e"}) api.put(name, R"(,"labels":{"app":"x"})");
  const auto list = rt::Loop::run_one(client.list(kPods, "d", {.label = "app in (x,y)", .field = "spec.nodeName=n"})).value();
  ASSERT_EQ(list.items.size(), 5U);
  EXPECT_EQ(list.items[4]->name(), "e");
  EXPECT_EQ(list.items[0]->kind(), "Pod");
  EXPECT_THAT(*list.items[0]->json(), HasSubstr(R"("apiVersion":"v1")"));
  EXPECT_EQ(list.items[0]->label("app"), "x");
  EXPECT_EQ(list.revision, Revision(105));
  ASSERT_EQ(api.requests.size(), 3U);
  const auto target = http::Target::parse(last().target).value();
  EXPECT_EQ(target.path, "/api/v1/namespaces/d/pods");
  EXPECT_EQ(target.param("labelSelector"), "app in (x,y)");
  EXPECT_EQ(target.param("fieldSelector"), "spec.nodeName=n");
  EXPECT_EQ(target.param("limit"), "2");
}

TEST_F(ClientTest, SendsEachVerbAsTheApiWantsIt) {
  const auto ok = [&] { api.forced.emplace_back(200, std::string(kPod)); };
  ok();
  EXPECT_EQ(rt::Loop::run_one(client.get(kPods, "d", "a")).value()->uid(), "u");
  EXPECT_EQ(last().method, "GET");
  ok();
  ASSERT_TRUE(rt::Loop::run_one(client.create(kPods, "d", "{}")).has_value());
  EXPECT_EQ(last().method + " " + last().target, "POST /api/v1/namespaces/d/pods");
  EXPECT_EQ(last().headers.get("content-type"), "application/json");
  ok();
  ASSERT_TRUE(rt::Loop::run_one(client.update_status(kPods, "d", "a", "{}")).has_value());
  EXPECT_EQ(last().method + " " + last().target, "PUT /api/v1/namespaces/d/pods/a/status");
  ok();
  ASSERT_TRUE(rt::Loop::run_one(client.patch_status(kPods, "d", "a", PatchType::Strategic, "{}")).has_value());
  EXPECT_EQ(last().headers.get("content-type"), "application/strategic-merge-patch+json");
  ok();
  ASSERT_TRUE(rt::Loop::run_one(client.remove(kPods, "d", "a", {.grace_seconds = 0, .uid = "u", .propagation = "Background"})).has_value());
  EXPECT_EQ(last().method, "DELETE");
  EXPECT_EQ(last().body, R"({"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"preconditions":{"uid":"u"},"propagationPolicy":"Background"})");
  api.forced.emplace_back(200, R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"})");
  EXPECT_EQ(rt::Loop::run_one(client.remove(kPods, "d", "a")).value(), nullptr);
  api.forced.emplace_back(201, R"({"kind":"Status","status":"Success"})");
  EXPECT_THAT(rt::Loop::run_one(client.post(kPods, "d", "a", "binding", "{}")).value(), HasSubstr("Success"));
  EXPECT_EQ(last().target, "/api/v1/namespaces/d/pods/a/binding");
}

TEST_F(ClientTest, WritesQuietlyAndGivesTheHeaders) {
  // A server that knows the preference, and one that does not: its body is not looked at.
  api.forced.emplace_back(204, "");
  const auto headers = rt::Loop::run_one(client.patch_quietly(kLeases, "kube-node-lease", "n", PatchType::Merge, "{}", [] {
    http::Headers more;
    more.set("X-Asked", "yes");
    return more;
  }()));
  ASSERT_TRUE(headers.has_value());
  EXPECT_EQ(last().headers.get("prefer"), "return=minimal");
  EXPECT_EQ(last().headers.get("x-asked"), "yes");
  EXPECT_EQ(last().headers.get("content-type"), "application/merge-patch+json");
  EXPECT_TRUE(headers->has("content-type"));
  api.forced.emplace_back(200, "{ not even JSON");
  ASSERT_TRUE(rt::Loop::run_one(client.patch_status_quietly(kPods, "d", "a", PatchType::Strategic, "{}")).has_value());
  EXPECT_EQ(last().method + " " + last().target, "PATCH /api/v1/namespaces/d/pods/a/status");
  api.forced.emplace_back(201, "");
  ASSERT_TRUE(rt::Loop::run_one(client.create_quietly(kEvents, "d", "{}")).has_value());
  EXPECT_EQ(last().method + " " + last().target, "POST /api/v1/namespaces/d/events");
  api.forced.emplace_back(409, R"({"kind":"Status","reason":"AlreadyExists","message":"it is there"})");
  EXPECT_EQ(rt::Loop::run_one(client.create_quietly(kLeases, "kube-node-lease", "{}")).error().code, Errc::AlreadyExists);
  // Nobody else asks for it.
  api.forced.emplace_back(200, std::string(kPod));
  ASSERT_TRUE(rt::Loop::run_one(client.patch(kPods, "d", "a", PatchType::Merge, "{}")).has_value());
  EXPECT_FALSE(last().headers.has("prefer"));
}

TEST_F(ClientTest, MapsTheReasonOfAStatus) {
  struct Case {
    int code;
    const char* reason;
    Errc expected;
  };
  for (const Case& c : {Case{404, "NotFound", Errc::NotFound}, {409, "AlreadyExists", Errc::AlreadyExists}, {409, "Conflict", Errc::Conflict},
                        {410, "Expired", Errc::Gone}, {422, "Invalid", Errc::Invalid}, {403, "Forbidden", Errc::Denied},
                        {401, "Unauthorized", Errc::Unauthenticated}, {429, "TooManyRequests", Errc::Exhausted}, {504, "Timeout", Errc::Timeout},
                        {503, "", Errc::Unavailable}, {500, "", Errc::Internal}, {501, "", Errc::Unsupported}}) {
    api.forced.emplace_back(c.code, std::format(R"({{"kind":"Status","reason":"{}","message":"pods \"a\" said so"}})", c.reason));
    const auto pod = rt::Loop::run_one(client.get(kPods, "d", "a"));
    ASSERT_FALSE(pod.has_value());
    EXPECT_EQ(pod.error().code, c.expected) << c.reason;
    EXPECT_EQ(pod.error().what, "GET /api/v1/namespaces/d/pods/a: pods \"a\" said so");
  }
  api.forced.emplace_back(502, "<html>bad gateway</html>");
  const auto proxied = rt::Loop::run_one(client.get(kPods, "d", "a"));
  EXPECT_EQ(proxied.error().code, Errc::Unavailable);
  EXPECT_THAT(proxied.error().what, HasSubstr("502"));
}

// What stands before a server, or one that does not serve yet, knows nothing of objects: nothing is forgotten or dropped on its word.
TEST_F(ClientTest, OnlyAStatusSpeaksOfObjects) {
  for (const int code : {403, 404, 405, 409, 422}) {
    api.forced.emplace_back(code, "404 page not found");
    const auto pod = rt::Loop::run_one(client.get(kPods, "d", "a"));
    EXPECT_EQ(pod.error().code, Errc::Unavailable) << code;
    EXPECT_THAT(pod.error().what, HasSubstr("page not found"));
  }
  api.forced.emplace_back(401, "who are you");
  EXPECT_EQ(rt::Loop::run_one(client.get(kPods, "d", "a")).error().code, Errc::Unauthenticated);
}

TEST_F(ClientTest, RefusesAnswersThatAreNoObjects) {
  api.forced.emplace_back(200, "hello");
  EXPECT_EQ(rt::Loop::run_one(client.get(kPods, "d", "a")).error().code, Errc::Corrupt);
  for (const char* other : {R"({"kind":"Status","apiVersion":"v1","metadata":{}})", R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","namespace":"d","uid":"v"}})"}) {
    api.forced.emplace_back(200, other);
    EXPECT_EQ(rt::Loop::run_one(client.get(kPods, "d", "a")).error().code, Errc::Corrupt) << other;
  }
  api.forced.emplace_back(200, "<html>log in</html>");
  EXPECT_EQ(rt::Loop::run_one(client.patch_status_quietly(kPods, "d", "a", PatchType::Strategic, "{}")).error().code, Errc::Unavailable);
  for (const char* body : {"x", "{}", R"({"kind":"PodList","items":[]})", R"({"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[{}]})"}) {
    api.forced.emplace_back(200, body);
    EXPECT_EQ(rt::Loop::run_one(client.list(kPods, "d")).error().code, Errc::Corrupt) << body;
  }
  api.forced.emplace_back(200, R"({"kind":"PodList","metadata":{"resourceVersion":"1"},"items":null})");
  EXPECT_TRUE(rt::Loop::run_one(client.list(kPods, "d")).has_value());
}

TEST_F(ClientTest, BoundsAList) {
  Client small(transport, {.list_items_max = 1});
  api.put("a");
  api.put("b");
  EXPECT_EQ(rt::Loop::run_one(small.list(kPods, "d")).error().code, Errc::Exhausted);
}

rt::Task<std::string> read_two(Client& client) {
  CO_TRY(auto watch, co_await client.watch(kPods, "d", {.field = "spec.nodeName=n"}, Revision(100)));
  std::string out;
  for (int i = 0; i < 2; ++i) {
    CO_TRY(const auto event, co_await watch.next());
    if (event) out += event->object->name();
  }
  co_return out;
}

TEST_F(ClientTest, WatchesFromARevision) {
  api.put("a");
  api.put("b");
  EXPECT_EQ(rt::Loop::run_one(read_two(client)).value(), "ab");
  const auto target = http::Target::parse(last().target).value();
  EXPECT_EQ(target.param("resourceVersion"), "100");
  EXPECT_EQ(target.param("allowWatchBookmarks"), "true");
  EXPECT_EQ(target.param("timeoutSeconds"), "3600");
  EXPECT_EQ(api.watches_open, 0);
}

}  // namespace
}  // namespace skerry::client
