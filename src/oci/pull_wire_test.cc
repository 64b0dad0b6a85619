// SPDX-License-Identifier: Apache-2.0
#include "oci/pull_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::oci {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'b');

TEST(PullWire, AJobArrivesAsItWasSent) {
  const RegistryJob job{.task = RegistryTask::Push,
                        .reference = Reference::parse("registry.example.com:5000/a/b:1").value(),
                        .endpoints = {{.url = "https://mirror.example.com", .ca_pem = "CA\n", .certificate_pem = "C", .key_pem = "K", .verify = false,
                                       .credentials = {{"u", "p\"\n", ""}, {"", "", "token"}}}},
                        .folder = "/var/x",
                        .have = kDigest,
                        .module_fd = 7,
                        .architecture = "arm64",
                        .module_bytes_max = 1,
                        .layer_bytes_max = 2,
                        .unpacked_bytes_max = 3,
                        .stall_timeout = 1500ms};
  const auto read = parse_job(to_json(job)).value();
  EXPECT_EQ(to_json(read), to_json(job));
  EXPECT_EQ(read.endpoints[0].credentials, job.endpoints[0].credentials);
  EXPECT_EQ(read.stall_timeout, 1500ms);
  EXPECT_EQ(read.task, RegistryTask::Push);
  EXPECT_FALSE(read.endpoints[0].verify);
}

TEST(PullWire, AnAnswerArrivesAsItWasSent) {
  const answer::Pulled pulled{.file = "abc", .module = kDigest, .manifest = kDigest, .fetched = 9, .arguments = {"-v", "a b"}, .env = {"A=1"}};
  for (const RegistryAnswer& one : std::vector<RegistryAnswer>{answer::Progress{1, 2}, answer::Same{kDigest}, pulled, answer::Pushed{kDigest}, Error{Errc::Denied, "no \"way\""}})
    EXPECT_EQ(to_json(parse_answer(to_json(one)).value()), to_json(one));
  EXPECT_EQ(std::get<Error>(parse_answer(R"({"answer":"error","code":"NotFound","text":"x"})").value()).code, Errc::NotFound);
}

TEST(PullWire, AnAnswerIsNotTrusted) {
  answer::Pulled pulled{.file = "../../etc/passwd", .module = kDigest, .manifest = kDigest};
  for (const char* file : {"../x", "a/b", "", ".", "/x"}) {
    pulled.file = file;
    EXPECT_FALSE(parse_answer(to_json(RegistryAnswer(pulled)))) << file;
  }
  pulled.file = "good";
  pulled.module = "sha256:short";
  EXPECT_FALSE(parse_answer(to_json(RegistryAnswer(pulled))));
  for (const char* bad : {"", "{", "[]", R"({"answer":"same"})", R"({"answer":"what"})", R"({"answer":"pulled"})"}) EXPECT_FALSE(parse_answer(bad)) << bad;
}

}  // namespace
}  // namespace skerry::oci
