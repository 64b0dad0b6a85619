// SPDX-License-Identifier: Apache-2.0
#include "client/informer_core.h"

#include <algorithm>
#include <format>
#include <utility>

#include "base/check.h"

namespace skerry::client {
namespace {

// A watch that the server ends sooner than this without a word is no progress.
constexpr Duration kShortWatch = 1s;

bool differs(const kube::ObjectPtr& a, const kube::ObjectPtr& b) { return a->uid() != b->uid() || a->revision() != b->revision(); }

}  // namespace

std::string object_key(std::string_view namespace_, std::string_view name) {
  return namespace_.empty() ? std::string(name) : std::format("{}/{}", namespace_, name);
}

InformerCore::Action InformerCore::poll(Instant now) {
  if (state_ == State::Listing || state_ == State::Getting || state_ == State::Watching) return {Act::Wait};
  if (not_before_ && now < *not_before_) return {.act = Act::Sleep, .until = *not_before_};
  not_before_.reset();
  if (std::exchange(list_next_, false)) state_ = State::NeedList;
  if (state_ == State::NeedList) {
    state_ = State::Listing;
    return {Act::List};
  }
  if (state_ == State::NeedGet) {
    state_ = State::Getting;
    return {.act = Act::Get, .object = doubtful_.back()};
  }
  state_ = State::Watching;
  watch_began_ = now;
  progress_ = false;
  return {.act = Act::Watch, .revision = revision_};
}

void InformerCore::fail(State next, Instant now, Errc code) {
  state_ = next;
  not_before_ = now + backoff_.next(random_);
  if (code == Errc::Denied) not_before_ = now + Backoff(options_.denied_again, options_.denied_again).next(random_);
}

kube::ObjectPtr InformerCore::held(const kube::ObjectPtr& came, const kube::ObjectPtr& former) {
  if (options_.share) {
    if (auto shared = options_.share(*came); shared && !differs(shared, came)) return shared;
  }
  return packer_.pack(came, former);
}

Result<std::vector<Change>> InformerCore::on_list(std::vector<kube::ObjectPtr> items, kube::Revision revision, Instant now) {
  CHECK(state_ == State::Listing);
  if (items.size() > options_.objects_max) {
    fail(State::NeedList, now);
    return Fail({Errc::Exhausted, std::format("the list has {} objects, and the limit is {}", items.size(), options_.objects_max)});
  }
  Cache fresh;
  for (auto& item : items) {
    const auto at = cache_.find(item);
    kube::put(fresh, held(item, at == cache_.end() ? nullptr : *at));
    item.reset();
  }
  std::vector<Change> out;
  doubtful_.clear();
  list_was_wrong_ = false;
  for (const auto& before : cache_) {
    if (fresh.contains(before)) continue;
    if (options_.confirm_removals) doubtful_.push_back(before);
    else out.push_back({before, nullptr});
  }
  for (const auto& after : fresh) {
    const auto at = cache_.find(after);
    if (at == cache_.end()) out.push_back({nullptr, after});
    else if (differs(*at, after)) out.push_back({*at, after});
  }
  for (const auto& before : doubtful_) kube::put(fresh, before);
  cache_ = std::move(fresh);
  digest_ = {};
  for (const auto& object : cache_) digest_.add(*object);
  revision_ = revision;
  synced_ = true;
  ++lists_;
  state_ = doubtful_.empty() ? State::NeedWatch : State::NeedGet;
  if (doubtful_.empty()) denials_ = 0;
  return out;
}

void InformerCore::reject(const kube::ObjectPtr& wrong, const kube::ObjectPtr& former) {
  const auto at = cache_.find(wrong);
  if (at == cache_.end() || differs(*at, wrong)) return;
  digest_.remove(*wrong);
  if (former) digest_.add(*former);
  if (former) kube::put(cache_, held(former, nullptr));
  else cache_.erase(at);
}

std::optional<Change> InformerCore::on_got(const Result<kube::ObjectPtr>& got, Instant now) {
  CHECK(state_ == State::Getting);
  const bool denied = !got && got.error().code == Errc::Denied;
  if (!got && !denied && got.error().code != Errc::NotFound) {
    fail(State::NeedGet, now);
    return std::nullopt;
  }
  if (denied && denials_ < options_.denials_believed && ++denials_ < options_.denials_believed) {
    state_ = State::NeedList;
    not_before_ = now + Backoff(options_.doubt_again, options_.doubt_again).next(random_);
    return std::nullopt;
  }
  const kube::ObjectPtr before = std::move(doubtful_.back());
  doubtful_.pop_back();
  // Another of this name may be elsewhere: then a list has left it out rightly.
  const bool gone = !got || (*got)->node_name() != before->node_name();
  list_was_wrong_ = list_was_wrong_ || !gone;
  if (got) denials_ = 0;
  if (!doubtful_.empty()) {
    state_ = State::NeedGet;
  } else if (list_was_wrong_) {
    fail(State::NeedList, now);
  } else {
    state_ = State::NeedWatch;
    denials_ = 0;
  }
  const auto at = cache_.find(before);
  if (gone) {
    digest_.remove(*before);
    cache_.erase(at);
    return Change{before, nullptr};
  }
  if (!differs(before, *got)) return std::nullopt;
  digest_.remove(*before);
  digest_.add(**got);
  return Change{before, *kube::put(cache_, held(*got, before))};
}

void InformerCore::on_list_failed(const Error& error, Instant now) {
  CHECK(state_ == State::Listing);
  fail(State::NeedList, now, error.code);
}

std::optional<Change> InformerCore::on_event(const WatchEvent& event) {
  CHECK(state_ == State::Watching);
  progress_ = true;
  backoff_.reset();
  if (event.revision > revision_) revision_ = event.revision;
  if (event.type == WatchEvent::Type::Bookmark) return std::nullopt;
  const auto at = cache_.find(event.object);
  if (event.type == WatchEvent::Type::Deleted) {
    // A deletion carries a newer revision than what is known, but the same uid.
    if (at == cache_.end()) return std::nullopt;
    Change out{*at, nullptr};
    digest_.remove(**at);
    cache_.erase(at);
    return out;
  }
  if (at == cache_.end()) {
    digest_.add(*event.object);
    return Change{nullptr, *kube::put(cache_, held(event.object, nullptr))};
  }
  // Seen already: a server may repeat events after a resume.
  const kube::ObjectPtr before = *at;
  if (!differs(before, event.object) || (before->uid() == event.object->uid() && event.object->revision() < before->revision())) return std::nullopt;
  digest_.remove(*before);
  digest_.add(*event.object);
  return Change{before, *kube::put(cache_, held(event.object, before))};
}

void InformerCore::on_watch_ended(const std::optional<Error>& error, Instant now) {
  CHECK(state_ == State::Watching);
  if (error && error->code == Errc::Gone) {
    // The first list follows at once; a server that says Gone again and again is backed off from.
    if (progress_) backoff_.reset();
    const bool again = !progress_ && backoff_.failing();
    fail(State::NeedList, now);
    if (!again) not_before_.reset();
    if (progress_) backoff_.reset();
    return;
  }
  if (!error && (progress_ || now - watch_began_ >= kShortWatch)) {
    state_ = State::NeedWatch;
    return;
  }
  fail(State::NeedWatch, now, error ? error->code : Errc::Unavailable);
}

void InformerCore::restore(std::vector<kube::ObjectPtr> items, kube::Revision revision) {
  CHECK(state_ == State::NeedList && lists_ == 0);
  for (auto& item : items) {
    digest_.add(*item);
    kube::put(cache_, held(item, nullptr));
    item.reset();
  }
  revision_ = revision;
  if (revision.value() != 0) state_ = State::NeedWatch;
}

}  // namespace skerry::client
