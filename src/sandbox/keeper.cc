// SPDX-License-Identifier: Apache-2.0
#include "sandbox/keeper.h"

#include <fcntl.h>
#include <sys/epoll.h>
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
#include <format>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "metrics/page.h"
#include "os/file.h"
#include "os/seqpacket.h"
#include "os/spawn.h"
#include "sandbox/hardening.h"
#include "sandbox/keeper_shell.h"
#include "sandbox/process_status.h"

namespace skerry::sandbox {
namespace {

constexpr unsigned kSlotPacketsMax = 64;
constexpr Duration kBusySample = 1s;         // how often pods short of workers are looked at
constexpr double kBusyShare = 0.6;           // of its processor share: then the other workers come back

}  // namespace

Result<> Keeper::watch(int fd, std::uint32_t events, Tag tag, std::uint64_t index) {
  epoll_event event{.events = events, .data = {.u64 = pack(tag, index)}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return Fail(errno_error(errno, "epoll_ctl"));
  return {};
}

Result<> Keeper::start() {
  TRY_OK(os::make_folders(options_.state, 0700));
  TRY(lock_, os::lock_file(options_.socket.native() + ".lock"));
  ::prctl(PR_SET_NAME, "skerry-keeper");
  go_first();
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
  if (options_.parent != 0) TRY_OK(os::end_with(static_cast<pid_t>(options_.parent), SIGTERM));
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
    take_over(slot);
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

// Its pod's descriptors, for an agent that has lost them too, and to count what is lost with it. Who hands over something else
// than what it was given is killed.
void Keeper::take_over(SlotId slot) {
  auto& resources = slots_[slot];
  auto taken = take_descriptors(resources.pidfd.get());
  if (taken) {
    resources.taken = std::move(*taken);
    return;
  }
  if (taken.error().code == Errc::NotFound) return;
  if (taken.error().code == Errc::Corrupt) {
    LOG_WARN("a sandbox of an earlier keeper is killed", {"slot", slot}, {"pid", resources.pid}, {"reason", taken.error()});
    run_action(action::Signal{slot, SIGKILL});
  } else if (!std::exchange(refusal_told_, true)) {
    LOG_WARN("sandboxes of an earlier keeper serve on only if the agent still has their listeners: the kernel does not let them be taken over",
             {"error", taken.error()});
  }
}

void Keeper::take_over_found() {
  for (SlotId slot = 0; slot < slots_.size(); ++slot)
    if (core_.is_found(slot) && !slots_[slot].taken) take_over(slot);
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

int Keeper::metrics_page_of(SlotId slot) const {
  if (const auto owner = core_.owner(slot)) return pods_[owner->pod].metrics.get();
  return slots_[slot].taken ? slots_[slot].taken->metrics.get() : -1;
}

void Keeper::slot_ended(SlotId slot, SlotExit exit) {
  auto& resources = slots_[slot];
  const bool unknown = exit.code == -1 && exit.signal == 0;
  // Its last words may still be unread.
  if (resources.control) on_slot(slot, EPOLLIN);
  if ((exit.signal == SIGKILL || unknown) && resources.cgroup) {
    const auto kills = resources.cgroup->oom_kills();
    exit.oom_killed = kills > resources.oom_kills_before;
    if (exit.oom_killed) exit.signal = SIGKILL;
    resources.oom_kills_before = kills;
  }
  if (const int page = metrics_page_of(slot); page >= 0) exit.lost = take_losses(page, (*table_)[slot].worker);
  resources.taken.reset();
  resources.killed = false;
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
  const auto status = options_.exit_info == ExitInfo::Kernel ? exit_status_of_stranger(resources.pidfd.get()) : std::nullopt;
  SlotExit exit;
  if (status) exit = exit_of_wait_status(*status);
  else if (says_left_in_order(metrics_page_of(slot), (*table_)[slot].worker)) exit.code = 0;
  else if (resources.killed) exit.signal = SIGKILL;
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

bool says_left_in_order(int metrics_page, std::uint16_t worker) {
  if (metrics_page < 0) return false;
  auto page = metrics::Page::map(metrics_page);
  return page && metrics::left_in_order(*page, worker);
}

metrics::Losses take_losses(int metrics_page, std::uint16_t worker) {
  auto page = metrics::Page::map(metrics_page);
  if (!page) {
    LOG_WARN("lost requests not counted", {"error", page.error()});
    return {};
  }
  return metrics::account_for_death(*page, worker);
}

Result<> keeper_main(const KeeperOptions& options) {
  Keeper keeper(options);
  TRY_OK(keeper.start());
  return keeper.run();
}

}  // namespace skerry::sandbox
