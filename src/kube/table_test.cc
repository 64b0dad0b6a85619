// SPDX-License-Identifier: Apache-2.0
#include "kube/table.h"

#include <gmock/gmock.h>

namespace skerry::kube {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const Time kNow = *from_rfc3339("2026-11-23T01:00:00Z");

ObjectPtr object(std::string json) {
  auto made = Object::from_json(std::move(json));
  EXPECT_TRUE(made) << (made ? "" : made.error().what);
  return *made;
}
// The cells of an object as text.
std::vector<std::string> cells(std::string_view api_version, std::string json) {
  const ObjectPtr o = object(std::move(json));
  const auto doc = JsonDoc::parse(table_json(*find_kind(api_version, o->kind()), *o, IncludeObject::None, kNow));
  EXPECT_TRUE(doc);
  std::vector<std::string> out;
  const Json row = doc->root()["rows"][0uz]["cells"];
  for (const Json c : row.items()) out.push_back(c.is_string() ? std::string(c.str()) : c.dump());
  EXPECT_EQ(row.size(), doc->root()["columnDefinitions"].size());
  return out;
}
std::vector<std::string> pod(std::string_view spec, std::string_view status, std::string_view metadata = "") {
  return cells("v1", std::format(R"({{"kind":"Pod","metadata":{{"name":"a","creationTimestamp":"2026-11-23T00:59:00Z"{}}},"spec":{{"containers":[{{"name":"c"}}]{}}},"status":{}}})",
                                 metadata, spec, status));
}

TEST(Table, PodsAsKubectlShowsThem) {
  EXPECT_THAT(pod(R"(,"nodeName":"n")", R"({"phase":"Running","podIP":"10.0.0.1","containerStatuses":[{"ready":true,"state":{"running":{}}}]})"),
              ElementsAre("a", "1/1", "Running", "0", "60s", "10.0.0.1", "n", "<none>", "<none>"));
  EXPECT_THAT(pod("", R"({"phase":"Pending"})"), ElementsAre("a", "0/1", "Pending", "0", "60s", "<none>", "<none>", "<none>", "<none>"));
  EXPECT_THAT(pod("", R"({"phase":"Running","containerStatuses":[{"restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
      "lastState":{"terminated":{"finishedAt":"2026-11-23T00:59:30Z"}}}]})")[2], "CrashLoopBackOff");
  EXPECT_THAT(pod("", R"({"phase":"Running","containerStatuses":[{"restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
      "lastState":{"terminated":{"finishedAt":"2026-11-23T00:59:30Z"}}}]})")[3], "3 (30s ago)");
  EXPECT_EQ(pod("", R"({"phase":"Failed","containerStatuses":[{"state":{"terminated":{"exitCode":2}}}]})")[2], "ExitCode:2");
  EXPECT_EQ(pod("", R"({"phase":"Running"})", R"(,"deletionTimestamp":"2026-11-23T01:00:00Z")")[2], "Terminating");
  EXPECT_EQ(pod("", R"({"phase":"Failed","reason":"Evicted"})", R"(,"deletionTimestamp":"2026-11-23T01:00:00Z")")[2], "Evicted");
  EXPECT_EQ(pod(R"(,"initContainers":[{},{}])", R"({"phase":"Pending","initContainerStatuses":[{"state":{"terminated":{"exitCode":0}}},{"state":{"running":{}}}]})")[2],
            "Init:1/2");
  EXPECT_EQ(pod(R"(,"readinessGates":[{"conditionType":"x"}])", R"({"phase":"Running","conditions":[{"type":"x","status":"True"}]})")[8], "1/1");
}

TEST(Table, TheOtherKinds) {
  const std::string metadata = R"("metadata":{"name":"a","creationTimestamp":"2026-11-22T01:00:00Z")";
  EXPECT_THAT(cells("apps/v1", R"({"kind":"Deployment",)" + metadata + R"(},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"x"}},
      "template":{"spec":{"containers":[{"name":"c","image":"i"},{"name":"d","image":"j"}]}}},"status":{"readyReplicas":2,"updatedReplicas":3,"availableReplicas":2}})"),
              ElementsAre("a", "2/3", "3", "2", "24h", "c,d", "i,j", "app=x"));
  EXPECT_THAT(cells("apps/v1", R"({"kind":"ReplicaSet",)" + metadata + R"(},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"x"}},
      "template":{"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"replicas":3}})"),
              ElementsAre("a", "3", "3", "0", "24h", "c", "i", "app=x"));
  EXPECT_THAT(cells("v1", R"({"kind":"Service",)" + metadata + R"(},"spec":{"type":"NodePort","clusterIP":"10.96.0.1","ports":[{"port":80,"nodePort":30080,
      "protocol":"TCP"},{"port":81,"protocol":"UDP"}],"selector":{"b":"2","a":"1"}}})"),
              ElementsAre("a", "NodePort", "10.96.0.1", "<none>", "80:30080/TCP,81/UDP", "24h", "a=1,b=2"));
  EXPECT_THAT(cells("v1", R"({"kind":"Node",)" + metadata + R"(,"labels":{"node-role.kubernetes.io/edge":""}},"spec":{"unschedulable":true},
      "status":{"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"1.2.3.4"}],"nodeInfo":{"kubeletVersion":"v1"}}})"),
              ElementsAre("a", "Ready,SchedulingDisabled", "edge", "24h", "v1", "1.2.3.4", "<none>", "<unknown>", "<unknown>", "<unknown>"));
  EXPECT_THAT(cells("v1", R"({"kind":"Event",)" + metadata + R"(},"lastTimestamp":"2026-11-23T00:59:00Z","firstTimestamp":"2026-11-23T00:58:00Z","count":4,
      "type":"Normal","reason":"Started","involvedObject":{"kind":"Pod","name":"p"},"source":{"component":"kubelet","host":"n"},"message":"hello\n"})"),
              ElementsAre("60s", "Normal", "Started", "pod/p", "", "kubelet, n", "hello", "2m", "4", "a"));
  EXPECT_THAT(cells("v1", R"({"kind":"Namespace",)" + metadata + R"(},"status":{"phase":"Active"}})"), ElementsAre("a", "Active", "24h"));
  EXPECT_THAT(cells("v1", R"({"kind":"ConfigMap",)" + metadata + R"(},"data":{"a":""},"binaryData":{"b":""}})"), ElementsAre("a", "2", "24h"));
  EXPECT_THAT(cells("v1", R"({"kind":"Secret",)" + metadata + R"(},"type":"Opaque"})"), ElementsAre("a", "Opaque", "0", "24h"));
  EXPECT_THAT(cells("v1", R"({"kind":"ServiceAccount",)" + metadata + R"(}})"), ElementsAre("a", "0", "24h"));
  EXPECT_THAT(cells("coordination.k8s.io/v1", R"({"kind":"Lease",)" + metadata + R"(},"spec":{"holderIdentity":"n"}})"), ElementsAre("a", "n", "24h"));
  EXPECT_THAT(cells("node.k8s.io/v1", R"({"kind":"RuntimeClass",)" + metadata + R"(},"handler":"wasmedge"})"), ElementsAre("a", "wasmedge", "24h"));
  EXPECT_THAT(cells("discovery.k8s.io/v1", R"({"kind":"EndpointSlice",)" + metadata + R"(},"addressType":"IPv4","ports":[{"port":80}],
      "endpoints":[{"addresses":["1"]},{"addresses":["2"]},{"addresses":["3"]},{"addresses":["4"]}]})"),
              ElementsAre("a", "IPv4", "80", "1,2,3 + 1 more...", "24h"));
}

TEST(Table, CarriesWhatTheClientAskedFor) {
  const ObjectPtr o = object(R"({"kind":"ConfigMap","metadata":{"name":"a","resourceVersion":"7"},"data":{"k":"v"}})");
  const ResourceType& type = *find_kind("v1", "ConfigMap");
  const std::vector<ObjectPtr> list{o, o};
  const std::string text = table_json(type, list, {Revision(9), "next", 5}, IncludeObject::Metadata, kNow);
  const auto doc = JsonDoc::parse(text);
  ASSERT_TRUE(doc) << text;
  EXPECT_EQ(doc->root()["metadata"]["resourceVersion"].str(), "9");
  EXPECT_EQ(doc->root()["metadata"]["continue"].str(), "next");
  EXPECT_EQ(doc->root()["metadata"]["remainingItemCount"].i64(), 5);
  EXPECT_EQ(doc->root()["rows"].size(), 2U);
  EXPECT_EQ(doc->root()["rows"][1uz]["object"]["kind"].str(), "PartialObjectMetadata");
  EXPECT_EQ(doc->root()["rows"][1uz]["object"]["metadata"]["name"].str(), "a");
  EXPECT_FALSE(doc->root()["rows"][1uz]["object"]["data"]);
  EXPECT_THAT(table_json(type, *o, IncludeObject::Object, kNow, Columns::Omitted), HasSubstr(R"("columnDefinitions":null)"));
  EXPECT_THAT(table_json(type, *o, IncludeObject::Object, kNow, Columns::Omitted), HasSubstr(R"("data":{"k":"v"})"));
  EXPECT_EQ(parse_include_object("None"), IncludeObject::None);
  EXPECT_FALSE(parse_include_object("All"));
}

TEST(Table, DurationsAreHuman) {
  for (const auto& [seconds, text] : {std::pair{-5, "<invalid>"}, {-1, "0s"}, {0, "0s"}, {119, "119s"}, {120, "2m"}, {190, "3m10s"}, {600, "10m"}, {10'799, "179m"},
                                      {10'800, "3h"}, {11'100, "3h5m"}, {28'800, "8h"}, {172'799, "47h"}, {172'800, "2d"}, {180'000, "2d2h"},
                                      {8 * 86'400, "8d"}, {800 * 86'400, "2y70d"}})
    EXPECT_EQ(human_duration(std::chrono::seconds(seconds)), text) << seconds;
}

}  // namespace
}  // namespace skerry::kube
