// SPDX-License-Identifier: Apache-2.0
#include "kube/selector.h"

#include <gmock/gmock.h>

namespace skerry::kube {
namespace {

bool selects(std::string_view text, const Labels& labels) {
  auto selector = LabelSelector::parse(text);
  EXPECT_TRUE(selector) << text << ": " << (selector ? "" : selector.error().message);
  return selector && selector->matches(labels);
}
std::string refused(std::string_view text) {
  auto selector = LabelSelector::parse(text);
  return selector ? "parsed as " + selector->to_string() : selector.error().message;
}

TEST(LabelSelector, MatchesAsKubernetesDoes) {
  const Labels labels{{"app", "x"}, {"n", "5"}, {"tier", "a"}};
  for (const char* yes : {"", "app=x", "app==x", "app!=y", "other!=y", "app in (x,y)", "app notin (y)", "other notin (y)", "app", "!other",
                          "n>4", "n<6", " app = x , tier in ( a , b ) ", "other notin ()", "x/y notin (in)"})
    EXPECT_TRUE(selects(yes, labels)) << yes;
  for (const char* no : {"app=y", "app!=x", "app in (y)", "app notin (x)", "other", "!app", "n>5", "n<5", "app>1", "app=", "other=",
                         "other in (x)", "app in ()"})
    EXPECT_FALSE(selects(no, labels)) << no;
  EXPECT_TRUE(selects("in in (in,notin)", {{"in", "notin"}}));
}

TEST(LabelSelector, ErrorsHaveKubernetesWords) {
  EXPECT_EQ(refused("a in ("), "unable to parse requirement: found '', expected: ',', ')' or identifier");
  EXPECT_EQ(refused("a b"), "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
  EXPECT_EQ(refused("a,"), "found '', expected: identifier after ','");
  EXPECT_EQ(refused("a=(b"), "unable to parse requirement: found '(', expected: identifier");
  EXPECT_EQ(refused(",a"), "found ',', expected: !, identifier, or 'end of string'");
  EXPECT_EQ(refused("a>x"), "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer");
  EXPECT_THAT(refused("a=b c"), testing::HasSubstr("found 'c', expected: ',' or 'end of string'"));
  EXPECT_THAT(refused("-a=b"), testing::HasSubstr("name part must consist of alphanumeric characters"));
  EXPECT_THAT(refused("a=-"), testing::HasSubstr("a valid label must be an empty string"));
}

TEST(LabelSelector, TextRoundTrips) {
  for (const char* text : {"a,b=c,!d,e in (f,g),h notin (i),j!=k", "n>4,o<5"})
    EXPECT_EQ(LabelSelector::parse(LabelSelector::parse(text)->to_string())->to_string(), LabelSelector::parse(text)->to_string());
  EXPECT_EQ(LabelSelector::parse("b=c,a")->to_string(), "a,b=c");
}

TEST(LabelSelector, FromAnObject) {
  const auto doc = JsonDoc::parse(R"({"matchLabels":{"app":"x"},"matchExpressions":[{"key":"tier","operator":"In","values":["a","b"]},
      {"key":"gone","operator":"DoesNotExist"}]})");
  const auto selector = LabelSelector::from_object(doc->root());
  ASSERT_TRUE(selector);
  EXPECT_TRUE(selector->matches(Labels{{"app", "x"}, {"tier", "b"}}));
  EXPECT_FALSE(selector->matches(Labels{{"app", "x"}, {"gone", ""}, {"tier", "b"}}));
  EXPECT_TRUE(LabelSelector::from_object(Json())->selects_nothing());
  EXPECT_TRUE(LabelSelector::from_object(JsonDoc::parse("{}")->root())->everything());
  EXPECT_FALSE(LabelSelector::from_object(JsonDoc::parse(R"({"matchExpressions":[{"key":"a","operator":"Like"}]})")->root()));
  EXPECT_FALSE(LabelSelector::from_map(JsonDoc::parse("{}")->root()).matches(Labels{}));
}

TEST(FieldSelector, UsesTheIndexAndTheObject) {
  const auto pod = Object::from_json(
      R"({"kind":"Pod","metadata":{"name":"a","namespace":"d"},"spec":{"nodeName":"n","restartPolicy":"Never"},"status":{"phase":"Running"}})");
  ASSERT_TRUE(pod);
  const ResourceType& type = *find_kind("v1", "Pod");
  const auto matches = [&](std::string_view text) { return FieldSelector::parse(text, type)->matches(**pod); };
  EXPECT_TRUE(matches("spec.nodeName=n,status.phase!=Succeeded,status.phase!=Failed"));
  EXPECT_TRUE(matches("spec.restartPolicy==Never"));
  EXPECT_FALSE(matches("spec.restartPolicy=Always"));
  EXPECT_FALSE(matches("metadata.name=b"));
  EXPECT_EQ(FieldSelector::parse("spec.nodeName=n", type)->required("spec.nodeName"), "n");
  EXPECT_EQ(FieldSelector::parse("spec.nope=1", type).error().message, "field label not supported: spec.nope");
  EXPECT_FALSE(FieldSelector::parse("spec.nodeName", type));
  EXPECT_FALSE(FieldSelector::parse("spec.nodeName=a\\b", type));
}

TEST(FieldSelector, LastsIfNothingCanLeaveIt) {
  const auto& type = *find_resource("", "v1", "pods");
  const auto lasting = [&](std::string_view text) { return FieldSelector::parse(text, type)->lasting(); };
  for (const auto* text : {"", "metadata.name=a", "metadata.name!=a", "metadata.namespace=d,spec.nodeName=n"}) EXPECT_TRUE(lasting(text)) << text;
  // A pod leaves the last two when it is bound.
  for (const auto* text : {"status.phase=Running", "spec.nodeName=n,status.phase!=Failed", "spec.nodeName!=n", "spec.nodeName="}) EXPECT_FALSE(lasting(text)) << text;
}

TEST(FieldSelector, EventsByTheirObject) {
  const auto event = Object::from_json(
      R"({"kind":"Event","metadata":{"name":"a.1","namespace":"d"},"involvedObject":{"kind":"Pod","name":"a","uid":"u"}})");
  const ResourceType& type = *find_kind("v1", "Event");
  EXPECT_TRUE(FieldSelector::parse("involvedObject.uid=u,involvedObject.name=a,involvedObject.kind=Pod,involvedObject.namespace=", type)
                  ->matches(**event));
  EXPECT_FALSE(FieldSelector::parse("involvedObject.uid=v", type)->matches(**event));
}

}  // namespace
}  // namespace skerry::kube
