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
    : api_(api), clock_(clock), core_(options, random), work_(loop), tasks_(loop) {}

void StatusWriter::start() { tasks_.spawn("status writer", dispatch()); }

void StatusWriter::post(const PodName& pod, std::string json, Urgency urgency) {
  core_.post(pod, std::move(json), urgency, clock_.instant());
  work_.set();
}
void StatusWriter::remove(const PodName& pod) {
  core_.remove(pod, clock_.instant());
  work_.set();
}
void StatusWriter::forget(const std::string& uid) { core_.forget(uid); }

rt::Task<> StatusWriter::dispatch() {
  for (;;) {
    work_.reset();
    const Instant now = clock_.instant();
    for (auto& one : core_.poll(now)) tasks_.spawn("pod status", send(std::move(one)));
    if (const auto next = core_.deadline()) {
      CO_TRY_OK(co_await work_.wait_for(std::max<Duration>(*next - now, 1ms)));
    } else {
      CO_TRY_OK(co_await work_.wait());
    }
  }
}

rt::Task<> StatusWriter::send(StatusCore::Send one) {
  std::optional<Error> failure;
  if (one.status) {
    auto done = co_await api_.patch_status_quietly(client::kPods, one.pod.namespace_, one.pod.name, client::PatchType::Strategic, std::move(*one.status));
    if (!done) failure = std::move(done).error();
    if (failure && StatusCore::final(*failure) && failure->code != Errc::NotFound)
      LOG_WARN("pod status refused", {"pod", one.pod.name}, {"namespace", one.pod.namespace_}, {"reason", *failure});
  } else {
    client::DeleteOptions options;
    options.grace_seconds = 0;
    options.uid = one.pod.uid;
    auto done = co_await api_.remove(client::kPods, one.pod.namespace_, one.pod.name, options);
    if (!done) failure = std::move(done).error();
  }
  if (failure && !StatusCore::final(*failure)) LOG_DEBUG("pod status not delivered", {"pod", one.pod.name}, {"reason", *failure});
  core_.on_answer(one.id, failure, clock_.instant());
  work_.set();
  co_return Result<>{};
}

EventWriter::EventWriter(rt::Loop& loop, client::Client& api, Clock& clock, Random& random, Options options)
    : api_(api), clock_(clock), random_(random), options_(std::move(options)), away_(options_.away_min, options_.away_max), work_(loop), tasks_(loop) {}

void EventWriter::start() { tasks_.spawn("event writer", run()); }

void EventWriter::post(EventText event) {
  Said& said = note(event);
  said.last = clock_.now();
  if (!options_.local_uids.empty() && event.object.uid.starts_with(options_.local_uids)) return;
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
  int tries = 0;
  for (;;) {
    if (queue_.empty()) {
      work_.reset();
      CO_TRY_OK(co_await work_.wait());
      continue;
    }
    EventText event = std::move(queue_.front());
    queue_.pop_front();
    ++tries;
    auto sent = co_await send(event);
    const bool away = !sent && (sent.error().code == Errc::Unavailable || sent.error().code == Errc::Timeout || sent.error().code == Errc::Exhausted);
    if (away && tries < options_.tries_max && queue_.size() < options_.queue_max) queue_.push_front(std::move(event));
    else tries = 0;
    if (!sent) {
      if (tries == 0) ++dropped_;
      LOG_DEBUG("event not delivered", {"reason", sent.error()});
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
    auto done = co_await api_.patch_quietly(client::kEvents, namespace_, name, client::PatchType::Merge, patch.dump());
    if (done) co_return Result<>{};
    if (done.error().code != Errc::NotFound) co_return Fail(std::move(done).error());
    known = again();  // it expired: say it anew
    if (known == said_.end()) co_return Result<>{};
    known->delivered = false;
    known->count = 1;
    known->first = known->last;
  }
  const auto made = co_await api_.create_quietly(client::kEvents, namespace_, json_of(*known));
  // There already: only the answer to an earlier try was lost. The next repetition is counted up.
  if (!made && made.error().code != Errc::AlreadyExists) co_return Fail(made.error());
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
