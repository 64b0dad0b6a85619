// SPDX-License-Identifier: Apache-2.0
#include "agent/api_writers.h"

#include <algorithm>
#include <format>

#include "base/log.h"
#include "kube/json.h"

namespace skerry::agent {

using kube::JsonEdit;
using kube::MutJson;

StatusWriter::StatusWriter(rt::Loop& loop, client::Client& api, Clock& clock, Options options)
    : api_(api), clock_(clock), options_(options), work_(loop), tasks_(loop) {}

void StatusWriter::start() { tasks_.spawn("status writer", dispatch()); }

std::shared_ptr<StatusWriter::Entry>& StatusWriter::entry(const PodName& pod) {
  auto& e = entries_[pod.uid];
  if (!e) {
    e = std::make_shared<Entry>();
    e->pod = pod;
  }
  return e;
}

void StatusWriter::post(const PodName& pod, std::string json, Urgency urgency) {
  auto& e = entry(pod);
  const bool waited = e->status.has_value();
  e->status = std::move(json);
  if (e->backoff == Duration{0}) {
    if (urgency == Urgency::Now) e->due = clock_.instant();
    else if (!waited) e->due = clock_.instant() + options_.settle;
  }
  work_.set();
}
void StatusWriter::remove(const PodName& pod) {
  auto& e = entry(pod);
  e->remove = true;
  if (e->backoff == Duration{0}) e->due = clock_.instant();
  work_.set();
}
void StatusWriter::forget(const std::string& uid) {
  const auto it = entries_.find(uid);
  if (it == entries_.end()) return;
  it->second->forgotten = true;
  entries_.erase(it);
}

rt::Task<> StatusWriter::dispatch() {
  for (;;) {
    work_.reset();
    const Instant now = clock_.instant();
    std::optional<Instant> next;
    std::vector<std::shared_ptr<Entry>> chosen;
    for (auto& [uid, e] : entries_) {
      if (e->in_flight || (!e->status && !e->remove)) continue;
      if (e->due > now) {
        if (!next || e->due < *next) next = e->due;
        continue;
      }
      if (in_flight_ >= options_.at_once) break;  // send() sets work_ when it ends
      e->in_flight = true;
      ++in_flight_;
      chosen.push_back(e);
    }
    for (auto& e : chosen) tasks_.spawn("pod status", send(std::move(e)));
    if (next) {
      CO_TRY_OK(co_await work_.wait_for(std::max<Duration>(*next - now, 1ms)));
    } else {
      CO_TRY_OK(co_await work_.wait());
    }
  }
}

rt::Task<> StatusWriter::send(std::shared_ptr<Entry> e) {
  std::optional<Error> failure;
  if (e->status) {
    std::string json = std::move(*e->status);
    e->status.reset();
    auto done = co_await api_.patch_status_quietly(client::kPods, e->pod.namespace_, e->pod.name, client::PatchType::Strategic, json);
    ++counters_.patches;
    if (!done) {
      failure = std::move(done).error();
      // Nothing to tell any more: gone, or another pod under this name (the uid in the patch refuses it).
      const bool over = failure->code == Errc::NotFound || failure->code == Errc::Invalid || failure->code == Errc::Conflict;
      if (over && failure->code != Errc::NotFound) LOG_WARN("pod status refused", {"pod", e->pod.name}, {"namespace", e->pod.namespace_}, {"reason", *failure});
      if (over) failure.reset();
      else if (!e->status) e->status = std::move(json);  // unless there is a newer one
    }
  }
  if (!failure && e->remove && !e->status) {
    e->remove = false;
    client::DeleteOptions options;
    options.grace_seconds = 0;
    options.uid = e->pod.uid;
    auto done = co_await api_.remove(client::kPods, e->pod.namespace_, e->pod.name, options);
    ++counters_.deletes;
    if (!done && done.error().code != Errc::NotFound && done.error().code != Errc::Conflict) {
      failure = std::move(done).error();
      e->remove = true;
    }
  }
  if (failure) {
    ++counters_.failures;
    e->backoff = e->backoff == Duration{0} ? options_.backoff_min : std::min(e->backoff * 2, options_.backoff_max);
    e->due = clock_.instant() + e->backoff;
    LOG_DEBUG("pod status not delivered", {"pod", e->pod.name}, {"again in", e->backoff}, {"reason", *failure});
  } else {
    e->backoff = Duration{0};
  }
  e->in_flight = false;
  --in_flight_;
  if (!failure && !e->status && !e->remove && !e->forgotten) entries_.erase(e->pod.uid);
  work_.set();
  co_return Result<>{};
}

EventWriter::EventWriter(rt::Loop& loop, client::Client& api, Clock& clock, Random& random, Options options)
    : api_(api), clock_(clock), random_(random), options_(std::move(options)), work_(loop), tasks_(loop) {}

void EventWriter::start() { tasks_.spawn("event writer", run()); }

void EventWriter::post(EventText event) {
  if (queue_.size() >= options_.queue_max) {
    queue_.pop_front();
    ++dropped_;
  }
  queue_.push_back(std::move(event));
  work_.set();
}

rt::Task<> EventWriter::run() {
  for (;;) {
    if (queue_.empty()) {
      work_.reset();
      CO_TRY_OK(co_await work_.wait());
      continue;
    }
    EventText event = std::move(queue_.front());
    queue_.pop_front();
    auto sent = co_await send(std::move(event));
    if (!sent) {
      ++dropped_;
      LOG_DEBUG("event not delivered", {"reason", sent.error()});
      const bool away = sent.error().code == Errc::Unavailable || sent.error().code == Errc::Timeout;
      if (away) {
        CO_TRY_OK(co_await rt::sleep_for(5s));
      }
    }
    CO_TRY_OK(co_await rt::sleep_for(options_.pause));
  }
}

rt::Task<> EventWriter::send(EventText event) {
  const std::string now = to_rfc3339(clock_.now());
  const std::string key = std::format("{}|{}|{}|{}", event.object.uid, event.field_path, event.reason, event.message);
  const auto known = std::ranges::find(recent_, key, [](const auto& r) { return r.first; });
  if (known != recent_.end()) {
    recent_.splice(recent_.begin(), recent_, known);
    Recent& r = recent_.front().second;
    JsonEdit patch;
    patch.root().set("count", ++r.count);
    patch.root().set("lastTimestamp", now);
    auto done = co_await api_.patch_quietly(client::kEvents, r.namespace_, r.name, client::PatchType::Merge, patch.dump());
    if (done || done.error().code != Errc::NotFound) {
      if (!done) co_return Fail(std::move(done).error());
      co_return Result<>{};
    }
    recent_.pop_front();  // it expired: say it anew
  }
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("apiVersion", "v1");
  root.set("kind", "Event");
  Recent recent{.name = std::format("{}.{:016x}", event.object.name.substr(0, 230), random_.next()),
                .namespace_ = event.object.namespace_.empty() ? "default" : event.object.namespace_};
  MutJson meta = root.object("metadata");
  meta.set("name", recent.name);
  meta.set("namespace", recent.namespace_);
  MutJson object = root.object("involvedObject");
  object.set("apiVersion", "v1");
  object.set("kind", event.kind);
  if (!event.object.namespace_.empty()) object.set("namespace", event.object.namespace_);
  object.set("name", event.object.name);
  object.set("uid", event.object.uid);
  if (!event.field_path.empty()) object.set("fieldPath", event.field_path);
  root.set("reason", event.reason);
  root.set("message", std::string_view(event.message).substr(0, 1024));
  root.set("type", event.warning ? "Warning" : "Normal");
  MutJson source = root.object("source");
  source.set("component", "skerry");
  source.set("host", options_.node);
  root.set("reportingComponent", "skerry");
  root.set("reportingInstance", options_.node);
  root.set("firstTimestamp", now);
  root.set("lastTimestamp", now);
  root.set("count", 1);
  CO_TRY_OK(co_await api_.create_quietly(client::kEvents, recent.namespace_, edit.dump()));
  recent_.emplace_front(key, std::move(recent));
  if (recent_.size() > options_.recent_max) recent_.pop_back();
  co_return Result<>{};
}

}  // namespace skerry::agent
