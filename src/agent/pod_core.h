// SPDX-License-Identifier: Apache-2.0
// The life of one pod on this node, from bound to gone: which image to prepare, when to listen, when to hand a container
// to the keeper, when to restart it, how to end it, and what the API server is told.
//
// A pure core: no I/O, no clock, no threads. agent.cc feeds it (on_*), asks poll() what to do, makes the new state
// durable (save()), and then carries the commands out, in order. A command is issued once; its outcome comes back as an
// on_*. Owner: agent::Agent, on its loop.
//
//   Start → Preparing → Prepared → Opening → Putting → Serving ──exit──→ (at once, or CrashBackoff) → Putting …
//             │ ↑           │ ↑ configuration missing      └── policy says no ──→ Ended
//             ↓ │           ↓ │
//          ImageBackoff   ConfigError                 deletion, from anywhere: Stopping → Ended → Delete
//
// A handler container is running and ready once the keeper holds its open listener and its template has loaded; it need
// not have a process (Serving covers idle and awake).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/environment.h"
#include "agent/pod_plan.h"
#include "base/strong.h"
#include "base/time.h"
#include "kube/json.h"
#include "sandbox/assignment.h"

namespace skerry::agent {

using KeeperId = Strong<struct KeeperIdTag, std::uint64_t>;

struct Now {
  Time wall;
  Instant mono;
};

// An image on this node, compiled, known to the keeper.
struct PreparedImage {
  std::string image_id = {};  // registry.example.com/a@sha256:…
  std::string key = {};       // what the keeper calls it
  sandbox::GuestKind kind = sandbox::GuestKind::HttpHandler;
  ImageDefaults defaults = {};
  friend bool operator==(const PreparedImage&, const PreparedImage&) = default;
};
using PreparedImagePtr = std::shared_ptr<const PreparedImage>;  // shared by the pods that run it


struct Exit {
  int code = 0;
  int signal = 0;
  bool out_of_memory = false;
  bool unknown = false;  // nobody saw how it ended, and it did not say that it left in order: a failure
  std::uint64_t requests_lost = 0;
  std::string message = {};  // the sandbox's own words, if any
};

namespace command {
struct PrepareImage { std::size_t container; std::string image; PullPolicy pull; bool wagi; };
struct AllocateAddress {};
struct OpenListener { std::size_t container; std::string address; std::uint16_t port; };
// Hands the container to the keeper, with the listener that was opened. `attempt` numbers the log file.
struct Put {
  std::size_t container;
  KeeperId id;
  std::string image_key;
  sandbox::Assignment assignment;
  std::int64_t cpu_millis_max, cpu_millis_request;
  std::uint32_t attempt;
};
struct Relog { std::size_t container; KeeperId id; std::uint32_t attempt; };       // a new attempt writes to its own file
struct Stop { std::size_t container; KeeperId id; Duration grace; };               // drain, then kill; answered by on_stopped
struct CloseListener { std::size_t container; };                                   // it is out of the keeper: connections are refused
struct Drop { std::size_t container; KeeperId id; };                               // out of the keeper's table now; kills what runs
struct Release {};                                                                 // close listeners, give the address back
struct PostStatus { std::string json; };                                           // body of a PATCH of /status
struct PostEvent { enum class Type : std::uint8_t { Normal, Warning } type; std::string container, reason, message; };
struct Delete { std::string uid; };                                                // DELETE, grace 0, precondition uid
struct Forget {};                                                                  // nothing of it is left on the node
}  // namespace command
using Command = std::variant<command::PrepareImage, command::AllocateAddress, command::OpenListener, command::Put, command::Relog,
                             command::Stop, command::CloseListener, command::Drop, command::Release, command::PostStatus, command::PostEvent,
                             command::Delete, command::Forget>;
std::string describe(const Command&);  // one line, for traces; no environment values

class PodCore {
 public:
  struct Options {
    Duration backoff_first = 10s, backoff_max = 300s;
    Duration backoff_forgotten_after = 600s;  // a container that ran so long starts with a clean slate
    // A deleted pod goes on serving until no Service names it (on_unrouted), and the moment that connections take which
    // are on their way; at most so long, and at most half its grace: a machine that is busy makes its rules late.
    Duration lame_duck = 5s, on_their_way = 100ms;
    Duration hold_after = 1s;                 // the same of a pod that is held
    Duration stop_slack = 5s;                 // beyond the grace, until a silent keeper is overruled
    std::string node_name = {}, host_ip = {};
  };

  // `ids`: one keeper id per container, never used before (or those of the checkpoint).
  PodCore(const Options&, kube::ObjectPtr, PodPlan, std::vector<KeeperId> ids);
  // From the checkpoint: `saved` is what save() gave. Containers of which the keeper still knows are then reported by
  // on_adopted(); the others go through their start again, at the same address and with their counts.
  static Result<PodCore> restore(const Options&, kube::ObjectPtr, PodPlan, kube::Json saved, Now);

  void on_desired(kube::ObjectPtr, PodPlan);  // a newer version of the same uid
  void on_vanished();                         // the object is gone from the API: end at once. Kept by save()
  void on_references_changed() { config_retry_ = true; }
  // An operator wants fewer pods than there are (ADR 0036): this one is no longer ready, is drained and left without a process and
  // a listener, with its object and address, until it is released. Not kept by save(): who holds it says so again.
  void hold(std::string message, Now);
  void release();
  bool held() const { return !held_.empty(); }
  // Every container that serves is drained and started again; its listener stays open meanwhile.
  void restart(Now);
  void on_unrouted(Now);                      // it is being deleted, and no Service sends it connections any more

  void on_image_pulling(std::size_t container);
  // `warning`: why the image of the disk serves although the registry could not be asked, or empty.
  void on_image_ready(std::size_t container, PreparedImagePtr, std::string_view event_text, std::string_view warning = {});
  void on_image_failed(std::size_t container, std::string_view reason, std::string message, Now);
  void on_image_maybe_changed();              // an image was added to the node: try those that failed again
  void on_address(std::string address);
  void on_address_failed(std::string message, Now);
  void on_listening(std::size_t container);
  void on_listen_failed(std::size_t container, std::string message, Now);
  void on_placed(std::size_t container, Now);
  void on_place_failed(std::size_t container, std::string message, Now);
  // The keeper has it since an earlier agent. Serving: it goes on, unless it must not run now. Stopping: it is awaited, then started.
  // Outdated: it runs another image than it is to run; it is ended, then started.
  enum class Held : std::uint8_t { Serving, Stopping, Outdated };
  void on_adopted(std::size_t container, std::uint32_t awake, Held = Held::Serving);
  void on_awake(std::size_t container) { ++containers_[container].awake; }
  void on_idle(std::size_t container);
  void on_exited(std::size_t container, Exit, Now);
  void on_stopped(std::size_t container, Exit, Now);  // the answer to Stop, or that the keeper holds it no longer
  // Under memory pressure: the pod ends as Failed, reason Evicted.
  void evict(std::string message, Now);
  // The server shows `shown` of this pod, and nothing is on its way to it. If that is not what was told (it was restored from a copy, it
  // refused, it lost something), all is told again, the deletion too. True: something is to be told.
  bool repeat_if_otherwise(const kube::Object& shown, Now);

  std::vector<Command> poll(Now, const References&);
  std::optional<Instant> deadline() const;  // when poll() must be called at the latest; nothing: only after an input

  std::string save() const;  // what the checkpoint keeps; equal strings: nothing changed

  const kube::ObjectPtr& object() const { return object_; }
  const PodPlan& plan() const { return plan_; }
  const std::string& address() const { return address_; }
  std::size_t containers() const { return containers_.size(); }
  KeeperId keeper_id(std::size_t container) const { return containers_[container].id; }
  std::uint32_t restarts(std::size_t container) const { return containers_[container].restarts; }
  bool serving(std::size_t container) const { return containers_[container].stage == Stage::Serving; }
  std::uint32_t awake(std::size_t container) const { return containers_[container].awake; }
  bool leaving() const;  // it is being deleted and still serves
  // Why it has not started yet, as its status says; nothing once it ran.
  std::string_view waiting(std::size_t container) const;
  bool over(std::size_t container) const { return containers_[container].stage == Stage::Ended; }  // it will not run again
  // The status as it is now, as a patch of the pod: what the API server is told, or would be.
  std::string status(Now) const;
  bool ready() const;
  bool starting() const;  // on its way to being ready, and nothing of it has failed since
  bool ended() const;  // terminal, or on its way out
  bool released() const { return released_; }  // it gave its address back
  bool forgotten() const { return forgotten_; }  // Forget was said: nothing of it is to be kept
  bool vanished() const { return vanished_; }  // the API server has it no more; also after a restart
  std::string_view image_key(std::size_t container) const;

 private:
  enum class Stage : std::uint8_t {
    Start, Preparing, ImageBackoff, Prepared, ConfigError, Opening, ListenBackoff, Putting, Serving, CrashBackoff, Stopping, Ended
  };
  struct Ended {
    int code = 0, signal = 0;
    std::string reason = {}, message = {};
    Time started{}, finished{};
  };
  struct Container {
    KeeperId id;
    Stage stage = Stage::Start;
    bool listening = false, in_keeper = false;
    std::uint32_t awake = 0, restarts = 0;
    std::string waiting_reason, waiting_message;
    PreparedImagePtr image;
    Instant until{};                      // of a back-off, or the end of the wait for Stop
    Duration backoff{0};                  // the last crash back-off
    Duration retry{0};                    // the last back-off of image or listener
    Instant running_since{};
    std::optional<Time> started;          // of the present attempt
    std::optional<Instant> drop_at;       // it is being drained out of the keeper; the end of the wait for that
    std::shared_ptr<const Ended> last, end;       // last: before the present attempt; end: it will not run again
    bool relog = false;
  };
  struct Condition {
    Time since{};
    bool value = false;
    bool known = false;
    bool explained = false;  // a reason was said, which True must take back
  };

  static std::string_view stage_name(Stage);
  void step(std::size_t index, Now, const References&, std::vector<Command>&);
  bool open_and_put(std::size_t index, Now, const References&, std::vector<Command>&);
  void end_pod(Now, std::vector<Command>&);
  void lay_down(Container&, std::size_t index, Now);
  void wait(Container&, Stage, std::string_view reason, std::string message);
  void event(command::PostEvent::Type, std::size_t container, std::string_view reason, std::string message);
  Duration next_retry(Container&) const;
  void set_ended(Container&, Exit, Now, std::string_view reason);
  std::string build_status(Now);
  friend class StatusBuilder;

  const Options* options_;
  kube::ObjectPtr object_;
  PodPlan plan_;
  std::vector<Container> containers_;
  std::string address_, address_error_;
  // A node has many pods: together they are two bytes.
  bool address_asked_ : 1 = false, released_ : 1 = false, delete_sent_ : 1 = false, forgotten_ : 1 = false, vanished_ : 1 = false;
  bool config_retry_ : 1 = false, refusal_reported_ : 1 = false, runtime_unknown_ : 1 = false, pull_secret_unknown_ : 1 = false;
  bool tells_scheduled_ : 1;  // the pod came with its node: no scheduler has said so
  std::string refused_by_node_;  // runtime class and the like; waits
  std::optional<Instant> address_retry_, stop_at_;
  std::string evicted_;
  std::string held_;    // why it is held, or empty
  Instant hold_at_{};   // if it is: until then connections that are on their way are taken
  std::optional<Time> start_time_;
  Condition initialized_, ready_, containers_ready_;
  std::size_t posted_ = 0;  // hash of the status that was posted last
  std::vector<Command> events_;
};

}  // namespace skerry::agent
