// SPDX-License-Identifier: Apache-2.0
#include "sim/machine.h"

#include <algorithm>
#include <csignal>
#include <format>

#include "base/check.h"

namespace skerry::sim {

Machine::Machine(World& world, Hooks h) : hooks(std::move(h)), world_(world) {}
Machine::~Machine() = default;

// --- the kernel -------------------------------------------------------------------------------------------------------------

Result<ListenerPtr> Machine::listen(Endpoint at, const std::string& uid) {
  auto& known = listeners_[at];
  if (!known.expired()) return Fail({Errc::AlreadyExists, std::format("{}:{} is in use", at.address.str(), at.port)});
  auto out = std::make_shared<Listener>();
  out->at = at;
  out->uid = uid;
  known = out;
  return out;
}

void Machine::send(Endpoint to, RequestPtr request) {
  const auto at = listeners_.find(to);
  const ListenerPtr listener = at == listeners_.end() || !powered_ ? nullptr : at->second.lock();
  if (!listener) return request->finish(false);  // refused
  listener->queue.push_back(std::move(request));
  for (const auto& weak : std::vector(listener->serving))
    if (const auto sandbox = weak.lock(); sandbox && sandbox->alive && !sandbox->draining) return work(sandbox);
  if (listener->readable) listener->readable();
}

void Machine::send_to_service(const std::string& route, RequestPtr request) {
  const auto at = routes.find(route);
  if (at == routes.end() || at->second.empty() || !powered_) return request->finish(false);
  send(at->second[world_.pick(at->second.size())], std::move(request));
}

// --- sandboxes --------------------------------------------------------------------------------------------------------------

SandboxPtr Machine::start_sandbox(sandbox::SlotId slot, std::uint64_t id, std::uint16_t worker, Held held) {
  auto out = std::make_shared<SimSandbox>();
  out->pid = next_pid();
  out->slot = slot;
  out->id = id;
  out->worker = worker;
  out->held = std::move(held);
  out->last_used = world_.now();
  sandboxes_[out->pid] = out;
  hooks.started(*out);
  return out;
}

void Machine::work(const SandboxPtr& sandbox) {
  if (!sandbox->alive || sandbox->current) return;
  auto& queue = sandbox->held.listener->queue;
  while (!queue.empty() && queue.front()->over) queue.pop_front();
  if (queue.empty() || sandbox->draining) {
    if (sandbox->draining) return end_sandbox(sandbox, EndReason::Asked, 0, 0);
    const Duration idle_after = sandbox->held.assignment->idle_after;
    if (idle_after == Duration{0}) return;
    world_.after(idle_after, [this, weak = std::weak_ptr(sandbox), since = sandbox->last_used] {
      const auto alive = weak.lock();
      if (alive && alive->alive && !alive->current && alive->last_used == since) end_sandbox(alive, EndReason::Idle, 0, 0);
    });
    return;
  }
  sandbox->current = queue.front();
  queue.pop_front();
  world_.after(world_.between(service_time), [this, weak = std::weak_ptr(sandbox)] {
    const auto alive = weak.lock();
    if (!alive || !alive->alive) return;
    alive->last_used = world_.now();
    alive->current->finish(true);
    alive->current.reset();
    work(alive);
  });
}

void Machine::drain(const SandboxPtr& sandbox) {
  sandbox->draining = true;
  work(sandbox);
}

void Machine::end_sandbox(const SandboxPtr& sandbox, EndReason reason, int code, int signal) {
  if (!std::exchange(sandbox->alive, false)) return;
  if (sandbox->current) sandbox->current->finish(false);
  hooks.ended(*sandbox, reason);
  sandboxes_.erase(sandbox->pid);
  const Held gone = std::exchange(sandbox->held, {});
  if (keeper) keeper->on_sandbox_ended(*sandbox, code, signal);
}

// --- keeper and power -------------------------------------------------------------------------------------------------------

void Machine::start_keeper() {
  CHECK(keeper == nullptr);
  keeper = std::make_shared<SimKeeper>(*this, next_pid());
  keeper->start();
}

void Machine::kill_keeper() {
  if (!keeper) return;
  world_.trace("keeper killed");
  keeper.reset();
  for (auto& [life, tell] : std::exchange(mourners_, {})) world_.after(1ms, life, std::move(tell));
}

void Machine::when_keeper_ends(LifeOf life, std::function<void()> tell) {
  std::erase_if(mourners_, [](const auto& one) { return one.first.expired(); });
  mourners_.emplace_back(std::move(life), std::move(tell));
}

void Machine::power_off() {
  powered_ = false;
  keeper.reset();
  for (const auto& [pid, sandbox] : std::map(sandboxes_)) {
    sandbox->alive = false;
    if (sandbox->current) sandbox->current->finish(false);
    hooks.ended(*sandbox, EndReason::Power);
  }
  sandboxes_.clear();
  mourners_.clear();
  routes.clear();
  listeners_.clear();
}

SimKeeper::SimKeeper(Machine& machine, std::int32_t pid) : machine_(machine), pid_(pid), core_(sandbox::KeeperCore::Options{}) {}

Instant SimKeeper::now() const { return machine_.world().now(); }

void SimKeeper::start() {
  for (const auto& [pid, sandbox] : machine_.sandboxes()) core_.found(sandbox->slot, pid, sandbox->id, sandbox->worker);
  settle();
}

SandboxPtr SimKeeper::at_slot(sandbox::SlotId slot) const {
  for (const auto& [pid, sandbox] : machine_.sandboxes())
    if (sandbox->slot == slot) return sandbox;
  return nullptr;
}

void SimKeeper::told(sandbox::Event event) {
  if (agent_.event == nullptr) return;
  machine_.world().after(50us, agent_.life, [self = weak_from_this(), tell = agent_.event, e = std::move(event)] {
    if (!self.expired()) tell(e);
  });
}

SimKeeper::Dump SimKeeper::dump() const {
  Dump out;
  for (const auto& [key, ready] : core_.images()) out.images.push_back({key, ready});
  for (const auto row : core_.rows()) {
    const auto held = rows_.find(row);
    CHECK(held != rows_.end());
    out.pods.push_back({{core_.spec(row), core_.state(row), core_.workers(row)}, held->second});
  }
  std::map<std::uint64_t, Dump::Pod> left;
  for (const auto& [pid, sandbox] : machine_.sandboxes()) {
    if (!core_.is_found(sandbox->slot)) continue;
    Dump::Pod& pod = left[sandbox->id];
    pod.row.spec.id = sandbox->id;
    pod.held = sandbox->held;
    pod.row.workers.push_back({pid, sandbox->worker, sandbox->slot});
  }
  for (auto& [id, pod] : left) out.unclaimed.push_back(std::move(pod));
  return out;
}

void SimKeeper::command(const sandbox::Command& command, Held held) {
  Result<> done;
  std::uint64_t id = 0;
  if (const auto* image = std::get_if<sandbox::PutImage>(&command)) {
    if (auto put = core_.put_image(image->key, now()); !put) done = Fail(put.error());
  } else if (const auto* put = std::get_if<sandbox::PutPod>(&command)) {
    id = put->spec.id;
    auto row = core_.put_pod(put->spec, now());
    if (row) {
      held.image = put->spec.image;
      polled_.erase(row->row);
      rows_[row->row] = std::move(held);
    } else {
      done = Fail(row.error());
    }
  } else if (const auto* stop = std::get_if<sandbox::StopPod>(&command)) {
    id = stop->id;
    if (const auto row = core_.row_of(id); row && core_.state(*row) != sandbox::PodState::Stopped) machine_.hooks.commanded(rows_[*row].assignment->pod_uid, id, "stop");
    done = core_.stop_pod(id, std::chrono::milliseconds(stop->grace_ms), now());
  } else if (const auto* drop = std::get_if<sandbox::DropPod>(&command)) {
    id = drop->id;
    if (const auto row = core_.row_of(id); row && core_.state(*row) != sandbox::PodState::Stopped) machine_.hooks.commanded(rows_[*row].assignment->pod_uid, id, "drop");
    done = core_.drop_pod(id, now());
  } else if (std::holds_alternative<sandbox::Refilled>(command)) {
    core_.refilled();
  }
  if (!done) core_.actions().push_back(sandbox::action::Report{sandbox::Refused{static_cast<std::uint8_t>(command.index() + 1), id, done.error().what}});
  settle();
}

void SimKeeper::on_sandbox_ended(const SimSandbox& sandbox, int code, int signal) {
  // After a moment, as a pidfd tells it; the one that ended is not there any more.
  machine_.world().after(100us, life_, [this, slot = sandbox.slot, code, signal] {
    core_.on_slot_exited(slot, {.code = code, .signal = signal}, now());
    settle();
  });
}

void SimKeeper::settle() {
  core_.poll(now());
  act();
  while (core_.refill_due(now())) {
    core_.refill(now());
    act();
  }
  const auto next = core_.next_deadline();
  if (!next || (armed_ && *armed_ <= *next)) return;
  armed_ = *next;
  machine_.world().after(*next - now(), life_, [this] {
    armed_.reset();
    settle();
  });
}

void SimKeeper::act() {
  if (std::exchange(acting_, true)) return;
  auto& actions = core_.actions();
  for (std::size_t i = 0; i < actions.size(); ++i) run(sandbox::Action(std::move(actions[i])));
  actions.clear();
  acting_ = false;
}

void SimKeeper::run(const sandbox::Action& action) {
  namespace act = sandbox::action;
  World& world = machine_.world();
  if (const auto* load = std::get_if<act::StartTemplate>(&action)) {
    world.after(world.between({10ms, 40ms}), life_, [this, image = load->image, pid = machine_.next_pid()] {
      core_.on_template_ready(image, pid, 20'000, now());
      settle();
    });
  } else if (const auto* spawn = std::get_if<act::SpawnSlot>(&action)) {
    world.after(1ms, life_, [this, slot = spawn->slot, pid = machine_.next_pid()] {
      parked_[slot] = pid;
      core_.on_slot_parked(slot, pid, now());
      settle();
    });
  } else if (const auto* assign = std::get_if<act::Assign>(&action)) {
    const std::uint64_t id = core_.spec(assign->pod).id;
    world.after(500us, life_, [this, slot = assign->slot, worker = assign->worker, id, held = rows_[assign->pod]] {
      if (!parked_.erase(slot)) return;  // killed meanwhile
      const auto sandbox = machine_.start_sandbox(slot, id, worker, held);
      auto& serving = sandbox->held.listener->serving;
      std::erase_if(serving, [](const auto& w) { return w.expired(); });
      serving.push_back(sandbox);
      core_.on_slot_serving(slot, now());
      settle();
      machine_.work(sandbox);
    });
  } else if (const auto* close = std::get_if<act::CloseSlot>(&action)) {
    world.after(1ms, life_, [this, slot = close->slot] {
      parked_.erase(slot);
      core_.on_slot_exited(slot, {.code = 0}, now());
      settle();
    });
  } else if (const auto* poll = std::get_if<act::Poll>(&action)) {
    const Life life = polled_[poll->pod] = new_life();
    const auto readable = [this, weak = std::weak_ptr(life_), polled = std::weak_ptr(life), row = poll->pod] {
      const Life keeper_lives = weak.lock();
      const Life still = polled.lock();
      if (!keeper_lives || !still) return;
      machine_.world().after(20us, still, [this, row, weak] {
        if (weak.expired()) return;
        core_.on_readable(row, now());
        settle();
      });
    };
    Listener& listener = *rows_[poll->pod].listener;
    listener.readable = readable;
    if (std::ranges::any_of(listener.queue, [](const auto& r) { return !r->over; })) readable();
  } else if (const auto* unpoll = std::get_if<act::Unpoll>(&action)) {
    polled_.erase(unpoll->pod);
  } else if (const auto* signal = std::get_if<act::Signal>(&action)) {
    const auto sandbox = at_slot(signal->slot);
    if (!sandbox) {
      if (parked_.erase(signal->slot) == 0) return;
      world.after(100us, life_, [this, slot = signal->slot] {
        core_.on_slot_exited(slot, {.code = 0, .signal = SIGKILL}, now());
        settle();
      });
    } else if (signal->number == SIGKILL) {
      machine_.end_sandbox(sandbox, EndReason::Killed, 0, SIGKILL);
    } else {
      machine_.drain(sandbox);
    }
  } else if (const auto* forget = std::get_if<act::ForgetPod>(&action)) {
    polled_.erase(forget->pod);
    rows_.erase(forget->pod);
  } else if (const auto* report = std::get_if<act::Report>(&action)) {
    told(report->event);
  }
}

}  // namespace skerry::sim
