// SPDX-License-Identifier: Apache-2.0
#include "kube/patch.h"

#include <gmock/gmock.h>

#include "kube/codec.h"

namespace skerry::kube {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string patched(PatchType how, std::string_view message, std::string_view current, std::string_view patch) {
  const auto doc = JsonDoc::parse(current);
  EXPECT_TRUE(doc) << current;
  auto out = apply_patch(how, find_message(message), doc->root(), patch);
  return out ? out->dump() : std::format("{} {}", out.error().code, out.error().message);
}
std::string json_patch(std::string_view current, std::string_view patch) {
  return patched(PatchType::Json, "k8s.io.api.core.v1.Pod", current, patch);
}
std::string merge_patch(std::string_view current, std::string_view patch) {
  return patched(PatchType::Merge, "k8s.io.api.core.v1.Pod", current, patch);
}
std::string pod_patch(std::string_view current, std::string_view patch) {
  return patched(PatchType::StrategicMerge, "k8s.io.api.core.v1.Pod", current, patch);
}
constexpr std::string_view kRefused = "422 the server rejected our request due to an error in our request";

// The examples of RFC 6902, appendix A, that have an object as their document.
TEST(JsonPatch, Rfc6902Examples) {
  EXPECT_EQ(json_patch(R"({"foo":"bar"})", R"([{"op":"add","path":"/baz","value":"qux"}])"), R"({"foo":"bar","baz":"qux"})");
  EXPECT_EQ(json_patch(R"({"foo":["bar","baz"]})", R"([{"op":"add","path":"/foo/1","value":"qux"}])"), R"({"foo":["bar","qux","baz"]})");
  EXPECT_EQ(json_patch(R"({"baz":"qux","foo":"bar"})", R"([{"op":"remove","path":"/baz"}])"), R"({"foo":"bar"})");
  EXPECT_EQ(json_patch(R"({"foo":["bar","qux","baz"]})", R"([{"op":"remove","path":"/foo/1"}])"), R"({"foo":["bar","baz"]})");
  EXPECT_EQ(json_patch(R"({"baz":"qux","foo":"bar"})", R"([{"op":"replace","path":"/baz","value":"boo"}])"), R"({"baz":"boo","foo":"bar"})");
  EXPECT_EQ(json_patch(R"({"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}})",
                       R"([{"op":"move","from":"/foo/waldo","path":"/qux/thud"}])"),
            R"({"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}})");
  EXPECT_EQ(json_patch(R"({"foo":["all","grass","cows","eat"]})", R"([{"op":"move","from":"/foo/1","path":"/foo/3"}])"),
            R"({"foo":["all","cows","eat","grass"]})");
  EXPECT_EQ(json_patch(R"({"baz":"qux","foo":["a",2,"c"]})",
                       R"([{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}])"),
            R"({"baz":"qux","foo":["a",2,"c"]})");
  EXPECT_THAT(json_patch(R"({"baz":"qux"})", R"([{"op":"test","path":"/baz","value":"bar"}])"), StartsWith(kRefused));
  EXPECT_EQ(json_patch(R"({"foo":"bar"})", R"([{"op":"add","path":"/child","value":{"grandchild":{}}}])"),
            R"({"foo":"bar","child":{"grandchild":{}}})");
  EXPECT_THAT(json_patch(R"({"foo":"bar"})", R"([{"op":"add","path":"/baz/bat","value":"qux"}])"), StartsWith(kRefused));
  EXPECT_EQ(json_patch(R"({"/":9,"~1":10})", R"([{"op":"test","path":"/~01","value":10}])"), R"({"/":9,"~1":10})");
  EXPECT_EQ(json_patch(R"({"foo":["bar"]})", R"([{"op":"add","path":"/foo/-","value":["abc","def"]}])"), R"({"foo":["bar",["abc","def"]]})");
}

TEST(JsonPatch, RefusesWhatDoesNotApply) {
  EXPECT_THAT(json_patch(R"({"data":{}})", R"([{"op":"remove","path":"/data/zz"}])"), StartsWith(kRefused));
  EXPECT_THAT(json_patch("{}", R"([{"op":"replace","path":"/a","value":1}])"), StartsWith(kRefused));
  EXPECT_THAT(json_patch("{}", R"([{"op":"nonsense","path":"/a"}])"), StartsWith(kRefused));
  EXPECT_THAT(json_patch("{}", R"([{"op":"add","path":"a","value":1}])"), StartsWith(kRefused));
  EXPECT_THAT(json_patch(R"({"a":[1]})", R"([{"op":"remove","path":"/a/01"}])"), StartsWith(kRefused));
  EXPECT_THAT(json_patch(R"({"a":{}})", R"([{"op":"move","from":"/a","path":"/a/b"}])"), StartsWith(kRefused));
  EXPECT_EQ(json_patch("{}", R"([{"op":"replace","path":"","value":[]}])"), kRefused);
  EXPECT_THAT(json_patch("{}", "{}"), HasSubstr("400"));
  EXPECT_THAT(json_patch("{}", "["), HasSubstr("400"));
}

TEST(JsonPatch, CopiesAreBounded) {
  std::string ops = R"([{"op":"add","path":"/a","value":[0,1,2,3,4,5,6,7,8,9]})";
  for (int i = 0; i < 40; ++i) ops += R"(,{"op":"copy","from":"/a","path":"/a/-"})";
  EXPECT_THAT(json_patch("{}", ops + "]"), StartsWith(kRefused));
}

// The table of RFC 7386, appendix A, for object targets.
TEST(MergePatch, Rfc7386Examples) {
  EXPECT_EQ(merge_patch(R"({"a":"b"})", R"({"a":"c"})"), R"({"a":"c"})");
  EXPECT_EQ(merge_patch(R"({"a":"b"})", R"({"b":"c"})"), R"({"a":"b","b":"c"})");
  EXPECT_EQ(merge_patch(R"({"a":"b"})", R"({"a":null})"), R"({})");
  EXPECT_EQ(merge_patch(R"({"a":"b","b":"c"})", R"({"a":null})"), R"({"b":"c"})");
  EXPECT_EQ(merge_patch(R"({"a":["b"]})", R"({"a":"c"})"), R"({"a":"c"})");
  EXPECT_EQ(merge_patch(R"({"a":"c"})", R"({"a":["b"]})"), R"({"a":["b"]})");
  EXPECT_EQ(merge_patch(R"({"a":{"b":"c"}})", R"({"a":{"b":"d","c":null}})"), R"({"a":{"b":"d"}})");
  EXPECT_EQ(merge_patch(R"({"a":[{"b":"c"}]})", R"({"a":[1]})"), R"({"a":[1]})");
  EXPECT_EQ(merge_patch(R"({"e":null})", R"({"a":1})"), R"({"e":null,"a":1})");
  EXPECT_EQ(merge_patch(R"({})", R"({"a":{"bb":{"ccc":null}}})"), R"({"a":{"bb":{}}})");
  EXPECT_THAT(merge_patch(R"({"a":"foo"})", R"(["c"])"), HasSubstr("400"));
}

// From "Update API Objects in Place Using kubectl patch": a container is added, tolerations are replaced.
TEST(StrategicMerge, MergesContainersByName) {
  EXPECT_EQ(pod_patch(R"({"spec":{"containers":[{"name":"a","image":"nginx"}]}})",
                      R"({"spec":{"containers":[{"name":"b","image":"redis"}]}})"),
            R"({"spec":{"containers":[{"name":"b","image":"redis"},{"name":"a","image":"nginx"}]}})");
  EXPECT_EQ(pod_patch(R"({"spec":{"containers":[{"name":"a","image":"nginx","env":[{"name":"X","value":"1"}]},{"name":"b"}]}})",
                      R"({"spec":{"containers":[{"name":"a","image":"nginx:2","env":[{"name":"Y","value":"2"}]}]}})"),
            R"({"spec":{"containers":[{"name":"a","image":"nginx:2","env":[{"name":"Y","value":"2"},{"name":"X","value":"1"}]},{"name":"b"}]}})");
  EXPECT_EQ(pod_patch(R"({"spec":{"tolerations":[{"key":"a"},{"key":"b"}]}})", R"({"spec":{"tolerations":[{"key":"c"}]}})"),
            R"({"spec":{"tolerations":[{"key":"c"}]}})");
}

TEST(StrategicMerge, NullRemovesAndScalarsReplace) {
  EXPECT_EQ(pod_patch(R"({"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"nodeName":"n","priority":1}})",
                      R"({"metadata":{"labels":{"a":null,"c":"3"}},"spec":{"nodeName":null,"priority":2}})"),
            R"({"metadata":{"labels":{"b":"2","c":"3"}},"spec":{"priority":2}})");
  EXPECT_EQ(pod_patch(R"({})", R"({"metadata":{"labels":{"a":null,"c":"3"}}})"), R"({"metadata":{"labels":{"c":"3"}}})");
}

TEST(StrategicMerge, DirectivesDeleteAndReplace) {
  EXPECT_EQ(pod_patch(R"({"spec":{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}})",
                      R"({"spec":{"containers":[{"name":"b","$patch":"delete"}]}})"),
            R"({"spec":{"containers":[{"name":"a"},{"name":"c"}]}})");
  EXPECT_EQ(pod_patch(R"({"spec":{"containers":[{"name":"a"},{"name":"b"}]}})",
                      R"({"spec":{"containers":[{"name":"x"},{"$patch":"replace"}]}})"),
            R"({"spec":{"containers":[{"name":"x"}]}})");
  EXPECT_EQ(pod_patch(R"({"spec":{"securityContext":{"runAsUser":1,"fsGroup":2}}})",
                      R"({"spec":{"securityContext":{"$patch":"replace","runAsUser":3}}})"),
            R"({"spec":{"securityContext":{"runAsUser":3}}})");
  EXPECT_EQ(pod_patch(R"({"spec":{"securityContext":{"runAsUser":1}}})", R"({"spec":{"securityContext":{"$patch":"delete"}}})"),
            R"({"spec":{"securityContext":{}}})");
  EXPECT_EQ(pod_patch(R"({"spec":{"containers":[]}})", R"({"spec":{"containers":[{"image":"x"}]}})"), kRefused);
  EXPECT_EQ(pod_patch(R"({"spec":{}})", R"({"spec":{"$patch":"nope"}})"), kRefused);
}

TEST(StrategicMerge, DeletesFromPrimitiveLists) {
  EXPECT_EQ(pod_patch(R"({"metadata":{"finalizers":["a/a","b/b","c/c"]}})",
                      R"({"metadata":{"$deleteFromPrimitiveList/finalizers":["b/b"],"$setElementOrder/finalizers":["c/c","a/a"]}})"),
            R"({"metadata":{"finalizers":["c/c","a/a"]}})");
  EXPECT_EQ(pod_patch(R"({"metadata":{"finalizers":["a/a"]}})", R"({"metadata":{"finalizers":["b/b","a/a"]}})"),
            R"({"metadata":{"finalizers":["b/b","a/a"]}})");
}

TEST(StrategicMerge, SetElementOrderSortsAndMustBeComplete) {
  EXPECT_EQ(pod_patch(R"({"spec":{"containers":[{"name":"a"},{"name":"b"}]}})",
                      R"({"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"c"},{"name":"a"}],"containers":[{"name":"c"}]}})"),
            R"({"spec":{"containers":[{"name":"b"},{"name":"c"},{"name":"a"}]}})");
  EXPECT_THAT(pod_patch(R"({"spec":{"containers":[{"name":"a"}]}})",
                        R"({"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"c"}]}})"),
              HasSubstr("400 The order in patch list"));
}

TEST(StrategicMerge, RetainKeysDropsTheOthers) {
  EXPECT_EQ(patched(PatchType::StrategicMerge, "k8s.io.api.apps.v1.Deployment",
                    R"({"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}})",
                    R"({"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}})"),
            R"({"spec":{"strategy":{"type":"Recreate"}}})");
  EXPECT_THAT(patched(PatchType::StrategicMerge, "k8s.io.api.apps.v1.Deployment", R"({"spec":{"strategy":{}}})",
                      R"({"spec":{"strategy":{"$retainKeys":["x"],"type":"Recreate"}}})"),
              HasSubstr("400"));
}

TEST(StrategicMerge, MergesConditionsByTypeAsAnAgentSendsThem) {
  EXPECT_EQ(patched(PatchType::StrategicMerge, "k8s.io.api.core.v1.Node",
                    R"({"status":{"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":"False"}]}})",
                    R"({"status":{"$setElementOrder/conditions":[{"type":"MemoryPressure"},{"type":"Ready"}],"conditions":[{"type":"Ready","status":"True"}]}})"),
            R"({"status":{"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":"True"}]}})");
}

TEST(Patch, TypesAndServerSideApply) {
  EXPECT_EQ(patch_type("application/merge-patch+json; charset=utf-8"), PatchType::Merge);
  EXPECT_FALSE(patch_type("application/json"));
  EXPECT_THAT(patched(PatchType::Apply, "k8s.io.api.core.v1.Pod", "{}", "{}"), HasSubstr("501"));
}

TEST(Patch, ThePatchedObjectIsDecodedAgain) {
  auto edit = JsonEdit::parse(R"({"kind":"ConfigMap","apiVersion":"v1","dta":{}})");
  auto strict = decode_patched(find_kind("v1", "ConfigMap")->body(), edit->root(), FieldValidation::Strict);
  ASSERT_FALSE(strict);
  EXPECT_EQ(strict.error().message,
            R"( "" is invalid: patch: Invalid value: "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"dta\":{}}": strict decoding error: unknown field "dta")");
  EXPECT_EQ(strict.error().code, 422);
  EXPECT_TRUE(decode_patched(find_kind("v1", "ConfigMap")->body(), edit->root(), FieldValidation::Ignore));
  EXPECT_FALSE(decode_patched(find_kind("v1", "Secret")->body(), edit->root(), FieldValidation::Ignore));
}

}  // namespace
}  // namespace skerry::kube
