// SPDX-License-Identifier: Apache-2.0
#include "oci/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>

namespace skerry::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string descriptor(std::string_view type, std::uint64_t size) { return std::format(R"({{"mediaType":"{}","digest":"{}","size":{}}})", type, kDigest, size); }
std::string manifest(std::string_view layers) { return std::format(R"({{"schemaVersion":2,"config":{},"layers":[{}]}})", descriptor("c", 2), layers); }

TEST(ManifestText, IsReadInBothDialects) {
  for (const auto type : {kManifestType, kDockerManifestType}) {
    const auto read = std::get<Manifest>(parse_manifest(type, manifest(descriptor("application/wasm", 7))).value());
    ASSERT_EQ(read.layers.size(), 1u);
    EXPECT_EQ(read.layers[0].media_type, "application/wasm");
    EXPECT_EQ(read.layers[0].size, 7u);
    EXPECT_EQ(read.config.digest, kDigest);
  }
  EXPECT_TRUE(std::holds_alternative<Manifest>(parse_manifest("text/plain; charset=utf-8", manifest(descriptor("x", 1))).value()));
}

TEST(ManifestText, SaysWhatIsWrong) {
  for (const auto& [text, why] : {std::pair<std::string, std::string>{"{", "the manifest"},
                                  {"{}", "no image manifest"},
                                  {R"({"schemaVersion":1})", "schema 1"},
                                  {R"({"schemaVersion":2,"config":{},"layers":[{}]})", "config has no sha256 digest"},
                                  {manifest(""), "no layers"},
                                  {manifest(R"({"digest":"sha256:zz","size":1})"), "layer has no sha256 digest"},
                                  {manifest(std::format(R"({{"digest":"{}","size":-1}})", kDigest)), "layer has no size"}}) {
    const auto read = parse_manifest("application/json", text);
    ASSERT_FALSE(read) << text;
    EXPECT_THAT(read.error().what, HasSubstr(why));
  }
}

TEST(ManifestText, AnIndexGivesTheWasmVariantFirst) {
  const auto entry = [](std::string_view os, std::string_view architecture, char digit) {
    return std::format(R"({{"mediaType":"m","digest":"sha256:{}","size":1,"platform":{{"os":"{}","architecture":"{}"}}}})", std::string(64, digit), os, architecture);
  };
  const auto index = [&](std::string entries) { return std::get<Index>(parse_manifest(kIndexType, std::format(R"({{"schemaVersion":2,"manifests":[{}]}})", entries)).value()); };
  EXPECT_EQ(choose(index(entry("linux", "amd64", '1') + "," + entry("wasip1", "wasm", '2')), "amd64").value().digest[7], '2');
  EXPECT_EQ(choose(index(entry("linux", "arm64", '1') + "," + entry("linux", "amd64", '2')), "amd64").value().digest[7], '2');
  EXPECT_EQ(choose(index(entry("", "", '3')), "amd64").value().digest[7], '3');
  const auto none = choose(index(entry("linux", "s390x", '1') + "," + entry("unknown", "unknown", '2')), "arm64");
  EXPECT_THAT(none.error().what, HasSubstr("no variant for wasi/wasm or linux/arm64; it has: linux/s390x"));
}

TEST(ManifestText, LayersThatCannotBeReadAreRefusedByName) {
  EXPECT_TRUE(check_layers({.layers = {{.media_type = "application/vnd.oci.image.layer.v1.tar+gzip"}}}));
  EXPECT_THAT(check_layers({.layers = {{.media_type = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}}}).error().what, HasSubstr("encrypted"));
  EXPECT_THAT(check_layers({.layers = {{.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}}}).error().what, HasSubstr("foreign"));
}

TEST(ImageConfigText, GivesWhatStartsTheGuest) {
  const auto config = parse_config(R"({"config":{"Entrypoint":["/app.wasm","-v"],"Cmd":null,"Env":["A=1","B="],"WorkingDir":"/srv"}})").value();
  EXPECT_THAT(config.entrypoint, ElementsAre("/app.wasm", "-v"));
  EXPECT_THAT(config.env, ElementsAre("A=1", "B="));
  EXPECT_EQ(config.working_folder, "/srv");
  EXPECT_TRUE(parse_config("{}").value().entrypoint.empty());
  for (const char* bad : {"", "[", R"({"config":{"Entrypoint":"app"}})", R"({"config":{"Entrypoint":[1]}})", R"({"config":{"Env":["A"]}})", R"({"config":{"Env":["=1"]}})"})
    EXPECT_FALSE(parse_config(bad)) << bad;
}

}  // namespace
}  // namespace skerry::oci
