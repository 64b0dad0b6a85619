// SPDX-License-Identifier: Apache-2.0
#include "rt/loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>
#include <vector>

namespace skerry::rt {

struct Loop::Signals {
  struct One {
    asio::signal_set set;
    std::function<void(int)> handler;
    explicit One(asio::io_context& context) : set(context) {}
    void wait() {
      set.async_wait([this](const boost::system::error_code& error, int number) {
        if (error) return;
        handler(number);
        wait();
      });
    }
  };
  std::list<One> all;
};

Loop::Loop() : work_(asio::make_work_guard(context_)), signals_(std::make_unique<Signals>()) {}
Loop::~Loop() = default;

void Loop::run() { context_.run(); }
void Loop::stop() {
  asio::post(context_, [this] {
    signals_->all.clear();
    work_.reset();
    // One turn more: a task that says stop() as its last act has its completion queued behind this.
    asio::post(context_, [this] { context_.stop(); });
  });
}
void Loop::post(std::function<void()> f) { asio::post(context_, std::move(f)); }

void Loop::on_signal(std::initializer_list<int> signals, std::function<void(int)> f) {
  auto& one = signals_->all.emplace_back(context_);
  for (const int number : signals) one.set.add(number);
  one.handler = std::move(f);
  one.wait();
}

Task<> sleep_for(Duration d) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  timer.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(d));
  co_await timer.async_wait(asio::use_awaitable);
  co_return Result<>{};
}

Task<> wait_readable(int fd) {
  struct Borrowed {
    asio::posix::stream_descriptor descriptor;
    ~Borrowed() { descriptor.release(); }  // the descriptor is the caller's
  } borrowed{asio::posix::stream_descriptor(co_await asio::this_coro::executor, fd)};
  boost::system::error_code error;
  co_await borrowed.descriptor.async_wait(asio::posix::stream_descriptor::wait_read, asio::redirect_error(asio::use_awaitable, error));
  if (error == asio::error::operation_aborted) co_await asio::post(asio::use_awaitable);  // cancelled: this throws
  if (error) co_return Fail({Errc::Internal, "wait for a descriptor: " + error.message()});
  co_return Result<>{};
}

Task<bool> wait_readable_for(int fd, Duration timeout) {
  // Shared: the timer's handler may come after this coroutine has gone on.
  struct Borrowed {
    Borrowed(const asio::any_io_executor& executor, int number) : descriptor(executor, number) {}
    ~Borrowed() { descriptor.release(); }
    asio::posix::stream_descriptor descriptor;
    bool late = false, done = false;
  };
  const auto executor = co_await asio::this_coro::executor;
  const auto borrowed = std::make_shared<Borrowed>(executor, fd);
  asio::steady_timer timer(executor, timeout);
  timer.async_wait([weak = std::weak_ptr(borrowed)](const boost::system::error_code& cancelled) {
    const auto b = weak.lock();
    if (cancelled || !b || b->done) return;
    b->late = true;
    b->descriptor.cancel();
  });
  boost::system::error_code error;
  co_await borrowed->descriptor.async_wait(asio::posix::stream_descriptor::wait_read, asio::redirect_error(asio::use_awaitable, error));
  borrowed->done = true;
  timer.cancel();
  if (error == asio::error::operation_aborted && borrowed->late) co_return false;
  if (error == asio::error::operation_aborted) co_await asio::post(asio::use_awaitable);  // cancelled: this throws
  if (error) co_return Fail({Errc::Internal, "wait for a descriptor: " + error.message()});
  co_return true;
}

struct Event::Waiters {
  std::vector<std::weak_ptr<asio::steady_timer>> timers;
  std::uint64_t sets = 0;
};

Event::Event(Loop& loop) : loop_(loop), waiters_(std::make_shared<Waiters>()) {}

void Event::set() {
  set_ = true;
  ++waiters_->sets;
  for (const auto& weak : std::exchange(waiters_->timers, {}))
    if (const auto timer = weak.lock()) timer->cancel();
}

Task<> Event::wait() {
  for (bool set = false; !set;) {
    CO_TRY(set, co_await wait_for(std::chrono::hours(24)));
  }
  co_return Result<>{};
}

Task<bool> Event::wait_for(Duration d) {
  if (set_) co_return true;
  auto timer = std::make_shared<asio::steady_timer>(loop_.context());
  timer->expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(d));
  waiters_->timers.push_back(timer);
  const std::uint64_t before = waiters_->sets;
  boost::system::error_code error;
  co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, error));
  // set() cancels the timer; so does cancellation, which shows again (as an exception) at this await.
  const bool set = waiters_->sets != before;
  if (error && !set) {
    asio::steady_timer now(loop_.context());
    now.expires_after(Duration::zero());
    co_await now.async_wait(asio::use_awaitable);
  }
  co_return set;
}

}  // namespace skerry::rt
