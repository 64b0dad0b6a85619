// SPDX-License-Identifier: Apache-2.0
// The keeper's one object, for keeper*.cc alone: descriptors, cgroups and one epoll around KeeperCore.
//
//   keeper.cc           start, the loop, how processes end
//   keeper_agent.cc     the agent's connection: who may command, the commands, events and dumps that go back
//   keeper_actions.cc   carries out what the core decides
#pragma once
#include <sys/epoll.h>

#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "os/cgroup.h"
#include "os/fd.h"
#include "sandbox/keeper.h"
#include "sandbox/slot_table.h"
#include "sandbox/take_over.h"

namespace skerry::sandbox {

// What an epoll event belongs to.
enum class Tag : std::uint64_t { Signals, Listener, Agent, Template, Slot, Pod, Adopted };
inline std::uint64_t pack(Tag tag, std::uint64_t index) { return static_cast<std::uint64_t>(tag) << 56 | index; }

class Keeper {
 public:
  explicit Keeper(const KeeperOptions& options) : options_(options), core_(options.core) {}
  Result<> start();
  Result<> run();

 private:
  struct SlotResources {
    os::UniqueFd control, pidfd;  // pidfd: only of an adopted one
    std::optional<os::Cgroup> cgroup;
    std::uint64_t oom_kills_before = 0;
    pid_t pid = 0;
    unsigned packets = 0;  // received on the control socket
    bool killed = false;   // by us
    std::optional<SandboxDescriptors> taken;  // of one of an earlier keeper, until its pod is put
    std::string text;  // its last words
  };
  struct ImageResources {
    LoadMessage load;
    os::UniqueFd native, socket;
    pid_t pid = 0;
  };
  struct PodResources {
    os::UniqueFd listener, assignment, metrics, log;
    bool registered = false;
    std::uint64_t cpu_ticks = 0;  // of its workers at the last look of sample_busy_pods()
    std::size_t workers_sampled = 0;
    Instant sampled_at{};
  };
  struct Outgoing {
    std::string bytes;
    std::optional<std::uint64_t> pod = {};  // whose descriptors go with it
    std::optional<SlotId> found = {};       // or those taken from it
  };

  Instant now() const { return clock_.instant(); }
  Result<> watch(int fd, std::uint32_t events, Tag tag, std::uint64_t index);
  Result<> find_sandboxes();
  void take_over(SlotId);
  void take_over_found();
  bool confirm_found(SlotId, const SlotTable::Row&, const std::vector<pid_t>& in_cgroup) const;

  void on_event(const epoll_event&);
  void on_signals();
  void reap();
  void on_ended(pid_t, int status);
  void on_agent_connects();
  void on_agent_readable();
  void on_template(ImageId);
  void on_slot(SlotId, std::uint32_t events);
  void on_adopted_ended(SlotId);
  void slot_ended(SlotId, SlotExit);
  int metrics_page_of(SlotId) const;  // -1: not known

  void on_command(Command, std::vector<os::UniqueFd> fds);
  Result<> handle(const PutImage&, std::vector<os::UniqueFd>&);
  Result<> handle(const PutPod&, std::vector<os::UniqueFd>&);
  Result<> handle(const Relog&, std::vector<os::UniqueFd>&);
  void dump();
  void dump_found();

  void act();
  void run_action(const action::StartTemplate&);
  void run_action(const action::StopTemplate&);
  void run_action(const action::KillTemplate&);
  void run_action(const action::SpawnSlot&);
  void run_action(const action::Assign&);
  void run_action(const action::CloseSlot&);
  void run_action(const action::Poll&);
  void run_action(const action::Unpoll&);
  void run_action(const action::Signal&);
  void run_action(const action::ForgetPod&);
  void run_action(const action::Report&);
  void run_action(const action::Exit&);
  Result<> start_template(ImageId);
  Result<> spawn_slot(const action::SpawnSlot&);

  void queue(Outgoing);
  void flush_agent();
  void close_agent();
  void sample_busy_pods();

  KeeperOptions options_;
  SystemClock clock_;
  KeeperCore core_;
  Hardening hardening_ = Hardening::Reduced;
  CgroupKind cgroups_ = CgroupKind::None;
  std::optional<os::CgroupTree> tree_;
  std::optional<SlotTable> table_;
  os::UniqueFd lock_, epoll_, signals_, listener_, agent_;
  bool agent_wants_write_ = false, exiting_ = false, refusal_told_ = false;
  std::deque<Outgoing> outgoing_;
  std::vector<SlotResources> slots_;
  std::vector<ImageResources> images_;
  std::vector<PodResources> pods_;
  std::unordered_map<pid_t, SlotId> slot_of_pid_;
  std::deque<std::pair<pid_t, int>> ended_early_;  // reaped before we heard their 'P'; bounded
  Instant sample_at_{};
};

}  // namespace skerry::sandbox
