// SPDX-License-Identifier: Apache-2.0
// It is over 800 lines: one event loop and the carrying out of each action that the
// core decides, on one set of descriptors; what can be decided without them is in keeper_core.cc.
#include "sandbox/keeper.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <format>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "metrics/page.h"
#include "os/file.h"
#include "os/seqpacket.h"
#include "os/spawn.h"
#include "sandbox/hardening.h"
#include "sandbox/slot_table.h"

namespace skerry::sandbox {
namespace {

constexpr std::size_t kOutgoingMax = 65536;  // events that an agent may leave unread before its connection is closed
constexpr unsigned kSlotPacketsMax = 64;
constexpr Duration kBusySample = 1s;         // how often pods short of workers are looked at

enum class Tag : std::uint64_t { Signals, Listener, Agent, Template, Slot, Pod, Adopted };
std::uint64_t pack(Tag tag, std::uint64_t index) { return static_cast<std::uint64_t>(tag) << 56 | index; }

// What the kernel (6.15 and later) still knows of a process that another parent reaped. linux/pidfd.h of older systems lacks it.
struct PidfdInfo {
  std::uint64_t mask, cgroup_id;
  std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  std::int32_t exit_code;
};
constexpr std::uint64_t kPidfdInfoExit = 1u << 3;

std::optional<int> exit_status_of_stranger(int pidfd) {
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  if (::ioctl(pidfd, _IOWR(0xFF, 11, PidfdInfo), &info) != 0 || (info.mask & kPidfdInfoExit) == 0) return std::nullopt;
  return info.exit_code;
}

constexpr double kBusyShare = 0.6;

// utime + stime of /proc/PID/stat; 0 when it is gone.
std::uint64_t cpu_ticks(pid_t pid) {
  const auto text = os::read_small_file(std::format("/proc/{}/stat", pid), 4096);
  if (!text) return 0;
  const auto after_name = text->rfind(')');
  if (after_name == std::string::npos || after_name + 2 > text->size()) return 0;
  const auto fields = split(std::string_view(*text).substr(after_name + 2), ' ');  // from field 3 on
  if (fields.size() < 13) return 0;
  return parse_int<std::uint64_t>(fields[11]).value_or(0) + parse_int<std::uint64_t>(fields[12]).value_or(0);
}

SlotExit exit_of_wait_status(int status) {
  SlotExit exit;
  if (WIFSIGNALED(status)) exit.signal = WTERMSIG(status);
  else exit.code = WEXITSTATUS(status);
  return exit;
}

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
    std::optional<std::uint64_t> pod;  // whose descriptors go with it
  };

  Instant now() const { return clock_.instant(); }
  Result<> watch(int fd, std::uint32_t events, Tag tag, std::uint64_t index);
  Result<> find_sandboxes();
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

  void on_command(Command, std::vector<os::UniqueFd> fds);
  Result<> handle(const PutImage&, std::vector<os::UniqueFd>&);
  Result<> handle(const PutPod&, std::vector<os::UniqueFd>&);
  Result<> handle(const Relog&, std::vector<os::UniqueFd>&);
  void dump();

  void act();
  void run_action(const action::StartTemplate&);
  void run_action(const action::StopTemplate&);
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
  bool agent_wants_write_ = false, exiting_ = false;
  std::deque<Outgoing> outgoing_;
  std::vector<SlotResources> slots_;
  std::vector<ImageResources> images_;
  std::vector<PodResources> pods_;
  std::unordered_map<pid_t, SlotId> slot_of_pid_;
  std::deque<std::pair<pid_t, int>> ended_early_;  // reaped before we heard their 'P'; bounded
  Instant sample_at_{};
};

Result<> Keeper::watch(int fd, std::uint32_t events, Tag tag, std::uint64_t index) {
  epoll_event event{.events = events, .data = {.u64 = pack(tag, index)}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return Fail(errno_error(errno, "epoll_ctl"));
  return {};
}

Result<> Keeper::start() {
  TRY_OK(os::make_folders(options_.state, 0700));
  TRY(lock_, os::lock_file(options_.socket.native() + ".lock"));
  ::prctl(PR_SET_NAME, "skerry-keeper");
  ::signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  hardening_ = possible_hardening();
  std::string reason;
  if (hardening_ == Hardening::Full) {
    [[maybe_unused]] const auto score = os::write_control_file("/proc/self/oom_score_adj", "-900");
    auto tree = os::CgroupTree::open(options_.cgroup);
    if (tree) {
      cgroups_ = tree->version() == os::CgroupVersion::V1 ? CgroupKind::V1 : CgroupKind::V2;
      tree_.emplace(std::move(*tree));
    } else {
      reason = tree.error().what;
    }
  } else {
    reason = "not root: no uid, namespaces, empty root or cgroup for each sandbox; no_new_privs, seccomp and resource limits hold";
  }
  if (reason.empty()) LOG_INFO("keeper starts", {"hardening", "full"}, {"cgroups", cgroups_ == CgroupKind::V1 ? "v1" : "v2"});
  else LOG_WARN("keeper starts with reduced isolation", {"reason", reason});

  epoll_ = os::UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  sigset_t mask;
  ::sigemptyset(&mask);
  ::sigaddset(&mask, SIGCHLD);
  ::sigaddset(&mask, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &mask, nullptr);
  signals_ = os::UniqueFd(::signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!epoll_ || !signals_) return Fail(errno_error(errno, "keeper: epoll or signalfd"));
  TRY(table_, SlotTable::open(options_.state / "slots", options_.core.slots_max));
  TRY_OK(find_sandboxes());
  TRY(listener_, os::listen_seqpacket(options_.socket));
  TRY_OK(watch(signals_.get(), EPOLLIN, Tag::Signals, 0));
  return watch(listener_.get(), EPOLLIN, Tag::Listener, 0);
}

bool Keeper::confirm_found(SlotId, const SlotTable::Row& row, const std::vector<pid_t>& in_cgroup) const {
  if (row.pid <= 0 || row.worker >= kWorkersMax) return false;
  if (tree_) return std::ranges::find(in_cgroup, row.pid) != in_cgroup.end();
  std::error_code error;
  const auto ours = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto theirs = std::filesystem::read_symlink(std::format("/proc/{}/exe", row.pid), error);
  return !error && ours == theirs && row.pid != ::getpid();
}

Result<> Keeper::find_sandboxes() {
  for (SlotId slot = 0; slot < table_->size(); ++slot) {
    auto& row = (*table_)[slot];
    if (row.pid == 0) continue;
    std::vector<pid_t> in_cgroup;
    std::optional<os::Cgroup> cgroup;
    if (tree_)
      if (auto opened = tree_->attach(std::format("slot-{}", slot))) {
        cgroup.emplace(std::move(*opened));
        if (auto pids = cgroup->processes()) in_cgroup = std::move(*pids);
      }
    auto pidfd = os::open_pidfd(row.pid);
    if (!pidfd || !confirm_found(slot, row, in_cgroup) || !core_.found(slot, row.pid, row.pod, row.worker)) {
      row = {};
      continue;
    }
    if (slots_.size() <= slot) slots_.resize(slot + 1);
    auto& resources = slots_[slot];
    resources.pid = row.pid;
    resources.pidfd = std::move(*pidfd);
    resources.cgroup = std::move(cgroup);
    if (resources.cgroup) resources.oom_kills_before = resources.cgroup->oom_kills();
    TRY_OK(watch(resources.pidfd.get(), EPOLLIN, Tag::Adopted, slot));
  }
  if (!tree_) return {};
  // What is in our groups and not in the table was never given to a pod: parked slots of the earlier keeper.
  for (const auto& name : tree_->groups()) {
    const auto slot = name.starts_with("slot-") ? parse_int<SlotId>(std::string_view(name).substr(5)) : std::nullopt;
    const bool known = slot && *slot < slots_.size() && slots_[*slot].pid != 0;
    if (known) continue;
    auto cgroup = tree_->attach(name);
    if (!cgroup) continue;
    if (const auto pids = cgroup->processes())
      for (const pid_t pid : *pids) ::kill(pid, SIGKILL);
  }
  return {};
}

Result<> Keeper::run() {
  std::array<epoll_event, 128> events;
  while (!exiting_) {
    core_.poll(now());
    act();
    if (exiting_) break;
    int timeout_ms = -1;
    const bool refill = core_.refill_due(now());
    auto deadline = core_.next_deadline();
    if (!core_.short_of_workers().empty()) {
      if (sample_at_ == Instant{}) sample_at_ = now() + kBusySample;
      deadline = deadline ? std::min(*deadline, sample_at_) : sample_at_;
    } else {
      sample_at_ = {};
    }
    if (deadline) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - now()).count();
      timeout_ms = static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
    }
    if (refill) timeout_ms = 0;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
    if (count < 0 && errno != EINTR) return Fail(errno_error(errno, "keeper: epoll_wait"));
    // The pool of parked slots is filled when nothing else is to be done, one by one: no wake-up waits for more than one.
    if (count == 0 && refill) {
      core_.refill(now());
      act();
    }
    // Connections first: nothing else that happened at the same time may delay a wake-up.
    const std::span ready(events.data(), static_cast<std::size_t>(std::max(count, 0)));
    for (const auto& event : ready)
      if (event.data.u64 >> 56 == static_cast<std::uint64_t>(Tag::Pod)) on_event(event);
    for (const auto& event : ready)
      if (event.data.u64 >> 56 != static_cast<std::uint64_t>(Tag::Pod)) on_event(event);
    if (sample_at_ != Instant{} && now() >= sample_at_) sample_busy_pods();
  }
  return {};
}

void Keeper::on_event(const epoll_event& event) {
  const auto tag = static_cast<Tag>(event.data.u64 >> 56);
  const auto index = static_cast<std::uint32_t>(event.data.u64);
  switch (tag) {
    case Tag::Pod:
      core_.on_readable(index, now());
      break;
    case Tag::Slot: on_slot(index, event.events); break;
    case Tag::Template: on_template(index); break;
    case Tag::Signals: on_signals(); break;
    case Tag::Adopted: on_adopted_ended(index); break;
    case Tag::Listener: on_agent_connects(); break;
    case Tag::Agent:
      if ((event.events & EPOLLOUT) != 0) flush_agent();
      if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) on_agent_readable();
      break;
  }
  act();
}

// --- processes

void Keeper::on_signals() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info)
    if (info.ssi_signo == SIGTERM) {
      LOG_INFO("keeper asked to stop");
      core_.shutdown(5s, now());
    }
  reap();
}

void Keeper::reap() {
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    on_ended(pid, status);
    act();
  }
}

void Keeper::on_ended(pid_t pid, int status) {
  if (const auto known = slot_of_pid_.find(pid); known != slot_of_pid_.end()) {
    const SlotId slot = known->second;
    auto exit = exit_of_wait_status(status);
    slot_of_pid_.erase(known);
    return slot_ended(slot, std::move(exit));
  }
  for (ImageId id = 0; id < images_.size(); ++id) {
    if (images_[id].pid != pid) continue;
    on_template(id);  // its last words
    images_[id].pid = 0;
    images_[id].socket.reset();
    LOG_WARN("template ended", {"image", images_[id].load.name}, {"status", status});
    return core_.on_template_exited(id, now());
  }
  ended_early_.emplace_back(pid, status);
  if (ended_early_.size() > 1024) ended_early_.pop_front();
}

void Keeper::slot_ended(SlotId slot, SlotExit exit) {
  auto& resources = slots_[slot];
  // Its last words may still be unread.
  if (resources.control) on_slot(slot, EPOLLIN);
  if (exit.signal == SIGKILL && resources.cgroup) {
    const auto kills = resources.cgroup->oom_kills();
    exit.oom_killed = kills > resources.oom_kills_before;
    resources.oom_kills_before = kills;
  }
  if (const auto owner = core_.owner(slot); owner && pods_[owner->pod].metrics)
    exit.requests_lost = take_lost_requests(pods_[owner->pod].metrics.get(), owner->worker);
  exit.text = std::move(resources.text);
  resources.text.clear();
  resources.control.reset();
  resources.pidfd.reset();
  resources.pid = 0;
  (*table_)[slot] = {};
  core_.on_slot_exited(slot, std::move(exit), now());
}

void Keeper::on_adopted_ended(SlotId slot) {
  auto& resources = slots_[slot];
  if (!resources.pidfd) return;
  // Ours by CLONE_PARENT only while our predecessor lived: another process reaps it, and the kernel keeps the status.
  SlotExit exit;
  if (const auto status = exit_status_of_stranger(resources.pidfd.get())) exit = exit_of_wait_status(*status);
  slot_ended(slot, std::move(exit));
}

void Keeper::on_template(ImageId id) {
  if (id >= images_.size() || !images_[id].socket) return;
  std::array<std::byte, kControlTextMax + 1> buffer;
  for (;;) {
    auto received = os::receive_message(images_[id].socket.get(), buffer);
    if (!received || received->state == os::Received::State::Closed) {
      // Ended, or ending: its exit comes as SIGCHLD.
      images_[id].socket.reset();
      return;
    }
    if (received->state == os::Received::State::WouldBlock) return;
    const auto bytes = received->bytes;
    const char type = std::to_integer<char>(bytes[0]);
    if (type == kTemplateReady && bytes.size() == 5) {
      std::uint32_t load_us;
      std::memcpy(&load_us, &bytes[1], sizeof load_us);
      LOG_INFO("template ready", {"image", images_[id].load.name}, {"pid", images_[id].pid}, {"took_us", load_us});
      core_.on_template_ready(id, images_[id].pid, load_us, now());
    } else if (type == kControlError) {
      std::string text(reinterpret_cast<const char*>(&bytes[1]), bytes.size() - 1);
      LOG_WARN("image not loaded", {"image", images_[id].load.name}, {"reason", text});
      core_.on_template_failed(id, std::move(text), now());
    }
  }
}

void Keeper::on_slot(SlotId slot, std::uint32_t) {
  std::array<std::byte, kControlTextMax + 1> buffer;
  while (slots_[slot].control) {
    auto& resources = slots_[slot];
    // In order it sends three. More is an attack on the keeper's time.
    if (++resources.packets > kSlotPacketsMax) {
      LOG_WARN("a sandbox floods its control socket: closed", {"slot", slot});
      resources.control.reset();
      return;
    }
    auto received = os::receive_message(resources.control.get(), buffer);
    if (received && received->state == os::Received::State::WouldBlock) {
      --resources.packets;
      return;
    }
    if (!received || received->state == os::Received::State::Closed) {
      resources.control.reset();
      // A slot whose pid we know is accounted for when it is reaped.
      if (resources.pid == 0) {
        core_.on_slot_lost(slot, std::move(resources.text), now());
        resources.text.clear();
      }
      return;
    }
    const auto bytes = received->bytes;
    switch (std::to_integer<char>(bytes[0])) {
      case kSlotParked: {
        if (resources.pid != 0 || received->sender <= 0) break;
        resources.pid = received->sender;
        slot_of_pid_[resources.pid] = slot;
        core_.on_slot_parked(slot, resources.pid, now());
        const auto ended = std::ranges::find(ended_early_, resources.pid, &std::pair<pid_t, int>::first);
        if (ended == ended_early_.end()) break;
        const auto [pid, status] = *ended;
        ended_early_.erase(ended);
        if (::kill(pid, 0) == 0) break;  // an old entry, and the number was used again
        act();
        on_ended(pid, status);
        return;
      }
      case kControlReady: core_.on_slot_serving(slot, now()); break;
      case kControlError:
        resources.text.assign(reinterpret_cast<const char*>(&bytes[1]), bytes.size() - 1);
        break;
      default: break;  // a sandbox is not believed
    }
    act();
  }
}

// --- the agent

void Keeper::on_agent_connects() {
  os::UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!connection) return;
  const auto peer = os::peer_credentials(connection.get());
  if (!peer || (peer->uid != 0 && peer->uid != ::geteuid())) {
    LOG_WARN("connection refused: only root and the keeper's own user may command it");
    return;
  }
  close_agent();  // the newest agent is the living one
  agent_ = std::move(connection);
  agent_wants_write_ = false;
  if (auto done = watch(agent_.get(), EPOLLIN, Tag::Agent, 0); !done) agent_.reset();
}

void Keeper::close_agent() {
  agent_.reset();
  outgoing_.clear();
}

void Keeper::on_agent_readable() {
  std::array<std::byte, kKeeperMessageMax> buffer;
  // Bounded, so that a long refill does not keep connections waiting.
  for (int i = 0; i < 16 && agent_; ++i) {
    auto received = os::receive_message(agent_.get(), buffer);
    if (received && received->state == os::Received::State::WouldBlock) return;
    if (!received || received->state == os::Received::State::Closed) {
      if (!received) LOG_WARN("agent's connection closed", {"error", received.error()});
      return close_agent();
    }
    auto command = decode_command(received->bytes, received->fds.size());
    if (!command) {
      const auto type = std::to_integer<std::uint8_t>(received->bytes[0]);
      LOG_WARN("command refused", {"error", command.error()});
      core_.actions().push_back(action::Report{Refused{type, 0, command.error().what}});
    } else {
      on_command(std::move(*command), std::move(received->fds));
    }
    act();
  }
}

void Keeper::on_command(Command command, std::vector<os::UniqueFd> fds) {
  Result<> done;
  std::uint64_t id = 0;
  if (std::holds_alternative<Hello>(command)) {
    core_.actions().push_back(action::Report{Welcome{.version = kKeeperProtocolVersion,
                                                     .pid = ::getpid(),
                                                     .hardening = hardening_,
                                                     .cgroups = cgroups_,
                                                     .pods = core_.pods(),
                                                     .found = core_.found_unclaimed()}});
  } else if (auto* put_image = std::get_if<PutImage>(&command)) {
    done = handle(*put_image, fds);
  } else if (auto* drop_image = std::get_if<DropImage>(&command)) {
    done = core_.drop_image(drop_image->key);
  } else if (auto* put_pod = std::get_if<PutPod>(&command)) {
    id = put_pod->spec.id;
    done = handle(*put_pod, fds);
  } else if (auto* stop = std::get_if<StopPod>(&command)) {
    id = stop->id;
    done = core_.stop_pod(id, std::chrono::milliseconds(stop->grace_ms), now());
  } else if (auto* drop = std::get_if<DropPod>(&command)) {
    id = drop->id;
    done = core_.drop_pod(id, now());
  } else if (auto* relog = std::get_if<Relog>(&command)) {
    id = relog->id;
    done = handle(*relog, fds);
  } else if (std::holds_alternative<Dump>(command)) {
    dump();
  } else if (std::holds_alternative<Refilled>(command)) {
    core_.refilled();
  } else if (auto* shutdown = std::get_if<Shutdown>(&command)) {
    core_.shutdown(std::chrono::milliseconds(shutdown->grace_ms), now());
  }
  if (done) return;
  LOG_WARN("command refused", {"error", done.error()});
  core_.actions().push_back(action::Report{Refused{static_cast<std::uint8_t>(command.index() + 1), id, done.error().what}});
}

Result<> Keeper::handle(const PutImage& put, std::vector<os::UniqueFd>& fds) {
  const bool known = core_.image_of(put.key).has_value();
  if (known) {
    const auto id = *core_.image_of(put.key);
    images_[id].native = std::move(fds[0]);
    images_[id].load.sha256 = put.sha256;
    return core_.put_image(put.key, now()).transform([](ImageId) {});
  }
  TRY(const auto id, core_.put_image(put.key, now()));
  if (images_.size() <= id) images_.resize(id + 1);
  auto& image = images_[id];
  image.load = {};
  image.load.hardening = hardening_;
  image.load.sha256 = put.sha256;
  std::memcpy(image.load.name, put.name.data(), std::min(put.name.size(), sizeof image.load.name - 1));
  image.native = std::move(fds[0]);
  return {};
}

Result<> Keeper::handle(const PutPod& put, std::vector<os::UniqueFd>& fds) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fds[0].get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0)
    return Fail({Errc::Invalid, std::format("put pod {}: the first descriptor is not a listening socket", put.spec.id)});
  const auto put_done = core_.put_pod(put.spec, now());
  if (!put_done) return Fail(put_done.error());
  const PodRow row = put_done->row;
  if (pods_.size() <= row) pods_.resize(row + 1);
  auto& pod = pods_[row];
  // Explicitly: closing does not take it out of epoll while the agent holds it too.
  if (pod.registered) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pod.listener.get(), nullptr);
  pod.listener = std::move(fds[0]);
  pod.assignment = std::move(fds[1]);
  pod.metrics = std::move(fds[2]);
  if (fds.size() == 4) pod.log = std::move(fds[3]);
  else pod.log.reset();
  pod.registered = false;
  return {};
}

Result<> Keeper::handle(const Relog& relog, std::vector<os::UniqueFd>& fds) {
  const auto row = core_.row_of(relog.id);
  if (!row) return Fail({Errc::NotFound, std::format("relog pod {}: it is not known here", relog.id)});
  pods_[*row].log = std::move(fds[0]);
  for (const auto& worker : core_.workers(*row)) {
    auto& slot = slots_[worker.slot];
    if (slot.control) {
      const int log[] = {pods_[*row].log.get()};
      [[maybe_unused]] const auto told = os::send_message(slot.control.get(), std::as_bytes(std::span(&kControlRelog, 1)), log);
    } else if (slot.pidfd) {
      // An adopted sandbox has no socket to us: it drains, and the next one writes to the new log.
      [[maybe_unused]] const auto drained = os::signal_pidfd(slot.pidfd.get(), SIGTERM);
    }
  }
  return {};
}

void Keeper::dump() {
  for (const auto& [key, ready] : core_.images()) queue({encode(Event(DumpedImage{key, ready})), {}});
  for (const auto row : core_.rows()) {
    const auto& spec = core_.spec(row);
    queue({encode(Event(DumpedPod{spec, core_.state(row), core_.workers(row)})), spec.id});
  }
  queue({encode(Event(DumpEnd{})), {}});
}

void Keeper::queue(Outgoing message) {
  if (!agent_) return;
  if (outgoing_.size() >= kOutgoingMax) {
    LOG_WARN("agent's connection closed: it reads no events", {"waiting", outgoing_.size()});
    return close_agent();
  }
  outgoing_.push_back(std::move(message));
  flush_agent();
}

void Keeper::flush_agent() {
  while (agent_ && !outgoing_.empty()) {
    const auto& message = outgoing_.front();
    std::array<int, 4> fds{};
    std::size_t count = 0;
    if (message.pod) {
      const auto row = core_.row_of(*message.pod);
      if (!row) {
        outgoing_.pop_front();
        continue;
      }
      for (const auto* fd : {&pods_[*row].listener, &pods_[*row].assignment, &pods_[*row].metrics, &pods_[*row].log})
        if (*fd) fds[count++] = fd->get();
    }
    const auto sent = os::send_message(agent_.get(), std::as_bytes(std::span(message.bytes)), std::span(fds.data(), count));
    if (!sent) return close_agent();
    if (*sent == os::SendOutcome::WouldBlock) break;
    outgoing_.pop_front();
  }
  if (!agent_ || agent_wants_write_ == !outgoing_.empty()) return;
  agent_wants_write_ = !outgoing_.empty();
  epoll_event event{.events = EPOLLIN | (agent_wants_write_ ? EPOLLOUT : 0u), .data = {.u64 = pack(Tag::Agent, 0)}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, agent_.get(), &event);
}

// --- what the core decided

void Keeper::act() {
  auto& actions = core_.actions();
  // Carrying one out may add more at the end.
  for (std::size_t i = 0; i < actions.size(); ++i) {
    const Action action = std::move(actions[i]);
    std::visit([this](const auto& a) { run_action(a); }, action);
  }
  actions.clear();
}

void Keeper::run_action(const action::StartTemplate& a) {
  if (auto done = start_template(a.image); !done) {
    LOG_ERROR("template not started", {"image", images_[a.image].load.name}, {"error", done.error()});
    core_.on_template_exited(a.image, now());
  }
}

Result<> Keeper::start_template(ImageId id) {
  auto& image = images_[id];
  TRY(auto pair, os::make_seqpacket_pair());
  TRY(auto child, os::spawn({.program = "/proc/self/exe",
                             .arguments = {"template"},
                             .environment = os::current_environment(),
                             .fds = {{STDERR_FILENO, STDERR_FILENO}, {pair.second.get(), kTemplateSocket}}}));
  image.pid = child.pid();
  image.socket = std::move(pair.first);
  ::fcntl(image.socket.get(), F_SETFL, O_NONBLOCK);
  const int native[] = {image.native.get()};
  TRY(const auto sent, os::send_message(image.socket.get(), bytes_of(image.load), native));
  CHECK(sent == os::SendOutcome::Sent);  // the first message of an empty socket
  return watch(image.socket.get(), EPOLLIN, Tag::Template, id);
}

void Keeper::run_action(const action::StopTemplate& a) {
  images_[a.image].socket.reset();  // it ends at the end of file
  images_[a.image].native.reset();
  images_[a.image].pid = 0;
}

void Keeper::run_action(const action::SpawnSlot& a) {
  if (auto done = spawn_slot(a); !done) {
    LOG_WARN("slot not started", {"slot", a.slot}, {"error", done.error()});
    slots_[a.slot].control.reset();
    core_.on_slot_lost(a.slot, done.error().what, now());
  }
}

Result<> Keeper::spawn_slot(const action::SpawnSlot& a) {
  if (slots_.size() <= a.slot) slots_.resize(a.slot + 1);
  auto& slot = slots_[a.slot];
  if (tree_ && !slot.cgroup) {
    TRY(slot.cgroup, tree_->create(std::format("slot-{}", a.slot)));
    slot.oom_kills_before = slot.cgroup->oom_kills();
  }
  if (slot.cgroup) TRY_OK(slot.cgroup->set(a.limits));
  TRY(auto pair, os::make_seqpacket_pair());
  slot.control = std::move(pair.first);
  slot.pid = 0;
  slot.packets = 0;
  const int on = 1;
  ::fcntl(slot.control.get(), F_SETFL, O_NONBLOCK);
  ::setsockopt(slot.control.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  std::array<int, os::kFdsPerMessageMax> fds{};
  std::size_t count = 0;
  fds[count++] = pair.second.get();
  if (slot.cgroup) {
    if (cgroups_ == CgroupKind::V2) fds[count++] = slot.cgroup->folder_fd();
    else
      for (const auto& file : slot.cgroup->process_files()) fds[count++] = file.get();
  }
  const ForkMessage message{.cgroups = cgroups_, .urgent = a.urgent, .uid = options_.uid_base + a.slot};
  TRY(const auto sent, os::send_message(images_[a.image].socket.get(), bytes_of(message), std::span(fds.data(), count)));
  if (sent == os::SendOutcome::WouldBlock) return Fail({Errc::Unavailable, "the template does not read"});
  return watch(slot.control.get(), EPOLLIN, Tag::Slot, a.slot);
}

void Keeper::run_action(const action::Assign& a) {
  auto& slot = slots_[a.slot];
  const auto& pod = pods_[a.pod];
  Result<> done;
  if (slot.cgroup) done = slot.cgroup->set(a.limits);
  if (done) {
    (*table_)[a.slot] = {.pod = core_.spec(a.pod).id, .pid = slot.pid, .worker = a.worker};
    const AssignMessage message{.worker = a.worker, .memory_bytes_max = a.limits.memory_bytes_max};
    const std::array<int, 4> fds{pod.listener.get(), pod.assignment.get(), pod.metrics.get(), pod.log.get()};
    auto sent = os::send_message(slot.control.get(), bytes_of(message), std::span(fds.data(), pod.log ? 4u : 3u));
    if (sent && *sent == os::SendOutcome::Sent) return;
    done = sent ? Result<>(Fail({Errc::Unavailable, "the parked slot does not read"})) : Result<>(Fail(sent.error()));
  }
  // It ends, is reaped, and the pod is polled again or held.
  LOG_WARN("slot not assigned", {"pod", core_.spec(a.pod).id}, {"slot", a.slot}, {"error", done.error()});
  slot.text = done.error().what;
  if (slot.pid > 0) ::kill(slot.pid, SIGKILL);
}

void Keeper::run_action(const action::CloseSlot& a) {
  auto& slot = slots_[a.slot];
  slot.control.reset();
  // Not parked yet: it has no pid here and will be reaped as a stranger.
  if (slot.pid == 0) core_.on_slot_lost(a.slot, "", now());
}

void Keeper::run_action(const action::Poll& a) {
  auto& pod = pods_[a.pod];
  epoll_event event{.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = pack(Tag::Pod, a.pod)}};
  if (::epoll_ctl(epoll_.get(), pod.registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, pod.listener.get(), &event) == 0) {
    pod.registered = true;
    return;
  }
  if (errno == EEXIST && ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, pod.listener.get(), &event) == 0) {
    pod.registered = true;
    return;
  }
  LOG_ERROR("listener not polled", {"pod", core_.spec(a.pod).id}, {"error", errno_error(errno, "epoll_ctl")});
}

void Keeper::run_action(const action::Unpoll& a) {
  auto& pod = pods_[a.pod];
  if (!std::exchange(pod.registered, false)) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pod.listener.get(), nullptr);
}

void Keeper::run_action(const action::Signal& a) {
  const auto& slot = slots_[a.slot];
  if (slot.pidfd) [[maybe_unused]] const auto sent = os::signal_pidfd(slot.pidfd.get(), a.number);
  else if (slot.pid > 0) ::kill(slot.pid, a.number);  // not reaped yet, so the pid is its own
}

void Keeper::run_action(const action::ForgetPod& a) {
  if (pods_[a.pod].registered) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pods_[a.pod].listener.get(), nullptr);
  pods_[a.pod] = {};
}

void Keeper::run_action(const action::Report& a) {
  if (const auto* exited = std::get_if<PodExited>(&a.event); exited != nullptr && exited->code != 0)
    LOG_INFO("sandbox ended", {"pod", exited->id}, {"pid", exited->row.pid}, {"code", exited->code}, {"signal", exited->signal},
             {"oom", exited->oom_killed}, {"lost", exited->requests_lost}, {"text", exited->text});
  if (const auto* held = std::get_if<PodHeld>(&a.event))
    LOG_WARN("pod held: its sandboxes keep dying", {"pod", held->id}, {"failures", held->failures}, {"delay_ms", held->delay_ms});
  queue({encode(a.event), {}});
}

void Keeper::run_action(const action::Exit&) {
  exiting_ = true;
  LOG_INFO("keeper ends");
  flush_agent();
  for (auto& image : images_) image.socket.reset();
  for (auto& slot : slots_) slot.control.reset();
  // Parked slots and templates end at the end of file; their cgroups go when they are gone.
  for (int i = 0; i < 2000; ++i) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (!tree_ || tree_->remove_all()) break;
    ::usleep(1000);
  }
  ::unlink(options_.socket.c_str());
}

// A pod whose other workers left idle gets them back when those that stayed use most of their processor share.
void Keeper::sample_busy_pods() {
  sample_at_ = {};
  static const double ticks_per_second = static_cast<double>(::sysconf(_SC_CLK_TCK));
  for (const auto row : core_.short_of_workers()) {
    std::uint64_t ticks = 0;
    const auto workers = core_.workers(row);
    for (const auto& worker : workers) ticks += cpu_ticks(worker.pid);
    const auto at = now();
    auto& pod = pods_[row];
    const auto before = std::exchange(pod.cpu_ticks, ticks);
    const auto interval = std::chrono::duration<double>(at - std::exchange(pod.sampled_at, at)).count();
    // The first look, or one of another set of workers, is only a beginning.
    if (std::exchange(pod.workers_sampled, workers.size()) != workers.size() || interval > 5 || ticks < before) continue;
    const auto& spec = core_.spec(row);
    const double share = spec.cpu_millis_max == 0 ? 1.0 : std::min(1.0, spec.cpu_millis_max / 1000.0 / spec.workers);
    const double used = static_cast<double>(ticks - before) / ticks_per_second;
    if (used > kBusyShare * interval * share * static_cast<double>(workers.size())) core_.worker_missing(row, at);
  }
  act();
}

}  // namespace

std::uint64_t take_lost_requests(int metrics_page, std::uint16_t worker) {
  auto page = metrics::Page::map(metrics_page);
  if (!page) {
    LOG_WARN("lost requests not counted", {"error", page.error()});
    return 0;
  }
  return worker < page->workers() ? metrics::account_for_death(*page, worker) : 0;
}

Result<> keeper_main(const KeeperOptions& options) {
  Keeper keeper(options);
  TRY_OK(keeper.start());
  return keeper.run();
}

}  // namespace skerry::sandbox
