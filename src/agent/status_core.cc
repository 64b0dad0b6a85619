// SPDX-License-Identifier: Apache-2.0
#include "agent/status_core.h"

#include <algorithm>
#include <utility>

namespace skerry::agent {

StatusCore::Entry& StatusCore::entry(const PodName& pod) {
  Entry& e = entries_[pod.uid];
  if (e.pod.uid.empty()) e.pod = pod;
  return e;
}

void StatusCore::post(const PodName& pod, std::string json, Urgency urgency, Instant now) {
  Entry& e = entry(pod);
  const bool waited = e.status.has_value();
  e.status = std::move(json);
  if (e.backoff != Duration{0}) return;
  if (urgency == Urgency::Now) e.due = now;
  else if (!waited) e.due = now + options_.settle;
}

void StatusCore::remove(const PodName& pod, Instant now) {
  Entry& e = entry(pod);
  e.remove = true;
  if (e.backoff == Duration{0}) e.due = now;
}

void StatusCore::forget(const std::string& uid) { entries_.erase(uid); }

std::vector<StatusCore::Send> StatusCore::poll(Instant now) {
  std::vector<Send> out;
  deadline_.reset();
  if (suspended_) return out;
  for (auto& [uid, e] : entries_) {
    if (e.in_flight != 0 || (!e.status && !e.remove)) continue;
    if (const Instant due = std::max(e.due, not_before_); due > now) {
      if (!deadline_ || due < *deadline_) deadline_ = due;
      continue;
    }
    if (flights_.size() >= (away_.failing() ? 1 : options_.at_once)) break;  // an answer makes room, and asks again
    e.in_flight = next_id_++;
    flights_[e.in_flight] = uid;
    if (e.status) {
      e.sent = std::exchange(e.status, std::nullopt);
      ++counters_.patches;
    } else {
      ++counters_.deletes;
    }
    out.push_back({.id = e.in_flight, .pod = e.pod, .status = e.sent});
  }
  return out;
}

bool StatusCore::final(const Error& error) {
  return error.code == Errc::NotFound || error.code == Errc::Invalid || error.code == Errc::Conflict;
}

void StatusCore::on_answer(std::uint64_t id, const std::optional<Error>& error, Instant now) {
  const auto flight = flights_.find(id);
  if (flight == flights_.end()) return;
  const auto at = entries_.find(flight->second);
  flights_.erase(flight);
  if (at == entries_.end() || at->second.in_flight != id) {  // forgotten meanwhile
    if (!error) away_.reset();
    return;
  }
  Entry& e = at->second;
  e.in_flight = 0;
  const bool was_status = e.sent.has_value();
  if (error && !(final(*error) && (was_status || error->code != Errc::Invalid))) {
    if (was_status && !e.status) e.status = std::move(e.sent);  // unless there is a newer one
    e.sent.reset();
    return failed(e, *error, now);
  }
  e.sent.reset();
  e.backoff = Duration{0};
  away_.reset();
  if (!was_status) e.remove = false;
  if (e.remove) e.due = std::min(e.due, now);
  if (!e.remove && !e.status) entries_.erase(at);
}

void StatusCore::failed(Entry& e, const Error& error, Instant now) {
  ++counters_.failures;
  if (error.code == Errc::Unavailable || error.code == Errc::Timeout || error.code == Errc::Unauthenticated) {
    not_before_ = now + away_.next(random_);  // this status keeps its turn
    return;
  }
  away_.reset();
  e.backoff = e.backoff == Duration{0} ? options_.backoff_min : std::min(e.backoff * 2, options_.backoff_max);
  e.due = now + e.backoff;
}

}  // namespace skerry::agent
