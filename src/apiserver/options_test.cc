// SPDX-License-Identifier: Apache-2.0
// Goal: no option of a request is ignored: it is done, or refused with the code and the words of Kubernetes; and what Kubernetes
// has and this server has not is refused with a sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apiserver/testing.h"

namespace skerry::apiserver {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kMaps = "/api/v1/namespaces/default/configmaps", kPods = "/api/v1/namespaces/default/pods";
constexpr const char* kMap = R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"m"},"data":{"k":"1"}})";

struct Case {
  std::string query;
  int code;
  const char* says = "";
};

TEST(Options, OfListAndWatchAreCheckedAgainstEachOther) {
  TestServer s;
  ASSERT_EQ(s.post(kMaps, kMap).code, 201);
  for (const Case& one : std::vector<Case>{
           {"resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"},
           {"resourceVersionMatch=Exact&resourceVersion=0", 422, "is forbidden for resourceVersion"},
           {"resourceVersionMatch=Newest&resourceVersion=1", 422, "Unsupported value"},
           {"resourceVersionMatch=NotOlderThan&resourceVersion=1", 200},
           {"resourceVersionMatch=NotOlderThan&resourceVersion=1&continue=x", 422, "forbidden when continue is provided"},
           {"continue=x&resourceVersion=5", 400, "specifying resource version is not allowed when using continue"},
           {"resourceVersion=x", 422, "invalid syntax"},
           {"resourceVersion=999999", 504, "Too large resource version"},
           {"sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"},
           {"limit=-1", 400, "not a count"},
           {"watch=FALSE", 200, "ConfigMapList"},
           {"watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", 422, "WatchList"},
           {"watch=1&resourceVersionMatch=Exact", 422, "forbidden for watch unless sendInitialEvents"},
           {"watch=1&continue=x", 400, "continue is not allowed for watch"},
           {"watch=1&timeoutSeconds=soon", 400, "not a count"},
           {"watch=1&resourceVersion=x", 422, "invalid syntax"},
       }) {
    const auto reply = s.get(std::format("{}?{}", kMaps, one.query));
    EXPECT_EQ(reply.code, one.code) << one.query << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(one.says)) << one.query;
  }
  EXPECT_EQ(s.get(std::format("{}/m?resourceVersion=x", kMaps)).code, 422);
  EXPECT_EQ(s.get(std::format("{}/m?resourceVersion=999999", kMaps)).code, 504);
  EXPECT_EQ(s.get(std::format("{}/m?resourceVersion=1", kMaps)).code, 200);
}

TEST(Options, OfWritesAreChecked) {
  TestServer s;
  ASSERT_EQ(s.post(kMaps, kMap).code, 201);
  const std::string one_map = std::format("{}/m", kMaps);
  for (const Case& one : std::vector<Case>{
           {"dryRun=Some", 422, "dryRun: Unsupported value"},
           {"dryRun=All&dryRun=Some", 422, "dryRun: Unsupported value"},
           {"fieldValidation=Loose", 422, "fieldValidation: Unsupported value"},
           {"fieldManager=" + std::string(129, 'a'), 422, "fieldManager: Too long"},
           {"fieldManager=a%07b", 422, "invalid character U+0007 (at position 1)"},
           {"force=true", 422, "may not be specified for non-apply patch"},
           {"fieldManager=" + std::string(128, 'a') + "&fieldValidation=Strict&dryRun=All", 200},
       }) {
    const auto put = s.put(std::format("{}?{}", one_map, one.query), kMap);
    const auto merge = s.merge(std::format("{}?{}", one_map, one.query), "{}");
    EXPECT_EQ(put.code, one.code) << one.query << put.body;
    EXPECT_EQ(merge.code, one.code) << one.query << merge.body;
    EXPECT_THAT(put.body, HasSubstr(one.says));
    if (one.code != 422) continue;
    EXPECT_THAT(put.message(), HasSubstr("UpdateOptions"));
    EXPECT_THAT(merge.message(), HasSubstr("PatchOptions"));
    EXPECT_THAT(s.post(std::format("{}?{}", kMaps, one.query), kMap).message(), HasSubstr("CreateOptions"));
  }
  EXPECT_THAT(s.send("PATCH", std::format("{}?force=true&fieldManager=f", one_map), "{}", "application/apply-patch+yaml").message(),
              HasSubstr("server-side apply is not served yet"));
  const auto test = s.send("PATCH", one_map, R"([{"op":"add","path":"/data/a","value":"1"},{"op":"test","path":"/data/k","value":"2"}])", "application/json-patch+json");
  EXPECT_EQ(test.code, 422);
  EXPECT_THAT(test.message(), HasSubstr(R"(operation 1 of the JSON patch does not apply to the object as it is: {"op":"test","path":"/data/k","value":"2"})"));
}

TEST(Options, OfDeletionsAreChecked) {
  TestServer s;
  ASSERT_EQ(s.post(kMaps, kMap).code, 201);
  const std::string target = std::format("{}/m", kMaps);
  for (const Case& one : std::vector<Case>{
           {R"({"propagationPolicy":"Sideways"})", 422, "propagationPolicy: Unsupported value"},
           {R"({"propagationPolicy":"Orphan","orphanDependents":true})", 422, "cannot be both set"},
           {R"({"gracePeriodSeconds":"x"})", 400, "DeleteOptions.gracePeriodSeconds"},
           {R"({"preconditions":{"uid":"x"}})", 409, "UID in the precondition"},
           {R"({"preconditions":{"resourceVersion":"1"}})", 409, "ResourceVersion in the precondition"},
           {R"({"dryRun":["Some"]})", 422, "dryRun: Unsupported value"},
           {R"({"kind":"Pod"})", 400, "the body must be DeleteOptions"},
           {R"({"dryRun":["All"]})", 200},
       }) {
    const auto reply = s.remove(target, one.query);
    EXPECT_EQ(reply.code, one.code) << one.query << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(one.says)) << one.query;
  }
  for (const char* part : {"limit=1", "continue=x", "resourceVersion=1"}) {
    EXPECT_EQ(s.remove(std::format("{}?{}", kMaps, part)).code, 400) << part;
  }
  EXPECT_EQ(s.get(target).code, 200);
  EXPECT_THAT(s.remove(target + "?propagationPolicy=Foreground&orphanDependents=true").message(), HasSubstr("cannot be both set"));
  EXPECT_EQ(s.remove(target + "?orphanDependents=true").at("metadata.finalizers"), R"(["orphan"])");

  // A negative grace is the shortest, not a kill.
  ASSERT_EQ(s.post(kPods, R"({"metadata":{"name":"p"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}})").code, 201);
  const std::string evict = std::format("{}/p/eviction", kPods);
  EXPECT_EQ(s.post(evict, R"({"kind":"Pod"})").code, 400);
  EXPECT_EQ(s.post(evict, R"({"kind":"Eviction","metadata":{"name":"q"}})").code, 400);
  EXPECT_EQ(s.post(evict, R"({"metadata":{"name":"p"},"deleteOptions":{"propagationPolicy":"x"}})").code, 422);
  EXPECT_EQ(s.post(evict, R"({"metadata":{"name":"p"},"deleteOptions":{"preconditions":{"resourceVersion":"1"}}})").code, 409);
  EXPECT_EQ(s.post(evict, R"({"metadata":{"name":"p"},"deleteOptions":{"dryRun":["All"]}})").code, 201);
  EXPECT_EQ(s.get(std::format("{}/p", kPods)).at("metadata.deletionTimestamp"), "");
  EXPECT_EQ(s.remove(std::format("{}/p", kPods), R"({"gracePeriodSeconds":-5})").at("metadata.deletionGracePeriodSeconds"), "1");
}

TEST(Unserved, PriorityClassesOfOnesOwn) {
  TestServer s;
  const auto pod = [&](std::string_view name, std::string_view priority_class) {
    return s.post(kPods, std::format(R"({{"metadata":{{"name":"{}"}},"spec":{{"priorityClassName":"{}","containers":[{{"name":"c","image":"i"}}]}}}})", name, priority_class));
  };
  EXPECT_EQ(pod("a", "system-node-critical").at("spec.priority"), "2000001000");
  const auto refused = pod("b", "important");
  EXPECT_EQ(refused.code, 403);
  EXPECT_THAT(refused.message(), HasSubstr("no PriorityClass with name important was found"));
}

TEST(Unserved, IsRefusedWithARemedy) {
  TestServer s;
  for (const Case& one : std::vector<Case>{
           {"/apis/batch/v1/namespaces/default/jobs", 404, "jobs of batch/v1 are not served by this server: jobs are not run yet"},
           {"/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", 404, "use kubectl scale"},
           {"/apis/rbac.authorization.k8s.io/v1/roles", 404, "are not served by this server"},
           {"/apis/apps/v1/daemonsets", 404, "run it as a Deployment"},
           {"/apis/apps/v1beta1/deployments", 404, "deployments of apps/v1beta1 are not served by this server"},
           {"/api/v1/persistentvolumes", 404, "pods have no volumes yet"},
           {"/api/v1/watch/namespaces/default/pods", 404, "?watch=true"},
           {"/api/v1/namespaces/default/pods/x/proxy/a/b", 501, "does not proxy"},
           {"/api/v1/namespaces/default/pods/x/exec?command=ls", 501, "exec, attach and port-forward are not served yet"},
           {"/api/v1/namespaces/default/nonesuch", 404, "the server could not find the requested resource"},
           {"/apis/example.com/v1/things", 404, "404 page not found"},
       }) {
    const auto reply = s.get(one.query);
    EXPECT_EQ(reply.code, one.code) << one.query << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(one.says)) << one.query;
  }
}

}  // namespace
}  // namespace skerry::apiserver
