// SPDX-License-Identifier: Apache-2.0
#include "rt/blocking_pool.h"

namespace skerry::rt {

BlockingPool::BlockingPool(Options options) : options_(std::move(options)), pool_(options_.threads) {}
BlockingPool::~BlockingPool() { pool_.join(); }

bool BlockingPool::post(std::function<void()> job) {
  if (waiting_.fetch_add(1) >= options_.queue_max) {
    waiting_.fetch_sub(1);
    return false;
  }
  asio::post(pool_, [this, job = std::move(job)] {
    waiting_.fetch_sub(1);
    job();
  });
  return true;
}

}  // namespace skerry::rt
