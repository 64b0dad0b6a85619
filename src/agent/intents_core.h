// SPDX-License-Identifier: Apache-2.0
// What becomes of changes that were made at this node while the API server was away (ADR 0036): which pods are held, which
// stand-ins run, which pods are restarted next, what is told to the server on return, and what follows its answer.
//
// A pure core: no I/O, no clock, no threads. agent_intents.cc feeds it and does what it says; an intent is on the disk before
// accept(). Owner: agent::Agent, on its loop. Invariants:
//   - of one field of one Deployment there is at most one intent; its `before` is what the server had before the first of them
//   - a pod that is held is no stand-in; what is no longer wanted ends or is released in the same poll() that finds it so
//   - one intent is replayed at a time, in the order of ids; after an answer that is one, never again
//
//   Waiting ──replay: held──▶ Settling (Replicas only) ──the server's pods have taken over, or settle_max──▶ gone
//      └────── lost, refused, gone, or back at `before` ─────────────────────────────────────────────────────▶ gone
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "agent/local_view.h"
#include "base/error.h"
#include "base/time.h"
#include "kube/json.h"

namespace skerry::agent {

using IntentId = std::uint64_t;  // never used twice on this node; 0: none

struct Intent {
  enum class Stage : std::uint8_t { Waiting, Settling };
  IntentId id = 0;
  LocalChange change{};          // value: what is wanted
  std::string before{};          // what the server had, as it was known here
  std::set<std::string> sent{};  // values that it was told and did not answer: if it has one of them, it has it from here
  Time made{};
  Stage stage = Stage::Waiting;
  std::int64_t stand_ins = 0;    // Replicas: how many are wanted, never more than at first
  std::set<std::string> held{};  // Replicas: uids that are held
  std::set<std::string> known{}; // Settling: the server's pods that were here when it took the change
  std::set<std::string> todo{};  // RestartedAt: uids that are still to be restarted

  std::string save() const;                             // JSON (docs/wire/checkpoint.md)
  static Result<Intent> restore(IntentId, std::string_view json);
};

// One pod of a Deployment on this node, as it is now. Those that are on their way out are left out.
struct IntentPod {
  std::string uid{};
  IntentId stand_in = 0;  // whose; 0: the server's pod
  bool ready = false, held = false;
  bool ended = false;     // a stand-in that ended by itself (evicted, refused): it is removed, and counts no more
  Time created{};
};

namespace act {
struct Save { Intent intent; };        // durable before what follows it is done
struct Remove { IntentId id; };
struct Hold { std::string uid; };      // stop it, keep its object and address
struct Release { std::string uid; };   // start it again
struct Make { IntentId id; std::int64_t count; };  // stand-ins
struct End { std::string uid; };       // a stand-in, drained
struct Restart { std::string uid; };
struct Replay { Intent intent; };      // answered by on_replayed()
struct Tell { LocalChange change; bool warning; std::string reason, message; };  // an Event on the Deployment, and a log line
}  // namespace act
using Act = std::variant<act::Save, act::Remove, act::Hold, act::Release, act::Make, act::End, act::Restart, act::Replay, act::Tell>;
std::string describe(const Act&);  // one line, for traces

class IntentsCore {
 public:
  struct Options {
    std::size_t intents_max = 256;
    std::int64_t replicas_max = 10'000;
    Duration settle_max = 2min;                      // until the server's pods must have taken over
    Duration restart_max = 1min;                     // until the next pod is restarted although the former is not ready
    Duration backoff_min = 1s, backoff_max = 1min;   // of replays that were not answered
    int refusals_believed = 6;                       // in a row: a server that has just started may deny anything for half a minute
    Duration make_min = 10s, make_max = 5min;        // until stand-ins that ended, or could not be made, are made again; doubling
  };
  explicit IntentsCore(Options options) : options_(options) {}

  void restore(Intent, Instant now);  // from the checkpoint, before the first poll
  void set_next(IntentId next) { next_ = std::max(next_, next); }
  IntentId next() const { return next_; }  // made durable with each intent

  // The intent that this change makes, not yet taken up: it is made durable, then accepted. Where `value` is `before` again there
  // is to be none: what is durable is removed instead. `server_value`: as last known here; `pods`: the Deployment's, here.
  // Invalid: no such value; Exhausted: too many intents.
  Result<Intent> plan(const LocalChange&, std::string_view server_value, const std::vector<IntentPod>& pods, Time wall) const;
  static bool drops(const Intent& planned) { return planned.change.value == planned.before && planned.sent.empty(); }
  void accept(Intent);
  // How many stand-ins it would need beyond those that there are.
  static std::int64_t room_needed(const Intent&, const std::vector<IntentPod>& pods);

  // `pods`: of every Deployment of an intent, and of every other that has stand-ins or held pods; by the Deployment's uid.
  using Pods = std::map<std::string, std::vector<IntentPod>>;
  std::vector<Act> poll(Instant now, const Pods& pods);
  std::optional<Instant> deadline() const;  // when poll() is due at the latest

  void on_line(bool connected, Instant now);
  enum class Verdict : std::uint8_t { Held, Lost, Gone, Refused, Unanswered };
  // `text`: Lost: the server's value; Refused, Unanswered: the reason.
  void on_replayed(IntentId, Verdict, std::string text, Instant now);

  bool empty() const { return intents_.empty(); }
  const std::map<IntentId, Intent>& intents() const { return intents_; }
  // What is wanted of a field of a Deployment by an intent that waits; null: what the server says.
  const Intent* waiting(std::string_view deployment_uid, LocalChange::Field) const;

 private:
  struct Run {
    std::string sent{};                      // the value that is being replayed
    int refusals = 0;                        // in a row
    std::optional<Instant> until{};          // Settling: the end of patience
    std::optional<Instant> make_at{};        // Waiting: stand-ins are missing, and made again then
    Instant made_at{};
    Duration make_backoff{0};
    std::string restarting{};                // the uid under way
    Instant restart_until{};
  };
  void poll_replicas(Intent&, Run&, Instant now, const std::vector<IntentPod>&, std::vector<Act>&);
  void poll_restart(Intent&, Run&, Instant now, const std::vector<IntentPod>&, std::vector<Act>&);
  bool settle(Intent&, Run&, Instant now, const std::vector<IntentPod>&);  // true: over
  void finish(IntentId);
  const Intent* find(std::string_view deployment_uid, LocalChange::Field) const;

  Options options_;
  std::map<IntentId, Intent> intents_;
  std::map<IntentId, Run> runs_;
  std::set<IntentId> unsaved_;   // changed since their last Save
  std::vector<Act> pending_;     // what inputs have decided: said by the next poll()
  IntentId next_ = 1, replaying_ = 0;
  bool connected_ = false;
  Duration backoff_{0};
  Instant replay_at_{};
};

}  // namespace skerry::agent
