// SPDX-License-Identifier: Apache-2.0
#include "client/informer.h"

#include "base/check.h"
#include "base/log.h"

namespace skerry::client {
namespace {
Instant now() { return std::chrono::steady_clock::now(); }
}  // namespace

Informer::Informer(rt::Loop& loop, Client& client, Random& random, Options options, OnChange on_change)
    : client_(client),
      options_(std::move(options)),
      on_change_(std::move(on_change)),
      core_(options_.core, random),
      synced_(loop),
      tasks_(loop) {}

Informer::~Informer() { CHECK(tasks_.size() == 0); }

void Informer::start() { tasks_.spawn("informer " + options_.resource.resource, run()); }
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

rt::Task<> Informer::watch_once(Revision from) {
  struct Connected {
    bool& flag;
    ~Connected() { flag = false; }
  } connected{connected_};
  std::optional<Error> error;
  auto watch = co_await client_.watch(options_.resource, options_.namespace_, options_.selectors, from);
  if (!watch) {
    error = watch.error();
  } else {
    connected_ = true;
    last_error_.clear();
    synced_.set();
    for (;;) {
      auto event = co_await watch->next();
      if (!event) {
        error = event.error();
        break;
      }
      if (!*event) break;
      const auto change = core_.on_event(**event);
      if (change && on_change_) on_change_(change->before, change->after);
    }
  }
  if (error && error->code == Errc::Cancelled) co_return Fail(std::move(*error));
  core_.on_watch_ended(error, now());
  if (error) note("watch", *error);
  co_return Result<>{};
}

}  // namespace skerry::client
