// SPDX-License-Identifier: Apache-2.0
// A few named threads for work that blocks (fsync, compilation, DNS). Bounded: beyond `queue_max` waiting jobs, run()
// answers Exhausted. Jobs run to their end; the destructor waits for them.
#pragma once
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "rt/loop.h"

namespace skerry::rt {

class BlockingPool {
 public:
  struct Options {
    std::string name;
    std::size_t threads = 1;
    std::size_t queue_max = 1024;
  };
  explicit BlockingPool(Options);
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // Runs job() (returning Result<T>) on the pool and resumes the caller on its own loop with the result.
  // The job must own, or outlive, all that it touches: a cancelled caller does not stop it.
  template <class T>
  Task<T> run(std::function<Result<T>()> job);
  // Without a coroutine: job() on the pool. False: the queue is full and the job was not taken.
  bool post(std::function<void()> job);

 private:
  Options options_;
  std::atomic<std::size_t> waiting_{0};
  asio::thread_pool pool_;
};

template <class T>
Task<T> BlockingPool::run(std::function<Result<T>()> job) {
  const auto executor = co_await asio::this_coro::executor;
  auto out = std::make_shared<std::optional<Result<T>>>();
  auto done = std::make_shared<asio::steady_timer>(executor, asio::steady_timer::time_point::max());
  const bool taken = post([job = std::move(job), out, done, executor] {
    auto result = std::make_shared<Result<T>>(job());
    asio::post(executor, [result, out, done] {
      out->emplace(std::move(*result));
      done->cancel();
    });
  });
  if (!taken) co_return Fail({Errc::Exhausted, "too many jobs wait for the pool " + options_.name});
  while (!out->has_value()) {
    boost::system::error_code ignored;
    co_await done->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  co_return std::move(**out);
}

}  // namespace skerry::rt
