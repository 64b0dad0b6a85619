// SPDX-License-Identifier: Apache-2.0
// When one certificate of the node is asked for anew, with which key, and what is done with the answer (ADR 0035). A pure core: no
// I/O, no clock. identity.cc feeds it and does what poll() says.
//
//            due, line up                 accepted, Issued
//     Idle ───────────────▶ Ask ─▶ Reading ───────────────▶ Holding ─▶ Take ─▶ on_taken: Idle, with a new current certificate
//       ▲                    │        │  Denied, Failed, gone, not the certificate that was asked for       │ not saved: again later
//       └──── back-off ──────┴────────┘                                                                     └──▶ Holding
//
// A client certificate is asked for between 70 and 90 % of its life (where in between, its node and serial number say: a fleet made
// in one day does not renew in one hour), with a new key. Once it has ended, or the server says so, with its own key, which is all
// that the server then allows; and what came of that is renewed at once with a new key. A serving certificate always gets a new key.
// The wall clock decides what is due, and is looked at again every `look_every`: it may be set at any time. Back-off and patience
// go by the monotonic clock.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/random.h"
#include "base/time.h"
#include "kube/json.h"
#include "pki/certificate.h"

namespace skerry::agent {

class RenewalCore {
 public:
  enum class Purpose : std::uint8_t { Client, Serving };
  enum class KeyChoice : std::uint8_t { New, Same };
  struct Options {
    Purpose purpose = Purpose::Client;
    double begin = 0.7, end = 0.9;                   // of the certificate's life
    Duration backoff_min = 10s, backoff_max = 10min;  // after failures; up to half as much again, by chance
    Duration refused_for = 1h;                       // after Denied or Failed; and the longest back-off where asking is refused
    Duration read_min = 500ms, read_max = 5min;      // between two looks at a request that waits
    Duration patience = 15min;                       // until somebody is told that it waits
    Duration look_every = 10min;
  };
  // What is shown now, and what it should say.
  struct Managed {
    std::optional<pki::CertificateInfo> current{};  // a client always has one
    bool key_kept = false;                          // it was renewed for the key of an ended one: a new key is due
    pki::LeafSpec wanted{};
  };
  struct Step {
    enum class What : std::uint8_t { Wait, Ask, Read, Take };
    What what = What::Wait;
    KeyChoice key = KeyChoice::New;  // of Ask
    std::string_view reason = {};    // of Ask
    Duration wait{};                 // of Wait: at most
  };
  // What somebody should hear of; each is given once.
  struct Note {
    bool warning = false;
    std::string_view reason;  // of the Event, CamelCase
    std::string text;
  };
  // A request as it stands at the server.
  struct Answer {
    enum class State : std::uint8_t { Pending, Denied, Failed, Issued };
    State state = State::Pending;
    std::string text{};  // Issued: PEM; Denied, Failed: why
  };

  RenewalCore(Options options, Random& random) : options_(options), random_(random) {}

  // Nothing: the certificate is somebody else's to renew. A request under way goes on if there is something to manage.
  void set(std::optional<Managed>);
  void set_line(bool up);  // the API server answers
  // It does not know the certificate (401), though it has not ended by the clock of this machine; or it does.
  void suspect() { suspect_ = true; }
  void trust() { suspect_ = false; }

  Step poll(Time now, Instant at);

  void on_asked(std::string name, std::string key_fingerprint, Instant at);
  std::optional<Note> on_ask_failed(const Error&, Instant at);
  static Answer read(kube::Json request);  // hostile bytes
  std::optional<Note> on_answer(const Answer&, Time now, Instant at);
  std::optional<Note> on_read_failed(const Error&, Instant at);
  // Of Take: the certificate. Durable, and in use.
  const std::string& held() const { return held_pem_; }
  void on_taken();
  std::optional<Note> on_not_taken(const Error&, Instant at);

  const std::optional<Managed>& managed() const { return managed_; }
  bool ended(Time now) const { return managed_ && managed_->current && now >= managed_->current->not_after; }
  std::optional<Time> due_at() const;  // by age alone
  bool in_hand() const { return state_ != State::Idle; }

 private:
  enum class State : std::uint8_t { Idle, Reading, Holding };
  struct Due {
    KeyChoice key;
    std::string_view reason;
  };
  std::optional<Due> due(Time now) const;
  std::string why_not(std::string_view pem, Time now) const;
  void back_off(const Error&, Instant at);
  void give_up(Duration pause, Instant at);
  std::optional<Note> say(Note);

  Options options_;
  Random& random_;
  std::optional<Managed> managed_;
  State state_ = State::Idle;
  bool line_up_ = false, suspect_ = false, line_failed_ = false, said_waiting_ = false;
  Duration backoff_{}, read_pause_{};
  Instant retry_at_{}, read_at_{}, asked_at_{};
  std::string name_, asked_key_, held_pem_, said_;
  Time held_from_{};
};

}  // namespace skerry::agent
