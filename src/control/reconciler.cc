// SPDX-License-Identifier: Apache-2.0
#include "control/reconciler.h"

#include <algorithm>
#include <optional>

#include "base/log.h"

namespace skerry::control {
namespace {
constexpr Duration kLook = std::chrono::milliseconds(3);  // between looks whether the informers have caught up
constexpr Duration kExpectedMost = std::chrono::seconds(30);

rt::Task<Plan> immediate(Plan plan) { co_return plan; }
}  // namespace

std::pair<std::string, std::string> split_key(std::string_view key) {
  const auto slash = key.find('/');
  if (slash == std::string_view::npos) return {"", std::string(key)};
  return {std::string(key.substr(0, slash)), std::string(key.substr(slash + 1))};
}

Reconciler::Handle from_memory(std::function<Plan(const std::string& key)> decide) {
  return [decide = std::move(decide)](std::string key) { return immediate(decide(key)); };
}

Reconciler::Reconciler(Cluster& cluster, Options options, Handle handle)
    : cluster_(cluster),
      options_(std::move(options)),
      handle_(std::move(handle)),
      work_(cluster.loop()),
      tasks_(cluster.loop()) {}

void Reconciler::start() { tasks_.spawn(options_.name, run()); }
rt::Task<> Reconciler::stop() { return tasks_.stop(); }

Reconciler::Figures Reconciler::figures() const {
  Figures now = figures_;
  now.waiting = queue_.waiting();
  now.active = queue_.active();
  return now;
}

void Reconciler::enqueue_after(const std::string& key, Duration delay) {
  ++figures_.adds;
  queue_.add(key, cluster_.clock().instant() + delay);
  work_.set();
}

rt::Task<> Reconciler::run() {
  for (;;) {
    work_.reset();
    while (queue_.active() < options_.workers) {
      const auto key = queue_.take(cluster_.clock().instant());
      if (!key) break;
      tasks_.spawn(options_.name + " " + *key, handle(*key));
    }
    const auto next = queue_.next();
    if (next && queue_.active() < options_.workers) {
      CO_TRY_OK(co_await work_.wait_for(
          std::max<Duration>(*next - cluster_.clock().instant(), std::chrono::microseconds(100))));
    } else {
      CO_TRY_OK(co_await work_.wait());
    }
  }
}

rt::Task<> Reconciler::handle(std::string key) {
  const Instant begin = cluster_.clock().instant();
  const auto done = co_await work(key);
  const Instant now = cluster_.clock().instant();
  figures_.busy += now - begin;
  if (done) {
    queue_.done(key);
  } else if (done.error().code == Errc::Cancelled) {
    co_return done;
  } else {
    // A conflict is the ordinary outcome of two writers: only what lasts deserves a warning.
    if (done.error().code != Errc::Conflict && done.error().code != Errc::AlreadyExists) {
      LOG_WARN("reconciliation failed", {"controller", options_.name}, {"object", key}, {"error", done.error()});
    }
    ++figures_.failures;
    queue_.failed(key, now);
  }
  work_.set();
  co_return Result<>{};
}

rt::Task<> Reconciler::work(const std::string& key) {
  if (!caught_up(key)) {
    enqueue_after(key, kLook);
    co_return Result<>{};
  }
  ++figures_.reconciles;
  CO_TRY(Plan plan, co_await handle_(key));
  for (auto& note : plan.notes) {
    note.component = options_.component;
    cluster_.events().record(note);
  }
  if (plan.again) enqueue_after(key, *plan.again);
  if (!plan.actions.empty()) CO_TRY_OK(co_await carry_out(key, std::move(plan.actions)));
  co_return Result<>{};
}

bool Reconciler::caught_up(const std::string& key) {
  const auto at = expected_.find(key);
  if (at == expected_.end()) return true;
  if (cluster_.clock().instant() < at->second.until) {
    for (const auto& [name, wanted] : at->second.revisions) {
      if (cluster_.revision(wanted.first) < wanted.second) return false;
    }
    for (const auto& action : at->second.deletions) {
      const auto seen = cluster_.get(action.resource, action.namespace_, action.name);
      if (seen && seen->uid() == action.uid && !seen->deleting()) return false;
    }
  } else {
    LOG_WARN("informers lag behind", {"controller", options_.name}, {"object", key});
  }
  expected_.erase(at);
  return true;
}

void Reconciler::expect(const std::string& key, const Action& action, const ObjectPtr& result) {
  if (!cluster_.watches(action.resource)) return;
  Expected& expected = expected_[key];
  expected.until = cluster_.clock().instant() + kExpectedMost;
  if (action.verb == Verb::Delete) {
    if (!action.uid.empty())
      expected.deletions.push_back({.verb = Verb::Delete,
                                    .resource = action.resource,
                                    .namespace_ = action.namespace_,
                                    .name = action.name,
                                    .uid = action.uid});
  } else if (result) {
    auto& wanted = expected.revisions[action.resource.resource];
    wanted.first = action.resource;
    wanted.second = std::max(wanted.second, result->revision());
  }
}

struct Reconciler::Batch {
  Batch(rt::Loop& loop, std::string for_key, std::vector<Action> all)
      : key(std::move(for_key)), actions(std::move(all)), done(loop) {}
  std::string key;
  std::vector<Action> actions;
  std::size_t next = 0, lanes = 0;
  std::optional<Error> error;
  rt::Event done;
};

rt::Task<> Reconciler::lane(std::shared_ptr<Batch> batch) {
  while (batch->next < batch->actions.size()) {
    Action& action = batch->actions[batch->next++];
    LOG_DEBUG("action", {"controller", options_.name}, {"what", action.trace()});
    ++figures_.actions;
    const auto result = co_await cluster_.execute(action);
    if (options_.on_action) options_.on_action(batch->key, action, result ? nullptr : &result.error());
    if (result) {
      expect(batch->key, action, *result);
    } else if (!batch->error) {
      batch->error = result.error();
      if (options_.order == Order::Sequential) break;
    }
  }
  if (--batch->lanes == 0) batch->done.set();
  co_return Result<>{};
}

rt::Task<> Reconciler::carry_out(const std::string& key, std::vector<Action> actions) {
  const auto batch = std::make_shared<Batch>(cluster_.loop(), key, std::move(actions));
  batch->lanes = options_.order == Order::Sequential ? 1 : std::min(options_.parallel_max, batch->actions.size());
  for (std::size_t i = 0, lanes = batch->lanes; i < lanes; ++i) tasks_.spawn(options_.name + " requests", lane(batch));
  CO_TRY_OK(co_await batch->done.wait());
  if (batch->error) co_return Fail(*batch->error);
  co_return Result<>{};
}

}  // namespace skerry::control
