// SPDX-License-Identifier: Apache-2.0
#include "client/informer.h"

#include "base/check.h"
#include "base/log.h"

namespace skerry::client {
namespace {
Instant now() { return std::chrono::steady_clock::now(); }
constexpr Duration kServerSlack = 1min;  // a watch that lives longer than was asked for is on a connection that nobody serves
}  // namespace

Informer::Informer(rt::Loop& loop, Client& client, Random& random, Options options, OnChange on_change)
    : client_(client),
      random_(random),
      options_(std::move(options)),
      on_change_(std::move(on_change)),
      core_(options_.core, random),
      synced_(loop),
      ended_(loop),
      tasks_(loop) {}

Informer::~Informer() { CHECK(tasks_.size() == 0); }

void Informer::start() { tasks_.spawn("informer " + options_.resource.resource, run()); }
void Informer::reconnect() {
  if (give_up_) give_up_();
}
rt::Task<> Informer::stop() { co_return co_await tasks_.stop(); }

ObjectPtr Informer::get(std::string_view namespace_, std::string_view name) const {
  const auto at = core_.cache().find(object_key(namespace_, name));
  return at == core_.cache().end() ? nullptr : *at;
}

rt::Task<> Informer::run() {
  for (;;) {
    const auto action = core_.poll(now());
    switch (action.act) {
      case InformerCore::Act::List: CO_TRY_OK(co_await list_once()); break;
      case InformerCore::Act::Get: CO_TRY_OK(co_await get_once(action.object)); break;
      case InformerCore::Act::Watch: CO_TRY_OK(co_await watch_once(action.revision)); break;
      case InformerCore::Act::Sleep: CO_TRY_OK(co_await rt::sleep_for(action.until - now())); break;
      case InformerCore::Act::Wait: CHECK(false);  // one task: nothing is under way here
    }
  }
}

void Informer::note(std::string_view step, const Error& error) {
  if (error.what == last_error_) return;  // the same at every retry
  last_error_ = error.what;
  if (error.code == Errc::Gone) LOG_INFO("watch too old", {"resource", options_.resource.resource}, {"error", error});
  else LOG_WARN("informer disconnected", {"resource", options_.resource.resource}, {"step", step}, {"error", error});
}

rt::Task<> Informer::list_once() {
  auto list = co_await client_.list(options_.resource, options_.namespace_, options_.selectors);
  if (!list && list.error().code == Errc::Cancelled) co_return Fail(std::move(list).error());
  if (!list) {
    core_.on_list_failed(list.error(), now());
    note("list", list.error());
    co_return Result<>{};
  }
  const auto changes = core_.on_list(std::move(list->items), list->revision, now());
  if (!changes) {
    note("list", changes.error());
    co_return Result<>{};
  }
  if (on_change_)
    for (const auto& change : *changes) on_change_(change.before, change.after);
  synced_.set();
  co_return Result<>{};
}

// A list left it out.
rt::Task<> Informer::get_once(ObjectPtr known) {
  auto got = co_await client_.get(options_.resource, known->namespace_(), known->name());
  if (!got && got.error().code == Errc::Cancelled) co_return Fail(std::move(got).error());
  if (got) LOG_WARN("a list was wrong: it is made again", {"resource", options_.resource.resource}, {"left out", object_key(known->namespace_(), known->name())});
  else if (got.error().code != Errc::NotFound) note("get", got.error());
  const auto change = core_.on_got(got, now());
  if (change && on_change_) on_change_(change->before, change->after);
  co_return Result<>{};
}

// A task of its own, so that it can be given up while it waits for a server that will not speak again.
rt::Task<> Informer::watch_once(Revision from) {
  // Between three quarters of it and the whole: watches that began together do not end together.
  const Duration most = client_.options().watch_timeout;
  const Duration timeout = most - Duration(static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(most.count() / 4 + 1))));
  ended_.reset();
  outcome_ = Fail({Errc::Unavailable, "the watch was given up: the line was lost, or what it told has drifted"});  // unless it comes to an end itself
  // Held by the task's frame: called however it ends, also if it never began.
  std::shared_ptr<void> until_end(this, [](void* informer) {
    auto& self = *static_cast<Informer*>(informer);
    self.connected_ = false;
    self.ended_.set();
  });
  give_up_ = tasks_.spawn_cancellable("watch", follow(from, timeout, std::move(until_end)));
  CO_TRY(const bool ended, co_await ended_.wait_for(timeout + kServerSlack));
  if (!ended) {
    outcome_ = Fail({Errc::Timeout, "the server did not end the watch when it was asked to"});
    give_up_();
    CO_TRY_OK(co_await ended_.wait());
  }
  give_up_ = nullptr;
  const auto error = outcome_ ? std::optional<Error>() : outcome_.error();
  core_.on_watch_ended(error, now());
  if (error) note("watch", *error);
  co_return Result<>{};
}

rt::Task<> Informer::follow(Revision from, Duration timeout, [[maybe_unused]] std::shared_ptr<void> until_end) {
  auto watch = co_await client_.watch(options_.resource, options_.namespace_, options_.selectors, from, timeout);
  if (!watch && watch.error().code == Errc::Cancelled) co_return Result<>{};
  if (!watch) {
    outcome_ = Fail(std::move(watch).error());
    co_return Result<>{};
  }
  connected_ = true;
  last_error_.clear();
  synced_.set();
  for (;;) {
    auto event = co_await watch->next();
    if (!event && event.error().code == Errc::Cancelled) co_return Result<>{};  // given up: the outcome is there
    if (!event) {
      outcome_ = Fail(std::move(event).error());
      co_return Result<>{};
    }
    if (!*event) {
      outcome_ = {};
      co_return Result<>{};
    }
    const auto change = core_.on_event(**event);
    if (change && on_change_) on_change_(change->before, change->after);
  }
}

}  // namespace skerry::client
