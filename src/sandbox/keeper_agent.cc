// SPDX-License-Identifier: Apache-2.0
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <format>
#include <map>

#include "base/log.h"
#include "os/seqpacket.h"
#include "os/spawn.h"
#include "sandbox/keeper_shell.h"

namespace skerry::sandbox {
namespace {

constexpr std::size_t kOutgoingMax = 65536;  // events that an agent may leave unread before its connection is closed

}  // namespace

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
    take_over_found();  // what is lost with those that nobody claimed is counted in their pages
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
  for (const auto& worker : core_.workers(row)) slots_[worker.slot].taken.reset();
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
  for (const auto& [key, ready] : core_.images()) queue({.bytes = encode(Event(DumpedImage{key, ready}))});
  for (const auto row : core_.rows()) {
    const auto& spec = core_.spec(row);
    queue({.bytes = encode(Event(DumpedPod{spec, core_.state(row), core_.workers(row)})), .pod = spec.id});
  }
  dump_found();
  queue({.bytes = encode(Event(DumpEnd{}))});
}

// A pod's workers share their descriptors: one that has others is killed.
void Keeper::dump_found() {
  take_over_found();
  std::map<std::uint64_t, std::pair<SlotId, FoundPod>> pods;
  for (SlotId slot = 0; slot < slots_.size(); ++slot) {
    const auto& taken = slots_[slot].taken;
    if (!taken || !core_.is_found(slot)) continue;
    const auto& row = (*table_)[slot];
    auto& [first, pod] = pods.try_emplace(row.pod, slot, FoundPod{.id = row.pod, .workers = {}}).first->second;
    const auto& of_first = *slots_[first].taken;
    if (!same_file(taken->listener.get(), of_first.listener.get()) || !same_file(taken->metrics.get(), of_first.metrics.get()) ||
        pod.workers.size() == kWorkersMax) {
      LOG_WARN("a sandbox of an earlier keeper is killed: it holds other descriptors than its pod's first", {"pod", row.pod}, {"slot", slot});
      run_action(action::Signal{slot, SIGKILL});
      continue;
    }
    pod.workers.push_back({row.pid, row.worker, slot});
  }
  for (auto& [id, found] : pods) queue({.bytes = encode(Event(std::move(found.second))), .found = found.first});
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
    } else if (message.found) {
      const auto& taken = slots_[*message.found].taken;
      if (!taken) {  // it ended, or was claimed
        outgoing_.pop_front();
        continue;
      }
      for (const auto* fd : {&taken->listener, &taken->assignment, &taken->metrics}) fds[count++] = fd->get();
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

}  // namespace skerry::sandbox
