// SPDX-License-Identifier: Apache-2.0
// What the agent does now and then: slow writes, the check against the API server, relief of memory, rotation of logs.
#include <algorithm>
#include <format>
#include <set>
#include <utility>

#include "agent/agent_state.h"
#include "base/check.h"
#include "base/log.h"

namespace skerry::agent {
namespace {
constexpr Duration kTick = 1s, kCollectPeriod = 5min;
constexpr Duration kTrustedAfter = 15s;  // the line is back: so long may the server's slices be of the time when it heard nothing
constexpr std::uint32_t kTrimGraceMillis = 5000;
// Reading a process costs about 20 µs: where many are awake, less often.
constexpr Duration kLoadPeriod = 250ms, kLoadPeriodOfMany = 1s;
constexpr std::size_t kManyAwake = 100;
}  // namespace

MachineFacts Agent::State::machine_now() const { return deps.machine ? deps.machine() : read_machine(options.data_folder.string()); }

rt::Task<> Agent::State::run_ticks() {
  const Duration period = std::min({kTick, options.relief_period, options.log_check_period, options.slow_write_period});
  for (;;) {
    CO_TRY_OK(co_await rt::sleep_for(period));
    tick(deps.clock.instant());
  }
}

void Agent::State::tick(Instant t) {
  references.tick(t);
  owners.tick(t, reporter.reachable() ? OwnerCache::Line::There : OwnerCache::Line::Away);
  if (reporter.reachable() != was_reachable || (trusts_at != Instant{} && t >= trusts_at)) work.set();
  if (t >= trusts_at) trusts_at = Instant{};
  intents.on_line(reporter.reachable(), t);
  if (reporter.reachable() && !was_reachable) {
    images.on_line_back();
    trusts_at = t + kTrustedAfter;
  }
  // The line is lost: the watches that hang on it would say nothing for minutes, and not end.
  if (was_reachable && !reporter.reachable()) {
    for (client::Informer* informer : {&pod_informer, &service_informer, &slice_informer, &edge_informer}) informer->reconnect();
    convergence.forget();
  }
  was_reachable = reporter.reachable();
  if (images.changed()) {
    node_images.clear();
    for (const oci::Image& image : images.list()) node_images.push_back({image.reference.text(), static_cast<std::int64_t>(image.size)});
    reporter.touch();
    for (auto& [uid, entry] : entries) {
      entry->core.on_image_maybe_changed();
      mark(uid);
    }
  }
  if (refilled_at != Instant{} && t >= refilled_at) {
    refilled_at = Instant{};
    keeper->send(sandbox::Refilled{});
  }
  if (t >= slow_at) {
    slow_at = t + options.slow_write_period;
    if (!journal.waiting()) write_slowly(t);
    tell_service_problems();
  }
  if (t >= relieve_at) {
    relieve_at = t + options.relief_period;
    relieve_memory();
  }
  if (t >= rotate_at) {
    rotate_at = t + options.log_check_period;
    rotate_logs(deps.clock.now());
  }
  // What is being written is told right afterwards, and is no difference.
  if (t >= minute_at && (!journal.waiting() || !disk_trouble.empty())) {
    minute_at = t + 1min;
    tick_minute();
  }
  if (writes_of_objects != writes_copied && t >= copy_at && !copying) {
    copying = true;
    copy_at = t + Checkpoint::kCopyPeriod;
    tasks.spawn("copy of the checkpoint", copy_checkpoint());
  }
}

// What a damaged checkpoint is replaced by at the next start.
rt::Task<> Agent::State::copy_checkpoint() {
  const std::uint64_t writes = writes_of_objects;
  auto done = co_await disk->run<void>([this]() -> Result<> { return checkpoint->copy(); });
  copying = false;
  if (done) writes_copied = writes;
  else LOG_WARN("no good copy of the checkpoint was made: the former one stays", {"reason", done.error()});
  if (!done && done.error().code == Errc::Corrupt) {  // the next write finds it too, and makes it anew
    journal.put_number(Checkpoint::kOlder, 0);
    work.set();
  }
  co_return Result<>{};
}

// What no pod needs that has not ended.
void Agent::State::forget_references() {
  std::vector<const PodPlan*> plans;
  for (const auto& [uid, entry] : entries) {
    const auto object = pod_informer.get(entry->core.object()->namespace_(), entry->core.object()->name());
    const bool ended = object && object->uid() == uid && (object->phase() == "Succeeded" || object->phase() == "Failed");
    if (!ended) plans.push_back(&entry->core.plan());
  }
  references.keep_only(plans);
}

// What the server shows of a pod against what we know. While something of it is still to be told, that says it.
void Agent::State::tell_if_otherwise(PodEntry& entry, const kube::Object& shown) {
  if (!reporter.reachable() || status.waits(shown.uid()) || !entry.core.repeat_if_otherwise(shown, now())) return;
  drift.add();
  LOG_WARN("pod status at the API server differs: told again", {"pod", shown.name()}, {"namespace", shown.namespace_()});
  mark(shown.uid());
}

// Convergence is checked, not assumed.
void Agent::State::tick_minute() {
  std::vector<const PodPlan*> plans;
  std::set<std::string> keys;
  for (auto& [uid, entry] : entries) {
    plans.push_back(&entry->core.plan());
    for (std::size_t i = 0; i < entry->core.containers(); ++i) keys.emplace(entry->core.image_key(i));
    const auto object = pod_informer.get(entry->core.object()->namespace_(), entry->core.object()->name());
    if (object) tell_if_otherwise(*entry, *object);
  }
  forget_references();
  images.sweep([&](const std::string& key) { return keys.contains(key); }, deps.clock.instant());
  if (deps.clock.instant() >= collect_at) {
    collect_at = deps.clock.instant() + kCollectPeriod;
    std::vector<std::string> named;
    for (const PodPlan* plan : plans)
      for (const ContainerPlan& c : plan->containers) named.push_back(c.image);
    std::ranges::sort(named);
    named.erase(std::unique(named.begin(), named.end()), named.end());
    images.collect(std::move(named), {keys.begin(), keys.end()});
  }
}

// The pods that have a process now and could give its memory back.
std::vector<MemoryRelief::Candidate> Agent::State::relief_candidates() const {
  std::vector<MemoryRelief::Candidate> out;
  for (const auto& [uid, entry] : entries) {
    MemoryRelief::Candidate one{.uid = uid, .priority = entry->core.plan().priority, .idle_able = entry->core.plan().annotations.idle_after != Duration{0}, .memory_bytes = 0};
    bool awake = false;
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      if (!entry->core.serving(i) || entry->core.awake(i) == 0 || entry->containers[i].trimming) continue;
      awake = true;
      for (const std::int32_t pid : entry->containers[i].pids) one.memory_bytes += process_use(pid).memory_bytes;
    }
    if (awake) out.push_back(std::move(one));
  }
  return out;
}

void Agent::State::relieve_memory() {
  const MachineFacts facts = machine_now();
  const bool pressure = reporter.status().memory_pressure(facts);
  const auto decision = relief.decide(pressure, pressure ? relief_candidates() : std::vector<MemoryRelief::Candidate>{});
  if (pressure != reporter.status().memory_pressure(reporter.machine())) reporter.touch();
  const std::string available = std::format("{} MiB of memory are available on the node", facts.memory_available_bytes >> 20);
  if (decision.evict) {
    PodEntry* victim = find(*decision.evict);
    CHECK(victim != nullptr);
    evictions.add();
    LOG_WARN("pod evicted", {"pod", victim->core.object()->name()}, {"namespace", victim->core.object()->namespace_()}, {"reason", available});
    victim->core.evict(std::format("The node was low on memory ({}) and idle sandboxes leaving did not help", available), now());
    mark(*decision.evict);
  }
  for (const std::string& uid : decision.trim) {
    PodEntry* entry = find(uid);
    CHECK(entry != nullptr);
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      ContainerRuntime& c = entry->containers[i];
      if (!entry->core.serving(i) || entry->core.awake(i) == 0 || c.trimming) continue;
      c.trimming = true;
      trims.add();
      keeper->send(sandbox::StopPod{entry->core.keeper_id(i).value(), kTrimGraceMillis});
    }
    events.post({.warning = true, .object = name_of(*entry), .field_path = "", .reason = "MemoryPressure",
                 .message = std::format("Its sandbox leaves early: {}. It wakes again at the next request", available)});
  }
}

// "Awake pods first, idle ones when those are busy": says which are. Rests while no pod is awake.
rt::Task<> Agent::State::watch_load() {
  std::size_t awake = 0;
  for (;;) {
    if (awake == 0) CO_TRY_OK(co_await some_awake.wait());
    some_awake.reset();
    look_for_busy();
    awake = static_cast<std::size_t>(std::ranges::count_if(entries, [](const auto& e) {
      for (std::size_t i = 0; i < e.second->core.containers(); ++i)
        if (e.second->core.awake(i) > 0) return true;
      return false;
    }));
    CO_TRY_OK(co_await rt::sleep_for(awake > kManyAwake ? kLoadPeriodOfMany : kLoadPeriod));
  }
}

void Agent::State::look_for_busy() {
  std::vector<BusyPods::Reading> readings;
  for (const auto& [uid, entry] : entries) {
    BusyPods::Reading one{.uid = uid, .cpu_seconds = 0, .cores_max = 0};
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      const ContainerPlan& plan = entry->core.plan().containers[i];
      for (const std::int32_t pid : entry->containers[i].pids) one.cpu_seconds += process_use(pid).cpu_seconds;
      const double workers = plan.workers;
      if (entry->core.awake(i) > 0) one.cores_max += plan.cpu_millis_max > 0 ? std::min(workers, static_cast<double>(plan.cpu_millis_max) / 1000) : workers;
    }
    if (one.cores_max > 0) readings.push_back(one);
  }
  auto found = busy.update(deps.clock.instant(), readings);
  if (found == busy_now) return;
  busy_now = std::move(found);
  std::set<os::Ipv4> pods_busy;
  for (const std::string& uid : busy_now)
    if (const auto address = os::Ipv4::parse(entries.at(uid)->core.address())) pods_busy.insert(*address);
  deps.services->rules().set_busy(std::move(pods_busy));
  deps.services->changed();
}

// What a Service asks for and this node cannot serve is said once, on the Service.
void Agent::State::tell_service_problems() {
  if (deps.services == nullptr || !std::exchange(services_changed, false)) return;
  std::set<net::ServiceRules::Problem> present;
  for (auto& problem : deps.services->rules().problems()) {
    if (!problems_said.contains(problem)) {
      const auto service = service_informer.get(problem.namespace_, problem.service);
      LOG_WARN("service not served as asked", {"service", problem.service}, {"namespace", problem.namespace_}, {"reason", problem.message});
      events.post({.warning = true, .kind = "Service", .object = {.uid = service ? service->uid() : "", .namespace_ = problem.namespace_, .name = problem.service},
                   .field_path = "", .reason = problem.reason, .message = problem.message});
    }
    present.insert(std::move(problem));
  }
  problems_said = std::move(present);
}

void Agent::State::rotate_logs(Time t) {
  for (auto& [uid, entry] : entries)
    for (std::size_t i = 0; i < entry->core.containers(); ++i) {
      ContainerRuntime& c = entry->containers[i];
      if (!c.placed || !c.log) continue;
      const LogPlace place = place_of(*entry, i);
      auto rotated = logs.rotate(place, entry->core.restarts(i), t);
      if (!rotated) LOG_WARN("log not rotated", {"reason", rotated.error()});
      if (!rotated || !*rotated) continue;
      auto file = logs.open(place, entry->core.restarts(i));
      if (!file) {
        LOG_WARN("log not opened", {"reason", file.error()});
        continue;
      }
      c.log = std::move(*file);
      const int fd = c.log.get();
      keeper->send(sandbox::Relog{c.spec.id}, std::span(&fd, 1));
    }
}

}  // namespace skerry::agent
