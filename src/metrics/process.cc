// SPDX-License-Identifier: Apache-2.0
#include "metrics/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "base/text.h"
#include "os/file.h"

namespace skerry::metrics {
namespace {

// When the machine started, in seconds since 1970.
std::optional<std::uint64_t> boot_time() {
  const auto stat = os::read_small_file("/proc/stat", 1 << 20);
  if (!stat) return std::nullopt;
  const auto at = stat->find("\nbtime ");
  if (at == stat->npos) return std::nullopt;
  const auto line = std::string_view(*stat).substr(at + 7);
  return parse_int<std::uint64_t>(line.substr(0, line.find('\n')));
}

void write_stat(Exposition& out) {
  const auto stat = os::read_small_file("/proc/self/stat", 4096);
  if (!stat) return;
  // The program's name, in parentheses, may contain anything: what follows it is fields 3 and on.
  const auto after = stat->rfind(')');
  if (after == stat->npos) return;
  const auto fields = split(trim(std::string_view(*stat).substr(after + 1)), ' ');
  const auto field = [&](std::size_t number) {
    return number - 3 < fields.size() ? parse_int<std::uint64_t>(fields[number - 3]).value_or(0) : 0;
  };
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  out.family("process_cpu_seconds_total", Type::Counter, "User and system CPU time spent, in seconds");
  out.sample({}, static_cast<double>(field(14) + field(15)) / ticks);
  out.family("process_resident_memory_bytes", Type::Gauge, "Resident memory size");
  out.sample({}, field(24) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  out.family("process_virtual_memory_bytes", Type::Gauge, "Virtual memory size");
  out.sample({}, field(23));
  if (const auto booted = boot_time()) {
    out.family("process_start_time_seconds", Type::Gauge, "Start time of the process since the unix epoch");
    out.sample({}, static_cast<double>(*booted) + static_cast<double>(field(22)) / ticks);
  }
}

}  // namespace

void write_process_metrics(Exposition& out) {
  write_stat(out);
  std::error_code failed;
  std::uint64_t open = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", failed), end; !failed && at != end; at.increment(failed)) ++open;
  if (!failed && open > 0) {
    out.family("process_open_fds", Type::Gauge, "Open file descriptors");
    out.sample({}, open - 1);  // without the one that read the folder
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    out.family("process_max_fds", Type::Gauge, "Most open file descriptors");
    out.sample({}, static_cast<std::uint64_t>(limit.rlim_cur));
  }
}

}  // namespace skerry::metrics
