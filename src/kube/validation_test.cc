// SPDX-License-Identifier: Apache-2.0
#include "kube/validation.h"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>

#include "base/text.h"
#include "kube/codec.h"
#include "kube/defaults.h"
#include "kube/status.h"
#include "kube/strategy.h"

namespace skerry::kube {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(in) << path;
  return text.str();
}

std::vector<std::string> texts(const FieldErrors& errors) {
  std::vector<std::string> out;
  for (const FieldError& e : errors) out.push_back(e.text());
  return out;
}
// What a create of `body` in namespace "default" answers.
std::vector<std::string> create(const ResourceType& type, std::string_view body) {
  auto decoded = decode_body(type, "", body, FieldValidation::Strict);
  if (!decoded) return {decoded.error().message};
  MutJson object = decoded->object.root();
  if (type.namespaced) object.object("metadata").set("namespace", "default");
  apply_defaults(type, object);
  prepare_create(type, object);
  return texts(validate_create(type, JsonDoc::parse(canonical(type, object))->root()));
}
std::vector<std::string> create_pod(std::string_view spec) {
  return create(*find_kind("v1", "Pod"), std::format(R"({{"metadata":{{"name":"a"}},"spec":{}}})", spec));
}
std::vector<std::string> create_container(std::string_view members) {
  return create_pod(std::format(R"({{"containers":[{{"name":"c","image":"i"{}}}]}})", members));
}
std::vector<std::string> create_service(std::string_view spec) {
  return create(*find_kind("v1", "Service"), std::format(R"({{"metadata":{{"name":"a"}},"spec":{}}})", spec));
}

// Goal: a wrong request gets the very Status that a real API server answered.
// Method: recorded requests and answers (testdata/errors.json) of create.
TEST(Validation, AnswersWhatARealServerAnswered) {
  const auto doc = JsonDoc::parse(read_file(SKERRY_SOURCE_DIR "/src/kube/testdata/errors.json"));
  ASSERT_TRUE(doc);
  for (const Json entry : doc->root().items()) {
    SCOPED_TRACE(entry["case"].str());
    const auto words = split(entry["path"].str(), '/');
    const ResourceType* type = words[1] == "api" ? find_resource("", "v1", words.back()) : find_resource(words[2], words[3], words.back());
    ASSERT_NE(type, nullptr);
    auto decoded = decode_body(*type, "", entry["sent"].dump(), FieldValidation::Strict);
    std::string answer;
    if (!decoded) {
      answer = decoded.error().json();
    } else {
      MutJson object = decoded->object.root();
      object.object("metadata").set("namespace", "default");
      apply_defaults(*type, object);
      prepare_create(*type, object);
      const auto stored = JsonDoc::parse(canonical(*type, object));
      const FieldErrors errors = validate_create(*type, stored->root());
      answer = status_invalid(type->group, type->kind, stored->root()["metadata"]["name"].str(), errors).json();
    }
    EXPECT_EQ(JsonDoc::parse(answer)->root()["message"].str(), entry["status"]["message"].str());
    EXPECT_TRUE(JsonDoc::parse(answer)->root().equals(entry["status"])) << answer;
  }
}

TEST(Validation, AcceptsTheRecordedGoodObjects) {
  const auto doc = JsonDoc::parse(read_file(SKERRY_SOURCE_DIR "/src/kube/testdata/defaults.json"));
  for (const Json entry : doc->root().items()) {
    const Json sent = entry["sent"];
    EXPECT_THAT(create(*find_kind(sent["apiVersion"].str(), sent["kind"].str()), sent.dump()), IsEmpty()) << sent["kind"].str();
  }
}

TEST(Validation, Names) {
  EXPECT_THAT(create(*find_kind("v1", "Namespace"), R"({"metadata":{"name":"a.b"}})"),
              ElementsAre("metadata.name: Invalid value: \"a.b\": must not contain dots"));
  EXPECT_THAT(create(*find_kind("v1", "ConfigMap"), R"({"metadata":{"generateName":"a-"}})"),
              ElementsAre("metadata.name: Required value: name or generateName is required"));
  EXPECT_THAT(create(*find_kind("v1", "Service"), R"({"metadata":{"name":"1a"},"spec":{"ports":[{"port":80}]}})"),
              ElementsAre(HasSubstr("a DNS-1035 label must consist of")));
  EXPECT_THAT(check_dns1123_subdomain(std::string(254, 'a')), ElementsAre("must be no more than 253 characters"));
  EXPECT_THAT(check_qualified_name("a/b/c"), ElementsAre(HasSubstr("with an optional DNS subdomain prefix")));
  EXPECT_THAT(check_qualified_name("/b"), ElementsAre("prefix part must be non-empty"));
  EXPECT_THAT(check_qualified_name("example.com/a_B.c"), IsEmpty());
}

TEST(Validation, Containers) {
  EXPECT_THAT(create_container(R"(,"ports":[{"containerPort":0},{"containerPort":70000,"name":"A"}])"),
              ElementsAre("spec.containers[0].ports[0].containerPort: Required value",
                          "spec.containers[0].ports[1].name: Invalid value: \"A\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                          "spec.containers[0].ports[1].name: Invalid value: \"A\": must contain at least one letter (a-z)",
                          "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"));
  EXPECT_THAT(create_container(R"(,"imagePullPolicy":"Sometimes")"),
              ElementsAre("spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", "
                          "\"IfNotPresent\", \"Never\""));
  EXPECT_THAT(create_container(R"(,"env":[{"name":""},{"name":"A=B"},{"name":"C","value":"x","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},
      {"name":"D","valueFrom":{"fieldRef":{"fieldPath":"spec.nope"}}},{"name":"E","valueFrom":{}}])"),
              ElementsAre("spec.containers[0].env[0].name: Required value",
                          "spec.containers[0].env[1].name: Invalid value: \"A=B\": a valid environment variable name must consist only of "
                          "printable ASCII characters other than '='",
                          "spec.containers[0].env[2].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                          "spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting fieldPath: "
                          "field label not supported: spec.nope",
                          HasSubstr("must specify one of: `fieldRef`")));
  EXPECT_THAT(create_container(R"(,"volumeMounts":[{"name":"v","mountPath":"/a"}])"),
              ElementsAre("spec.containers[0].volumeMounts[0].name: Not found: \"v\""));
  EXPECT_THAT(create_container(R"(,"livenessProbe":{"successThreshold":2})"),
              ElementsAre("spec.containers[0].livenessProbe: Required value: must specify a handler type",
                          "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"));
  EXPECT_THAT(create_container(R"(,"resources":{"limits":{"cpu":"-1","bananas":"1"}})"),
              IsSupersetOf({"spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                            "spec.containers[0].resources.limits[bananas]: Invalid value: \"bananas\": must be a standard resource for containers"}));
  EXPECT_THAT(create_pod(R"({"containers":[{"name":"c","image":"i"},{"name":"c"}]})"),
              ElementsAre("spec.containers[1].image: Required value", "spec.containers[1].name: Duplicate value: \"c\""));
}

TEST(Validation, PodsAndTolerations) {
  EXPECT_THAT(create_pod(R"({"containers":[{"name":"c","image":"i"}],"restartPolicy":"Maybe","nodeSelector":{"-":"x"},
      "tolerations":[{"key":"a","operator":"Exists","value":"v"},{"value":"v"},{"key":"a","operator":"Exists","tolerationSeconds":1}]})"),
              ElementsAre("spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                          HasSubstr("spec.nodeSelector: Invalid value: \"-\": name part must"),
                          HasSubstr("value must be empty when `operator` is 'Exists'"), HasSubstr("operator must be Exists when `key` is empty"),
                          "spec.tolerations[2].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set"));
  EXPECT_THAT(create_pod(R"({"containers":[{"name":"c","image":"i"}],"volumes":[{"name":"v","emptyDir":{},"hostPath":{"path":""}},{"name":"v"}]})"),
              ElementsAre("spec.volumes[0].hostPath.path: Required value", "spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type",
                          "spec.volumes[1].name: Duplicate value: \"v\""));
}

TEST(Validation, PodSpecIsImmutableButForImagesAndTolerations) {
  const ResourceType& type = *find_kind("v1", "Pod");
  const std::string head = R"({"metadata":{"name":"a","resourceVersion":"1"},"spec":{"containers":[{"name":"c","image":")";
  const auto old = JsonDoc::parse(head + R"(x"}],"nodeName":"n"}})");
  const auto update = [&](std::string_view tail) { return texts(validate_update(type, JsonDoc::parse(head + std::string(tail))->root(), old->root())); };
  EXPECT_THAT(update(R"(y"}],"nodeName":"n"}})"), IsEmpty());
  EXPECT_THAT(update(R"(x"}],"nodeName":"n","tolerations":[{"key":"a","operator":"Exists"}]}})"), IsEmpty());
  EXPECT_THAT(update(R"(x"}],"nodeName":"m"}})"), ElementsAre(HasSubstr("spec: Forbidden: pod updates may not change fields other than")));
  EXPECT_THAT(update(R"(x"},{"name":"d"}],"nodeName":"n"}})"), ElementsAre(HasSubstr("pod updates may not add or remove containers")));
}

TEST(Validation, Deployments) {
  const ResourceType& type = *find_kind("apps/v1", "Deployment");
  const auto with = [&](std::string_view members) {
    return create(type, std::format(R"({{"metadata":{{"name":"a"}},"spec":{{"selector":{{"matchLabels":{{"app":"x"}}}},"template":{{"metadata":{{"labels":{{"app":"x"}}}},
        "spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}{}}}}})", members));
  };
  EXPECT_THAT(with(""), IsEmpty());
  EXPECT_THAT(with(R"(,"replicas":-1)"), ElementsAre("spec.replicas: Invalid value: -1: must be greater than or equal to 0"));
  EXPECT_THAT(with(R"(,"strategy":{"type":"Recreate","rollingUpdate":{}})"),
              ElementsAre("spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"));
  EXPECT_THAT(with(R"(,"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":0}})"),
              ElementsAre("spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"));
  EXPECT_THAT(with(R"(,"strategy":{"type":"Magic"})"),
              ElementsAre("spec.strategy.type: Unsupported value: \"Magic\": supported values: \"Recreate\", \"RollingUpdate\""));
  EXPECT_THAT(with(R"(,"progressDeadlineSeconds":1,"minReadySeconds":1)"),
              ElementsAre("spec.progressDeadlineSeconds: Invalid value: 1: must be greater than minReadySeconds"));
  const auto old = JsonDoc::parse(R"({"metadata":{"name":"a"},"spec":{"selector":{"matchLabels":{"app":"y"}}}})");
  const auto now = JsonDoc::parse(R"({"metadata":{"name":"a","resourceVersion":"1"},"spec":{"selector":{"matchLabels":{"app":"x"}},"template":{}}})");
  EXPECT_THAT(texts(validate_update(type, now->root(), old->root())), Contains(HasSubstr("spec.selector: Invalid value: ")));
}

TEST(Validation, Services) {
  EXPECT_THAT(create_service("{}"), ElementsAre("spec.ports: Required value"));
  EXPECT_THAT(create_service(R"({"clusterIP":"None"})"), IsEmpty());
  EXPECT_THAT(create_service(R"({"ports":[{"port":80},{"port":81}]})"),
              ElementsAre("spec.ports[0].name: Required value", "spec.ports[1].name: Required value"));
  EXPECT_THAT(create_service(R"({"type":"Odd","ports":[{"port":80,"protocol":"ICMP"}]})"),
              ElementsAre("spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                          "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""));
  EXPECT_THAT(create_service(R"({"ports":[{"port":80,"nodePort":30000}]})"),
              ElementsAre("spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"));
  EXPECT_THAT(create_service(R"({"clusterIP":"x","ports":[{"port":80}]})"), ElementsAre(HasSubstr("must be a valid IP address")));
}

TEST(Validation, UpdatesKeepSystemFields) {
  const ResourceType& type = *find_kind("v1", "ConfigMap");
  const auto old = JsonDoc::parse(R"({"metadata":{"name":"a","namespace":"d","uid":"u","deletionTimestamp":"t"},"immutable":true,"data":{"a":"1"}})");
  const auto now = JsonDoc::parse(R"({"metadata":{"name":"a","namespace":"d","uid":"v","deletionTimestamp":"t","finalizers":["x/y"]},"immutable":true,"data":{"a":"2"}})");
  EXPECT_THAT(texts(validate_update(type, now->root(), old->root())),
              ElementsAre("metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x/y\"}",
                          "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                          "metadata.uid: Invalid value: \"v\": field is immutable",
                          "data: Forbidden: field is immutable when `immutable` is set"));
}

TEST(Validation, TheSmallKinds) {
  EXPECT_THAT(create(*find_kind("v1", "ConfigMap"), R"({"metadata":{"name":"a"},"data":{"a b":""},"binaryData":{"..":""}})"),
              ElementsAre(HasSubstr("data[a b]: Invalid value"), HasSubstr("must not be '..'")));
  EXPECT_THAT(create(*find_kind("node.k8s.io/v1", "RuntimeClass"), R"({"metadata":{"name":"a"}})"), ElementsAre("handler: Required value"));
  EXPECT_THAT(create(*find_kind("coordination.k8s.io/v1", "Lease"), R"({"metadata":{"name":"a"},"spec":{"leaseDurationSeconds":0}})"),
              ElementsAre("spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"));
  EXPECT_THAT(create(*find_kind("discovery.k8s.io/v1", "EndpointSlice"),
                     R"({"metadata":{"name":"a"},"addressType":"IPv4","endpoints":[{"addresses":[]},{"addresses":["::1"]}],"ports":[{"port":0},{"port":1}]})"),
              ElementsAre("endpoints[0].addresses: Required value: must contain at least 1 address",
                          "endpoints[1].addresses[0]: Invalid value: \"::1\": must be an IPv4 address", HasSubstr("ports[0].port"),
                          "ports[1].name: Duplicate value: \"\""));
  EXPECT_THAT(create(*find_kind("v1", "Node"), R"({"metadata":{"name":"a"},"spec":{"taints":[{"key":"a","effect":"Never"}]}})"),
              ElementsAre("metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""));
  EXPECT_THAT(texts(validate_scale(JsonDoc::parse(R"({"metadata":{"name":"a"},"spec":{"replicas":-1}})")->root())),
              ElementsAre("spec.replicas: Invalid value: -1: must be greater than or equal to 0"));
}

}  // namespace
}  // namespace skerry::kube
