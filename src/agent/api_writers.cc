// SPDX-License-Identifier: Apache-2.0
#include "agent/api_writers.h"

#include <algorithm>
#include <format>

#include "base/log.h"
#include "kube/json.h"

namespace skerry::agent {

using kube::JsonEdit;
using kube::MutJson;

StatusWriter::StatusWriter(rt::Loop& loop, client::Client& api, Clock& clock, Random& random, Options options)
    : api_(api), clock_(clock), random_(random), options_(options), away_(options.backoff_min, options.backoff_max), work_(loop), tasks_(loop) {}

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
      if (const Instant due = std::max(e->due, not_before_); due > now) {
        if (!next || due < *next) next = due;
        continue;
      }
      if (in_flight_ >= (away_.failing() ? 1 : options_.at_once)) break;  // send() sets work_ when it ends
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
    auto done = co_await api_.patch_status(client::kPods, e->pod.namespace_, e->pod.name, client::PatchType::Strategic, json);
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
    failed(*e, *failure);
  } else {
    e->backoff = Duration{0};
    away_.reset();
  }
  e->in_flight = false;
  --in_flight_;
  if (!failure && !e->status && !e->remove && !e->forgotten) entries_.erase(e->pod.uid);
  work_.set();
  co_return Result<>{};
}

void StatusWriter::failed(Entry& e, const Error& error) {
  ++counters_.failures;
  const Instant now = clock_.instant();
  if (error.code == Errc::Unavailable || error.code == Errc::Timeout) {
    not_before_ = now + away_.next(random_);  // this status keeps its turn
  } else {
    away_.reset();
    e.backoff = e.backoff == Duration{0} ? options_.backoff_min : std::min(e.backoff * 2, options_.backoff_max);
    e.due = now + e.backoff;
  }
  LOG_DEBUG("pod status not delivered", {"pod", e.pod.name}, {"reason", error});
}

EventWriter::EventWriter(rt::Loop& loop, client::Client& api, Clock& clock, Random& random, Options options)
    : api_(api), clock_(clock), random_(random), options_(std::move(options)), work_(loop), tasks_(loop) {}

void EventWriter::start() { tasks_.spawn("event writer", run()); }

void EventWriter::post(EventText event) {
  Said& said = note(event);
  said.last = clock_.now();
  if (queue_.size() >= options_.queue_max) {
    queue_.pop_front();
    ++dropped_;
  }
  queue_.push_back(std::move(event));
  work_.set();
}

// The entry of what was said, first in the list: counted up, or new.
EventWriter::Said& EventWriter::note(const EventText& text) {
  const auto known = std::ranges::find(said_, text, &Said::text);
  if (known != said_.end()) {
    said_.splice(said_.begin(), said_, known);
    ++said_.front().count;
    return said_.front();
  }
  const Time now = clock_.now();
  said_.push_front({.text = text, .name = std::format("{}.{:016x}", text.object.name.substr(0, 230), random_.next()), .first = now, .last = now});
  if (said_.size() > options_.recent_max) said_.pop_back();
  return said_.front();
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
        const Duration pause = away_.next(random_);
        CO_TRY_OK(co_await rt::sleep_for(pause));
      }
    } else {
      away_.reset();
    }
    CO_TRY_OK(co_await rt::sleep_for(options_.pause));
  }
}

rt::Task<> EventWriter::send(EventText event) {
  auto known = std::ranges::find(said_, event, &Said::text);
  if (known == said_.end()) {  // so many others were said since
    note(event);
    known = said_.begin();
  }
  const std::string namespace_ = event.object.namespace_.empty() ? "default" : event.object.namespace_, name = known->name;
  const auto again = [&] { return std::ranges::find(said_, event, &Said::text); };  // it may be gone after any wait
  if (known->delivered) {
    JsonEdit patch;
    patch.root().set("count", known->count);
    patch.root().set("lastTimestamp", to_rfc3339(known->last));
    auto done = co_await api_.patch(client::kEvents, namespace_, name, client::PatchType::Merge, patch.dump());
    if (done || done.error().code != Errc::NotFound) {
      if (!done) co_return Fail(std::move(done).error());
      co_return Result<>{};
    }
    known = again();  // it expired: say it anew
    if (known == said_.end()) co_return Result<>{};
    known->delivered = false;
    known->count = 1;
    known->first = known->last;
  }
  CO_TRY_OK(co_await api_.create(client::kEvents, namespace_, json_of(*known)));
  if (known = again(); known != said_.end()) known->delivered = true;
  co_return Result<>{};
}

std::string EventWriter::json_of(const Said& said) const {
  const EventText& event = said.text;
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("apiVersion", "v1");
  root.set("kind", "Event");
  MutJson meta = root.object("metadata");
  meta.set("name", said.name);
  meta.set("namespace", event.object.namespace_.empty() ? std::string_view("default") : std::string_view(event.object.namespace_));
  MutJson object = root.object("involvedObject");
  object.set("apiVersion", event.kind == "Deployment" ? "apps/v1" : "v1");
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
  root.set("firstTimestamp", to_rfc3339(said.first));
  root.set("lastTimestamp", to_rfc3339(said.last));
  root.set("count", said.count);
  return edit.dump();
}

std::vector<kube::ObjectPtr> EventWriter::recent() const {
  std::vector<kube::ObjectPtr> out;
  for (const Said& said : said_) {
    JsonEdit edit = JsonEdit::copy(kube::JsonDoc::parse(json_of(said)).value().root());
    MutJson meta = edit.root().object("metadata");
    meta.set("creationTimestamp", to_rfc3339(said.first));
    meta.set("uid", said.name.substr(said.name.size() - 16));  // of no server
    if (auto made = kube::Object::from_json(edit.dump())) out.push_back(std::move(*made));
  }
  return out;
}

}  // namespace skerry::agent
