// SPDX-License-Identifier: Apache-2.0
#include "sandbox/guest_wasi.h"

#include <poll.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "sandbox/deadline.h"

namespace skerry::sandbox {

WasiWorld wasi_world;

namespace {

using wasm::Frame;
using wasm::HostStatus;
using Params = const std::uint64_t*;

enum WasiErrno : std::uint64_t { kSuccess = 0, kBadf = 8, kFault = 21, kInval = 28, kNosys = 52, kNotsup = 58, kSpipe = 70 };

std::uint32_t u32(std::uint64_t v) { return static_cast<std::uint32_t>(v); }
template <class T>
bool store(Frame& frame, std::uint64_t at, T value) {
  auto* to = frame.bytes(u32(at), sizeof value);
  if (to == nullptr) return false;
  std::memcpy(to, &value, sizeof value);  // WebAssembly and every machine that we build for are little-endian
  return true;
}
template <class T>
T load(const std::uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

HostStatus answer(std::uint64_t* result, std::uint64_t value) {
  *result = value;
  return HostStatus::Ok;
}

HostStatus sizes_get(Frame& frame, const std::vector<std::string>& list, Params p, std::uint64_t* result) {
  std::uint64_t bytes = 0;
  for (const auto& item : list) bytes += item.size() + 1;
  const bool ok = store(frame, p[0], u32(list.size())) && store(frame, p[1], u32(bytes));
  return answer(result, ok ? kSuccess : kFault);
}
HostStatus list_get(Frame& frame, const std::vector<std::string>& list, Params p, std::uint64_t* result) {
  auto pointer = p[0], text = p[1];
  for (const auto& item : list) {
    auto* to = text > 0xffffffff ? nullptr : frame.bytes(u32(text), u32(item.size() + 1));
    if (to == nullptr || pointer > 0xffffffff || !store(frame, pointer, u32(text))) return answer(result, kFault);
    std::memcpy(to, item.c_str(), item.size() + 1);
    pointer += 4;
    text += item.size() + 1;
  }
  return answer(result, kSuccess);
}
HostStatus args_get(Frame& f, Params p, std::uint64_t* r) { return list_get(f, wasi_world.args, p, r); }
HostStatus args_sizes_get(Frame& f, Params p, std::uint64_t* r) { return sizes_get(f, wasi_world.args, p, r); }
HostStatus environ_get(Frame& f, Params p, std::uint64_t* r) { return list_get(f, wasi_world.env, p, r); }
HostStatus environ_sizes_get(Frame& f, Params p, std::uint64_t* r) { return sizes_get(f, wasi_world.env, p, r); }

bool clock_of(std::uint64_t id, clockid_t& out) {
  switch (id) {
    case 0: out = CLOCK_REALTIME; return true;
    case 1: out = CLOCK_MONOTONIC; return true;
    case 2: out = CLOCK_PROCESS_CPUTIME_ID; return true;
    case 3: out = CLOCK_THREAD_CPUTIME_ID; return true;
    default: return false;
  }
}
std::uint64_t nanoseconds(const timespec& t) { return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec); }
HostStatus clock_res_get(Frame& frame, Params p, std::uint64_t* result) {
  clockid_t clock;
  if (!clock_of(p[0], clock)) return answer(result, kInval);
  return answer(result, store<std::uint64_t>(frame, p[1], 1) ? kSuccess : kFault);
}
HostStatus clock_time_get(Frame& frame, Params p, std::uint64_t* result) {
  clockid_t clock;
  if (!clock_of(p[0], clock)) return answer(result, kInval);
  timespec t;
  clock_gettime(clock, &t);
  return answer(result, store(frame, p[2], nanoseconds(t)) ? kSuccess : kFault);
}

bool is_standard(std::uint64_t fd) { return fd <= 2; }
HostStatus fd_close(Frame&, Params p, std::uint64_t* result) { return answer(result, is_standard(p[0]) ? kSuccess : kBadf); }
HostStatus fd_fdstat_get(Frame& frame, Params p, std::uint64_t* result) {
  if (!is_standard(p[0])) return answer(result, kBadf);
  auto* to = frame.bytes(u32(p[1]), 24);
  if (to == nullptr) return answer(result, kFault);
  std::memset(to, 0, 24);
  // A log is a terminal (2) without seeking, so that libraries write whole lines; what becomes a response is a pipe,
  // which WASI calls unknown (0). The rights of a stream: fd_read (2) or fd_write (64), poll_fd_readwrite.
  if (p[0] == 2 || (p[0] == 1 && wasi_world.output == nullptr)) to[0] = 2;
  const std::uint64_t rights = (p[0] == 0 ? 2u : 64u) | 1u << 27;
  std::memcpy(to + 8, &rights, 8);
  return answer(result, kSuccess);
}
HostStatus fd_filestat_get(Frame& frame, Params p, std::uint64_t* result) {
  if (!is_standard(p[0])) return answer(result, kBadf);
  auto* to = frame.bytes(u32(p[1]), 64);
  if (to == nullptr) return answer(result, kFault);
  std::memset(to, 0, 64);
  return answer(result, kSuccess);
}

// Walks the guest's ciovec list; `each` returns false to stop.
template <class Each>
std::uint64_t for_each_vector(Frame& frame, std::uint64_t at, std::uint64_t count, Each each) {
  constexpr std::uint64_t kVectorsMax = 1024;
  if (count > kVectorsMax) return kInval;
  const auto* vectors = frame.bytes(u32(at), u32(count * 8));
  if (vectors == nullptr) return kFault;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto base = load<std::uint32_t>(vectors + i * 8), size = load<std::uint32_t>(vectors + i * 8 + 4);
    auto* bytes = frame.bytes(base, size);
    if (bytes == nullptr) return kFault;
    if (!each(bytes, size)) break;
  }
  return kSuccess;
}

HostStatus fd_write(Frame& frame, Params p, std::uint64_t* result) {
  if (p[0] != 1 && p[0] != 2) return answer(result, kBadf);
  auto& world = wasi_world;
  std::uint32_t written = 0;
  const auto error = for_each_vector(frame, p[1], p[2], [&](const std::uint8_t* bytes, std::uint32_t size) {
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    if (p[0] == 1 && world.output != nullptr) {
      if (world.output->size() + size > world.output_max) world.output_overflowed = true;
      else world.output->append(text);
    } else if (world.log != nullptr) {
      world.log->write(p[0] == 1 ? GuestLog::Out : GuestLog::Err, text);
    }
    written += size;
    return !world.output_overflowed;
  });
  if (world.output_overflowed) return HostStatus::Refuse;  // the response is larger than its limit
  if (error != kSuccess) return answer(result, error);
  return answer(result, store(frame, p[3], written) ? kSuccess : kFault);
}
HostStatus fd_read(Frame& frame, Params p, std::uint64_t* result) {
  if (p[0] != 0) return answer(result, kBadf);
  auto& world = wasi_world;
  std::uint32_t got = 0;
  const auto error = for_each_vector(frame, p[1], p[2], [&](std::uint8_t* bytes, std::uint32_t size) {
    const auto n = std::min<std::size_t>(size, world.input.size() - world.input_at);
    if (n > 0) std::memcpy(bytes, world.input.data() + world.input_at, n);
    world.input_at += n;
    got += u32(n);
    return n == size;
  });
  if (error != kSuccess) return answer(result, error);
  return answer(result, store(frame, p[3], got) ? kSuccess : kFault);
}
HostStatus fd_seek(Frame&, Params p, std::uint64_t* result) { return answer(result, is_standard(p[0]) ? kSpipe : kBadf); }
HostStatus fd_flags(Frame&, Params p, std::uint64_t* result) { return answer(result, is_standard(p[0]) ? kSuccess : kBadf); }
HostStatus fd_none(Frame&, Params p, std::uint64_t* result) { return answer(result, is_standard(p[0]) ? kNotsup : kBadf); }
HostStatus path_none(Frame&, Params, std::uint64_t* result) { return answer(result, kBadf); }
HostStatus sock_none(Frame&, Params, std::uint64_t* result) { return answer(result, kBadf); }

HostStatus poll_oneoff(Frame& frame, Params p, std::uint64_t* result) {
  constexpr std::uint64_t kSubscriptionBytes = 48, kEventBytes = 32, kSubscriptionsMax = 256;
  const auto count = p[2];
  if (count == 0 || count > kSubscriptionsMax) return answer(result, kInval);
  const auto* in = frame.bytes(u32(p[0]), u32(count * kSubscriptionBytes));
  auto* out = frame.bytes(u32(p[1]), u32(count * kEventBytes));
  if (in == nullptr || out == nullptr) return answer(result, kFault);
  // stdin and the outputs are always ready; otherwise the nearest clock decides.
  std::uint64_t wait_ns = ~0ull;
  std::uint64_t timeouts[kSubscriptionsMax];
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto* s = in + i * kSubscriptionBytes;
    if (s[8] > 2) return answer(result, kInval);  // neither clock, fd_read nor fd_write
    if (s[8] != 0) {
      wait_ns = 0;
      continue;
    }
    clockid_t clock;
    if (!clock_of(load<std::uint32_t>(s + 16), clock)) return answer(result, kInval);
    auto timeout = load<std::uint64_t>(s + 24);
    if ((load<std::uint16_t>(s + 40) & 1) != 0) {  // absolute
      timespec now;
      clock_gettime(clock, &now);
      timeout = timeout > nanoseconds(now) ? timeout - nanoseconds(now) : 0;
    }
    timeouts[i] = timeout;
    wait_ns = std::min(wait_ns, timeout);
  }
  const auto until = monotonic_ns() + std::min<std::uint64_t>(wait_ns, 1ull << 60);
  for (auto now = monotonic_ns(); now < until; now = monotonic_ns()) {
    if (Deadline::expired()) return HostStatus::Exit;  // the call's time is up; its end is a 504
    const auto left = std::min<std::uint64_t>(until - now, 3'600'000'000'000);
    const timespec length{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &length, nullptr);
  }
  std::uint32_t events = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto* s = in + i * kSubscriptionBytes;
    std::uint8_t event[kEventBytes] = {};
    std::memcpy(event, s, 8);  // userdata
    event[10] = s[8];
    if (s[8] == 0) {
      if (timeouts[i] > wait_ns) continue;  // not this one's turn yet
    } else {
      const auto fd = load<std::uint32_t>(s + 16);
      const std::uint16_t error = is_standard(fd) ? kSuccess : kBadf;
      std::memcpy(event + 8, &error, 2);
    }
    std::memcpy(out + events * kEventBytes, event, kEventBytes);
    ++events;
  }
  return answer(result, store(frame, p[3], events) ? kSuccess : kFault);
}

HostStatus proc_exit(Frame&, Params p, std::uint64_t*) {
  wasi_world.exit_code = static_cast<int>(u32(p[0]));
  return HostStatus::Exit;
}
HostStatus proc_raise(Frame&, Params, std::uint64_t* result) { return answer(result, kNosys); }
HostStatus sched_yield_(Frame&, Params, std::uint64_t* result) { return answer(result, kSuccess); }
HostStatus random_get(Frame& frame, Params p, std::uint64_t* result) {
  auto* to = frame.bytes(u32(p[0]), u32(p[1]));
  if (to == nullptr) return answer(result, kFault);
  for (std::size_t done = 0; done < u32(p[1]);) {
    const auto n = getrandom(to + done, u32(p[1]) - done, 0);
    if (n < 0 && errno != EINTR) return answer(result, kNosys);
    if (n > 0) done += static_cast<std::size_t>(n);
    if (Deadline::expired()) return HostStatus::Exit;
  }
  return answer(result, kSuccess);
}

constexpr wasm::HostFunction kFunctions[] = {
    {"args_get", "ii", "i", args_get},
    {"args_sizes_get", "ii", "i", args_sizes_get},
    {"environ_get", "ii", "i", environ_get},
    {"environ_sizes_get", "ii", "i", environ_sizes_get},
    {"clock_res_get", "ii", "i", clock_res_get},
    {"clock_time_get", "iIi", "i", clock_time_get},
    {"fd_advise", "iIIi", "i", fd_none},
    {"fd_allocate", "iII", "i", fd_none},
    {"fd_close", "i", "i", fd_close},
    {"fd_datasync", "i", "i", fd_flags},
    {"fd_fdstat_get", "ii", "i", fd_fdstat_get},
    {"fd_fdstat_set_flags", "ii", "i", fd_flags},
    {"fd_fdstat_set_rights", "iII", "i", fd_none},
    {"fd_filestat_get", "ii", "i", fd_filestat_get},
    {"fd_filestat_set_size", "iI", "i", fd_none},
    {"fd_filestat_set_times", "iIIi", "i", fd_none},
    {"fd_pread", "iiiIi", "i", fd_seek},
    {"fd_prestat_get", "ii", "i", path_none},
    {"fd_prestat_dir_name", "iii", "i", path_none},
    {"fd_pwrite", "iiiIi", "i", fd_seek},
    {"fd_read", "iiii", "i", fd_read},
    {"fd_readdir", "iiiIi", "i", fd_none},
    {"fd_renumber", "ii", "i", fd_none},
    {"fd_seek", "iIii", "i", fd_seek},
    {"fd_sync", "i", "i", fd_flags},
    {"fd_tell", "ii", "i", fd_seek},
    {"fd_write", "iiii", "i", fd_write},
    {"path_create_directory", "iii", "i", path_none},
    {"path_filestat_get", "iiiii", "i", path_none},
    {"path_filestat_set_times", "iiiiIIi", "i", path_none},
    {"path_link", "iiiiiii", "i", path_none},
    {"path_open", "iiiiiIIii", "i", path_none},
    {"path_readlink", "iiiiii", "i", path_none},
    {"path_remove_directory", "iii", "i", path_none},
    {"path_rename", "iiiiii", "i", path_none},
    {"path_symlink", "iiiii", "i", path_none},
    {"path_unlink_file", "iii", "i", path_none},
    {"poll_oneoff", "iiii", "i", poll_oneoff},
    {"proc_exit", "i", "", proc_exit},
    {"proc_raise", "i", "i", proc_raise},
    {"sched_yield", "", "i", sched_yield_},
    {"random_get", "ii", "i", random_get},
    {"sock_accept", "iii", "i", sock_none},
    {"sock_recv", "iiiiii", "i", sock_none},
    {"sock_send", "iiiii", "i", sock_none},
    {"sock_shutdown", "ii", "i", sock_none},
};

}  // namespace

std::span<const wasm::HostFunction> wasi_functions() { return kFunctions; }

}  // namespace skerry::sandbox
