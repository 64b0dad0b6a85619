// SPDX-License-Identifier: Apache-2.0
// IdentityFolder, the machine that a data folder belongs to, and how the node stands with the API server.
#include "agent/identity_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <format>
#include <fstream>

#include "agent/api_standing.h"
#include "agent/machine_binding.h"
#include "agent/node_status.h"
#include "base/log.h"
#include "client/client.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Purpose = RenewalCore::Purpose;
using namespace std::chrono;
namespace fs = std::filesystem;

const Time kStart = *from_rfc3339("2026-11-23T10:00:00Z");

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-identity-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  void TearDown() override { fs::remove_all(path_); }
  StoredCertificate make(Time now, bool kept = false, std::string name = "system:node:edge-1") {
    return {ca_.issue({.common_name = std::move(name), .organizations = {"system:nodes"}}, now).value(), pki::inspect_keys(ca_.pair().certificate_pem).value(), kept};
  }
  fs::path path_;
  pki::CertificateAuthority ca_ = pki::CertificateAuthority::create("skerry", kStart).value();
};

TEST_F(Folder, KeepsAPairInOneFileOfItsOwnersAlone) {
  const auto folder = IdentityFolder::open(path_ / "pki").value();
  EXPECT_EQ(folder.load(Purpose::Client).value(), std::nullopt);
  const auto made = make(kStart, true);
  ASSERT_TRUE(folder.save(Purpose::Client, made));
  const auto loaded = folder.load(Purpose::Client).value();
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->pair.certificate_pem, made.pair.certificate_pem);
  EXPECT_EQ(loaded->pair.key_pem, made.pair.key_pem);
  EXPECT_EQ(loaded->authorities, made.authorities);
  EXPECT_TRUE(loaded->key_kept);
  struct stat info {};
  ASSERT_EQ(::stat((path_ / "pki" / "client.pem").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(folder.load(Purpose::Serving).value(), std::nullopt);
}

// What a power cut may leave: nothing but the former file, or the new one, and beside them any part of a temporary one.
TEST_F(Folder, APowerCutAtAnyPointLeavesAWholePair) {
  const auto folder = IdentityFolder::open(path_).value();
  const auto former = make(kStart), next = make(kStart + 1h);
  const std::string text = to_text(next);
  ASSERT_TRUE(folder.save(Purpose::Client, former));
  for (std::size_t written = 0; written <= text.size(); written += 37) {
    std::ofstream(path_ / "client.pem.tmp.4242") << text.substr(0, written);
    const auto again = IdentityFolder::open(path_);
    ASSERT_TRUE(again);
    again->sweep();
    const auto loaded = again->load(Purpose::Client);
    ASSERT_TRUE(loaded && *loaded);
    EXPECT_EQ((*loaded)->pair.key_pem, former.pair.key_pem);
    EXPECT_FALSE(fs::exists(path_ / "client.pem.tmp.4242")) << "a key that nobody needs";
  }
}

// Goal: whoever is killed while it saves leaves one of the pairs. Method: a child that saves two in turn, killed at any moment.
TEST_F(Folder, KilledInTheMiddleItIsOneOfTheTwo) {
  const auto folder = IdentityFolder::open(path_).value();
  const StoredCertificate pairs[2] = {make(kStart), make(kStart + 1h)};
  ASSERT_TRUE(folder.save(Purpose::Client, pairs[0]));
  for (int round = 0; round < 15; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0)
      for (int i = 0;; ++i) (void)folder.save(Purpose::Client, pairs[i % 2]);
    ::usleep(3000 + 1700 * static_cast<unsigned>(round));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    const auto loaded = folder.load(Purpose::Client);
    ASSERT_TRUE(loaded) << loaded.error().what;
    ASSERT_TRUE(*loaded);
    EXPECT_TRUE((*loaded)->pair.key_pem == pairs[0].pair.key_pem || (*loaded)->pair.key_pem == pairs[1].pair.key_pem);
  }
}

TEST_F(Folder, DamageIsSaidWithWhatToDo) {
  const auto folder = IdentityFolder::open(path_).value();
  const auto one = make(kStart), other = make(kStart);
  const std::string good = to_text(one);
  const auto kBegin = good.find("-----BEGIN");
  auto mixed = one;
  mixed.pair.key_pem = other.pair.key_pem;
  for (const std::string& text : {std::string(), std::string("junk"), good.substr(0, kBegin), good.substr(0, good.size() / 2), good.substr(0, good.size() - 60), good.substr(kBegin),
                                  std::string("Skerry node certificate 2\n") + good.substr(good.find('\n') + 1), to_text(mixed)}) {
    std::ofstream(path_ / "client.pem") << text;
    const auto loaded = folder.load(Purpose::Client);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, Errc::Corrupt);
    EXPECT_THAT(loaded.error().what, AllOf(HasSubstr("client.pem"), HasSubstr("restore it, or remove it")));
  }
  EXPECT_FALSE(folder.save(Purpose::Client, mixed)) << "what could not be read again";
}

TEST_F(Folder, TheNewerOfTheSameNodeAndClusterIsPreferred) {
  const auto given = make(kStart);
  const auto info = pki::inspect_certificate(given.pair.certificate_pem).value();
  EXPECT_EQ(why_not_stored(info, given.authorities, make(kStart + 24h)), "");
  EXPECT_THAT(why_not_stored(info, given.authorities, make(kStart - 24h)), HasSubstr("the kubeconfig's is newer"));
  EXPECT_THAT(why_not_stored(info, given.authorities, make(kStart)), HasSubstr("the kubeconfig's is newer"));
  EXPECT_THAT(why_not_stored(info, given.authorities, make(kStart + 24h, false, "system:node:edge-2")), HasSubstr("edge-2"));
  const auto elsewhere = pki::CertificateAuthority::create("skerry", kStart).value();
  auto authorities = pki::inspect_keys(elsewhere.pair().certificate_pem).value();
  EXPECT_THAT(why_not_stored(info, authorities, make(kStart + 24h)), HasSubstr("another authority"));
  // While an authority is replaced, the bundle has both.
  authorities = pki::inspect_keys(elsewhere.pair().certificate_pem + ca_.pair().certificate_pem).value();
  ASSERT_EQ(authorities.size(), 2u);
  EXPECT_EQ(why_not_stored(info, authorities, make(kStart + 24h)), "");
}

TEST(Machine, ADataFolderBelongsToOne) {
  const MachineId one{"m1", "u1"};
  const auto judge = [](std::optional<std::string_view> remembered, const MachineId& now, OtherMachine other = OtherMachine::Refuse) { return judge_machine(remembered, now, other, "/d/node/machine"); };
  EXPECT_EQ(judge(std::nullopt, one)->text(), "m1/u1");
  EXPECT_EQ(judge("m1/u1\n", one)->text(), "m1/u1");
  for (const MachineId& other : {MachineId{"m2", "u2"}, MachineId{"m2", "u1"}, MachineId{"m1", "u2"}, MachineId{"", "u2"}, MachineId{"m2", ""}, MachineId{}}) {
    const auto refused = judge("m1/u1\n", other);
    ASSERT_FALSE(refused) << other.text();
    EXPECT_EQ(refused.error().code, Errc::Denied);
    EXPECT_THAT(refused.error().what, AllOf(HasSubstr("belongs to machine m1/u1"), HasSubstr(other.empty() ? "without any id" : other.text()), HasSubstr("--accept-new-machine"), HasSubstr("/d/node/machine")));
    EXPECT_EQ(judge("m1/u1\n", other, OtherMachine::Accept)->text(), other.text());
  }
  EXPECT_FALSE(judge("m1/\n", MachineId{"", "u1"})) << "nothing says that it is the same";
}

TEST(Machine, APartThatIsMissingIsNoOtherMachine) {
  const auto judge = [](std::string_view remembered, const MachineId& now) { return judge_machine(remembered, now, OtherMachine::Refuse, "/f")->text(); };
  EXPECT_EQ(judge("m1/u1", {"m1", ""}), "m1/u1") << "and what was known stays known";
  EXPECT_EQ(judge("m1/", {"m1", "u1"}), "m1/u1");
  EXPECT_EQ(judge("/", {"m1", ""}), "m1/");
  EXPECT_EQ(judge("/", {}), "/");
  for (const char* bad : {"", "m1", "m1/u1/x", "m 1/u", "\x01/u"}) EXPECT_FALSE(judge_machine(bad, {"m1", ""}, OtherMachine::Refuse, "/f")) << bad;
}

TEST_F(Folder, TheMachineIsRememberedAndACopyRefused) {
  ASSERT_TRUE(bind_machine(path_, {"m1", "u1"}, OtherMachine::Refuse));
  EXPECT_EQ(os::read_small_file(path_ / "machine").value(), "m1/u1\n");
  fs::copy(path_, path_.native() + "-copy", fs::copy_options::recursive);
  const auto refused = bind_machine(path_.native() + "-copy", {"m2", "u2"}, OtherMachine::Refuse);
  ASSERT_FALSE(refused);
  EXPECT_EQ(os::read_small_file(path_.native() + "-copy/machine").value(), "m1/u1\n") << "a second try is refused as well";
  ASSERT_TRUE(bind_machine(path_.native() + "-copy", {"m2", "u2"}, OtherMachine::Accept));
  EXPECT_TRUE(bind_machine(path_.native() + "-copy", {"m2", "u2"}, OtherMachine::Refuse));
  EXPECT_TRUE(bind_machine(path_, {"m1", "u1"}, OtherMachine::Refuse));
  fs::remove_all(path_.native() + "-copy");
}

TEST(Lease, SaysTheMachineWhereThereIsOne) {
  MachineFacts facts;
  EXPECT_EQ(machine_annotation(facts), "");
  facts.machine_id = "m1";
  EXPECT_EQ(machine_annotation(facts), "m1/");
  facts.system_uuid = "u1";
  EXPECT_THAT(lease_body("edge-1", "u", machine_annotation(facts), 10s, kStart), HasSubstr(R"("annotations":{"skerry.dev/machine":"m1/u1"})"));
  EXPECT_THAT(lease_body("edge-1", "u", "", 10s, kStart), ::testing::Not(HasSubstr("annotations")));
  EXPECT_THAT(lease_renewal("edge-1", "m1/u1", 10s, kStart), HasSubstr(R"({"metadata":{"annotations":{"skerry.dev/machine":"m1/u1"}},"spec":)"));
}

// As the API server answers (apiserver/auth.cc), through the client.
Result<> refusal(int status, std::string_view reason, std::string_view cause) {
  return Fail(client::error_of(status, std::format(R"({{"kind":"Status","message":"no","reason":"{}","details":{{"causes":[{{"reason":"{}","message":"x"}}]}}}})", reason, cause), "PATCH /x"));
}

TEST(ApiStanding, ARefusalIsSaidOnceHoweverOftenItIsRepeated) {
  int errors = 0;
  std::vector<Standing> heard;
  ApiStanding standing;
  standing.on_change([&](Standing s) { heard.push_back(s); });
  set_log_sink([&](LogLevel level, std::string_view line) { errors += level == LogLevel::Error && line.find("live on another one") != line.npos; });
  for (int i = 0; i < 5; ++i) {
    standing.on_answer(refusal(403, "Forbidden", "MachineConflict"));
    standing.on_answer(refusal(403, "Forbidden", "MachineConflict"));
    standing.on_answer(Fail({Errc::Unavailable, "refused"}));
    EXPECT_TRUE(standing.refused());
  }
  EXPECT_EQ(errors, 1);
  EXPECT_EQ(heard.size(), 10u);
  metrics::Exposition out;
  standing.write_metrics(out);
  EXPECT_THAT(std::move(out).finish(), AllOf(HasSubstr("skerry_agent_api_refused{reason=\"MachineConflict\"} 1"), HasSubstr("{reason=\"CertificateReplaced\"} 0")));
  standing.on_answer({});
  set_log_sink({});
  EXPECT_FALSE(standing.refused());
}

TEST(ApiStanding, KnowsWhyItIsRefused) {
  EXPECT_EQ(standing_of({}), Standing::Known);
  EXPECT_EQ(standing_of(refusal(401, "Unauthorized", "CertificateReplaced")), Standing::Replaced);
  EXPECT_EQ(standing_of(refusal(401, "Unauthorized", "CertificateEnded")), Standing::Ended);
  EXPECT_EQ(standing_of(refusal(401, "Unauthorized", "")), Standing::Unknowing);
  EXPECT_EQ(standing_of(refusal(403, "Forbidden", "MachineConflict")), Standing::OtherMachine);
  EXPECT_EQ(standing_of(refusal(403, "Forbidden", "")), Standing::Known) << "it knows who asks";
  EXPECT_EQ(standing_of(Fail({Errc::NotFound, "x"})), Standing::Known);
  EXPECT_EQ(standing_of(Fail({Errc::Timeout, "x"})), Standing::Away);
}

}  // namespace
}  // namespace skerry::agent
