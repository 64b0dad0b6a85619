// SPDX-License-Identifier: Apache-2.0
// Goal: the registry client takes what is right, goes on where a line broke off, and refuses every trick with a sentence.
// Method: the real program against a registry of a few lines on the real HTTP server, which does what a test tells it to.
// tests/e2e/images.sh asks a real registry, with images of other tools.
#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <format>
#include <fstream>
#include <map>

#include "base/log.h"
#include "base/text.h"
#include "http/server.h"
#include "kube/json.h"
#include "oci/digest.h"
#include "oci/manifest.h"
#include "oci/puller.h"
#include "os/file.h"
#include "rt/task_group.h"

namespace skerry::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;
const std::string kModule = std::string("\0asm\1\0\0\0", 8) + std::string(200'000, 'm');
constexpr std::string_view kLayerType = "application/vnd.oci.image.layer.v1.tar+gzip", kConfigType = "application/vnd.oci.image.config.v1+json";

struct File {
  std::string path, content;
  unsigned type = AE_IFREG;
  std::string link = {};
};

std::string tar(const std::vector<File>& files, bool gzip = true) {
  char name[] = "/tmp/skerry-tar-XXXXXX";
  const int fd = ::mkstemp(name);
  archive* a = archive_write_new();
  if (gzip) archive_write_add_filter_gzip(a);
  archive_write_set_format_pax_restricted(a);
  archive_write_open_fd(a, fd);
  for (const File& f : files) {
    archive_entry* e = archive_entry_new();
    archive_entry_set_pathname(e, f.path.c_str());
    archive_entry_set_perm(e, 0755);
    if (f.type == 0) archive_entry_set_hardlink(e, f.link.c_str());
    else archive_entry_set_filetype(e, f.type);
    if (f.type == AE_IFLNK) archive_entry_set_symlink(e, f.link.c_str());
    archive_entry_set_size(e, f.type == AE_IFREG ? static_cast<la_int64_t>(f.content.size()) : 0);
    EXPECT_EQ(archive_write_header(a, e), ARCHIVE_OK) << archive_error_string(a);
    if (f.type == AE_IFREG) archive_write_data(a, f.content.data(), f.content.size());
    archive_entry_free(e);
  }
  archive_write_free(a);
  ::close(fd);
  auto out = os::read_small_file(name, 1 << 30).value();
  ::unlink(name);
  return out;
}

struct FakeRegistry final : http::Handler {
  std::map<std::string, std::string> blobs;
  std::map<std::string, std::pair<std::string, std::string>> manifests;  // by tag and digest: type, text
  std::vector<std::string> asked;
  std::string token, basic, realm;
  std::size_t cut_after = 0;   // the next blob's answer breaks off there
  bool no_ranges = false;
  std::string lie;             // served instead of any blob
  int fail_with = 0;
  bool refuse_once = false;
  bool trickles = false;       // twenty bytes a second, without end
  int page = 0;                // a portal's page, with this status, instead of any answer
  std::string leads_to;        // "http://host": where what `leads` is redirected to
  std::string leads;           // a part of paths
  std::vector<std::string> proofs;  // every Authorization that came

  class Cut final : public http::Stream {
   public:
    explicit Cut(std::string bytes) : bytes_(std::move(bytes)) {}
    rt::Task<std::optional<http::Chunk>> next() override {
      if (bytes_.empty()) co_return Fail({Errc::Unavailable, "cut"});
      co_return std::make_shared<const std::string>(std::exchange(bytes_, {}));
    }

   private:
    std::string bytes_;
  };

  class Trickle final : public http::Stream {
   public:
    rt::Task<std::optional<http::Chunk>> next() override {
      CO_TRY_OK(co_await rt::sleep_for(50ms));
      co_return std::make_shared<const std::string>(" ");
    }
  };

  std::string add(const std::string& bytes) {
    const std::string digest = digest_of(bytes);
    blobs[digest] = bytes;
    return digest;
  }
  std::string describe(std::string_view type, const std::string& bytes) {
    return std::format(R"({{"mediaType":"{}","digest":"{}","size":{}}})", type, add(bytes), bytes.size());
  }
  // The manifest's digest.
  std::string tag(const std::string& name, const std::string& type, const std::string& text) {
    manifests[name] = manifests[digest_of(text)] = {type, text};
    return digest_of(text);
  }
  std::string artifact(const std::string& name, const std::string& module, std::string_view layer_type = "application/wasm") {
    return tag(name, std::string(kManifestType),
               std::format(R"({{"schemaVersion":2,"config":{},"layers":[{}]}})", describe("application/vnd.wasm.config.v0+json", "{}"), describe(layer_type, module)));
  }
  std::string image(const std::string& name, const std::string& config, const std::vector<std::string>& layers) {
    std::string list;
    for (const auto& layer : layers) list += (list.empty() ? "" : ",") + describe(kLayerType, layer);
    return tag(name, std::string(kManifestType), std::format(R"({{"schemaVersion":2,"config":{},"layers":[{}]}})", describe(kConfigType, config), list));
  }

  rt::Task<http::Response> handle(http::Request request) override {
    asked.push_back(request.method + " " + request.target);
    const std::string_view target = request.target;
    if (const auto proof = request.headers.get("authorization"); !proof.empty()) proofs.emplace_back(proof);
    if (trickles) {
      http::Response response;
      response.stream = std::make_unique<Trickle>();
      co_return response;
    }
    if (page != 0) co_return http::make_response(page, "text/html", "<html>Welcome aboard: log in</html>");
    if (target.starts_with("/token")) {
      if (!basic.empty() && request.headers.get("authorization") != "Basic " + to_base64(basic)) co_return http::make_response(401, "application/json", R"({"errors":[{"message":"bad password"}]})");
      co_return http::make_response(200, "application/json", std::format(R"({{"token":"{}"}})", token));
    }
    if (std::exchange(refuse_once, false)) co_return http::make_response(403, "application/xml", "<Error><Code>AccessDenied</Code></Error>");
    if (!token.empty() && request.headers.get("authorization") != "Bearer " + token) {
      auto response = http::make_response(401, "application/json", "{}");
      response.headers.set("WWW-Authenticate", std::format(R"(Bearer realm="{}",service="fake")", realm));
      co_return response;
    }
    if (!leads.empty() && target.contains(leads)) {
      auto response = http::make_response(307, "text/plain", "");
      response.headers.set("Location", leads_to + std::string(target));
      co_return response;
    }
    if (fail_with != 0) co_return http::make_response(fail_with, "application/json", R"({"errors":[{"code":"DOWN","message":"out of\u0007order"}]})");
    const std::string name(target.substr(target.rfind('/') + 1));
    if (target.contains("/manifests/")) {
      const auto found = manifests.find(name);
      if (found == manifests.end()) co_return http::make_response(404, "application/json", R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})");
      auto response = http::make_response(200, found->second.first, found->second.second);
      response.headers.set("Docker-Content-Digest", digest_of(found->second.second));
      co_return response;
    }
    const auto found = blobs.find(name);
    if (found == blobs.end()) co_return http::make_response(404, "application/json", "{}");
    std::string bytes = lie.empty() ? found->second : lie;
    int status = 200;
    http::Response response;
    if (const auto range = request.headers.get("range"); !range.empty() && !no_ranges) {
      const auto from = parse_int<std::size_t>(range.substr(6, range.size() - 7)).value_or(0);
      response.headers.set("Content-Range", std::format("bytes {}-{}/{}", from, bytes.size() - 1, bytes.size()));
      bytes.erase(0, from);
      status = 206;
    }
    response.status = status;
    if (const auto cut = std::exchange(cut_after, 0); cut != 0) response.stream = std::make_unique<Cut>(bytes.substr(0, cut));
    else response.body = std::make_shared<const std::string>(std::move(bytes));
    co_return response;
  }
};

struct Pull : ::testing::Test {
  Pull() {
    char name[] = "/tmp/skerry-pull-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    folder = name;
  }
  ~Pull() override { fs::remove_all(folder); }

  Result<RegistryAnswer> run(const std::string& reference, const std::function<void(RegistryJob&)>& change = {}) {
    rt::Loop loop;
    http::Server server(loop, registry, {.name = "registry"}), other(loop, elsewhere, {.name = "elsewhere"});
    EXPECT_TRUE(server.start());
    EXPECT_TRUE(other.start());
    registry.leads_to = std::format("http://127.0.0.1:{}", other.port());
    elsewhere.realm = registry.leads_to + "/token";
    const std::string host = std::format("127.0.0.1:{}", server.port());
    registry.realm = "http://" + host + "/token?a=b";
    RegistryJob job{.reference = Reference::parse(host + "/" + reference).value(),
                    .endpoints = {{.url = "http://" + host}},
                    .folder = folder / "partial",
                    .architecture = "amd64",
                    .module_bytes_max = 1 << 20,
                    .layer_bytes_max = 4 << 20,
                    .unpacked_bytes_max = 8 << 20,
                    .stall_timeout = 2s};
    if (change) change(job);
    std::optional<Result<RegistryAnswer>> out;
    rt::TaskGroup tasks(loop);
    tasks.spawn("pull", whole(loop, server, other, std::move(job), out, progress));
    loop.run();
    return std::move(*out);
  }
  static rt::Task<> whole(rt::Loop& loop, http::Server& server, http::Server& other, RegistryJob job, std::optional<Result<RegistryAnswer>>& out, std::vector<answer::Progress>& progress) {
    out = co_await run_registry({.path = SKERRY_REGISTRY, .timeout = 30s}, std::move(job), [&](const answer::Progress& p) { progress.push_back(p); });
    CO_TRY_OK(co_await server.stop(1s));
    CO_TRY_OK(co_await other.stop(1s));
    loop.stop();
    co_return Result<>{};
  }
  answer::Pulled pulled(const std::string& reference, const std::function<void(RegistryJob&)>& change = {}) {
    auto done = run(reference, change);
    EXPECT_TRUE(done) << (done ? "" : done.error().what);
    if (!done || !std::holds_alternative<answer::Pulled>(*done)) return {};
    auto out = std::get<answer::Pulled>(*done);
    EXPECT_EQ(digest_of(os::read_small_file(folder / "partial" / out.file, 1 << 24).value_or("")), out.module);
    fs::remove(folder / "partial" / out.file);
    EXPECT_TRUE(fs::is_empty(folder / "partial")) << "nothing but the module stays";
    return out;
  }
  Error refused(const std::string& reference, const std::function<void(RegistryJob&)>& change = {}) {
    auto done = run(reference, change);
    EXPECT_FALSE(done);
    return done ? Error{Errc::Internal, "it was taken"} : done.error();
  }

  FakeRegistry registry, elsewhere;
  fs::path folder;
  std::vector<answer::Progress> progress;
};

TEST_F(Pull, TakesAnArtifactAndTellsHowFarItIs) {
  const auto manifest = registry.artifact("1", kModule);
  const auto out = pulled("app:1");
  EXPECT_EQ(out.manifest, manifest);
  EXPECT_EQ(out.module, digest_of(kModule));
  EXPECT_EQ(out.fetched, kModule.size());
  ASSERT_FALSE(progress.empty());
  EXPECT_EQ(progress.back().bytes, kModule.size());
  EXPECT_EQ(progress.back().of, kModule.size());
  EXPECT_EQ(pulled("app@" + manifest).module, out.module);
  registry.artifact("untyped", kModule, "application/vnd.oci.image.layer.v1.tar");  // as oras pushes a file without a type
  EXPECT_EQ(pulled("app:untyped").module, out.module);
}

TEST_F(Pull, TakesTheEntrypointOfAnOrdinaryImage) {
  registry.image("1", R"({"config":{"Entrypoint":["app.wasm","-v"],"Cmd":["serve"],"Env":["A=1"],"WorkingDir":"/srv"}})",
                 {tar({{"srv/", "", AE_IFDIR}, {"srv/old.wasm", "old"}, {"bin", "", AE_IFLNK, "/srv"}}), tar({{"bin/real.wasm", kModule}, {"srv/app.wasm", "", AE_IFLNK, "../bin/real.wasm"}}, false)});
  const auto out = pulled("app:1");
  EXPECT_EQ(out.module, digest_of(kModule));
  EXPECT_THAT(out.arguments, ElementsAre("-v", "serve"));
  EXPECT_THAT(out.env, ElementsAre("A=1"));
}

TEST_F(Pull, AnIndexLeadsToTheWasmVariantAndIsWhatTheDigestNames) {
  const auto wasm = registry.artifact("w", kModule);
  const auto index = registry.tag("1", std::string(kIndexType),
                                  std::format(R"({{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{}","size":1,"platform":{{"os":"linux","architecture":"s390x"}}}},)"
                                              R"({{"mediaType":"m","digest":"{}","size":1,"platform":{{"os":"wasip1","architecture":"wasm"}}}}]}})",
                                              digest_of("other"), wasm));
  EXPECT_EQ(pulled("app:1").manifest, index);
  EXPECT_EQ(pulled("app@" + index).module, digest_of(kModule));
}

TEST_F(Pull, AnUnchangedTagIsNotFetchedAgain) {
  const auto manifest = registry.artifact("1", kModule);
  registry.asked.clear();
  const auto done = run("app:1", [&](RegistryJob& job) { job.have = manifest; });
  EXPECT_EQ(std::get<answer::Same>(done.value()).manifest, manifest);
  EXPECT_THAT(registry.asked, ElementsAre("HEAD /v2/app/manifests/1"));
}

TEST_F(Pull, GoesOnWhereTheLineBroke) {
  registry.artifact("1", kModule);
  registry.cut_after = 150'000;
  auto out = pulled("app:1");
  EXPECT_EQ(out.module, digest_of(kModule));
  EXPECT_LT(out.fetched, kModule.size() + 1) << "no byte twice";
  // Another process goes on with what the former left.
  registry.fail_with = 503;
  fs::create_directories(folder / "partial");
  ::chmod(folder.c_str(), 0755);
  const auto hex = digest_of(kModule).substr(7);
  std::ofstream(folder / "partial" / hex, std::ios::binary) << kModule.substr(0, 100'000);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown((folder / "partial" / hex).c_str(), 65534, 65534), 0);
  }
  EXPECT_EQ(refused("app:1").code, Errc::Unavailable);
  registry.fail_with = 0;
  out = pulled("app:1");
  EXPECT_EQ(out.fetched, kModule.size() - 100'000);
  // What a power cut left of it may be anything: then all of it is fetched.
  std::ofstream(folder / "partial" / hex, std::ios::binary) << std::string(100'000, '\0');
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown((folder / "partial" / hex).c_str(), 65534, 65534), 0);
  }
  EXPECT_EQ(pulled("app:1").module, digest_of(kModule));
  // A server without ranges sends all of it; what was there does not spoil it.
  registry.no_ranges = true;
  registry.cut_after = 150'000;
  EXPECT_EQ(pulled("app:1").module, digest_of(kModule));
}

TEST_F(Pull, BytesThatAreNotTheDigestAreThrownAway) {
  registry.artifact("1", kModule);
  registry.lie = std::string(kModule.size(), 'x');
  EXPECT_THAT(refused("app:1").what, HasSubstr("its bytes have another digest"));
  registry.lie = kModule + "and more";
  EXPECT_THAT(refused("app:1").what, HasSubstr("more bytes"));
  registry.lie.clear();
  EXPECT_EQ(pulled("app:1").module, digest_of(kModule)) << "nothing of the lie is left";
  const auto manifest = registry.artifact("2", kModule + "2");
  registry.manifests[manifest].second += " ";
  EXPECT_THAT(refused("app@" + manifest).what, HasSubstr("another manifest"));
}

TEST_F(Pull, ATokenIsFetchedWithTheCredentialsThatOpenIt) {
  registry.artifact("1", kModule);
  registry.token = "t0ken";
  EXPECT_EQ(pulled("app:1").module, digest_of(kModule)) << "anonymous";
  EXPECT_THAT(registry.asked, ::testing::Contains("GET /token?a=b&service=fake&scope=repository%3Aapp%3Apull"));
  registry.basic = "al:right";
  const auto error = refused("app:1");
  EXPECT_EQ(error.code, Errc::Denied);
  EXPECT_THAT(error.what, HasSubstr("bad password"));
  EXPECT_THAT(error.what, HasSubstr("give credentials"));
  const auto with = [](RegistryJob& job) { job.endpoints[0].credentials = {{"al", "wrong", ""}, {"al", "right", ""}}; };
  EXPECT_EQ(pulled("app:1", with).module, digest_of(kModule));
  const auto wrong = refused("app:1", [](RegistryJob& job) { job.endpoints[0].credentials = {{"al", "wr0ng-secret", ""}}; });
  EXPECT_THAT(wrong.what, HasSubstr("the credentials that were given do not open it"));
  EXPECT_EQ(wrong.what.find("wr0ng-secret"), std::string::npos);
}

// Goal: the credentials of a registry go to it alone, wherever it leads to.
TEST_F(Pull, WhereTheRegistryLeadsToGetsNoCredentials) {
  registry.artifact("1", kModule);
  elsewhere.artifact("1", kModule);
  registry.token = "t0ken";
  registry.basic = "al:right";
  registry.leads = "/blobs/";
  const auto with = [](RegistryJob& job) { job.endpoints[0].credentials = {{"al", "right", ""}}; };
  EXPECT_EQ(pulled("app:1", with).module, digest_of(kModule));
  EXPECT_THAT(elsewhere.asked, ElementsAre(HasSubstr("/blobs/")));
  EXPECT_THAT(elsewhere.proofs, ::testing::IsEmpty());
  // It asks for them itself, and names an address to send them to.
  elsewhere.token = "evil";
  registry.leads = "/manifests/";
  const auto error = refused("app:1", with);
  EXPECT_EQ(error.code, Errc::Unavailable);
  EXPECT_THAT(error.what, HasSubstr("leads to an address that refuses access (401)"));
  EXPECT_THAT(elsewhere.asked, ::testing::Not(::testing::Contains(HasSubstr("/token"))));
  EXPECT_THAT(elsewhere.proofs, ::testing::IsEmpty());
}

TEST_F(Pull, AnAddressThatHasEndedIsAskedForAgain) {
  registry.artifact("1", kModule);
  elsewhere.artifact("1", kModule);
  registry.leads = "/blobs/";
  elsewhere.refuse_once = true;
  EXPECT_EQ(pulled("app:1").module, digest_of(kModule)) << "as a signed address of a store does after a while";
}

// Goal: a portal or a proxy before the registry is a registry that is away, whatever it answers; it stops nothing.
TEST_F(Pull, APageOfAPortalIsNoAnswerOfARegistry) {
  const auto manifest = registry.artifact("1", kModule);
  for (const int status : {200, 401, 403, 404}) {
    registry.page = status;
    EXPECT_EQ(refused("app:1").code, Errc::Unavailable) << status;
    EXPECT_EQ(refused("app:1", [&](RegistryJob& job) { job.have = manifest; }).code, Errc::Unavailable) << status << ", with an image on the disk";
  }
}

TEST_F(Pull, WhatTheRegistryItselfSaysCountsBeforeAMirrorsSilence) {
  const auto error = refused("app:none", [](RegistryJob& job) { job.endpoints.insert(job.endpoints.begin(), {.url = "http://127.0.0.1:1"}); });
  EXPECT_EQ(error.code, Errc::NotFound);
  EXPECT_THAT(error.what, HasSubstr("manifest unknown; and before that, 127.0.0.1:1 cannot be reached"));
}

TEST_F(Pull, TheClientWaitsForWhoeverReadsItsAnswers) {
  const fs::path script = folder / "client";
  std::ofstream(script) << R"(#!/bin/sh
while read -r name value; do [ "$name" != flags: ] || flags=$value; done </proc/self/fdinfo/1
[ $((flags & 04000)) = 0 ] && code=Denied || code=Internal # O_NONBLOCK
echo "{\"answer\":\"error\",\"code\":\"$code\",\"text\":\"$flags\"}"
)";
  fs::permissions(script, fs::perms::owner_all);
  const auto done = rt::Loop::run_one(run_registry({.path = script}, {.reference = Reference::parse("app").value()}, {}));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::Denied) << "flags " << done.error().what;
}

TEST_F(Pull, TellsAMissingImageFromAMissingRegistry) {
  const auto missing = refused("app:none");
  EXPECT_EQ(missing.code, Errc::NotFound);
  EXPECT_THAT(missing.what, HasSubstr("manifest unknown"));
  registry.fail_with = 500;
  const auto down = refused("app:1");
  EXPECT_EQ(down.code, Errc::Unavailable);
  EXPECT_THAT(down.what, HasSubstr("out of order")) << "no control character of the registry's reaches a log";
  const auto away = refused("app:1", [](RegistryJob& job) { job.endpoints[0].url = "http://127.0.0.1:1"; });
  EXPECT_EQ(away.code, Errc::Unavailable);
  EXPECT_THAT(away.what, HasSubstr("127.0.0.1:1 cannot be reached"));
}

// Goal: a registry that trickles holds one of the few turns no longer than one that is silent. Method: a second of it, in real time.
TEST_F(Pull, ARegistryThatTricklesIsOneThatDoesNotAnswer) {
  registry.trickles = true;
  const auto error = refused("app:1", [](RegistryJob& job) { job.stall_timeout = 1s; });
  EXPECT_EQ(error.code, Errc::Timeout);
  EXPECT_THAT(error.what, HasSubstr("does not answer"));
}

TEST_F(Pull, AMirrorIsAskedFirstAndTheRegistryWhenItFails) {
  registry.artifact("1", kModule);
  EXPECT_EQ(pulled("app:1", [](RegistryJob& job) { job.endpoints.insert(job.endpoints.begin(), {.url = "http://127.0.0.1:1"}); }).module, digest_of(kModule));
}

TEST_F(Pull, ImagesWithTricksAreRefused) {
  const auto entry = [](std::string_view path) { return std::format(R"({{"config":{{"Entrypoint":["{}"]}}}})", path); };
  const struct {
    const char* name;
    std::string config;
    std::vector<File> files;
    const char* says;
  } cases[] = {
      {"out", entry("/app.wasm"), {{"../../../../etc/cron.d/evil", "x"}}, "leads out of it"},
      {"link", entry("/app.wasm"), {{"app.wasm", "", AE_IFLNK, "/etc/passwd"}}, "the image has no file"},
      {"hard", entry("/app.wasm"), {{"app.wasm", "", 0, "/etc/passwd"}}, "a file that it does not have"},
      {"device", entry("/app.wasm"), {{"app.wasm", "", AE_IFCHR}}, "no regular file"},
      {"circle", entry("/a"), {{"a", "", AE_IFLNK, "b"}, {"b", "", AE_IFLNK, "a"}}, "circle"},
      {"big", entry("/app.wasm"), {{"app.wasm", kModule + std::string(1 << 20, 'x')}}, "larger than 1 MiB"},
      {"bomb", entry("/app.wasm"), {{"app.wasm", kModule}, {"zeros", std::string(9 << 20, '\0')}}, "more than 8 MiB unpacked"},
      {"many", entry("/app.wasm"), {{"a", std::string(7 << 20, '\0')}, {"b", std::string(7 << 20, '\0')}}, "more than 8 MiB unpacked"},
      {"native", entry("/app"), {{"app", "\177ELF"}}, "no WebAssembly module, and containers are not served"},
      {"nothing", "{}", {{"app", "x"}}, "neither a Wasm layer nor an entrypoint"},
  };
  for (const auto& c : cases) {
    registry.image(c.name, c.config, {tar(c.files)});
    EXPECT_THAT(refused(std::string("app:") + c.name).what, HasSubstr(c.says)) << c.name;
    EXPECT_TRUE(fs::is_empty(folder / "partial")) << c.name << ": no try goes on with it";
  }
  registry.image("junk", entry("/app.wasm"), {"this is no archive, whatever its type says"});
  EXPECT_THAT(refused("app:junk").what, HasSubstr("no tar archive"));
  registry.artifact("huge", kModule + std::string(5 << 20, 'x'));
  EXPECT_THAT(refused("app:huge").what, HasSubstr("more than 4 MiB"));
  registry.tag("two", std::string(kManifestType),
               std::format(R"({{"schemaVersion":2,"config":{0},"layers":[{1},{1}]}})", registry.describe("c", "{}"), registry.describe("application/wasm", kModule)));
  EXPECT_THAT(refused("app:two").what, HasSubstr("2 Wasm modules"));
  registry.tag("index", std::string(kIndexType), R"({"schemaVersion":2,"manifests":[]})");
  EXPECT_THAT(refused("app:index").what, HasSubstr("no variant for wasi/wasm or linux/amd64"));
}

TEST_F(Pull, ARegistryIsSpokenToInPlainOnlyWhereThatWasSaid) {
  registry.artifact("1", kModule);
  const auto error = refused("app:1", [](RegistryJob& job) { job.endpoints[0].url = "https" + job.endpoints[0].url.substr(4); });
  EXPECT_EQ(error.code, Errc::Unavailable);
  EXPECT_THAT(registry.asked, ::testing::IsEmpty());
}

}  // namespace
}  // namespace skerry::oci
