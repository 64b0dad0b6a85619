// SPDX-License-Identifier: Apache-2.0
#include "control/events.h"

#include <format>

#include "base/log.h"
#include "base/text.h"

namespace skerry::control {

using kube::json_quote;

std::string EventCore::Known::name() const { return std::format("{}.{:016x}", about->name.substr(0, 230), suffix); }

void EventCore::add(const Note& note, Time now, Random& random) {
  const kube::Object& about = *note.about;
  const std::string group = std::format("{}\n{}\n{}\n{}", about.uid(), about.name(), static_cast<int>(note.type), note.reason);
  const auto hash = [](const std::string& text) -> Key { return std::hash<std::string>{}(text); };
  Key key = hash(group + "\n" + note.message);
  std::string message = note.message;
  if (!known_.contains(key)) {
    Similar& similar = similar_[hash(group)];
    if (now - similar.since > options_.similar_window) similar = {.messages = 0, .since = now};
    if (++similar.messages > options_.similar_max) {
      key = hash(group + "\n*");
      message = "(combined from similar events): " + message;
    }
    if (similar_.size() > options_.known_max) similar_.clear();
  }
  auto at = known_.find(key);
  if (at == known_.end()) {
    if (known_.size() >= options_.known_max) {
      known_.erase(order_.front());
      order_.pop_front();
    }
    const auto doc = about.parse();
    at = known_.emplace(key, Known{.about = about.identity(),
                                   .kind = about.kind(),
                                   .api_version = std::string(doc.root()["apiVersion"].str()),
                                   .reason = note.reason,
                                   .component = note.component.empty() ? options_.component : note.component,
                                   .message = {},
                                   .revision = about.revision(),
                                   .suffix = random.next(),
                                   .first = now,
                                   .type = note.type}).first;
    order_.push_back(key);
  }
  Known& known = at->second;
  ++known.count;
  known.last = now;
  known.message = std::move(message);
  queue(key, known);
}

void EventCore::queue(Key key, Known& known) {
  if (known.queued) return;
  if (queue_.size() >= options_.queue_max) {
    ++dropped_;
    known.message = {};
    return;
  }
  known.queued = true;
  queue_.push_back(key);
}

std::string EventCore::body(const Known& known) const {
  const std::string tail = std::format(R"("message":{},"lastTimestamp":"{}","count":{}}})", json_quote(known.message),
                                       to_rfc3339(known.last), known.count);
  if (known.posted) return "{" + tail;
  const kube::Identity& about = *known.about;
  return std::format(
             R"({{"apiVersion":"v1","kind":"Event","metadata":{{"name":{},"namespace":{}}},"involvedObject":{{"apiVersion":{},"kind":{},"name":{},"namespace":{},"uid":{},"resourceVersion":"{}"}},)"
             R"("reason":{},"type":"{}","source":{{"component":{}}},"reportingComponent":{},"firstTimestamp":"{}",)",
             json_quote(known.name()), json_quote(known.namespace_()), json_quote(known.api_version), json_quote(known.kind),
             json_quote(about.name), json_quote(about.namespace_), json_quote(about.uid), known.revision.value(),
             json_quote(known.reason), known.type == NoteType::Normal ? "Normal" : "Warning", json_quote(known.component),
             json_quote(known.component), to_rfc3339(known.first)) +
         tail;
}

std::optional<Action> EventCore::next() {
  while (!queue_.empty()) {
    const auto at = known_.find(queue_.front());
    queue_.pop_front();
    if (at == known_.end()) continue;
    Known& known = at->second;
    known.queued = false;
    Action action{.verb = known.posted ? Verb::Patch : Verb::Create,
                  .resource = client::kEvents,
                  .namespace_ = known.namespace_(),
                  .name = known.name(),
                  .body = body(known)};
    known.posted = true;
    known.message = {};
    return action;
  }
  return std::nullopt;
}

void EventCore::expired(const Action& action) {
  for (auto& [key, known] : known_) {
    if (known.name() != action.name) continue;
    known.posted = false;
    if (!known.queued) {
      if (const auto doc = kube::JsonDoc::parse(action.body)) known.message = doc->root()["message"].str();
      queue(key, known);
    }
    return;
  }
}

EventRecorder::EventRecorder(rt::Loop& loop, client::Client& client, const Clock& clock, Random& random,
                             EventCore::Options options)
    : client_(client), clock_(clock), random_(random), core_(std::move(options)), work_(loop), tasks_(loop) {}

void EventRecorder::start() { tasks_.spawn("events", run()); }
rt::Task<> EventRecorder::stop() { return tasks_.stop(); }
void EventRecorder::record(const Note& note) {
  core_.add(note, clock_.now(), random_);
  work_.set();
}

rt::Task<> EventRecorder::run() {
  for (;;) {
    CO_TRY_OK(co_await work_.wait());
    work_.reset();
    while (const auto action = core_.next()) {
      // A namespace that is going takes no Events, and an Event that expired cannot be counted up but is posted anew: both are
      // normal. What was just posted is not tried again.
      if (action->verb == Verb::Create) {
        const auto posted = co_await client_.create(action->resource, action->namespace_, action->body);
        if (!posted) LOG_DEBUG("event not posted", {"error", posted.error()});
      } else {
        const auto posted = co_await client_.patch(action->resource, action->namespace_, action->name,
                                                   client::PatchType::Merge, action->body);
        if (!posted) LOG_DEBUG("event not posted", {"error", posted.error()});
        if (!posted && posted.error().code == Errc::NotFound) core_.expired(*action);
      }
    }
  }
}

}  // namespace skerry::control
