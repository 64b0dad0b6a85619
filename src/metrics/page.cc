// SPDX-License-Identifier: Apache-2.0
#include "metrics/page.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <format>
#include <limits>

namespace skerry::metrics {
namespace {

struct Header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint16_t workers;
  std::uint16_t counters;
  std::uint16_t latency_buckets;
  std::uint16_t block_bytes;
};
constexpr std::uint64_t kMagic = 0x3147504d59524b53;  // "SKRYMPG1", little-endian
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 64;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
static_assert(sizeof(Header) <= kHeaderBytes);
static_assert(sizeof(Block) < 65536);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

std::size_t size_for(std::uint16_t workers) { return kHeaderBytes + workers * sizeof(Block); }
Error corrupt(std::string_view why) { return {Errc::Corrupt, std::format("metrics page: {}", why)}; }
std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) {
  return b > std::numeric_limits<std::uint64_t>::max() - a ? std::numeric_limits<std::uint64_t>::max() : a + b;
}

constexpr std::array<std::string_view, kCounterCount> kNames = {
    "connections_accepted", "connections_open",  "requests_started",     "requests_finished",   "requests_lost",     "responses_2xx",
    "responses_3xx",        "responses_4xx",     "responses_5xx",        "refused_requests",    "timeouts",          "clients_gone",
    "guest_calls",          "guest_traps",       "traps_stack_overflow", "traps_memory_bounds", "traps_unreachable", "traps_arithmetic",
    "traps_host_refusal",   "deadlines",         "guest_exits",          "bad_gateway_outputs", "instances_created", "instances_failed",
    "stale_tokens_drained", "bytes_received",    "bytes_sent",           "log_lines",           "log_lines_dropped", "sandbox_starts",
    "sandbox_exits",        "request_bytes",     "response_bytes",      "connections_lost",
};

}  // namespace

std::string_view counter_name(Counter c) { return kNames[static_cast<std::size_t>(c)]; }

Result<int> create_page(std::uint16_t workers) {
  if (workers == 0 || workers > kWorkersMax) {
    return Fail(Error{Errc::Invalid, std::format("metrics page: {} workers; 1 to {} are possible", workers, kWorkersMax)});
  }
  const int fd = memfd_create("skerry-metrics", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Fail(errno_error(errno, "memfd_create metrics page"));
  const Header header{kMagic, kVersion, workers, kCounterCount, kLatencyBucketCount, sizeof(Block)};
  if (ftruncate(fd, static_cast<off_t>(size_for(workers))) != 0 || pwrite(fd, &header, sizeof header, 0) != sizeof header ||
      fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
    const auto error = errno_error(errno, "prepare metrics page");
    close(fd);
    return Fail(error);
  }
  return fd;
}

Result<Page> Page::map(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return Fail(errno_error(errno, "metrics page: read its seals"));
  if ((seals & kSeals) != kSeals) return Fail(corrupt("not sealed against resizing; it must be made by create_page"));
  struct stat st{};
  if (fstat(fd, &st) != 0) return Fail(errno_error(errno, "metrics page: stat"));
  const auto size = static_cast<std::size_t>(st.st_size);
  if (size < size_for(1) || size > size_for(kWorkersMax) || (size - kHeaderBytes) % sizeof(Block) != 0) {
    return Fail(corrupt(std::format("{} bytes is no size of a page of this version", size)));
  }
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return Fail(errno_error(errno, "map metrics page"));
  const auto header = *static_cast<const Header*>(base);
  // The geometry comes from the size, which is sealed; the header only has to agree.
  const auto workers = static_cast<std::uint16_t>((size - kHeaderBytes) / sizeof(Block));
  if (header.magic != kMagic || header.version != kVersion || header.workers != workers || header.counters != kCounterCount ||
      header.latency_buckets != kLatencyBucketCount || header.block_bytes != sizeof(Block)) {
    munmap(base, size);
    return Fail(corrupt("its header is of another version or damaged"));
  }
  return Page(base, size, workers);
}

Page::Page(void* base, std::size_t size, std::uint16_t workers)
    : base_(base), size_(size), blocks_(reinterpret_cast<Block*>(static_cast<char*>(base) + kHeaderBytes)), workers_(workers) {}
Page::Page(Page&& other) noexcept : base_(other.base_), size_(other.size_), blocks_(other.blocks_), workers_(other.workers_) {
  other.base_ = nullptr;
}
Page::~Page() {
  if (base_ != nullptr) munmap(base_, size_);
}

Losses account_for_death(Page& page, std::uint16_t worker) {
  if (worker >= page.workers()) return {};
  auto& block = page.block(worker);
  const auto started = block.get(Counter::RequestsStarted), finished = block.get(Counter::RequestsFinished);
  const Losses lost{started > finished ? started - finished : 0, block.get(Counter::ConnectionsOpen)};
  block.set(Counter::RequestsLost, saturating_add(block.get(Counter::RequestsLost), lost.requests));
  block.set(Counter::RequestsFinished, std::max(started, finished));
  block.set(Counter::ConnectionsLost, saturating_add(block.get(Counter::ConnectionsLost), lost.connections));
  block.set(Counter::ConnectionsOpen, 0);
  return lost;
}

bool left_in_order(Page& page, std::uint16_t worker) {
  return worker < page.workers() && page.block(worker).left_in_order.load(std::memory_order_relaxed) == 1;
}

PageSnapshot read_snapshot(const Page& page) {
  PageSnapshot out;
  for (std::uint16_t w = 0; w < page.workers(); ++w) {
    const auto& block = const_cast<Page&>(page).block(w);
    for (std::size_t i = 0; i < kCounterCount; ++i) {
      out.counters[i] = saturating_add(out.counters[i], block.counters[i].load(std::memory_order_relaxed));
    }
    for (std::size_t i = 0; i < kLatencyBucketCount; ++i) {
      out.latency[i] = saturating_add(out.latency[i], block.latency[i].load(std::memory_order_relaxed));
    }
    out.latency_sum_ns = saturating_add(out.latency_sum_ns, block.latency_sum_ns.load(std::memory_order_relaxed));
  }
  return out;
}

}  // namespace skerry::metrics
