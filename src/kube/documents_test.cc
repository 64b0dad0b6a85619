// SPDX-License-Identifier: Apache-2.0
// Discovery and OpenAPI: what kubectl reads before it does anything.
#include <gmock/gmock.h>

#include "kube/discovery.h"
#include "kube/json.h"
#include "kube/openapi.h"
#include "kube/resources.h"

namespace skerry::kube {
namespace {

JsonDoc parse(const std::string& text) {
  auto doc = JsonDoc::parse(text);
  EXPECT_TRUE(doc) << text.substr(0, 200);
  return std::move(*doc);
}

TEST(Discovery, AggregatedNamesEveryResource) {
  std::size_t count = 0;
  for (const std::string& text : {aggregated_api(), aggregated_apis()}) {
    const JsonDoc doc = parse(text);
    EXPECT_EQ(doc.root()["kind"].str(), "APIGroupDiscoveryList");
    for (const Json group : doc.root()["items"].items())
      for (const Json version : group["versions"].items()) {
        EXPECT_EQ(version["freshness"].str(), "Current");
        for (const Json r : version["resources"].items()) {
          ++count;
          const ResourceType* type = find_resource(group["metadata"]["name"].str(), version["version"].str(), r["resource"].str());
          ASSERT_NE(type, nullptr) << r.dump();
          EXPECT_EQ(r["responseKind"]["kind"].str(), type->kind);
          EXPECT_EQ(r["scope"].str(), type->namespaced ? "Namespaced" : "Cluster");
        }
      }
  }
  EXPECT_EQ(count, resources().size());
}

TEST(Discovery, OlderDocumentsSayTheSame) {
  EXPECT_EQ(parse(api_versions("127.0.0.1:6443")).root()["versions"][0uz].str(), "v1");
  EXPECT_EQ(parse(api_group_list()).root()["groups"].size(), group_versions().size() - 1);
  EXPECT_EQ(parse(*api_group("apps")).root()["preferredVersion"]["groupVersion"].str(), "apps/v1");
  EXPECT_FALSE(api_group("nope"));
  const JsonDoc core = parse(*api_resource_list("", "v1"));
  bool eviction = false;
  for (const Json r : core.root()["resources"].items())
    eviction = eviction || (r["name"].str() == "pods/eviction" && r["group"].str() == "policy" && r["version"].str() == "v1");
  EXPECT_TRUE(eviction);
  EXPECT_FALSE(api_resource_list("apps", "v2"));
}

TEST(Discovery, AcceptHeadersOfKubectl) {
  EXPECT_TRUE(accepts_aggregated("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;"
                                 "as=APIGroupDiscoveryList,application/json"));
  EXPECT_FALSE(accepts_aggregated("application/json"));
  EXPECT_FALSE(accepts_aggregated(""));
  EXPECT_FALSE(accepts_aggregated("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"));
}

// Goal: kubectl finds for every kind a patch operation that takes fieldValidation, and every reference leads somewhere.
TEST(OpenApi, DocumentsAreComplete) {
  const JsonDoc index = parse(openapi_index());
  EXPECT_EQ(index.root()["paths"].size(), group_versions().size());
  for (const GroupVersion& gv : group_versions()) {
    const std::string text = *openapi_document(gv.group, gv.version);
    const JsonDoc doc = parse(text);
    const Json schemas = doc.root()["components"]["schemas"];
    for (std::size_t at = text.find("#/components/schemas/"); at != std::string::npos; at = text.find("#/components/schemas/", at + 1)) {
      const std::size_t from = at + std::string_view("#/components/schemas/").size();
      const std::string name = text.substr(from, text.find('"', from) - from);
      ASSERT_TRUE(schemas[name]) << name;
    }
    for (const ResourceType& r : resources()) {
      if (r.group != gv.group) continue;
      bool found = false;
      for (const auto [path, operations] : doc.root()["paths"].members()) {
        const Json patch = operations["patch"];
        if (patch["x-kubernetes-group-version-kind"]["kind"].str() != r.kind) continue;
        for (const Json p : patch["parameters"].items()) found = found || (p["name"].str() == "fieldValidation" && p["in"].str() == "query");
      }
      EXPECT_TRUE(found) << r.kind;
    }
  }
  EXPECT_FALSE(openapi_document("apps", "v9"));
}

TEST(OpenApi, SchemasHaveTextsAndMergeKeys) {
  const JsonDoc doc = parse(*openapi_document("", "v1"));
  const Json pod = doc.root()["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
  EXPECT_EQ(pod["x-kubernetes-group-version-kind"][0uz].dump(), R"({"group":"","kind":"Pod","version":"v1"})");
  const Json containers = doc.root()["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
  EXPECT_EQ(containers["x-kubernetes-patch-merge-key"].str(), "name");
  EXPECT_EQ(containers["x-kubernetes-patch-strategy"].str(), "merge");
  EXPECT_THAT(std::string(containers["description"].str()), testing::HasSubstr("List of containers belonging to the pod."));
  EXPECT_EQ(doc.root()["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["required"][0uz].str(), "containers");
}

}  // namespace
}  // namespace skerry::kube
