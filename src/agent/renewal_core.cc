// SPDX-License-Identifier: Apache-2.0
#include "agent/renewal_core.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace skerry::agent {
namespace {

using Step = RenewalCore::Step;
using Note = RenewalCore::Note;
using Answer = RenewalCore::Answer;

constexpr std::size_t kSayBytesMax = 512;

Step wait(Duration d) { return {.what = Step::What::Wait, .wait = std::max<Duration>(d, Duration{0})}; }

// From 0 to 1, always the same for one certificate of one node. FNV-1a, and its upper half.
double place_of(std::string_view name, std::string_view serial) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::string_view part : {name, serial})
    for (const char c : part) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return static_cast<double>(hash >> 32) / static_cast<double>(UINT32_MAX);
}

bool is_line(Errc code) { return code == Errc::Unavailable || code == Errc::Timeout || code == Errc::Cancelled; }

std::string clipped(std::string_view text) { return std::string(text.substr(0, kSayBytesMax)); }

// The certificates of a PEM text alone, without what else may stand before, between and behind them (RFC 7468 allows words).
std::string certificates_of(std::string_view pem) {
  constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE-----", kEnd = "-----END CERTIFICATE-----";
  constexpr int kChainMax = 16;
  std::string out;
  for (int i = 0; i < kChainMax; ++i) {
    const auto from = pem.find(kBegin), to = from == std::string_view::npos ? from : pem.find("-----", from + kBegin.size());
    if (to == std::string_view::npos || !pem.substr(to).starts_with(kEnd)) break;
    out.append(pem.substr(from, to - from)).append(kEnd).append("\n");
    pem.remove_prefix(to + kEnd.size());
  }
  return out;
}

std::string_view noun(RenewalCore::Purpose p) { return p == RenewalCore::Purpose::Client ? "client certificate" : "serving certificate"; }

}  // namespace

void RenewalCore::set(std::optional<Managed> managed) {
  const auto serial = [](const std::optional<Managed>& m) { return m && m->current ? m->current->serial : std::string(); };
  if (serial(managed) != serial(managed_)) {  // what failed before was about another
    backoff_ = Duration{};
    retry_at_ = Instant{};
    said_.clear();
    suspect_ = false;
  }
  managed_ = std::move(managed);
  CHECK(!managed_ || managed_->current || options_.purpose == Purpose::Serving);
  if (!managed_) state_ = State::Idle;
}

void RenewalCore::set_line(bool up) {
  if (up && !line_up_ && line_failed_) retry_at_ = read_at_ = Instant{};
  line_up_ = up;
}

std::optional<Time> RenewalCore::due_at() const {
  if (!managed_ || !managed_->current) return std::nullopt;
  const auto& c = *managed_->current;
  const double share = options_.begin + (options_.end - options_.begin) * place_of(c.common_name, c.serial);
  const double life = static_cast<double>((c.not_after - c.not_before).count());
  return c.not_before + Duration(std::llround(life * share));
}

std::optional<RenewalCore::Due> RenewalCore::due(Time now) const {
  const bool client = options_.purpose == Purpose::Client;
  if (!managed_->current) return Due{KeyChoice::New, "there is none"};
  const auto& c = *managed_->current;
  if (now >= c.not_after) return Due{client ? KeyChoice::Same : KeyChoice::New, "it has ended"};
  if (client && suspect_) return Due{KeyChoice::Same, "the server does not take it"};
  if (managed_->key_kept) return Due{KeyChoice::New, "its key is the one of before it ended"};
  const auto lacks = [](const auto& has, const auto& wanted) {
    return std::ranges::any_of(wanted, [&](const auto& one) { return std::ranges::find(has, one) == has.end(); });
  };
  if (c.common_name != managed_->wanted.common_name) return Due{KeyChoice::New, "its name differs"};
  if (lacks(c.dns_names, managed_->wanted.dns_names) || lacks(c.addresses, managed_->wanted.addresses)) return Due{KeyChoice::New, "it lacks a name or an address of the node"};
  if (now >= *due_at()) return Due{KeyChoice::New, "most of its time is over"};
  return std::nullopt;
}

Step RenewalCore::poll(Time now, Instant at) {
  if (!managed_) return wait(options_.look_every);
  switch (state_) {
    case State::Holding:
      // One that begins later (the server's clock went back) waits, as long as there is another.
      if (now < held_from_ && managed_->current && !ended(now)) return wait(std::min<Duration>(options_.look_every, held_from_ - now));
      if (at < retry_at_) return wait(std::min(options_.look_every, retry_at_ - at));
      return {.what = Step::What::Take};
    case State::Reading:
      if (!line_up_) return wait(options_.look_every);
      if (at < read_at_) return wait(read_at_ - at);
      return {.what = Step::What::Read};
    case State::Idle: break;
  }
  const auto wanted = due(now);
  if (!wanted) return wait(std::min<Duration>(options_.look_every, *due_at() - now));
  if (!line_up_) return wait(options_.look_every);
  if (at < retry_at_) return wait(std::min(options_.look_every, retry_at_ - at));
  return {.what = Step::What::Ask, .key = wanted->key, .reason = wanted->reason};
}

std::optional<Note> RenewalCore::say(Note note) {
  if (note.text == said_) return std::nullopt;
  said_ = note.text;
  return note;
}

void RenewalCore::back_off(const Error& error, Instant at) {
  line_failed_ = is_line(error.code);
  const bool refused = error.code == Errc::Unauthenticated || error.code == Errc::Denied || error.code == Errc::Invalid;
  backoff_ = std::clamp(backoff_ * 2, options_.backoff_min, refused ? options_.refused_for : options_.backoff_max);
  retry_at_ = at + backoff_ + Duration(static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(backoff_.count() / 2 + 1))));
}

void RenewalCore::give_up(Duration pause, Instant at) {
  state_ = State::Idle;
  line_failed_ = false;
  retry_at_ = at + pause + Duration(static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(pause.count() / 2 + 1))));
}

void RenewalCore::on_asked(std::string name, std::string key_fingerprint, Instant at) {
  state_ = State::Reading;
  name_ = std::move(name);
  asked_key_ = std::move(key_fingerprint);
  asked_at_ = at;
  read_pause_ = options_.read_min;
  read_at_ = at + read_pause_;
  line_failed_ = said_waiting_ = false;
}

std::optional<Note> RenewalCore::on_ask_failed(const Error& error, Instant at) {
  back_off(error, at);
  if (line_failed_) return std::nullopt;  // that the server is away, others say
  return say({true, "CertificateNotRequested", std::format("a new {} could not be asked for, the present one stays: {}", noun(options_.purpose), clipped(error.what))});
}

Answer RenewalCore::read(kube::Json request) {
  const kube::Json status = request["status"];
  bool approved = false;
  for (const kube::Json condition : status["conditions"].items()) {
    const std::string_view type = condition["type"].str();
    const auto why = [&] { return clipped(condition["message"].str().empty() ? condition["reason"].str() : condition["message"].str()); };
    if (type == "Denied") return {Answer::State::Denied, why()};
    if (type == "Failed") return {Answer::State::Failed, why()};
    approved = approved || type == "Approved";
  }
  const std::string_view text = status["certificate"].str();
  if (text.empty()) return {};
  auto pem = from_base64(text);
  return {Answer::State::Issued, pem ? std::move(*pem) : std::string()};
}

// Why this is not the certificate that was asked for; "" if it is.
std::string RenewalCore::why_not(std::string_view pem, Time now) const {
  const auto info = pki::inspect_certificate(pem);
  if (!info) return "what it answered is no certificate: " + info.error().what;
  if (info->key != asked_key_) return "it is for another key than the one that was asked for";
  const auto& wanted = managed_->wanted;
  if (info->common_name != wanted.common_name || info->organizations != wanted.organizations)
    return std::format("it is for CN={} instead of CN={}, O={}", clipped(info->common_name), wanted.common_name, wanted.organizations.empty() ? "" : wanted.organizations.front());
  if (info->not_after <= now) return std::format("it ended on {} by the clock of this machine ({}): set the clock", to_rfc3339(info->not_after), to_rfc3339(now));
  if (managed_->current && info->not_before <= managed_->current->not_before)
    return std::format("it begins on {}, not after the one in use ({}): the server would take it for a copy; look at the server's clock", to_rfc3339(info->not_before),
                       to_rfc3339(managed_->current->not_before));
  return "";
}

std::optional<Note> RenewalCore::on_answer(const Answer& answer, Time now, Instant at) {
  CHECK(state_ == State::Reading && managed_);
  line_failed_ = false;
  const auto refused = [&](std::string_view reason, std::string text) {
    give_up(options_.refused_for, at);
    return say({true, reason, std::format("the request {} for a new {} {}; the present one stays, and it is asked for again in an hour or two", name_, noun(options_.purpose), text)});
  };
  switch (answer.state) {
    case Answer::State::Denied: return refused("CertificateDenied", "was denied: " + answer.text);
    case Answer::State::Failed: return refused("CertificateFailed", "was not signed: " + answer.text);
    case Answer::State::Issued: break;
    case Answer::State::Pending:
      read_pause_ = std::min(read_pause_ * 2, options_.read_max);
      read_at_ = at + read_pause_;
      if (at - asked_at_ < options_.patience || std::exchange(said_waiting_, true)) return std::nullopt;
      return Note{true, "CertificateWaits",
                  std::format("nobody has signed the request {} for a new {} for {}, the present one stays: approve it with `kubectl certificate approve {}`, and see to it that "
                              "the cluster signs such requests", name_, noun(options_.purpose), to_human(at - asked_at_), name_)};
  }
  std::string pem = certificates_of(answer.text);
  if (auto wrong = why_not(pem, now); !wrong.empty()) return refused("CertificateNotTaken", "was answered with a certificate that is not used: " + wrong);
  held_from_ = pki::inspect_certificate(pem)->not_before;
  held_pem_ = std::move(pem);
  state_ = State::Holding;
  retry_at_ = Instant{};
  backoff_ = Duration{};
  if (now >= held_from_ || !managed_->current || ended(now)) return std::nullopt;
  return Note{false, "CertificateBeginsLater", std::format("the new {} begins on {}: the present one stays until then", noun(options_.purpose), to_rfc3339(held_from_))};
}

std::optional<Note> RenewalCore::on_read_failed(const Error& error, Instant at) {
  if (error.code == Errc::NotFound) {  // swept away, undecided
    give_up(options_.refused_for, at);
    return say({true, "CertificateRequestGone", std::format("the request {} for a new {} was deleted before it was signed", name_, noun(options_.purpose))});
  }
  if (error.code == Errc::Unauthenticated || error.code == Errc::Denied) {
    state_ = State::Idle;
    return on_ask_failed(error, at);
  }
  line_failed_ = is_line(error.code);
  read_pause_ = std::min(read_pause_ * 2, options_.read_max);
  read_at_ = at + read_pause_;
  return std::nullopt;
}

void RenewalCore::on_taken() {
  state_ = State::Idle;
  held_pem_.clear();
  said_.clear();
  suspect_ = false;
  backoff_ = Duration{};
  retry_at_ = Instant{};
}

std::optional<Note> RenewalCore::on_not_taken(const Error& error, Instant at) {
  backoff_ = std::clamp(backoff_ * 2, options_.backoff_min, options_.backoff_max);
  retry_at_ = at + backoff_;
  return say({true, "CertificateNotSaved", std::format("the new {} is not used, because it could not be written: {}; the present one stays until there is room", noun(options_.purpose),
                                                       clipped(error.what))});
}

}  // namespace skerry::agent
