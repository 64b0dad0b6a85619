// SPDX-License-Identifier: Apache-2.0
// Which pod's status, or deletion, is sent to the API server next. Of each pod only the latest status is sent, then its deletion;
// one exchange of a pod at a time, a few pods at once; what the server does not take is sent again with jittered back-off, and while
// the server is away one pod asks for all.
// A pure core: no I/O, no clock. Owner: agent::StatusWriter, its shell; the simulation drives it too.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/backoff.h"
#include "base/error.h"
#include "base/random.h"
#include "base/time.h"

namespace skerry::agent {

struct PodName {
  std::string uid, namespace_, name;
  friend bool operator==(const PodName&, const PodName&) = default;
};

class StatusCore {
 public:
  struct Options {
    std::size_t at_once = 4;
    Duration settle = 150ms;  // a pod that is not ready yet will be in a moment: wait so long for the better news
    Duration backoff_min = 500ms, backoff_max = 30s;  // of one pod that the server does not take, and of a server that is away
  };
  enum class Urgency : std::uint8_t { Now, MaySettle };
  struct Send {
    std::uint64_t id = 0;                // for on_answer()
    PodName pod;
    std::optional<std::string> status{};  // PATCH of the status; nothing: DELETE with grace 0 and this uid
  };
  struct Counters {
    std::uint64_t patches = 0, deletes = 0, failures = 0;
  };

  StatusCore(Options options, Random& random) : options_(options), random_(random), away_(options.backoff_min, options.backoff_max) {}  // random must outlive this

  void post(const PodName&, std::string json, Urgency, Instant now);
  void remove(const PodName&, Instant now);  // after the last status
  void forget(const std::string& uid);       // the object is gone
  void suspend(bool suspended) { suspended_ = suspended; }  // nothing is sent; what is under way is answered

  // What is to be sent now; each is under way until its on_answer(). Call it again after every input, and at deadline().
  std::vector<Send> poll(Instant now);
  std::optional<Instant> deadline() const { return deadline_; }
  void on_answer(std::uint64_t id, const std::optional<Error>&, Instant now);
  // Nothing is left to be told by this exchange: the object is gone, or another pod has its name (the uid in the patch refuses it).
  static bool final(const Error&);

  std::size_t waiting() const { return entries_.size(); }
  bool waits(const std::string& uid) const { return entries_.contains(uid); }
  const Counters& counters() const { return counters_; }

 private:
  struct Entry {
    PodName pod;
    std::optional<std::string> status{};
    std::optional<std::string> sent{};  // under way
    bool remove = false;
    std::uint64_t in_flight = 0;        // id of what is under way; 0: nothing
    Instant due{};
    Duration backoff{0};
  };
  Entry& entry(const PodName&);
  void failed(Entry&, const Error&, Instant now);

  Options options_;
  Random& random_;
  Backoff away_;  // the server is away: one pod's status asks for all of them
  Instant not_before_{};
  std::unordered_map<std::string, Entry> entries_;
  std::unordered_map<std::uint64_t, std::string> flights_;  // id → uid
  std::uint64_t next_id_ = 1;
  std::optional<Instant> deadline_;
  bool suspended_ = false;
  Counters counters_;
};

}  // namespace skerry::agent
