// SPDX-License-Identifier: Apache-2.0
#include "kube/protobuf.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "kube/codec.h"

namespace skerry::kube {
namespace {

using testing::HasSubstr;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// The peer: protoc with Kubernetes' own generated.proto files.
class Protoc {
 public:
  Protoc() {
    char name[] = "/tmp/skerry-protobuf-XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  ~Protoc() { std::filesystem::remove_all(folder_); }
  std::string encode(std::string_view message, std::string_view text) { return run("encode", message, text); }
  std::string decode(std::string_view message, std::string_view bytes) { return run("decode", message, bytes); }

 private:
  std::string run(std::string_view what, std::string_view message, std::string_view input) {
    // "k8s.io.api.core.v1.Pod" lives in k8s.io/api/core/v1/generated.proto.
    std::string file(message.substr(0, message.rfind('.')));
    for (std::size_t at = std::string_view("k8s.io").size(); at < file.size(); ++at)
      if (file[at] == '.') file[at] = '/';
    std::ofstream(folder_ / "in", std::ios::binary) << input;
    const std::string command = std::format("{} --proto_path={} --{}={} {}/generated.proto <{} >{} 2>{}", SKERRY_PROTOC, SKERRY_GO_ROOT, what,
                                            message, file, (folder_ / "in").string(), (folder_ / "out").string(), (folder_ / "err").string());
    EXPECT_EQ(std::system(command.c_str()), 0) << read_file(folder_ / "err");
    return read_file(folder_ / "out");
  }
  std::filesystem::path folder_;
};

std::string to_canonical(Message m, std::string_view raw) {
  auto json = protobuf_to_json(m, raw);
  if (!json) return json.error().what;
  return canonical(m, json->root());
}

TEST(Protobuf, ReadsWhatProtocWrites) {
  Protoc protoc;
  const std::string raw = protoc.encode("k8s.io.api.apps.v1.Deployment", R"(
    metadata { name: "d" labels { key: "b" value: "2" } labels { key: "a" value: "1" } creationTimestamp { seconds: 1764000000 nanos: 0 } }
    spec { replicas: 0 selector { matchLabels { key: "a" value: "1" } }
      template { metadata { creationTimestamp { } } spec {
        volumes { name: "v" volumeSource { configMap { localObjectReference { name: "m" } defaultMode: 420 } } }
        containers { name: "c" image: "i" ports { containerPort: 8080 protocol: "TCP" }
          resources { limits { key: "cpu" value { string: "1500m" } } }
          livenessProbe { handler { httpGet { path: "/" port { type: 1 strVal: "http" } } } timeoutSeconds: 1 } }
        hostNetwork: false } }
      strategy { type: "RollingUpdate" rollingUpdate { maxSurge { type: 1 strVal: "25%" } maxUnavailable { type: 0 intVal: -1 } } } }
    status { })");
  EXPECT_EQ(to_canonical(find_message("k8s.io.api.apps.v1.Deployment"), raw),
            R"({"metadata":{"name":"d","creationTimestamp":"2025-11-24T16:00:00Z","labels":{"a":"1","b":"2"}},)"
            R"("spec":{"replicas":0,"selector":{"matchLabels":{"a":"1"}},"template":{"metadata":{"creationTimestamp":null},)"
            R"("spec":{"volumes":[{"name":"v","configMap":{"name":"m","defaultMode":420}}],)"
            R"("containers":[{"name":"c","image":"i","ports":[{"containerPort":8080,"protocol":"TCP"}],)"
            R"("resources":{"limits":{"cpu":"1500m"}},"livenessProbe":{"httpGet":{"path":"/","port":"http"},"timeoutSeconds":1}}]}},)"
            R"("strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":-1,"maxSurge":"25%"}}},"status":{}})");
}

// Goal: every recorded object survives JSON -> protobuf -> protoc -> protobuf -> JSON.
TEST(Protobuf, RoundTripsThroughProtoc) {
  Protoc protoc;
  const auto doc = JsonDoc::parse(read_file(SKERRY_SOURCE_DIR "/src/kube/testdata/defaults.json"));
  ASSERT_TRUE(doc);
  for (const Json entry : doc->root().items()) {
    const Json stored = entry["stored"];
    const ResourceType* type = find_kind(stored["apiVersion"].str(), stored["kind"].str());
    ASSERT_NE(type, nullptr);
    const Message m = type->message();
    const auto raw = json_to_protobuf(m, stored);
    ASSERT_TRUE(raw) << raw.error().what;
    const std::string back = to_canonical(m, protoc.encode(m.name(), protoc.decode(m.name(), *raw)));
    auto parsed = JsonEdit::parse(back);
    ASSERT_TRUE(parsed) << back;
    parsed->root().set("kind", stored["kind"]);
    parsed->root().set("apiVersion", stored["apiVersion"]);
    EXPECT_EQ(canonical(m, parsed->root()), canonical(m, stored)) << type->kind;
  }
}

TEST(Protobuf, BodiesOfKubectlAreDecoded) {
  Protoc protoc;
  const std::string raw = protoc.encode("k8s.io.api.core.v1.Secret", R"(metadata { name: "s" } data { key: "k" value: "\000\377" } type: "Opaque")");
  const std::string body = make_envelope("v1", "Secret", raw);
  auto decoded = decode_body(*find_kind("v1", "Secret"), kProtobufType, body, FieldValidation::Strict);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(canonical(*find_kind("v1", "Secret"), decoded->object.root()),
            R"({"kind":"Secret","apiVersion":"v1","metadata":{"name":"s","creationTimestamp":null},"data":{"k":"AP8="},"type":"Opaque"})");
  EXPECT_FALSE(decode_body(*find_kind("v1", "Pod"), kProtobufType, body, FieldValidation::Strict));
}

TEST(Protobuf, RefusesBrokenBytes) {
  const Message pod = find_message("k8s.io.api.core.v1.Pod");
  for (const std::string& raw : {std::string("\x0a"), std::string("\x0a\x05x"), std::string(11, '\xff'), std::string("\x0b"), std::string("\x08\x01"),
                                 std::string("\x00", 1), std::string("\x0a\x03\x0a\x01\xff")})
    EXPECT_FALSE(protobuf_to_json(pod, raw)) << testing::PrintToString(raw);
  EXPECT_TRUE(protobuf_to_json(pod, ""));
  EXPECT_TRUE(protobuf_to_json(pod, std::string("\xf8\x07\x01")));  // an unknown tag is skipped
  EXPECT_FALSE(open_envelope("{}"));
  EXPECT_THAT(open_envelope("{}").error().what, HasSubstr("k8s"));
}

}  // namespace
}  // namespace skerry::kube
