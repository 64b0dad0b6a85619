// SPDX-License-Identifier: Apache-2.0
// What an informer does next, and what it knows: a pure core (no I/O, no clock). client/informer.h is its shell.
//   poll(now) → List | Get one object | Watch from a revision | Sleep until | Wait (something is under way)
// Invariants: a change is reported only if the object really differs (another uid or another revision); the revision
// never goes back, except by a list; after Gone (410) the next action is List; retries back off with jitter, and only an
// event or bookmark that arrives resets the back-off; with confirm_removals nothing is gone because a list left it out: it is asked for
// by its name first, and a list that was wrong about it is made again. Denied is half an answer, because a node authorizer knows no way
// to what no longer exists, and one that has just started knows no way to anything: it counts when lists leave it out again and again.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/backoff.h"
#include "base/error.h"
#include "base/random.h"
#include "base/time.h"
#include "client/watch_decoder.h"
#include "kube/digest.h"
#include "kube/object.h"
#include "kube/packer.h"

namespace skerry::client {

using Cache = kube::Objects;  // found by object_key()
std::string object_key(std::string_view namespace_, std::string_view name);  // "ns/name", or "name"

struct Change {
  kube::ObjectPtr before{};  // null: new
  kube::ObjectPtr after{};   // null: gone
};

class InformerCore {
 public:
  struct Options {
    Duration backoff_min = 200ms, backoff_max = 30s;
    Duration denied_again = 5min;  // after a 403: only an administrator changes that
    Duration doubt_again = 3s;     // from a Get that is denied to the next list
    int denials_believed = 3;      // lists in a row that leave something out to which a Get is then denied, until it is gone
    std::size_t objects_max = 1'000'000;
    bool confirm_removals = false;
    // What to hold in place of an object that came: the very same version, from somebody who has it in memory anyway. Null, or
    // an answer of null: it is held packed.
    std::function<kube::ObjectPtr(const kube::Object&)> share = {};
  };
  enum class Act : std::uint8_t { List, Get, Watch, Sleep, Wait };
  struct Action {
    Act act{};
    kube::Revision revision{};  // Watch: from just after this
    Instant until{};            // Sleep
    kube::ObjectPtr object{};   // Get: as it was last known
  };

  InformerCore(Options options, Random& random) : options_(std::move(options)), random_(random), backoff_(options_.backoff_min, options_.backoff_max) {}  // random must outlive this

  // The next action; List and Watch are then under way until one of the inputs below answers them.
  Action poll(Instant now);

  // Inputs. on_list returns the real differences, removals first. Exhausted: more than objects_max; counts as a failure.
  Result<std::vector<Change>> on_list(std::vector<kube::ObjectPtr> items, kube::Revision revision, Instant now);
  void on_list_failed(const Error&, Instant now);
  // The object that Get named, as it is now. NotFound: it is gone. Denied: another list decides.
  std::optional<Change> on_got(const Result<kube::ObjectPtr>&, Instant now);
  std::optional<Change> on_event(const WatchEvent&);
  // The watch ended: by the server (no error), or by an error. Ended at once without an event: counts as a failure.
  void on_watch_ended(const std::optional<Error>&, Instant now);

  bool synced() const { return synced_; }  // a first list was taken
  const Cache& cache() const { return cache_; }
  kube::Revision revision() const { return revision_; }
  // From where another may resume who has the cache; 0: nowhere, because it is not known yet what of the last list is true.
  kube::Revision resumable() const { return doubtful_.empty() && !list_was_wrong_ ? revision_ : kube::Revision{}; }
  std::uint64_t relists() const { return lists_; }
  // What the cache holds, for comparison with the server's (kube/digest.h).
  std::uint64_t digest() const { return digest_.value(); }
  // What came cannot be: `former` (null: nothing) stays known in its place, so that the same revision, said rightly, is a change.
  void reject(const kube::ObjectPtr& wrong, const kube::ObjectPtr& former);
  // The cache has drifted from the server: once what is under way has ended, the next action is List.
  void list_next() { list_next_ = true; }
  // Starts from what a checkpoint knows: the next action is Watch from `revision`. Only before the first poll.
  void restore(std::vector<kube::ObjectPtr> items, kube::Revision revision);

 private:
  enum class State : std::uint8_t { NeedList, Listing, NeedGet, Getting, NeedWatch, Watching };
  void fail(State next, Instant now, Errc = Errc::Unavailable);
  kube::ObjectPtr held(const kube::ObjectPtr& came, const kube::ObjectPtr& former);
  Options options_;
  Random& random_;
  State state_ = State::NeedList;
  Cache cache_;
  kube::Packer packer_;
  std::vector<kube::ObjectPtr> doubtful_;  // a list left them out: the last is asked for next
  bool list_was_wrong_ = false;
  int denials_ = 0;  // in a row
  kube::Revision revision_;
  kube::Digest digest_;
  bool synced_ = false, progress_ = false, list_next_ = false;
  std::optional<Instant> not_before_;
  Backoff backoff_;
  Instant watch_began_{};
  std::uint64_t lists_ = 0;
};

}  // namespace skerry::client
