// SPDX-License-Identifier: Apache-2.0
#include "store/watch.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace skerry::store {

Bytes WatchEvent::line() const { return change ? change->line(type) : make_line(type, *object->json()); }

void WatchSource::notify() {
  const std::uint64_t newest = history.end() - 1;
  const ChangePtr& change = history.at(newest);
  for (Watch* watch : watchers) {
    if (!watch->waiting_ || watch->next_ != newest) continue;
    if (watch->judge(change)) {
      watch->waiting_ = false;
      watch->timer_.cancel();
    } else {
      ++watch->next_;
      watch->revision_ = change->revision;
    }
  }
}

void WatchSource::end(const Error& error) {
  for (Watch* watch : std::exchange(watchers, {})) {
    watch->source_ = nullptr;
    watch->ended_ = error;
    watch->waiting_ = false;
    watch->timer_.cancel();
  }
}

Watch::Watch(rt::Loop& loop, WatchSource& source, Filter filter, std::vector<kube::ObjectPtr> initial, std::uint64_t next,
             kube::Revision visible)
    : source_(&source), filter_(std::move(filter)), initial_(std::move(initial)), next_(next), revision_(visible),
      timer_(loop.context()) {
  source.watchers.push_back(this);
}

Watch::~Watch() {
  if (source_) std::erase(source_->watchers, this);
}

std::optional<WatchEvent> Watch::judge(const ChangePtr& change) const {
  const auto wanted = [this](const kube::ObjectPtr& object) { return object && (!filter_ || filter_(*object)); };
  const bool before = wanted(change->previous);
  if (change->removed) {
    if (!before) return std::nullopt;
    return WatchEvent{EventType::Deleted, change->object, change->revision, change};
  }
  const bool now = wanted(change->object);
  if (now) return WatchEvent{before ? EventType::Modified : EventType::Added, change->object, change->revision, change};
  if (before) return WatchEvent{EventType::Deleted, change->left(), change->revision, change};
  return std::nullopt;
}

Result<std::optional<WatchEvent>> Watch::poll() {
  if (ended_) return Fail(*ended_);
  if (initial_at_ < initial_.size()) {
    kube::ObjectPtr object = std::move(initial_[initial_at_++]);
    if (initial_at_ == initial_.size()) initial_ = {}, initial_at_ = 0;
    const kube::Revision revision = object->revision();
    return WatchEvent{EventType::Added, std::move(object), revision};
  }
  if (next_ < source_->history.first()) {
    ++source_->dropped;
    ended_ = Error(Errc::Gone, "this watch fell behind the kept history: list again");
    std::erase(source_->watchers, this);
    source_ = nullptr;
    return Fail(*ended_);
  }
  while (next_ < source_->history.end()) {
    const ChangePtr& change = source_->history.at(next_++);
    revision_ = change->revision;
    if (auto event = judge(change)) return event;
  }
  return std::optional<WatchEvent>();
}

rt::Task<std::optional<WatchEvent>> Watch::next(Duration wait_max) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(wait_max);
  for (;;) {
    CO_TRY(auto event, poll());
    if (event) co_return std::move(event);
    if (std::chrono::steady_clock::now() >= deadline) co_return std::optional<WatchEvent>();
    waiting_ = true;
    timer_.expires_at(deadline);
    boost::system::error_code error;
    co_await timer_.async_wait(rt::asio::redirect_error(rt::asio::use_awaitable, error));
    if (error && waiting_) {
      // Not notify(): the task is being cancelled, which shows at this await as the exception that it is.
      waiting_ = false;
      co_await rt::asio::post(co_await rt::asio::this_coro::executor, rt::asio::use_awaitable);
    }
    waiting_ = false;
  }
}

}  // namespace skerry::store
