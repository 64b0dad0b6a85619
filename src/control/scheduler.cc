// SPDX-License-Identifier: Apache-2.0
#include "control/scheduler.h"

#include <algorithm>
#include <format>
#include <tuple>

#include "base/log.h"

namespace skerry::control {

using kube::json_quote;

Scheduler::Scheduler(Cluster& cluster, Options options)
    : cluster_(cluster), options_(std::move(options)), work_(cluster.loop()), tasks_(cluster.loop()) {
  cluster_.subscribe(client::kPods, [this](const ObjectPtr& before, const ObjectPtr& after) { on_pod(before, after); });
  cluster_.subscribe(client::kNodes,
                     [this](const ObjectPtr& before, const ObjectPtr& after) { on_node(before, after); });
}

void Scheduler::start() {
  started_ = true;
  tasks_.spawn("scheduler", run());
}
rt::Task<> Scheduler::stop() { return tasks_.stop(); }

void Scheduler::on_pod(const ObjectPtr& before, const ObjectPtr& after) {
  if (before && (!after || after->uid() != before->uid())) {
    waiting_.erase(before->uid());
    core_.remove_pod(before->uid());
    if (!before->node_name().empty()) room_may_have_come();
  }
  if (!after) return;
  core_.put_pod(*after);
  const bool ended = after->phase() == "Succeeded" || after->phase() == "Failed";
  if (!after->node_name().empty() || ended || after->deleting()) {
    waiting_.erase(after->uid());
    if (ended && before && before->phase() != after->phase()) room_may_have_come();
    return;
  }
  const auto doc = after->parse();
  const Json spec = doc.root()["spec"];
  if (spec["schedulerName"].str(options_.name) != options_.name || spec["schedulingGates"].size() > 0) {
    waiting_.erase(after->uid());
    return;
  }
  const auto [at, fresh] = waiting_.try_emplace(after->uid());
  Waiting& waiting = at->second;
  // Our own report of why it does not fit is no reason to try again; a changed spec is.
  if (!fresh && waiting.pod) {
    const auto old = waiting.pod->parse();
    if (!old.root()["spec"].equals(spec)) waiting.due = Instant{};
  }
  waiting.pod = after;
  waiting.priority = spec["priority"].i64();
  waiting.created = from_rfc3339(doc.root()["metadata"]["creationTimestamp"].str()).value_or(Time{});
  work_.set();
}

void Scheduler::on_node(const ObjectPtr& before, const ObjectPtr& after) {
  if (!after) {
    core_.remove_node(before->name());
    return;
  }
  core_.put_node(*after);
  // Heartbeats come all the time: only what a pod may need counts.
  if (before) {
    const auto old = before->parse(), now = after->parse();
    if (old.root()["spec"].equals(now.root()["spec"]) && before->labels() == after->labels() &&
        old.root()["status"]["allocatable"].equals(now.root()["status"]["allocatable"])) {
      return;
    }
  }
  room_may_have_come();
}

void Scheduler::room_may_have_come() {
  for (auto& [uid, waiting] : waiting_) {
    if (waiting.attempts == 0) continue;
    const Duration backoff =
        std::min(options_.backoff_max, options_.backoff_min * (std::int64_t{1} << std::min(waiting.attempts - 1, 10)));
    waiting.due = std::min(waiting.due, waiting.tried + backoff);
  }
  work_.set();
}

void Scheduler::postpone(Waiting& waiting) {
  ++waiting.attempts;
  waiting.tried = cluster_.clock().instant();
  waiting.due = waiting.tried + options_.retry;
}

struct Scheduler::Batch {
  explicit Batch(rt::Loop& loop) : done(loop) {}
  std::vector<Binding> bindings;
  std::size_t next = 0, lanes = 0;
  rt::Event done;
};

rt::Task<> Scheduler::run() {
  for (;;) {
    work_.reset();
    const Instant now = cluster_.clock().instant();
    std::vector<Waiting*> due;
    std::optional<Instant> later;
    for (auto& [uid, waiting] : waiting_) {
      if (waiting.due <= now) {
        due.push_back(&waiting);
      } else if (!later || waiting.due < *later) {
        later = waiting.due;
      }
    }
    std::ranges::sort(due, {}, [](const Waiting* one) {
      return std::tuple(-one->priority, one->created, std::string_view(one->pod->name()));
    });
    if (due.size() > options_.batch_max) {
      due.resize(options_.batch_max);
      work_.set();
    }
    const auto batch = std::make_shared<Batch>(cluster_.loop());
    std::vector<std::tuple<ObjectPtr, std::string, std::string>> reports;
    for (Waiting* waiting : due) {
      auto decision = core_.schedule(*waiting->pod);
      if (!decision.node.empty()) {
        waiting->due = Instant::max();  // until the binding has succeeded, which removes it, or failed
        batch->bindings.push_back({waiting->pod, std::move(decision.node)});
        continue;
      }
      ++unschedulable_;
      postpone(*waiting);
      const bool unsupported = decision.message.starts_with("Unsupported: ");
      cluster_.events().record(
          {waiting->pod, NoteType::Warning, unsupported ? "Unsupported" : "FailedScheduling", decision.message, options_.name});
      if (waiting->message != decision.message) {
        waiting->message = decision.message;
        reports.emplace_back(waiting->pod, unsupported ? "Unsupported" : "Unschedulable", decision.message);
      }
    }
    if (!batch->bindings.empty()) {
      batch->lanes = std::min(options_.parallel_max, batch->bindings.size());
      for (std::size_t i = 0, lanes = batch->lanes; i < lanes; ++i) tasks_.spawn("bind pods", lane(batch));
      CO_TRY_OK(co_await batch->done.wait());
    }
    for (auto& [pod, reason, message] : reports) CO_TRY_OK(co_await report(pod, reason, message));
    if (work_.is_set()) continue;
    if (later) {
      CO_TRY_OK(co_await work_.wait_for(
          std::max<Duration>(*later - cluster_.clock().instant(), std::chrono::milliseconds(1))));
    } else {
      CO_TRY_OK(co_await work_.wait_for(options_.retry));
    }
  }
}

rt::Task<> Scheduler::lane(std::shared_ptr<Batch> batch) {
  while (batch->next < batch->bindings.size()) {
    Binding& binding = batch->bindings[batch->next++];
    CO_TRY_OK(co_await bind(std::move(binding)));
  }
  if (--batch->lanes == 0) batch->done.set();
  co_return Result<>{};
}

rt::Task<> Scheduler::bind(Binding binding) {
  const kube::Object& pod = *binding.pod;
  std::string body = std::format(
      R"({{"apiVersion":"v1","kind":"Binding","metadata":{{"name":{},"namespace":{},"uid":"{}"}},"target":{{"apiVersion":"v1","kind":"Node","name":{}}}}})",
      json_quote(pod.name()), json_quote(pod.namespace_()), pod.uid(), json_quote(binding.node));
  const auto bound =
      co_await cluster_.client().post(client::kPods, pod.namespace_(), pod.name(), "binding", std::move(body));
  const auto at = waiting_.find(pod.uid());
  if (bound) {
    ++bound_;
    if (at != waiting_.end()) waiting_.erase(at);
    cluster_.events().record(
        {binding.pod, NoteType::Normal, "Scheduled",
         std::format("Successfully assigned {}/{} to {}", pod.namespace_(), pod.name(), binding.node), options_.name});
    co_return Result<>{};
  }
  ++failed_;
  core_.forget(pod.uid());
  if (bound.error().code != Errc::NotFound && bound.error().code != Errc::Conflict) {
    LOG_WARN("pod not bound", {"pod", pod.name()}, {"node", binding.node}, {"error", bound.error()});
  }
  if (at != waiting_.end()) {
    postpone(at->second);
    at->second.due = at->second.tried + options_.backoff_min;
    work_.set();
  }
  co_return Result<>{};
}

rt::Task<> Scheduler::report(ObjectPtr pod, std::string reason, std::string message) {
  const auto doc = pod->parse();
  const std::string now = to_rfc3339(cluster_.clock().now());
  std::string conditions = std::format(
      R"({{"type":"PodScheduled","status":"False","reason":{},"message":{},"lastTransitionTime":"{}","lastProbeTime":null}})",
      json_quote(reason), json_quote(message), now);
  for (const Json condition : doc.root()["status"]["conditions"].items()) {
    if (condition["type"].str() != "PodScheduled") conditions += "," + condition.dump();
  }
  const auto done = co_await cluster_.client().patch_status(
      client::kPods, pod->namespace_(), pod->name(), client::PatchType::Merge,
      std::format(R"({{"metadata":{{"uid":"{}"}},"status":{{"conditions":[{}]}}}})", pod->uid(), conditions));
  if (!done && done.error().code != Errc::NotFound && done.error().code != Errc::Conflict) {
    LOG_WARN("pod condition not written", {"pod", pod->name()}, {"error", done.error()});
  }
  co_return Result<>{};
}

}  // namespace skerry::control
