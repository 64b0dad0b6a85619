// SPDX-License-Identifier: Apache-2.0
#include "sandbox/keeper_core.h"

#include <algorithm>
#include <csignal>
#include <format>
#include <utility>

#include "base/check.h"

namespace skerry::sandbox {

os::CgroupLimits KeeperCore::limits_of(const PodSpec& spec) {
  return {.memory_bytes_max = spec.memory_bytes_max / spec.workers,
          .cpu_millis_max = spec.cpu_millis_max == 0 ? 0 : std::max(1u, spec.cpu_millis_max / spec.workers),
          .cpu_millis_requested = spec.cpu_millis_requested == 0 ? 0 : std::max(1u, spec.cpu_millis_requested / spec.workers)};
}

// --- commands

Result<ImageId> KeeperCore::put_image(const std::string& key, Instant now) {
  if (shutting_down_) return Fail({Errc::Unavailable, "put image: the keeper is shutting down"});
  if (const auto known = image_ids_.find(key); known != image_ids_.end()) {
    auto& image = images_[known->second];
    if (image.state == Image::State::Failed) start_template(known->second, now);
    return known->second;
  }
  if (image_ids_.size() >= options_.images_max)
    return Fail({Errc::Exhausted, std::format("put image {}: {} images are loaded, which is the limit; drop one first", key, options_.images_max)});
  ImageId id = 0;
  while (id < images_.size() && images_[id].state != Image::State::Unused) ++id;
  if (id == images_.size()) images_.emplace_back();
  images_[id] = Image{};
  images_[id].key = key;
  images_[id].target = options_.parked_min;
  image_ids_[key] = id;
  start_template(id, now);
  return id;
}

Result<> KeeperCore::drop_image(const std::string& key) {
  const auto known = image_ids_.find(key);
  if (known == image_ids_.end()) return {};
  const ImageId id = known->second;
  auto& image = images_[id];
  if (image.pods != 0) return Fail({Errc::Conflict, std::format("drop image {}: {} pods name it; drop them first", key, image.pods)});
  for (const auto slot : image.parked) {
    slots_[slot].state = Slot::State::Closing;
    actions_.push_back(action::CloseSlot{slot});
  }
  for (SlotId slot = 0; slot < slots_.size(); ++slot)
    if (slots_[slot].image == id && slots_[slot].state != Slot::State::Free) {
      if (slots_[slot].state == Slot::State::Forking) {
        slots_[slot].state = Slot::State::Closing;
        actions_.push_back(action::CloseSlot{slot});
      }
      slots_[slot].image = kNone;
    }
  actions_.push_back(action::StopTemplate{id});
  image = Image{};
  image_ids_.erase(known);
  return {};
}

Result<KeeperCore::Put> KeeperCore::put_pod(const PodSpec& spec, Instant now) {
  if (shutting_down_) return Fail({Errc::Unavailable, "put pod: the keeper is shutting down"});
  const auto image = image_ids_.find(spec.image);
  if (image == image_ids_.end())
    return Fail({Errc::NotFound, std::format("put pod {}: image {} is not loaded; send PutImage first", spec.id, spec.image)});
  if (const auto known = rows_.find(spec.id); known != rows_.end()) {
    auto& pod = pods_[known->second];
    if (pod.state == PodState::Stopping)
      return Fail({Errc::Conflict, std::format("put pod {}: it is stopping; wait for PodStopped", spec.id)});
    if (pod.image != image->second) {
      --images_[pod.image].pods;
      forget_waiters(known->second);
      pod.image = image->second;
      ++images_[pod.image].pods;
    }
    many_worker_pods_ += (spec.workers > 1 ? 1u : 0u) - (pod.spec.workers > 1 ? 1u : 0u);
    pod.spec = spec;
    images_[pod.image].limits_next = limits_of(spec);
    if (pod.state == PodState::Stopped) {
      pod.failures = 0;
      pod.state = PodState::Idle;
    }
    if (pod.state == PodState::Idle) actions_.push_back(action::Poll{known->second});
    if (pod.state == PodState::Waiting && pod.live.empty() && !waits(known->second)) want_missing(known->second, now);
    return Put{known->second, false};
  }
  if (rows_.size() >= options_.pods_max)
    return Fail({Errc::Exhausted, std::format("put pod {}: {} pods are held, which is the limit", spec.id, options_.pods_max)});
  PodRow row;
  if (free_rows_.empty()) {
    row = static_cast<PodRow>(pods_.size());
    pods_.emplace_back();
  } else {
    row = free_rows_.back();
    free_rows_.pop_back();
  }
  auto& pod = pods_[row];
  pod = Pod{};
  pod.used = true;
  pod.spec = spec;
  many_worker_pods_ += spec.workers > 1 ? 1u : 0u;
  pod.image = image->second;
  ++images_[pod.image].pods;
  images_[pod.image].limits_next = limits_of(spec);
  rows_[spec.id] = row;
  for (SlotId slot = 0; slot < slots_.size(); ++slot) {
    auto& s = slots_[slot];
    if (s.state != Slot::State::Found || s.found_pod != spec.id) continue;
    s.state = Slot::State::Serving;
    s.pod = row;
    s.since = now;
    pod.live.push_back(slot);
    pod.state = PodState::Awake;
    report(PodAwake{spec.id, {s.pid, s.worker, slot}, 0});
  }
  if (pod.live.empty()) actions_.push_back(action::Poll{row});
  return Put{row, true};
}

Result<> KeeperCore::stop_pod(std::uint64_t id, Duration grace, Instant now) {
  const auto known = rows_.find(id);
  if (known == rows_.end()) return Fail({Errc::NotFound, std::format("stop pod {}: it is not known here", id)});
  begin_stop(known->second, grace, now);
  return {};
}

void KeeperCore::begin_stop(PodRow row, Duration grace, Instant now) {
  auto& pod = pods_[row];
  if (pod.state == PodState::Stopped) return report(PodStopped{pod.spec.id});
  const bool again = pod.state == PodState::Stopping;  // a second stop may shorten the grace
  if (pod.state == PodState::Idle) actions_.push_back(action::Unpoll{row});
  forget_waiters(row);
  pod.state = PodState::Stopping;
  pod.deadline = again ? std::min(pod.deadline, now + grace) : now + grace;
  timers_.push({pod.deadline, Timer::Kind::Pod, row});
  for (const auto slot : pod.live) {
    // A SIGTERM before its handler stands would be lost: the sandbox is process 1 of its namespace.
    if (slots_[slot].state != Slot::State::Serving) slots_[slot].stop_when_serving = true;
    else if (!again) actions_.push_back(action::Signal{slot, SIGTERM});
  }
  if (pod.live.empty()) rest(row, now);
}

Result<> KeeperCore::drop_pod(std::uint64_t id, Instant) {
  const auto known = rows_.find(id);
  if (known == rows_.end()) {
    for (SlotId slot = 0; slot < slots_.size(); ++slot)
      if (slots_[slot].state == Slot::State::Found && slots_[slot].found_pod == id) actions_.push_back(action::Signal{slot, SIGKILL});
    return {};
  }
  const PodRow row = known->second;
  auto& pod = pods_[row];
  if (pod.state == PodState::Idle) actions_.push_back(action::Unpoll{row});
  forget_waiters(row);
  for (const auto slot : pod.live) {
    slots_[slot].state = Slot::State::Closing;
    actions_.push_back(action::Signal{slot, SIGKILL});
  }
  --images_[pod.image].pods;
  many_worker_pods_ -= pod.spec.workers > 1 ? 1u : 0u;
  rows_.erase(known);
  pod.dropped = true;
  pod.state = PodState::Stopping;
  if (pod.live.empty()) forget(row);
  return {};
}

void KeeperCore::forget(PodRow row) {
  actions_.push_back(action::ForgetPod{row});
  pods_[row] = Pod{};
  free_rows_.push_back(row);
}

void KeeperCore::report_lost(std::uint64_t id, const metrics::Losses& lost) {
  if (lost != metrics::Losses{}) report(SandboxLost{id, lost.requests, lost.connections});
}

void KeeperCore::refilled() {
  for (SlotId slot = 0; slot < slots_.size(); ++slot)
    if (slots_[slot].state == Slot::State::Found) actions_.push_back(action::Signal{slot, SIGKILL});
}

void KeeperCore::shutdown(Duration grace, Instant now) {
  shutting_down_ = true;
  refilled();
  for (const auto row : rows())
    if (pods_[row].state != PodState::Stopped) begin_stop(row, grace, now);
}

// --- what happened

void KeeperCore::on_readable(PodRow row, Instant now) {
  if (row >= pods_.size() || !pods_[row].used || pods_[row].state != PodState::Idle) return;
  auto& pod = pods_[row];
  pod.state = PodState::Waiting;
  pod.readable_at = now;
  want_missing(row, now);
}

void KeeperCore::want_missing(PodRow row, Instant now) {
  std::uint64_t held = 0;
  for (const auto slot : pods_[row].live) held |= std::uint64_t{1} << slots_[slot].worker;
  for (std::uint16_t worker = 0; worker < pods_[row].spec.workers; ++worker)
    if ((held >> worker & 1) == 0) want(row, worker, now);
}

void KeeperCore::want(PodRow row, std::uint16_t worker, Instant now) {
  auto& image = images_[pods_[row].image];
  if (image.parked.empty()) {
    image.waiters.push_back({row, worker});
    grow(image, pods_[row].image, now);
    return;
  }
  const SlotId slot = image.parked.back();
  image.parked.pop_back();
  assign(slot, row, worker, now);
  image.refill_at = now + options_.refill_delay;
  if (options_.refill_delay > Duration{0}) timers_.push({image.refill_at, Timer::Kind::Refill, pods_[row].image});
  if (image.parked.empty()) grow(image, pods_[row].image, now);
  else if (image.parked.size() < image.target / 2) image.shrink_at = now + options_.shrink_after;
}

void KeeperCore::grow(Image& image, ImageId id, Instant now) {
  image.target = std::min(std::max(image.target * 2, options_.parked_min), options_.parked_max);
  image.shrink_at = now + options_.shrink_after;
  if (std::exchange(image.shrink_armed, true)) return;
  timers_.push({image.shrink_at, Timer::Kind::Shrink, id});
}

void KeeperCore::assign(SlotId slot, PodRow row, std::uint16_t worker, Instant now) {
  auto& s = slots_[slot];
  CHECK(s.pod == kNone);
  s.state = Slot::State::Assigned;
  s.pod = row;
  s.worker = worker;
  s.since = now;
  s.stop_when_serving = false;
  pods_[row].live.push_back(slot);
  actions_.push_back(action::Assign{slot, row, worker, limits_of(pods_[row].spec)});
}

bool KeeperCore::waits(PodRow row) const {
  return std::ranges::any_of(images_[pods_[row].image].waiters, [row](const Waiter& w) { return w.pod == row; });
}

void KeeperCore::forget_waiters(PodRow row) {
  std::erase_if(images_[pods_[row].image].waiters, [row](const Waiter& w) { return w.pod == row; });
}

void KeeperCore::start_template(ImageId id, Instant now) {
  images_[id].state = Image::State::Starting;
  images_[id].started_at = now;
  images_[id].lost_in_row = 0;
  timers_.push({now + options_.answer_max, Timer::Kind::Load, id});
  actions_.push_back(action::StartTemplate{id});
}

void KeeperCore::on_template_ready(ImageId id, std::int32_t pid, std::uint32_t load_us, Instant) {
  auto& image = images_[id];
  if (image.state != Image::State::Starting) return;
  image.state = Image::State::Ready;
  report(ImageReady{image.key, pid, load_us});
}

void KeeperCore::on_template_failed(ImageId id, std::string text, Instant) {
  if (images_[id].state == Image::State::Unused) return;
  images_[id].state = Image::State::Failed;
  report(ImageFailed{images_[id].key, std::move(text)});
}

void KeeperCore::on_template_exited(ImageId id, Instant now) {
  auto& image = images_[id];
  if (image.state != Image::State::Starting && image.state != Image::State::Ready) return;
  back_off(id, now);
}

void KeeperCore::back_off(ImageId id, Instant now) {
  auto& image = images_[id];
  if (shutting_down_) return;
  if (now - image.started_at > options_.restart_max) image.deaths = 0;
  const Duration delay = std::min(options_.restart_min * (std::int64_t{1} << std::min(image.deaths, 16u)), options_.restart_max);
  image.restart_at = image.deaths == 0 ? now : now + delay;
  ++image.deaths;
  image.state = Image::State::Down;
  timers_.push({image.restart_at, Timer::Kind::Restart, id});
}

void KeeperCore::on_slot_parked(SlotId slot, std::int32_t pid, Instant now) {
  auto& s = slots_[slot];
  s.pid = pid;
  if (s.state != Slot::State::Forking) return;  // closed meanwhile: it ends by itself
  auto& image = images_[s.image];
  --image.forking;
  image.lost_in_row = 0;
  s.state = Slot::State::Parked;
  if (image.waiters.empty()) {
    image.parked.push_back(slot);
    return;
  }
  const Waiter waiter = image.waiters.front();
  image.waiters.pop_front();
  assign(slot, waiter.pod, waiter.worker, now);
}

void KeeperCore::on_slot_lost(SlotId slot, std::string text, Instant now) {
  auto& s = slots_[slot];
  if (s.state == Slot::State::Free) return;
  if (s.state == Slot::State::Forking) {
    auto& image = images_[s.image];
    --image.forking;
    // Slots that go down with their template are no sign of a bad image.
    if (image.state == Image::State::Ready && ++image.lost_in_row >= 8) {
      report(ImageFailed{image.key, std::format("its sandboxes end before they are ready: {}; it is tried again",
                                                text.empty() ? "without a word" : text)});
      back_off(s.image, now);
    }
  }
  free_slot(slot);
}

void KeeperCore::on_slot_serving(SlotId slot, Instant now) {
  auto& s = slots_[slot];
  if (s.state != Slot::State::Assigned) return;
  s.state = Slot::State::Serving;
  auto& pod = pods_[s.pod];
  if (s.stop_when_serving) actions_.push_back(action::Signal{slot, SIGTERM});
  if (pod.state == PodState::Waiting) pod.state = PodState::Awake;
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now - pod.readable_at).count();
  report(PodAwake{pod.spec.id, {s.pid, s.worker, slot}, static_cast<std::uint32_t>(std::clamp<std::int64_t>(us, 0, ~std::uint32_t{0}))});
}

void KeeperCore::on_slot_exited(SlotId slot, SlotExit exit, Instant now) {
  if (slot >= slots_.size()) return;
  const Slot s = slots_[slot];
  if (s.state == Slot::State::Free) return;
  if (s.state == Slot::State::Forking) --images_[s.image].forking;
  if (s.state == Slot::State::Parked) std::erase(images_[s.image].parked, slot);
  free_slot(slot);
  if (s.state == Slot::State::Found) {
    report_lost(s.found_pod, exit.lost);
    const bool others = std::ranges::any_of(slots_, [&s](const Slot& other) { return other.state == Slot::State::Found && other.found_pod == s.found_pod; });
    if (!others) report(PodIdle{s.found_pod});  // an agent that was told of them may count them as awake
    return;
  }
  if (s.pod == kNone) return;
  const PodRow row = s.pod;
  auto& pod = pods_[row];
  std::erase(pod.live, slot);
  if (pod.dropped) {
    report_lost(pod.spec.id, exit.lost);
    if (pod.live.empty()) forget(row);
    return;
  }
  const bool failed = exit.signal != 0 || exit.code != 0;
  if (!failed) pod.failures = 0;
  else pod.failures = now - s.since < options_.healthy_after ? pod.failures + 1 : 1;
  report(PodExited{pod.spec.id, {s.pid, s.worker, slot}, exit.code, exit.signal, exit.oom_killed, exit.lost.requests, exit.lost.connections, std::move(exit.text)});
  const bool workers_wait = waits(row);
  if (pod.live.empty() && !workers_wait) return rest(row, now);
  if (failed && pod.state != PodState::Stopping && pod.failures <= options_.failures_free) want(row, s.worker, now);
}

void KeeperCore::rest(PodRow row, Instant now) {
  auto& pod = pods_[row];
  if (pod.state == PodState::Stopping) {
    pod.state = PodState::Stopped;
    return report(PodStopped{pod.spec.id});
  }
  if (pod.failures > options_.failures_free) {
    const std::uint32_t doublings = std::min(pod.failures - options_.failures_free - 1, 20u);
    const Duration delay = std::min(options_.hold_min * (std::int64_t{1} << doublings), options_.hold_max);
    pod.state = PodState::Held;
    pod.deadline = now + delay;
    timers_.push({pod.deadline, Timer::Kind::Pod, row});
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(delay).count();
    return report(PodHeld{pod.spec.id, static_cast<std::uint32_t>(ms), pod.failures});
  }
  pod.state = PodState::Idle;
  actions_.push_back(action::Poll{row});
  report(PodIdle{pod.spec.id});
}

void KeeperCore::worker_missing(PodRow row, Instant now) {
  if (pods_[row].used && pods_[row].state == PodState::Awake && !waits(row)) want_missing(row, now);
}

bool KeeperCore::found(SlotId slot, std::int32_t pid, std::uint64_t pod, std::uint16_t worker) {
  if (slot >= options_.slots_max) return false;
  if (slot >= slots_.size()) {
    for (auto id = static_cast<SlotId>(slots_.size()); id < slot; ++id) free_slots_.push_back(id);
    slots_.resize(slot + 1);
  } else {
    if (slots_[slot].state != Slot::State::Free) return false;
    std::erase(free_slots_, slot);
  }
  ++slots_in_use_;
  auto& s = slots_[slot];
  s.state = Slot::State::Found;
  s.pid = pid;
  s.found_pod = pod;
  s.worker = worker;
  return true;
}

// --- slots

SlotId KeeperCore::take_slot() {
  if (slots_in_use_ >= options_.slots_max) return kNone;
  SlotId slot;
  if (!free_slots_.empty()) {
    slot = free_slots_.back();
    free_slots_.pop_back();
  } else {
    slot = static_cast<SlotId>(slots_.size());
    slots_.emplace_back();
  }
  ++slots_in_use_;
  return slot;
}

void KeeperCore::free_slot(SlotId slot) {
  CHECK(slots_[slot].state != Slot::State::Free);
  slots_[slot] = Slot{};
  free_slots_.push_back(slot);
  --slots_in_use_;
}

void KeeperCore::balance(ImageId id, Instant now) {
  auto& image = images_[id];
  if (image.state != Image::State::Ready || shutting_down_) return;
  while (image.forking < image.waiters.size() && image.forking < options_.forking_max)
    if (!spawn(id, now)) return;
  // An image without pods keeps its template but no slots.
  while (image.parked.size() > (image.pods == 0 ? 0 : image.target)) {
    const SlotId slot = image.parked.front();
    image.parked.erase(image.parked.begin());
    slots_[slot].state = Slot::State::Closing;
    actions_.push_back(action::CloseSlot{slot});
  }
}

bool KeeperCore::spawn(ImageId id, Instant now) {
  const SlotId slot = take_slot();
  if (slot == kNone) return false;
  auto& image = images_[id];
  slots_[slot].state = Slot::State::Forking;
  slots_[slot].image = id;
  slots_[slot].since = now;
  ++image.forking;
  if (!std::exchange(image.fork_watched, true)) timers_.push({now + options_.answer_max, Timer::Kind::Fork, id});
  actions_.push_back(action::SpawnSlot{id, slot, image.limits_next});
  return true;
}

bool KeeperCore::short_of_slots(const Image& image, Instant now) const {
  if (image.state != Image::State::Ready || image.pods == 0 || shutting_down_ || slots_in_use_ >= options_.slots_max) return false;
  if (image.forking >= options_.forking_max || image.parked.size() + image.forking >= image.target + image.waiters.size()) return false;
  return now >= image.refill_at || image.parked.size() * 2 < image.target;
}

bool KeeperCore::refill_due(Instant now) const {
  return std::ranges::any_of(images_, [&](const Image& image) { return short_of_slots(image, now); });
}

void KeeperCore::refill(Instant now) {
  for (ImageId id = 0; id < images_.size(); ++id)
    if (short_of_slots(images_[id], now)) {
      spawn(id, now);
      return;
    }
}

void KeeperCore::on_timer(const Timer& timer, Instant now) {
  switch (timer.kind) {
    case Timer::Kind::Pod: {
      auto& pod = pods_[timer.index];
      if (!pod.used || pod.deadline != timer.when) return;
      if (pod.state == PodState::Held) {
        pod.state = PodState::Idle;
        actions_.push_back(action::Poll{timer.index});
      } else if (pod.state == PodState::Stopping) {
        for (const auto slot : pod.live) actions_.push_back(action::Signal{slot, SIGKILL});
      }
      return;
    }
    case Timer::Kind::Restart:
      if (images_[timer.index].state == Image::State::Down && images_[timer.index].restart_at == timer.when) start_template(timer.index, now);
      return;
    case Timer::Kind::Shrink: {
      auto& image = images_[timer.index];
      if (image.shrink_at <= now) {
        image.target = std::max(options_.parked_min, image.target - (image.target + 3) / 4);
        image.shrink_at = now + options_.shrink_after;
      }
      image.shrink_armed = image.target > options_.parked_min;
      if (image.shrink_armed) timers_.push({image.shrink_at, Timer::Kind::Shrink, timer.index});
      return;
    }
    case Timer::Kind::Refill: return;  // refill_due() says the rest
    case Timer::Kind::Load: {
      const auto& image = images_[timer.index];
      if (image.state != Image::State::Starting || image.started_at + options_.answer_max != timer.when) return;
      report(ImageFailed{image.key, "its template has not loaded it in time; it is killed and tried again"});
      actions_.push_back(action::KillTemplate{timer.index});
      return;
    }
    case Timer::Kind::Fork: {
      // One look for all slots of an image: the timers are as few as the images.
      auto& image = images_[timer.index];
      image.fork_watched = image.state != Image::State::Unused && image.forking > 0;
      if (!image.fork_watched) return;
      timers_.push({now + options_.answer_max, Timer::Kind::Fork, timer.index});
      bool hangs = false;
      for (SlotId slot = 0; slot < slots_.size(); ++slot) {
        const auto& s = slots_[slot];
        if (s.state != Slot::State::Forking || s.image != timer.index || now - s.since < options_.answer_max) continue;
        hangs = true;
        actions_.push_back(action::CloseSlot{slot});  // lost, and another one comes
      }
      if (!hangs) return;
      report(ImageFailed{image.key, "its sandboxes were not ready in time; its template is killed and tried again"});
      actions_.push_back(action::KillTemplate{timer.index});
      return;
    }
  }
}

void KeeperCore::poll(Instant now) {
  while (!timers_.empty() && timers_.top().when <= now) {
    const Timer timer = timers_.top();
    timers_.pop();
    on_timer(timer, now);
  }
  for (ImageId id = 0; id < images_.size(); ++id) balance(id, now);
  if (shutting_down_ && !exited_ &&
      std::ranges::all_of(pods_, [](const Pod& pod) { return !pod.used || pod.state == PodState::Stopped; })) {
    exited_ = true;
    actions_.push_back(action::Exit{});
  }
}

std::optional<Instant> KeeperCore::next_deadline() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.top().when;
}

// --- what is

std::optional<PodRow> KeeperCore::row_of(std::uint64_t id) const {
  const auto known = rows_.find(id);
  return known == rows_.end() ? std::nullopt : std::optional(known->second);
}
std::vector<PodRow> KeeperCore::rows() const {
  std::vector<PodRow> rows;
  for (PodRow row = 0; row < pods_.size(); ++row)
    if (pods_[row].used && !pods_[row].dropped) rows.push_back(row);
  return rows;
}
std::vector<WorkerRow> KeeperCore::workers(PodRow row) const {
  std::vector<WorkerRow> workers;
  for (const auto slot : pods_[row].live) workers.push_back({slots_[slot].pid, slots_[slot].worker, slot});
  return workers;
}
std::vector<PodRow> KeeperCore::short_of_workers() const {
  std::vector<PodRow> rows;
  if (many_worker_pods_ == 0) return rows;
  for (PodRow row = 0; row < pods_.size(); ++row)
    if (pods_[row].used && pods_[row].state == PodState::Awake && pods_[row].live.size() < pods_[row].spec.workers) rows.push_back(row);
  return rows;
}
std::optional<KeeperCore::SlotOwner> KeeperCore::owner(SlotId slot) const {
  if (slot >= slots_.size() || slots_[slot].pod == kNone) return std::nullopt;
  return SlotOwner{slots_[slot].pod, slots_[slot].worker};
}
std::optional<ImageId> KeeperCore::image_of(const std::string& key) const {
  const auto known = image_ids_.find(key);
  return known == image_ids_.end() ? std::nullopt : std::optional(known->second);
}
std::vector<std::pair<std::string, bool>> KeeperCore::images() const {
  std::vector<std::pair<std::string, bool>> images;
  for (const auto& [key, id] : image_ids_) images.emplace_back(key, images_[id].state == Image::State::Ready);
  return images;
}
std::uint32_t KeeperCore::found_unclaimed() const {
  return static_cast<std::uint32_t>(std::ranges::count_if(slots_, [](const Slot& slot) { return slot.state == Slot::State::Found; }));
}

}  // namespace skerry::sandbox
