// SPDX-License-Identifier: Apache-2.0
#include "agent/local_slices.h"

#include <gmock/gmock.h>

#include <format>

#include "kube/json.h"

namespace skerry::agent {
namespace {

kube::ObjectPtr object(std::string_view json) { return kube::Object::from_json(std::string(json)).value(); }

kube::ObjectPtr pod(std::string_view name, std::string_view app, std::string_view ns = "default") {
  return object(std::format(R"({{"kind":"Pod","metadata":{{"name":"{0}","namespace":"{2}","uid":"u-{0}","labels":{{"app":"{1}"}}}},)"
                            R"("spec":{{"containers":[{{"name":"c","ports":[{{"name":"web","containerPort":9090}}]}}]}}}})", name, app, ns));
}

TEST(LocalSlices, OffersReadyStandInsUnderTheServicesPorts) {
  const auto service = object(R"({"kind":"Service","metadata":{"name":"s","namespace":"default"},"spec":{"selector":{"app":"a"},"ports":[)"
                              R"({"name":"x","port":80,"targetPort":"web"},{"name":"y","port":81,"targetPort":8081},{"name":"z","port":82},{"name":"w","port":83,"targetPort":"none"}]}})");
  const auto slice = local_slice(*service, {{pod("p", "a"), "10.42.0.9", true}, {pod("q", "a"), "10.42.0.10", false}, {pod("r", "b"), "10.42.0.11", true}, {pod("t", "a", "other"), "10.42.0.12", true}, {pod("u", "a"), "", true}}, "edge-1");
  ASSERT_TRUE(slice);
  EXPECT_EQ(slice->name(), "skerry-local-s");
  EXPECT_EQ(slice->label("kubernetes.io/service-name"), "s");
  const auto doc = slice->parse();
  ASSERT_EQ(doc.root()["endpoints"].size(), 2u);
  EXPECT_EQ(doc.root()["endpoints"][std::size_t{0}]["addresses"][std::size_t{0}].str(), "10.42.0.9");
  EXPECT_TRUE(doc.root()["endpoints"][std::size_t{0}]["conditions"]["ready"].boolean());
  EXPECT_FALSE(doc.root()["endpoints"][std::size_t{1}]["conditions"]["ready"].boolean(true));
  EXPECT_EQ(doc.root()["endpoints"][std::size_t{0}]["nodeName"].str(), "edge-1");
  EXPECT_EQ(doc.root()["ports"].dump(), R"([{"name":"x","port":9090,"protocol":"TCP"},{"name":"y","port":8081,"protocol":"TCP"},{"name":"z","port":82,"protocol":"TCP"}])");
}

TEST(LocalSlices, AServiceThatSelectsNobodyHasNone) {
  const auto other = object(R"({"kind":"Service","metadata":{"name":"s","namespace":"default"},"spec":{"selector":{"app":"z"},"ports":[{"port":80}]}})");
  const auto none = object(R"({"kind":"Service","metadata":{"name":"s","namespace":"default"},"spec":{"ports":[{"port":80}]}})");
  EXPECT_EQ(local_slice(*other, {{pod("p", "a"), "10.42.0.9", true}}, "n"), nullptr);
  EXPECT_EQ(local_slice(*none, {{pod("p", "a"), "10.42.0.9", true}}, "n"), nullptr);
}

TEST(LocalSlices, HeldPodsAreNotOfferedByTheServersSlices) {
  const auto slice = object(R"({"kind":"EndpointSlice","metadata":{"name":"s-1","namespace":"default"},"endpoints":[)"
                            R"({"addresses":["10.42.0.3"],"conditions":{"ready":true,"serving":true}},{"addresses":["10.42.0.4"]},{"addresses":[]}]})");
  EXPECT_EQ(slice_without(slice, {}), slice);
  EXPECT_EQ(slice_without(slice, {"10.42.0.5"}), slice);
  const auto doc = slice_without(slice, {"10.42.0.4"})->parse();
  EXPECT_TRUE(doc.root()["endpoints"][std::size_t{0}]["conditions"]["ready"].boolean());
  EXPECT_FALSE(doc.root()["endpoints"][std::size_t{1}]["conditions"]["ready"].boolean(true));
  EXPECT_FALSE(doc.root()["endpoints"][std::size_t{1}]["conditions"]["serving"].boolean(true));
}

}  // namespace
}  // namespace skerry::agent
