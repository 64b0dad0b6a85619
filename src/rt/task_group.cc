// SPDX-License-Identifier: Apache-2.0
#include "rt/task_group.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <exception>
#include <list>

#include "base/check.h"
#include "base/log.h"

namespace skerry::rt {

struct TaskGroup::State {
  struct Entry {
    std::string name;
    std::shared_ptr<asio::cancellation_signal> signal = std::make_shared<asio::cancellation_signal>();
  };
  explicit State(Loop& l) : loop(l), empty(l) { empty.set(); }
  Loop& loop;
  std::list<Entry> entries;
  Event empty;
  bool stopping = false;
};

TaskGroup::TaskGroup(Loop& loop) : state_(std::make_shared<State>(loop)) {}
TaskGroup::~TaskGroup() { CHECK(state_->entries.empty()); }
std::size_t TaskGroup::size() const { return state_->entries.size(); }
bool TaskGroup::stopping() const { return state_->stopping; }

void TaskGroup::spawn(std::string_view name, Task<> task) { spawn_cancellable(name, std::move(task)); }

std::function<void()> TaskGroup::spawn_cancellable(std::string_view name, Task<> task) {
  if (state_->stopping) return [] {};
  state_->empty.reset();
  const auto at = state_->entries.emplace(state_->entries.end());
  at->name = name;
  asio::co_spawn(state_->loop.context(), std::move(task),
                 asio::bind_cancellation_slot(at->signal->slot(), [state = state_, at](std::exception_ptr thrown, Result<> result) {
                   if (thrown) {
                     try {
                       std::rethrow_exception(thrown);
                     } catch (const boost::system::system_error& e) {
                       if (e.code() != asio::error::operation_aborted) {
                         LOG_ERROR("task threw", {"task", at->name}, {"error", e.what()});
                         std::abort();
                       }
                     } catch (const std::exception& e) {
                       LOG_ERROR("task threw", {"task", at->name}, {"error", e.what()});
                       std::abort();
                     }
                   } else if (!result && result.error().code != Errc::Cancelled) {
                     LOG_WARN("task failed", {"task", at->name}, {"error", result.error()});
                   }
                   state->entries.erase(at);
                   if (state->entries.empty()) state->empty.set();
                 }));
  return [signal = std::weak_ptr(at->signal)] {
    if (const auto alive = signal.lock()) alive->emit(asio::cancellation_type::terminal);
  };
}

void TaskGroup::cancel() {
  state_->stopping = true;
  // A handler may erase its own entry: advance first.
  for (auto at = state_->entries.begin(); at != state_->entries.end();) {
    const auto signal = (at++)->signal;
    signal->emit(asio::cancellation_type::terminal);
  }
}

Task<> TaskGroup::stop() {
  const auto state = state_;
  cancel();
  co_return co_await state->empty.wait();
}

}  // namespace skerry::rt
