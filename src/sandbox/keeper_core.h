// SPDX-License-Identifier: Apache-2.0
// What the keeper decides: which slot runs which pod, when to fork, hold, stop, report. A pure core: no descriptors, no
// clock, no processes. keeper.cc feeds it and carries out what take_actions() returns, in order.
//
//   pod:   Idle ──readable──▶ Waiting ──serving──▶ Awake ──last worker left──▶ Idle (or Held, after repeated failures)
//          any ──stop──▶ Stopping ──last worker left──▶ Stopped ──put──▶ Idle
//   slot:  Free ──spawn──▶ Forking ──parked──▶ Parked ──assign──▶ Assigned ──serving──▶ Serving ──exit──▶ Free
//          Found (a sandbox of an earlier keeper) ──put_pod──▶ Serving; unclaimed at refilled(), or dropped: killed
//   image: Starting ──ready──▶ Ready ──template died──▶ Down (back-off) ──▶ Starting; Starting ──failed──▶ Failed
//
// The pool of parked slots of an image has a target: doubled when a wake-up empties it, cut by a quarter after
// shrink_after without need, between parked_min and parked_max.
// All workers of a pod are started at its wake-up. One that leaves idle stays away until the pod was idle as a whole, or
// until worker_missing() says that the others are busy; one that fails is started again at once while another lives.
// A dropped pod keeps its row until its last sandbox is gone, so that what was lost inside is counted in its page and told.
// Invariants (CHECKed): a slot has one owner; a pod is polled only while Idle; a worker index is held once.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "metrics/page.h"
#include "os/cgroup.h"
#include "sandbox/protocol.h"

namespace skerry::sandbox {

using SlotId = std::uint32_t;   // its cgroup is slot-N, its uid the base plus N
using ImageId = std::uint32_t;  // dense; reused after DropImage
using PodRow = std::uint32_t;   // dense; reused after DropPod

struct SlotExit {
  int code = -1, signal = 0;  // -1 and 0: unknown, and not in order
  bool oom_killed = false;
  metrics::Losses lost = {};
  std::string text = {};
};

namespace action {
struct StartTemplate { ImageId image; };
struct StopTemplate { ImageId image; };  // forgets the image too
struct KillTemplate { ImageId image; };  // it does not answer; its end comes as on_template_exited()
struct SpawnSlot { ImageId image; SlotId slot; os::CgroupLimits limits; };
struct Assign { SlotId slot; PodRow pod; std::uint16_t worker; os::CgroupLimits limits; };
struct CloseSlot { SlotId slot; };  // a parked slot ends when its control socket closes
struct Poll { PodRow pod; };
struct Unpoll { PodRow pod; };
struct Signal { SlotId slot; int number; };
struct ForgetPod { PodRow pod; };  // close its descriptors
struct Report { Event event; };
struct Exit {};
}  // namespace action
using Action = std::variant<action::StartTemplate, action::StopTemplate, action::KillTemplate, action::SpawnSlot, action::Assign, action::CloseSlot,
                            action::Poll, action::Unpoll, action::Signal, action::ForgetPod, action::Report, action::Exit>;

class KeeperCore {
 public:
  struct Options {
    std::uint32_t parked_min = 2, parked_max = 64, forking_max = 16, slots_max = 8192, pods_max = 20'000, images_max = 256;
    Duration shrink_after = 5s;
    std::uint32_t failures_free = 3;                   // so many in a row without a hold
    Duration healthy_after = 10s;                      // a worker that lived so long was no failure of the start
    Duration hold_min = 1s, hold_max = 5min;           // doubled by each further failure
    Duration restart_min = 100ms, restart_max = 30s;   // of a template that keeps dying
    Duration answer_max = 30s;                         // a template loads its image, and a slot parks, in this time; else it hangs
    Duration refill_delay = 2ms;                       // after a wake-up, while half of the pool is left: its first request goes first
  };
  explicit KeeperCore(Options options) : options_(options) {}

  // --- commands. Errors are for Refused.
  Result<ImageId> put_image(const std::string& key, Instant now);
  Result<> drop_image(const std::string& key);  // Conflict while pods name it
  struct Put {
    PodRow row;
    bool created;
  };
  Result<Put> put_pod(const PodSpec&, Instant now);
  Result<> stop_pod(std::uint64_t id, Duration grace, Instant now);
  Result<> drop_pod(std::uint64_t id, Instant now);
  void refilled();
  void shutdown(Duration grace, Instant now);

  // --- what happened
  void on_readable(PodRow, Instant now);
  void on_template_ready(ImageId, std::int32_t pid, std::uint32_t load_us, Instant now);
  void on_template_failed(ImageId, std::string text, Instant now);  // it cannot load the image; no retry
  void on_template_exited(ImageId, Instant now);
  void on_slot_parked(SlotId, std::int32_t pid, Instant now);
  void on_slot_lost(SlotId, std::string text, Instant now);  // it never parked
  void on_slot_serving(SlotId, Instant now);
  void on_slot_exited(SlotId, SlotExit, Instant now);
  void worker_missing(PodRow, Instant now);  // a pod with fewer workers than it may have is busy
  // Before any command: a living sandbox of an earlier keeper. False if the slot is taken or out of range.
  bool found(SlotId, std::int32_t pid, std::uint64_t pod, std::uint16_t worker);

  // --- what to do. poll() at the end of each batch of events and at next_deadline(): forks only what a pod waits for.
  // refill() when refill_due() and no event is pending: one fork for the pool.
  void poll(Instant now);
  bool refill_due(Instant now) const;
  void refill(Instant now);
  std::optional<Instant> next_deadline() const;
  std::vector<Action>& actions() { return actions_; }  // the caller empties it

  // --- what is
  struct SlotOwner {
    PodRow pod;
    std::uint16_t worker;
  };
  std::optional<PodRow> row_of(std::uint64_t id) const;
  const PodSpec& spec(PodRow row) const { return pods_[row].spec; }
  PodState state(PodRow row) const { return pods_[row].state; }
  std::vector<PodRow> rows() const;
  std::vector<WorkerRow> workers(PodRow) const;
  std::vector<PodRow> short_of_workers() const;  // awake with fewer workers than its spec says
  std::optional<SlotOwner> owner(SlotId) const;  // of an assigned, serving or adopted slot; the row may be a dropped pod's
  bool is_found(SlotId slot) const { return slot < slots_.size() && slots_[slot].state == Slot::State::Found; }
  std::optional<ImageId> image_of(const std::string& key) const;
  std::vector<std::pair<std::string, bool>> images() const;  // key, ready
  std::uint32_t pods() const { return static_cast<std::uint32_t>(rows_.size()); }
  std::uint32_t found_unclaimed() const;
  std::uint32_t parked(ImageId image) const { return static_cast<std::uint32_t>(images_[image].parked.size()); }
  std::uint32_t slots_in_use() const { return slots_in_use_; }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Slot {
    enum class State : std::uint8_t { Free, Forking, Parked, Assigned, Serving, Found, Closing } state = State::Free;
    bool stop_when_serving = false;
    std::uint16_t worker = 0;
    ImageId image = kNone;
    PodRow pod = kNone;
    std::int32_t pid = 0;
    std::uint64_t found_pod = 0;
    Instant since{};
  };
  struct Waiter {
    PodRow pod;
    std::uint16_t worker;
  };
  struct Image {
    enum class State : std::uint8_t { Unused, Starting, Ready, Down, Failed } state = State::Unused;
    std::string key;
    std::uint32_t pods = 0, target = 0, forking = 0, lost_in_row = 0, deaths = 0;
    std::vector<SlotId> parked;
    std::deque<Waiter> waiters;
    bool shrink_armed = false, fork_watched = false;
    os::CgroupLimits limits_next{};
    Instant shrink_at{}, restart_at{}, started_at{}, refill_at{};
  };
  struct Pod {
    bool used = false, dropped = false;
    PodState state = PodState::Idle;
    PodSpec spec;
    ImageId image = kNone;
    std::vector<SlotId> live;
    std::uint32_t failures = 0;
    Instant readable_at{}, deadline{};  // deadline: the end of a hold, or of the grace
  };
  struct Timer {
    Instant when;
    enum class Kind : std::uint8_t { Pod, Restart, Shrink, Refill, Load, Fork } kind;
    std::uint32_t index;
    bool operator>(const Timer& other) const { return when > other.when; }
  };

  static os::CgroupLimits limits_of(const PodSpec&);
  SlotId take_slot();  // kNone when slots_max are in use
  void free_slot(SlotId);
  void assign(SlotId, PodRow, std::uint16_t worker, Instant now);
  void want(PodRow, std::uint16_t worker, Instant now);
  void want_missing(PodRow, Instant now);
  void forget_waiters(PodRow);
  bool waits(PodRow) const;
  void rest(PodRow, Instant now);  // no worker is left: Idle, Held or Stopped
  void begin_stop(PodRow, Duration grace, Instant now);
  void forget(PodRow);  // a dropped pod, when it has no sandbox any more
  void report_lost(std::uint64_t id, const metrics::Losses&);
  void grow(Image&, ImageId, Instant now);
  bool short_of_slots(const Image&, Instant now) const;
  bool spawn(ImageId, Instant now);
  void balance(ImageId, Instant now);
  void back_off(ImageId, Instant now);
  void start_template(ImageId, Instant now);
  void on_timer(const Timer&, Instant now);
  void report(Event event) { actions_.push_back(action::Report{std::move(event)}); }

  Options options_;
  std::vector<Action> actions_;
  std::vector<Slot> slots_;
  std::vector<SlotId> free_slots_;
  std::uint32_t slots_in_use_ = 0;
  std::vector<Image> images_;
  std::unordered_map<std::string, ImageId> image_ids_;
  std::vector<Pod> pods_;
  std::vector<PodRow> free_rows_;
  std::unordered_map<std::uint64_t, PodRow> rows_;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::uint32_t many_worker_pods_ = 0;
  bool shutting_down_ = false, exited_ = false;
};

}  // namespace skerry::sandbox
