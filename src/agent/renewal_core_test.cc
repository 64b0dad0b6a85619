// SPDX-License-Identifier: Apache-2.0
// Virtual time throughout; certificates are real ones of an authority in memory.
#include "agent/renewal_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>

#include "base/text.h"
#include "pki/request.h"

namespace skerry::agent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Core = RenewalCore;
using What = Core::Step::What;
using KeyChoice = Core::KeyChoice;
using State = Core::Answer::State;
using namespace std::chrono;

constexpr Duration kDay = hours(24), kYear = hours(24 * 365);
const Time kStart = *from_rfc3339("2026-11-23T10:00:00Z");

class Renewal : public ::testing::Test {
 protected:
  Renewal() { core_.set_line(true); }
  // A certificate of the node that holds from `begin` to `end`, for `key`; and the core is told that it is the one in use.
  std::string certify(const std::string& key, Time begin, Time end, pki::LeafSpec spec) {
    spec.not_before = begin;
    spec.validity = end - (begin + kBackdate);
    return ca_.sign(pki::make_request(key, spec).value(), spec, begin + kBackdate).value();
  }
  void use(const std::string& pem, bool key_kept = false) { core_.set(Core::Managed{pki::inspect_certificate(pem).value(), key_kept, spec_}); }
  void use(Time begin, Time end) { use(certify(key_, begin, end, spec_)); }
  Core::Step poll() { return core_.poll(now_, at_); }
  void pass(Duration d) { now_ += d, at_ += d; }
  // Until the core wants something, at most `most`; how long that took.
  Duration passes_until(What what, Duration most) {
    Duration gone{};
    for (auto step = poll(); step.what != what && gone < most; step = poll()) {
      EXPECT_EQ(step.what, What::Wait);
      const Duration wait = std::max<Duration>(step.wait, 1ms);
      pass(wait), gone += wait;
    }
    return gone;
  }
  std::optional<Core::Note> answer(State state, std::string text = "") { return core_.on_answer({state, std::move(text)}, now_, at_); }
  void asked(const std::string& key, std::string name = "node-client-edge-1-x") {
    ASSERT_EQ(poll().what, What::Ask);
    core_.on_asked(std::move(name), pki::fingerprint_of(key).value(), at_);
    pass(1s);
    ASSERT_EQ(poll().what, What::Read);
  }

  static constexpr Duration kBackdate = pki::kBackdate;
  SeededRandom random_{7};
  Core core_{{}, random_};
  pki::CertificateAuthority ca_ = pki::CertificateAuthority::create("skerry", kStart - kYear * 3, kYear * 20).value();
  pki::LeafSpec spec_{.common_name = "system:node:edge-1", .organizations = {"system:nodes"}};
  std::string key_ = pki::make_key().value(), next_key_ = pki::make_key().value();
  Time now_ = kStart;
  Instant at_{hours(1)};
};

TEST_F(Renewal, IsAskedForBetween70And90PercentOfItsLifeWithANewKey) {
  std::vector<double> shares;
  for (int i = 0; i < 20; ++i) {
    now_ = kStart;
    use(kStart, kStart + kYear);
    EXPECT_EQ(poll().what, What::Wait);
    passes_until(What::Ask, kYear);
    const auto step = poll();
    ASSERT_EQ(step.what, What::Ask);
    EXPECT_EQ(step.key, KeyChoice::New);
    shares.push_back(duration<double>(now_ - kStart) / duration<double>(kYear));
  }
  EXPECT_THAT(shares, ::testing::Each(AllOf(::testing::Ge(0.7), ::testing::Le(0.9))));
  const auto [least, most] = std::ranges::minmax(shares);
  EXPECT_GT(most - least, 0.05) << "a fleet that was made in one day renews in one";
}

TEST_F(Renewal, TheSameCertificateIsDueAtTheSameTimeAfterARestart) {
  use(kStart, kStart + kYear);
  const auto due = core_.due_at();
  Core other({}, random_);
  other.set(core_.managed());
  EXPECT_EQ(other.due_at(), due);
}

// Goal: a certificate that ended gets a successor for its own key, and that one a successor for a new key, at once.
TEST_F(Renewal, AfterItsEndItsKeyIsKeptOnceAndThenReplaced) {
  use(kStart - kYear, kStart - kDay);
  auto step = poll();
  ASSERT_EQ(step.what, What::Ask);
  EXPECT_EQ(step.key, KeyChoice::Same);
  asked(key_);
  const auto renewed = certify(key_, kStart - kBackdate, kStart + kYear, spec_);
  EXPECT_EQ(answer(State::Issued, renewed), std::nullopt);
  ASSERT_EQ(poll().what, What::Take);
  EXPECT_EQ(core_.held(), renewed);
  use(renewed, true);
  core_.on_taken();
  step = poll();
  ASSERT_EQ(step.what, What::Ask);
  EXPECT_EQ(step.key, KeyChoice::New);
  asked(next_key_);
  const auto last = certify(next_key_, kStart - kBackdate + 1s, kStart + kYear, spec_);
  EXPECT_EQ(answer(State::Issued, last), std::nullopt);
  ASSERT_EQ(poll().what, What::Take);
  use(last);
  core_.on_taken();
  EXPECT_EQ(poll().what, What::Wait);
}

TEST_F(Renewal, AServerThatDoesNotTakeItIsAskedForItsOwnKey) {
  use(kStart, kStart + kYear);  // this machine's clock is years behind
  EXPECT_EQ(poll().what, What::Wait);
  core_.suspect();
  ASSERT_EQ(poll().what, What::Ask);
  EXPECT_EQ(poll().key, KeyChoice::Same);
  core_.trust();
  EXPECT_EQ(poll().what, What::Wait);
}

TEST_F(Renewal, FailuresAreAskedAgainAfterAGrowingBackOffAndSaidOnce) {
  use(kStart - kYear, kStart - kDay);
  Duration before{};
  for (int i = 0; i < 12; ++i) {
    ASSERT_EQ(poll().what, What::Ask);
    const auto note = core_.on_ask_failed({Errc::Internal, "HTTP status 500"}, at_);
    EXPECT_EQ(note.has_value(), i == 0);
    if (note) {
      EXPECT_THAT(note->text, AllOf(HasSubstr("the present one stays"), HasSubstr("HTTP status 500")));
    }
    const Duration gone = passes_until(What::Ask, hours(2));
    EXPECT_GE(gone, 10s);
    EXPECT_LE(gone, 15min);
    if (i < 6) {
      EXPECT_GT(gone, before);
    }
    before = gone * 3 / 4;
  }
  // Refused: ever more seldom, until once in an hour or two.
  for (int i = 0; i < 12; ++i) {
    (void)core_.on_ask_failed({Errc::Unauthenticated, "replaced"}, at_);
    before = passes_until(What::Ask, hours(2));
  }
  EXPECT_GE(before, hours(1));
  EXPECT_LE(before, hours(1) + 30min);
}

TEST_F(Renewal, NothingIsAskedWhileTheLineIsDownAndAtOnceWhenItIsBack) {
  use(kStart - kYear, kStart - kDay);
  ASSERT_EQ(poll().what, What::Ask);
  EXPECT_EQ(core_.on_ask_failed({Errc::Unavailable, "refused"}, at_), std::nullopt) << "others say that the server is away";
  core_.set_line(false);
  passes_until(What::Ask, kDay * 30);
  EXPECT_EQ(poll().what, What::Wait);
  EXPECT_GE(poll().wait, 1min);
  core_.set_line(true);
  EXPECT_EQ(poll().what, What::Ask);
}

TEST_F(Renewal, OneThatNobodySignsIsLookedAtEverMoreSeldomAndSaidOnce) {
  use(kStart - kYear + kDay, kStart + kDay);
  asked(next_key_);
  int looks = 0, notes = 0;
  const Instant began = at_;
  while (at_ - began < kDay) {
    const auto note = answer(State::Pending);
    ++looks;
    if (note) {
      ++notes;
      EXPECT_GE(at_ - began, 14min);
      EXPECT_EQ(note->reason, "CertificateWaits");
      EXPECT_THAT(note->text, HasSubstr("kubectl certificate approve node-client-edge-1-x"));
    }
    passes_until(What::Read, kDay);
  }
  EXPECT_EQ(notes, 1);
  EXPECT_GT(looks, 280);
  EXPECT_LT(looks, 310);  // every five minutes
  // The server sweeps what was undecided for a day: then there is a new request, not at once.
  const auto gone = core_.on_read_failed({Errc::NotFound, "not found"}, at_);
  ASSERT_TRUE(gone);
  EXPECT_EQ(gone->reason, "CertificateRequestGone");
  EXPECT_GE(passes_until(What::Ask, kDay), hours(1));
}

TEST_F(Renewal, ReadingGoesOnAfterALineThatBroke) {
  use(kStart - kYear + kDay, kStart + kDay);
  asked(next_key_);
  EXPECT_EQ(core_.on_read_failed({Errc::Timeout, "timeout"}, at_), std::nullopt);
  core_.set_line(false);
  passes_until(What::Read, kDay);
  EXPECT_EQ(poll().what, What::Wait);
  core_.set_line(true);
  EXPECT_EQ(poll().what, What::Read) << "at once, and the same request";
}

TEST_F(Renewal, DeniedAndFailedStayWithThePresentOne) {
  for (const auto& [state, word] : {std::pair{State::Denied, "was denied: no such machine"}, std::pair{State::Failed, "was not signed: no such machine"}}) {
    use(kStart - kYear + kDay, kStart + kDay);
    asked(next_key_);
    const auto note = answer(state, "no such machine");
    ASSERT_TRUE(note);
    EXPECT_TRUE(note->warning);
    EXPECT_THAT(note->text, AllOf(HasSubstr(word), HasSubstr("the present one stays")));
    const auto pause = passes_until(What::Ask, kDay);
    EXPECT_GE(pause, hours(1));
    EXPECT_LE(pause, hours(1) + 30min);
    now_ = kStart, core_.set(std::nullopt);
  }
}

// Goal: only the certificate that was asked for is ever used. Method: everything else that a server, or somebody in between, may answer.
TEST_F(Renewal, WhatWasNotAskedForIsRefusedWithASentence) {
  const Time begin = kStart - kYear + kDay;
  const auto serving = [&](pki::LeafSpec s) { return certify(next_key_, kStart, kStart + kYear, std::move(s)); };
  auto admin = spec_, other = spec_;
  admin.organizations = {"system:masters"};
  other.common_name = "system:node:edge-2";
  const std::pair<std::string, const char*> answers[] = {
      {"", "no certificate"},
      {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"},
      {certify(key_, kStart, kStart + kYear, spec_), "for another key"},
      {serving(other), "CN=system:node:edge-2 instead of CN=system:node:edge-1"},
      {serving(admin), "O=system:nodes"},
      {certify(next_key_, kStart - kDay * 20, kStart - kDay, spec_), "set the clock"},
      {certify(next_key_, begin, kStart + kYear, spec_), "not after the one in use"},
  };
  for (const auto& [pem, why] : answers) {
    SCOPED_TRACE(why);
    core_.set(std::nullopt);
    now_ = kStart;
    use(begin, kStart + kDay);
    asked(next_key_);
    const auto note = answer(State::Issued, pem);
    ASSERT_TRUE(note);
    EXPECT_EQ(note->reason, "CertificateNotTaken");
    EXPECT_THAT(note->text, AllOf(HasSubstr(why), HasSubstr("the present one stays")));
    EXPECT_EQ(poll().what, What::Wait);
  }
}

TEST_F(Renewal, OfAnAnswerOnlyTheCertificatesAreKept) {
  use(kStart - kYear + kDay, kStart + kDay);
  asked(next_key_);
  const auto pem = certify(next_key_, kStart, kStart + kYear, spec_), issuer = ca_.pair().certificate_pem;
  EXPECT_EQ(answer(State::Issued, "Subject: somebody\n" + pem + "\nand its issuer\n" + issuer + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), std::nullopt);
  EXPECT_EQ(core_.held(), pem + issuer);
}

TEST_F(Renewal, AnAnswerIsReadWhateverItIs) {
  const auto read = [](std::string_view json) { return Core::read(kube::JsonDoc::parse(json).value().root()); };
  EXPECT_EQ(read("{}").state, State::Pending);
  EXPECT_EQ(read(R"({"status":{"conditions":[{"type":"Approved"}]}})").state, State::Pending);
  EXPECT_EQ(read(R"({"status":[1],"x":null})").state, State::Pending);
  EXPECT_EQ(read(R"({"status":{"conditions":[{"type":"Denied","message":"no"}],"certificate":"QQ=="}})").text, "no");
  EXPECT_EQ(read(R"({"status":{"conditions":[{"type":"Failed","reason":"SigningError"}]}})").text, "SigningError");
  EXPECT_EQ(read(R"({"status":{"certificate":"QQ=="}})").text, "A");
  EXPECT_EQ(read(R"({"status":{"certificate":"%%"}})").state, State::Issued);
  EXPECT_EQ(read(R"({"status":{"certificate":"%%"}})").text, "") << "which on_answer() then refuses";
}

// The server's clock went back: its certificates begin after the last one all the same (ADR 0035), which may be later than now.
TEST_F(Renewal, OneThatBeginsLaterWaitsAsLongAsThereIsAnother) {
  use(kStart - kYear + kDay * 10, kStart + kDay * 10);
  asked(next_key_);
  const auto later = certify(next_key_, kStart + kDay * 3, kStart + kYear, spec_);
  const auto note = answer(State::Issued, later);
  ASSERT_TRUE(note);
  EXPECT_FALSE(note->warning);
  const Duration waited = passes_until(What::Take, kDay * 20);
  EXPECT_GE(waited, kDay * 3 - 2s);
  EXPECT_LE(waited, kDay * 3);
}

TEST_F(Renewal, OneThatBeginsLaterIsUsedWhenThePresentOneEnds) {
  use(kStart - kYear + kDay, kStart + kDay);
  asked(next_key_);
  ASSERT_TRUE(answer(State::Issued, certify(next_key_, kStart + kDay * 3, kStart + kYear, spec_)));
  EXPECT_LE(passes_until(What::Take, kDay * 20), kDay);
}

TEST_F(Renewal, OneThatCannotBeWrittenIsNotUsedAndTriedAgain) {
  use(kStart - kYear + kDay, kStart + kDay);
  asked(next_key_);
  EXPECT_EQ(answer(State::Issued, certify(next_key_, kStart, kStart + kYear, spec_)), std::nullopt);
  ASSERT_EQ(poll().what, What::Take);
  const auto note = core_.on_not_taken({Errc::Exhausted, "No space left on device"}, at_);
  ASSERT_TRUE(note);
  EXPECT_THAT(note->text, HasSubstr("No space left on device"));
  EXPECT_GE(passes_until(What::Take, kDay), 10s);
  EXPECT_EQ(core_.on_not_taken({Errc::Exhausted, "No space left on device"}, at_), std::nullopt);
  EXPECT_EQ(passes_until(What::Take, kDay), 20s);
}

// Clocks that jump. Ahead: at most a renewal too early. Back: nothing, and all is as before once it is right again.
TEST_F(Renewal, ClockJumpsAreFollowedBothWays) {
  use(kStart, kStart + kYear);
  ASSERT_EQ(poll().what, What::Wait);
  EXPECT_LE(poll().wait, 10min) << "a jump is seen soon";
  now_ += kYear * 2;
  EXPECT_EQ(poll().what, What::Ask);
  EXPECT_EQ(poll().key, KeyChoice::Same) << "by its clock the certificate has ended";
  now_ = kStart - kYear * 5;
  EXPECT_EQ(poll().what, What::Wait);
  EXPECT_LE(poll().wait, 10min);
  now_ = kStart + kDay;
  EXPECT_EQ(poll().what, What::Wait);
  // While the back-off runs, too: it goes by the other clock.
  now_ = kStart + kYear * 2;
  (void)core_.on_ask_failed({Errc::Internal, "x"}, at_);
  now_ += kYear;
  EXPECT_EQ(poll().what, What::Wait);
  at_ += 15s;
  EXPECT_EQ(poll().what, What::Ask);
}

TEST_F(Renewal, ANewCertificateFromOutsideStartsAfresh) {
  use(kStart - kYear, kStart - kDay);
  for (int i = 0; i < 9; ++i) (void)core_.on_ask_failed({Errc::Unauthenticated, "replaced"}, at_);
  EXPECT_EQ(poll().what, What::Wait);
  use(kStart - kYear + 1h, kStart - kDay);
  EXPECT_EQ(poll().what, What::Ask);
  core_.set(std::nullopt);
  EXPECT_EQ(poll().what, What::Wait) << "somebody else's";
}

TEST_F(Renewal, AServingCertificateIsAskedForWhereThereIsNoneAndWhereANameIsMissing) {
  Core core({.purpose = Core::Purpose::Serving}, random_);
  core.set_line(true);
  auto wanted = spec_;
  wanted.dns_names = {"edge-1"};
  wanted.addresses = {"192.0.2.1"};
  core.set(Core::Managed{std::nullopt, false, wanted});
  ASSERT_EQ(core.poll(now_, at_).what, What::Ask);
  const auto pem = certify(key_, kStart, kStart + kYear, wanted);
  core.set(Core::Managed{pki::inspect_certificate(pem).value(), false, wanted});
  EXPECT_EQ(core.poll(now_, at_).what, What::Wait);
  wanted.addresses = {"192.0.2.9"};
  core.set(Core::Managed{pki::inspect_certificate(pem).value(), false, wanted});
  ASSERT_EQ(core.poll(now_, at_).what, What::Ask);
  EXPECT_EQ(core.poll(now_, at_).key, KeyChoice::New);
  core.suspect();
  EXPECT_EQ(core.poll(now_ + kYear * 2, at_).key, KeyChoice::New) << "never the same: nothing asks for that";
}

}  // namespace
}  // namespace skerry::agent
