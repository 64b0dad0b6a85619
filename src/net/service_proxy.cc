// SPDX-License-Identifier: Apache-2.0
#include "net/service_proxy.h"

#include <algorithm>

#include "base/log.h"

namespace skerry::net {

ServiceProxy::ServiceProxy(rt::Loop& loop, rt::BlockingPool& pool, Options options)
    : pool_(pool), options_(std::move(options)), rules_(options_.rules), work_(loop), tasks_(loop) {}

void ServiceProxy::start() {
  tasks_.spawn("service proxy", run());
}

rt::Task<> ServiceProxy::stop() { return tasks_.stop(); }

void ServiceProxy::changed() {
  in_sync_ = false;
  work_.set();
}

Result<> ServiceProxy::remove() {
  TRY_OK(options_.apply(rules_.removal()));
  rules_.lost();
  return {};
}

rt::Task<> ServiceProxy::run() {
  const SystemClock clock;
  Duration pause = options_.interval;
  bool whole = true;
  for (;;) {
    CO_TRY_OK(co_await work_.wait());
    work_.reset();
    const auto batch = rules_.update();
    if (batch) {
      const Instant start = clock.instant();
      const auto result =
          co_await pool_.run<std::string>([apply = options_.apply, batch = *batch] { return apply(batch); });
      counters_.last_took = clock.instant() - start;
      ++counters_.batches;
      if (whole) ++counters_.full;
      if (result) {
        rules_.applied();
        whole = false;
        pause = options_.interval;
      } else {
        ++counters_.failures;
        rules_.lost();
        whole = true;
        work_.set();
        pause = std::min(options_.backoff_max, std::max<Duration>(pause * 2, std::chrono::milliseconds(200)));
        LOG_WARN("services not applied", {"error", result.error()}, {"next try in", pause});
      }
    }
    if (!work_.is_set()) {
      in_sync_ = true;
      if (tell_) tell_();
    }
    CO_TRY_OK(co_await rt::sleep_for(pause));
  }
}

}  // namespace skerry::net
