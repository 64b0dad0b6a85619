// SPDX-License-Identifier: Apache-2.0
// Keeps the kernel's nftables table as ServiceRules wants it. The shell: it coalesces changes (at most one nft call in
// `interval`), runs nft on a blocking pool, and after a failure replaces the whole table, with a growing back-off.
// Owner: the agent, on its loop. The table stays when the agent ends, so that Services go on working without it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>

#include "base/time.h"
#include "net/service_rules.h"
#include "os/nft.h"
#include "rt/blocking_pool.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::net {

class ServiceProxy {
 public:
  struct Options {
    ServiceRules::Options rules;
    Duration interval = std::chrono::milliseconds(50);
    Duration backoff_max = std::chrono::seconds(30);
    // Applies one batch; runs on the pool. The default is nft.
    std::function<Result<std::string>(std::string batch)> apply = [](std::string batch) {
      return os::apply_nft(batch);
    };
  };
  ServiceProxy(rt::Loop&, rt::BlockingPool&, Options);

  void start();  // until the first changed() the table of an earlier process serves
  rt::Task<> stop();
  // Takes the table away, on the calling thread: for uninstalling. Call after stop().
  Result<> remove();

  // Change the rules, then say so. All on the loop.
  ServiceRules& rules() { return rules_; }
  void changed();
  // Called on the loop each time the kernel has all that was changed: rules().free_of() may have become true.
  void on_in_sync(std::function<void()> tell) { tell_ = std::move(tell); }

  struct Counters {
    std::uint64_t batches = 0, failures = 0, full = 0;
    Duration last_took{};
  };
  const Counters& counters() const { return counters_; }
  bool in_sync() const { return in_sync_; }  // the kernel has all that was changed

 private:
  rt::Task<> run();
  rt::BlockingPool& pool_;
  Options options_;
  ServiceRules rules_;
  rt::Event work_;
  rt::TaskGroup tasks_;
  Counters counters_;
  std::function<void()> tell_;
  bool in_sync_ = false;
};

}  // namespace skerry::net
