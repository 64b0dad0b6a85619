// SPDX-License-Identifier: Apache-2.0
#include "kube/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/object.h"

namespace skerry::kube {
namespace {

TEST(Json, NavigatesWithoutNullChecks) {
  const auto doc = JsonDoc::parse(R"({"spec":{"replicas":3,"list":[1,"b"]},"x":1,"x":2})").value();
  EXPECT_EQ(doc.root().path("spec.replicas").i64(), 3);
  EXPECT_EQ(doc.root()["spec"]["nope"]["deeper"].i64(7), 7);
  EXPECT_EQ(doc.root()["x"].i64(), 2);
  std::string seen;
  for (const auto [key, value] : doc.root()["spec"].members()) seen += std::string(key) + "=" + value.dump() + " ";
  EXPECT_EQ(seen, "replicas=3 list=[1,\"b\"] ");
  int n = 0;
  for (const Json item : doc.root()["spec"]["list"].items()) n += item.is_string() ? 10 : 1;
  EXPECT_EQ(n, 11);
}

TEST(Json, RefusesGarbageAndDepth) {
  EXPECT_THAT(JsonDoc::parse("{\"a\":}").error().what, ::testing::HasSubstr("at byte"));
  EXPECT_FALSE(JsonDoc::parse(std::string(100000, '[')));
  EXPECT_FALSE(JsonDoc::parse(""));
}

TEST(JsonEdit, EditsInPlaceAndKeepsOrder) {
  auto edit = JsonEdit::parse(R"({"a":1,"b":{"c":[1,2,3]},"d":"x"})").value();
  auto root = edit.root();
  root.set("a", "one");
  root["b"]["c"].erase(1);
  root["b"]["c"].push("new");
  root.object("metadata").set("name", "n");
  EXPECT_TRUE(root.remove("d"));
  EXPECT_FALSE(root.remove("d"));
  EXPECT_EQ(edit.dump(), R"({"a":"one","b":{"c":[1,3,"new"]},"metadata":{"name":"n"}})");
  root["b"].assign(JsonEdit::parse(R"([{"k":null}])").value().root());
  EXPECT_EQ(edit.dump(), R"({"a":"one","b":[{"k":null}],"metadata":{"name":"n"}})");
  std::string keys;
  for (const auto [key, value] : root.members()) keys += key;
  EXPECT_EQ(keys, "abmetadata");
}

TEST(JsonEdit, ReplacesIllFormedUtf8) {
  EXPECT_EQ(json_quote("a\xff z\xc3"), "\"a\xef\xbf\xbd z\xef\xbf\xbd\"");
  EXPECT_EQ(json_quote("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");  // a surrogate
  EXPECT_EQ(json_quote("Größe \xf0\x9f\x8c\x8a"), "\"Größe \xf0\x9f\x8c\x8a\"");
  JsonEdit edit;
  edit.root().set("k\xfe", "\xc0\x80");
  EXPECT_TRUE(JsonDoc::parse(edit.dump()));
}

TEST(Object, IndexesWhatSelectorsNeed) {
  const auto object = Object::from_json(R"({"kind":"Pod","metadata":{"name":"p","namespace":"n","uid":"u","resourceVersion":"12",
    "labels":{"z":"1","a":"2"}},"spec":{"nodeName":"edge"},"status":{"phase":"Running"}})").value();
  EXPECT_EQ(object->revision().value(), 12U);
  EXPECT_EQ(object->label("a"), "2");
  EXPECT_EQ(object->label("q"), "");
  EXPECT_EQ(object->node_name(), "edge");
  EXPECT_FALSE(object->deleting());
  EXPECT_FALSE(Object::from_json("{}"));
}

}  // namespace
}  // namespace skerry::kube
