// SPDX-License-Identifier: Apache-2.0
// The metrics page: counters and a latency histogram of one container in a memfd that the sandbox writes and the agent
// (and the keeper, to account for a death) reads. Reading costs the sandbox nothing, and figures outlive it.
// Format: docs/wire/metrics-page.md. One block per worker, one writer per block; every value is a 64-bit counter written
// with relaxed atomics. Readers treat the page as hostile: PageSnapshot copies, checks the geometry against what the
// reader itself asked for, and never trusts a number found in it.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"

namespace skerry::metrics {

// Counters of a worker's block, in the order of the wire format. Append only.
enum class Counter : std::uint8_t {
  ConnectionsAccepted,
  ConnectionsOpen,      // a gauge; 0 after a sandbox ended in order
  RequestsStarted,      // a whole request was read, the guest is about to be called
  RequestsFinished,     // its response was handed to the kernel or queued (or refused by a limit)
  RequestsLost,         // started, never finished: the sandbox died in between; written by the keeper
  Responses2xx,
  Responses3xx,
  Responses4xx,
  Responses5xx,
  RefusedRequests,      // answered by the host without asking the guest: malformed, too large, unknown method
  Timeouts,             // 408 and connections cut for slowness
  ClientsGone,          // the connection ended before its response was written
  GuestCalls,
  GuestTraps,           // every trap, whatever its cause; the next ones are parts of it
  TrapsStackOverflow,
  TrapsMemoryBounds,
  TrapsUnreachable,
  TrapsArithmetic,
  TrapsHostRefusal,     // the guest broke the contract of a host function (bad pointer, unknown kind, limit)
  Deadlines,            // 504
  GuestExits,           // proc_exit inside a request of a handler
  BadGatewayOutputs,    // WAGI output that is no CGI response (502)
  InstancesCreated,
  InstancesFailed,      // instantiate or its memory check failed
  StaleTokensDrained,   // a cancel came after its call had ended otherwise
  BytesReceived,
  BytesSent,
  LogLines,
  LogLinesDropped,      // log missing, full, or over the rate
  SandboxStarts,        // serve() reached its loop
  SandboxExits,         // left in order
  RequestBytes,         // bodies
  ResponseBytes,        // bodies
  ConnectionsLost,      // open when the sandbox died, whatever they held: also a request that nobody had read; written by the keeper
  kCount
};
inline constexpr std::size_t kCounterCount = static_cast<std::size_t>(Counter::kCount);
// The name of a counter as it appears in metrics (`requests_started`).
std::string_view counter_name(Counter);

// Latency from a whole request read to its response written, seconds. Bucket i counts values <= kLatencyBounds[i];
// the last bucket is +Inf. Not cumulative on the page.
inline constexpr std::array<std::uint64_t, 19> kLatencyBoundsNs = {
    10'000,     25'000,     50'000,      100'000,     250'000,     500'000,       1'000'000,     2'500'000,     5'000'000,      10'000'000,
    25'000'000, 50'000'000, 100'000'000, 250'000'000, 500'000'000, 1'000'000'000, 2'500'000'000, 5'000'000'000, 10'000'000'000,
};
inline constexpr std::size_t kLatencyBucketCount = kLatencyBoundsNs.size() + 1;
inline constexpr std::uint16_t kWorkersMax = 64;

// One worker's block. The writer is the sandbox alone (RequestsLost, ConnectionsLost: the keeper, after the sandbox is gone).
struct alignas(64) Block {
  std::array<std::atomic<std::uint64_t>, kCounterCount> counters;
  std::array<std::atomic<std::uint64_t>, kLatencyBucketCount> latency;
  std::atomic<std::uint64_t> latency_sum_ns;
  // 0 from the sandbox's start on, 1 from just before it ends in order: who takes a sandbox over, and cannot ask the kernel how
  // it ended, looks here. Whoever lies in it only calls its own crash an orderly end.
  std::atomic<std::uint64_t> left_in_order;

  // Single writer: a plain add without a lock prefix.
  void add(Counter c, std::uint64_t n = 1) {
    auto& v = counters[static_cast<std::size_t>(c)];
    v.store(v.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void sub(Counter c) {
    auto& v = counters[static_cast<std::size_t>(c)];
    v.store(v.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  }
  void set(Counter c, std::uint64_t n) { counters[static_cast<std::size_t>(c)].store(n, std::memory_order_relaxed); }
  std::uint64_t get(Counter c) const { return counters[static_cast<std::size_t>(c)].load(std::memory_order_relaxed); }
  void observe_latency(std::uint64_t ns) {
    std::size_t i = 0;
    while (i < kLatencyBoundsNs.size() && ns > kLatencyBoundsNs[i]) ++i;
    latency[i].store(latency[i].load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    latency_sum_ns.store(latency_sum_ns.load(std::memory_order_relaxed) + ns, std::memory_order_relaxed);
  }
};

// A new page for so many workers: memfd, close-on-exec, sealed against shrinking and growing. The caller owns the fd.
Result<int> create_page(std::uint16_t workers);

// A writable mapping; unmapped on destruction. Corrupt: not a page, unsealed, or of another geometry or version.
class Page {
 public:
  static Result<Page> map(int fd);
  Page(Page&& other) noexcept;
  Page& operator=(Page&&) = delete;
  ~Page();
  std::uint16_t workers() const { return workers_; }
  Block& block(std::uint16_t worker) { return blocks_[worker]; }

 private:
  Page(void* base, std::size_t size, std::uint16_t workers);
  void* base_;
  std::size_t size_;
  Block* blocks_;
  std::uint16_t workers_;
};

struct Losses {
  std::uint64_t requests = 0, connections = 0;
  friend bool operator==(const Losses&, const Losses&) = default;
};
// Called by the keeper when worker `worker` of the page is gone: what was started and never finished is counted as lost
// and as finished, open connections as lost. Returns what was lost now.
Losses account_for_death(Page&, std::uint16_t worker);
// What that worker's sandbox said of its end. Hostile, as all of the page; false when there is no such worker.
bool left_in_order(Page&, std::uint16_t worker);

// All workers added up; plain numbers. Sums saturate, so that a hostile page cannot overflow.
struct PageSnapshot {
  std::array<std::uint64_t, kCounterCount> counters{};
  std::array<std::uint64_t, kLatencyBucketCount> latency{};
  std::uint64_t latency_sum_ns = 0;
  std::uint64_t operator[](Counter c) const { return counters[static_cast<std::size_t>(c)]; }
};
PageSnapshot read_snapshot(const Page&);

}  // namespace skerry::metrics
