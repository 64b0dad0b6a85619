// SPDX-License-Identifier: Apache-2.0
// One Loop, one thread: what runs on it needs no lock. Components (server, agent) are built on one Loop each.
// Only this module names io_context, co_spawn and std::thread.
#pragma once
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

#include "base/error.h"
#include "base/time.h"

namespace skerry::rt {

namespace asio = boost::asio;

// A coroutine that waits on its Loop. Cancellation unwinds it as boost::system::system_error(operation_aborted): nobody
// else throws, and nobody swallows that. Parameters by value, or references to owners that outlive the task.
template <class T = void>
using Task = asio::awaitable<Result<T>>;

class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop() and until nothing is left to do. On the calling thread.
  void run();
  // Thread-safe. run() returns soon.
  void stop();
  // Thread-safe: runs `f` on the loop, later.
  void post(std::function<void()> f);
  asio::io_context& context() { return context_; }
  asio::any_io_executor executor() { return context_.get_executor(); }

  // Calls `f` on the loop at each of these signals (SIGTERM, SIGINT, SIGHUP), until the loop ends.
  void on_signal(std::initializer_list<int> signals, std::function<void(int)> f);

  // Runs one task on a fresh loop to its end and returns its result: for tests and short commands.
  template <class T>
  static Result<T> run_one(Task<T> task);

 private:
  struct Signals;
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::unique_ptr<Signals> signals_;
};

// Waits that long; by the loop's monotonic clock.
Task<> sleep_for(Duration);

// Waits until `fd` (socket, pipe, pidfd) can be read, or has ended. The caller keeps it, open until the task returns.
Task<> wait_readable(int fd);
Task<bool> wait_readable_for(int fd, Duration);  // false: the time ran out

// Something to wait for that one party sets and others await, on one loop. Stays set until reset(); who waited goes on even so.
class Event {
 public:
  explicit Event(Loop&);
  void set();
  void reset() { set_ = false; }
  bool is_set() const { return set_; }
  Task<> wait();                     // returns at once if set
  Task<bool> wait_for(Duration);     // false: the time ran out

 private:
  Loop& loop_;
  bool set_ = false;
  struct Waiters;
  std::shared_ptr<Waiters> waiters_;
};

}  // namespace skerry::rt

#include "rt/loop_impl.h"
