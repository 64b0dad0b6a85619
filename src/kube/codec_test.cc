// SPDX-License-Identifier: Apache-2.0
#include "kube/codec.h"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>

#include "kube/defaults.h"
#include "kube/schema.h"
#include "kube/strategy.h"

namespace skerry::kube {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const ResourceType& type_of(std::string_view api_version, std::string_view kind) {
  const ResourceType* type = find_kind(api_version, kind);
  EXPECT_NE(type, nullptr) << api_version << " " << kind;
  return *type;
}
const ResourceType& pod_type() { return type_of("v1", "Pod"); }

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(in) << path;
  return text.str();
}

std::string decoded(const ResourceType& type, std::string_view body, FieldValidation validation = FieldValidation::Strict) {
  auto out = decode_body(type, "application/json", body, validation);
  if (!out) return out.error().message;
  return canonical(type, out->object.root());
}

TEST(Schema, KnowsEveryServedKind) {
  for (const ResourceType& type : resources()) {
    ASSERT_TRUE(type.message()) << type.message_name;
    ASSERT_TRUE(find_message(type.list_message_name)) << type.list_message_name;
    EXPECT_TRUE(type.message().top_level()) << type.kind;
    EXPECT_EQ(type.message().cluster_scoped(), !type.namespaced) << type.kind;
    EXPECT_TRUE(type.message().find("metadata")) << type.kind;
  }
  for (const BodyType& body : {kDeleteOptions, kBinding, kEviction, kScale, kTokenRequest, kSelfSubjectReview, kSelfSubjectAccessReview,
                               kSelfSubjectRulesReview, kSubjectAccessReview, kTokenReview})
    EXPECT_TRUE(body.message()) << body.message_name;
}

TEST(Schema, FindsEveryFieldByItsNameAndTag) {
  std::size_t fields = 0;
  for (std::size_t i = 0; i < message_count(); ++i) {
    const Message m = message_at(i);
    for (std::size_t f = 0; f < m.field_count(); ++f, ++fields) {
      EXPECT_EQ(m.find(m.field(f).name()), m.field(f)) << m.name() << "." << m.field(f).name();
      if (m.field(f).has(table::kTypeMeta)) continue;
      EXPECT_EQ(m.find_tag(m.field(f).inline_tag(), m.field(f).tag()), m.field(f));
    }
    EXPECT_FALSE(m.find("noSuchField"));
  }
  EXPECT_GT(fields, 1000U);
}

TEST(Schema, CarriesThePatchAndListMarkers) {
  const Message spec = find_message("k8s.io.api.core.v1.PodSpec");
  const Field containers = spec.find("containers");
  EXPECT_EQ(containers.merge_key(), "name");
  EXPECT_TRUE(containers.has(table::kPatchMerge));
  EXPECT_EQ(containers.go_element_type(), "v1.Container");
  EXPECT_TRUE(spec.find("volumes").has(table::kPatchRetainKeys));
  EXPECT_EQ(find_message("k8s.io.api.core.v1.ServiceSpec").find("ports").list_keys(), "port,protocol");
  EXPECT_EQ(find_message("k8s.io.api.core.v1.ContainerPort").find("protocol").default_json(), "\"TCP\"");
  const Field config_map = find_message("k8s.io.api.core.v1.Volume").find("configMap");
  EXPECT_NE(config_map.inline_tag(), 0U);
  EXPECT_THAT(std::string(spec.find("nodeName").description()), HasSubstr("node"));
}

// Goal: what is stored after a create is what a real API server stored for the same request.
// Method: requests and answers recorded from one (testdata/defaults.json), with what newer servers add.
TEST(Defaults, MatchWhatARealServerStored) {
  const auto doc = JsonDoc::parse(read_file(SKERRY_SOURCE_DIR "/src/kube/testdata/defaults.json"));
  ASSERT_TRUE(doc);
  for (const Json entry : doc->root().items()) {
    const Json sent = entry["sent"], stored = entry["stored"];
    const ResourceType& type = type_of(sent["apiVersion"].str(), sent["kind"].str());
    auto body = decode_body(type, "", sent.dump(), FieldValidation::Strict);
    ASSERT_TRUE(body) << body.error().message;
    MutJson object = body->object.root();
    apply_defaults(type, object);
    prepare_create(type, object);
    if (type.namespaced) object["metadata"].set("namespace", "default");
    object["metadata"].set("creationTimestamp", "2026-11-23T00:00:00Z");
    JsonEdit expected = JsonEdit::copy(stored);
    expected.root()["metadata"].set("creationTimestamp", "2026-11-23T00:00:00Z");
    const std::string bytes = canonical(type, object);
    EXPECT_EQ(bytes, canonical(type, expected.root())) << type.kind;
    EXPECT_TRUE(JsonDoc::parse(bytes)->root().equals(expected.freeze().root())) << bytes;
    apply_defaults(type, object);  // idempotent
    EXPECT_EQ(bytes, canonical(type, object)) << type.kind;
  }
}

TEST(Defaults, PullPolicyFollowsTheTag) {
  for (const auto& [image, policy] : {std::pair{"a", "Always"}, {"r.example.com:5000/a", "Always"}, {"a:latest", "Always"},
                                      {"r.example.com:5000/a:v1", "IfNotPresent"}, {"a@sha256:00", "IfNotPresent"}}) {
    auto pod = JsonEdit::parse(std::format(R"({{"spec":{{"containers":[{{"name":"c","image":"{}"}}]}}}})", image));
    apply_defaults(pod_type(), pod->root());
    EXPECT_EQ(pod->root()["spec"]["containers"][0uz]["imagePullPolicy"].str(), policy) << image;
  }
}

TEST(Defaults, RequestsFollowLimitsInPodsOnly) {
  const char* spec = R"({"containers":[{"name":"c","resources":{"limits":{"cpu":"1"}}}]})";
  auto pod = JsonEdit::parse(std::format(R"({{"spec":{}}})", spec));
  apply_defaults(pod_type(), pod->root());
  EXPECT_EQ(pod->root()["spec"]["containers"][0uz]["resources"]["requests"]["cpu"].str(), "1");
  auto deployment = JsonEdit::parse(std::format(R"({{"spec":{{"template":{{"spec":{}}}}}}})", spec));
  apply_defaults(type_of("apps/v1", "Deployment"), deployment->root());
  EXPECT_FALSE(deployment->root().path("spec.template.spec")["containers"][0uz]["resources"]["requests"]);
}

TEST(Strategy, QosClassFollowsRequestsAndLimits) {
  const auto qos = [](std::string_view resources) {
    auto doc = JsonDoc::parse(std::format(R"({{"containers":[{{"resources":{}}}]}})", resources));
    return pod_qos_class(doc->root());
  };
  EXPECT_EQ(qos("{}"), "BestEffort");
  EXPECT_EQ(qos(R"({"requests":{"cpu":"1"}})"), "Burstable");
  EXPECT_EQ(qos(R"({"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"1000m","memory":"1024Mi"}})"), "Guaranteed");
  EXPECT_EQ(qos(R"({"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"2","memory":"1Gi"}})"), "Burstable");
}

TEST(Strategy, GenerationRisesOnlyWhenTheSpecChanges) {
  const ResourceType& type = type_of("apps/v1", "Deployment");
  const auto old = JsonDoc::parse(R"({"metadata":{"name":"a","uid":"u","generation":3},"spec":{"replicas":1},"status":{"replicas":1}})");
  auto relabelled = JsonEdit::parse(R"({"metadata":{"name":"a","labels":{"x":"y"}},"spec":{"replicas":1}})");
  prepare_update(type, relabelled->root(), old->root());
  EXPECT_EQ(relabelled->root()["metadata"]["generation"].i64(), 3);
  EXPECT_EQ(relabelled->root()["metadata"]["uid"].str(), "u");
  EXPECT_EQ(relabelled->root()["status"]["replicas"].i64(), 1);
  auto scaled = JsonEdit::parse(R"({"metadata":{"name":"a"},"spec":{"replicas":2}})");
  prepare_update(type, scaled->root(), old->root());
  EXPECT_EQ(scaled->root()["metadata"]["generation"].i64(), 4);
}

TEST(Strategy, StatusUpdateTouchesNothingElse) {
  const auto old = JsonDoc::parse(R"({"metadata":{"name":"a","resourceVersion":"4","finalizers":["x/y"]},"spec":{"nodeName":"n"},"status":{}})");
  auto update = JsonEdit::parse(R"({"metadata":{"name":"a","resourceVersion":"5"},"spec":{"nodeName":"other"},"status":{"phase":"Running"}})");
  prepare_status_update(pod_type(), update->root(), old->root());
  EXPECT_EQ(update->root()["spec"]["nodeName"].str(), "n");
  EXPECT_EQ(update->root()["metadata"]["resourceVersion"].str(), "5");
  EXPECT_EQ(update->root()["metadata"]["finalizers"].size(), 1U);
  EXPECT_EQ(update->root()["status"]["phase"].str(), "Running");
}

TEST(Decode, OrdersAndPrunes) {
  EXPECT_EQ(decoded(type_of("v1", "ConfigMap"), R"({"data":{"b":"2","a":null},"nope":1,"metadata":{"name":"a"},"immutable":null})",
                    FieldValidation::Ignore),
            R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","creationTimestamp":null},"data":{"a":"","b":"2"}})");
}

TEST(Decode, DropsWhatGoWouldNotKeep) {
  EXPECT_EQ(decoded(pod_type(), R"({"metadata":{"name":"a","labels":{}},"spec":{"containers":[{"name":"c","env":[]}],"hostNetwork":false,
      "terminationGracePeriodSeconds":0}})"),
            R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","creationTimestamp":null},)"
            R"("spec":{"containers":[{"name":"c","resources":{}}],"terminationGracePeriodSeconds":0},"status":{}})");
}

TEST(Decode, UnknownAndDuplicateFieldsAreStrictErrors) {
  const std::string body = R"({"spec":{"containers":[{"name":"c","name":"d","foo":1}],"bar":{}}})";
  EXPECT_EQ(decoded(pod_type(), body),
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.bar\", "
            "duplicate field \"spec.containers[0].name\", unknown field \"spec.containers[0].foo\"");
  auto warned = decode_body(pod_type(), "", body, FieldValidation::Warn);
  ASSERT_TRUE(warned);
  EXPECT_EQ(warned->warnings.size(), 3U);
  EXPECT_EQ(warned->object.root()["spec"]["containers"][0uz]["name"].str(), "d");  // the last wins
  auto map = decode_body(type_of("v1", "ConfigMap"), "", R"({"data":{"a":"1","b":"2","a":"3"}})", FieldValidation::Warn);
  EXPECT_THAT(map->warnings, ElementsAre("duplicate field \"data.a\""));
  EXPECT_EQ(map->object.root()["data"].dump(), R"({"b":"2","a":"3"})");
}

TEST(Decode, WrongTypesNameTheGoField) {
  EXPECT_EQ(decoded(type_of("v1", "ConfigMap"), R"({"data":{"k":1}})"),
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field "
            "ConfigMap.data of type string");
  EXPECT_EQ(decoded(pod_type(), R"({"spec":{"containers":[{"ports":[{"containerPort":"x"}]}]}})"),
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field "
            "ContainerPort.spec.containers.ports.containerPort of type int32");
  EXPECT_THAT(decoded(pod_type(), R"({"spec":{"containers":{}}})"), HasSubstr("cannot unmarshal object into Go struct field "
                                                                                "PodSpec.spec.containers of type []v1.Container"));
  EXPECT_THAT(decoded(pod_type(), R"({"spec":{"priority":3000000000}})"), HasSubstr("cannot unmarshal number 3000000000 into"));
  EXPECT_THAT(decoded(pod_type(), R"({"spec":{"containers":[{"resources":{"requests":{"cpu":"abc"}}}]}})"),
              HasSubstr("quantities must match the regular expression"));
  EXPECT_THAT(decoded(type_of("v1", "Secret"), R"({"data":{"k":"?"}})"), HasSubstr("illegal base64 data at input byte 0"));
  EXPECT_THAT(decoded(type_of("coordination.k8s.io/v1", "Lease"), R"({"spec":{"renewTime":"2026-11-23T00:00:00Z"}})"),
              HasSubstr(R"(parsing time "2026-11-23T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000")"));
}

TEST(Decode, CanonicalisesQuantitiesTimesAndPorts) {
  const std::string out = decoded(pod_type(), R"({"metadata":{"creationTimestamp":"2026-11-23T01:00:00.5+01:00"},"spec":{"containers":[
      {"name":"c","resources":{"limits":{"cpu":2,"memory":"1024Mi"}},"livenessProbe":{"httpGet":{"port":"http"}}}]}})");
  EXPECT_THAT(out, HasSubstr(R"("creationTimestamp":"2026-11-23T00:00:00Z")"));
  EXPECT_THAT(out, HasSubstr(R"("limits":{"cpu":"2","memory":"1Gi"})"));
  EXPECT_THAT(out, HasSubstr(R"("port":"http")"));
}

TEST(Decode, AnotherKindIsRefused) {
  EXPECT_EQ(decoded(type_of("v1", "ConfigMap"), R"({"kind":"Secret","apiVersion":"v1"})"),
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion");
  EXPECT_EQ(decoded(type_of("v1", "ConfigMap"), R"({"kind":"ConfigMap","apiVersion":"v2"})"),
            "the API version in the data (v2) does not match the expected API version (v1)");
  EXPECT_EQ(decode_body(pod_type(), "text/plain", "{}", FieldValidation::Strict).error().code, 415);
  EXPECT_EQ(decode_body(pod_type(), "application/json; charset=utf-8", "{", FieldValidation::Strict).error().code, 400);
  EXPECT_EQ(decode_body(pod_type(), "", "[]", FieldValidation::Strict).error().code, 400);
}

TEST(Decode, DeleteOptionsComeUnderAnyVersion) {
  for (const char* version : {"v1", "apps/v1", "meta.k8s.io/v1"})
    EXPECT_TRUE(decode_body(kDeleteOptions, "", std::format(R"({{"kind":"DeleteOptions","apiVersion":"{}","gracePeriodSeconds":0}})", version),
                            FieldValidation::Strict)) << version;
  EXPECT_FALSE(decode_body(kDeleteOptions, "", R"({"kind":"Pod","apiVersion":"v1"})", FieldValidation::Strict));
}

TEST(Decode, ManyKeysAreNotQuadratic) {
  std::string body = R"({"data":{)";
  for (int i = 0; i < 50'000; ++i) body += std::format("{}\"k{}\":\"\"", i == 0 ? "" : ",", i % 49'999);
  body += "}}";
  auto out = decode_body(type_of("v1", "ConfigMap"), "", body, FieldValidation::Warn);
  ASSERT_TRUE(out);
  EXPECT_THAT(out->warnings, ElementsAre("duplicate field \"data.k0\""));
  EXPECT_EQ(out->object.root()["data"].size(), 49'999U);
}

TEST(Canonical, EscapesControlCharactersAndKeepsUtf8) {
  auto object = JsonEdit::parse(R"({"data":{"a\"b":"\u0001\n\\ü"}})");
  const std::string out = canonical(type_of("v1", "ConfigMap"), object->root());
  EXPECT_THAT(out, HasSubstr(R"("data":{"a\"b":"\u0001\n\\ü"})"));
  EXPECT_TRUE(JsonDoc::parse(out)->root()["data"].equals(object->freeze().root()["data"]));
}

}  // namespace
}  // namespace skerry::kube
