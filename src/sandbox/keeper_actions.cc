// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <format>

#include "base/check.h"
#include "base/log.h"
#include "os/seqpacket.h"
#include "os/spawn.h"
#include "sandbox/keeper_shell.h"

namespace skerry::sandbox {

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

void Keeper::run_action(const action::KillTemplate& a) {
  LOG_WARN("template killed: it does not answer", {"image", images_[a.image].load.name}, {"pid", images_[a.image].pid});
  if (images_[a.image].pid > 0) ::kill(images_[a.image].pid, SIGKILL);  // ours and not reaped: the pid is its own
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
  const ForkMessage message{.cgroups = cgroups_, .uid = options_.uid_base + a.slot};
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
  auto& slot = slots_[a.slot];
  if (a.number == SIGKILL) slot.killed = true;
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
  queue({.bytes = encode(a.event)});
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

}  // namespace skerry::sandbox
