// SPDX-License-Identifier: Apache-2.0
// skerry-bench-cold: what a pod without a process costs, and how long its first byte takes. Starts a real keeper with a
// real template, with pods on loopback, and prints one JSON object a line.
//
//   cold_back_to_back  connect() → first byte of a pod with no process, one after the other, another pod each time
//   cold_spaced        the same with a pause between
//   keeper_to_ready    the part of it from the keeper's wake-up to the guest ready to accept
//   warm               a new connection to a pod that runs: the floor
//   running_pod_kb     slope over the running pods of private memory and page tables of their processes
//   idle_pod_kb        slope from 100 to N idle pods of the PSS of all processes (this program holds what an agent would)
//
// --wakeups N does none of this: 50 pods wake, answer and leave until so many sandboxes have lived and died. Then what they
// leave behind is counted, before and after, without any pod: children, zombies, pid namespaces, the template's descriptors (all
// exactly as many as before); the keeper's descriptors and cgroups, which it keeps for each slot that it ever had at one time
// (exactly so many for each of them); memory of keeper and template. Exit code 1 if anything leaks.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <format>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "metrics/page.h"
#include "os/file.h"
#include "os/memfd.h"
#include "os/spawn.h"
#include "sandbox/assignment.h"
#include "sandbox/keeper_client.h"

namespace skerry {
namespace {

using sandbox::KeeperClient;

struct Options {
  std::string sandbox, native, sha256;
  int pods = 1000, spaced = 300, pause_ms = 20, running = 200, cpu_request = 100, wakeups = 0;
  std::string library_path;
};

[[noreturn]] void die(const Error& error) {
  std::fprintf(stderr, "skerry-bench-cold: %s\n", error.what.c_str());
  std::exit(1);
}
template <class T>
T must(Result<T> result) {
  if (!result) die(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

void print(std::string_view name, double value, std::string_view unit, std::string_view more = "") {
  std::printf("{\"name\":\"%.*s\",\"value\":%.1f,\"unit\":\"%.*s\"%.*s}\n", static_cast<int>(name.size()), name.data(), value,
              static_cast<int>(unit.size()), unit.data(), static_cast<int>(more.size()), more.data());
  std::fflush(stdout);
}

struct Listener {
  os::UniqueFd fd;
  sockaddr_in address;
};
Listener listen_on_loopback() {
  Listener listener;
  listener.fd = os::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  listener.address = {.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  auto* address = reinterpret_cast<sockaddr*>(&listener.address);
  socklen_t size = sizeof listener.address;
  if (::bind(listener.fd.get(), address, size) != 0 || ::listen(listener.fd.get(), 512) != 0 ||
      ::getsockname(listener.fd.get(), address, &size) != 0)
    die(errno_error(errno, "listen on loopback"));
  return listener;
}

// connect() to the first byte of the response, µs; the whole response is read, the connection closed.
double first_byte_us(const sockaddr_in& address) {
  const auto start = std::chrono::steady_clock::now();
  const os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const timeval patience{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die(errno_error(errno, "connect"));
  constexpr std::string_view kRequest = "GET /hello HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
  if (::send(fd.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL) < 0) die(errno_error(errno, "send"));
  char buffer[4096];
  const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
  const double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  if (n < 12 || std::memcmp(buffer, "HTTP/1.1 2", 10) != 0) die({Errc::Internal, std::format("no answer from a pod: {} bytes", n)});
  return us;
}

struct Percentiles {
  double p50, p99, max;
};
Percentiles percentiles(std::vector<double> values) {
  std::ranges::sort(values);
  const auto at = [&](double p) { return values[std::min(values.size() - 1, static_cast<std::size_t>(p * static_cast<double>(values.size())))]; };
  return {at(0.5), at(0.99), values.back()};
}
void print_latency(std::string_view name, const std::vector<double>& values) {
  const auto p = percentiles(values);
  print(std::format("{}_p50", name), p.p50, "us", std::format(",\"count\":{}", values.size()));
  print(std::format("{}_p99", name), p.p99, "us", std::format(",\"max\":{:.0f}", p.max));
}

// Sums of a field of /proc/PID/smaps_rollup, or of /proc/PID/status, kB.
double field_kb(pid_t pid, const char* file, std::string_view key) {
  std::ifstream in(std::format("/proc/{}/{}", pid, file));
  double sum = 0;
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key)) sum += std::strtod(line.c_str() + key.size() + 1, nullptr);
  return sum;
}
// Clean pages are files', and private only as long as no other program has the same file mapped.
double dirty_kb(pid_t pid) { return field_kb(pid, "smaps_rollup", "Private_Dirty") + field_kb(pid, "status", "VmPTE"); }
double private_kb(pid_t pid) {
  return field_kb(pid, "smaps_rollup", "Private_Dirty") + field_kb(pid, "smaps_rollup", "Private_Clean") + field_kb(pid, "status", "VmPTE");
}
double available_kb() {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("MemAvailable:")) return std::strtod(line.c_str() + 13, nullptr);
  return 0;
}
std::vector<pid_t> children_of(pid_t pid) {
  std::ifstream in(std::format("/proc/{}/task/{}/children", pid, pid));
  std::vector<pid_t> pids;
  for (pid_t child; in >> child;) pids.push_back(child);
  return pids;
}
std::size_t open_files(pid_t pid) {
  std::error_code ignored;
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(std::format("/proc/{}/fd", pid), ignored), {}));
}
bool is_zombie(pid_t pid) {
  std::ifstream in(std::format("/proc/{}/stat", pid));
  std::string line;
  return std::getline(in, line) && line.substr(line.rfind(')') + 2, 1) == "Z";
}
// The folders below one of this name, in every hierarchy of control groups.
std::vector<std::filesystem::path> folders_of(const std::string& name) {
  std::vector<std::filesystem::path> found;
  std::error_code ignored;
  const std::filesystem::path top("/sys/fs/cgroup");
  std::vector<std::filesystem::path> roots{top / name};
  for (const auto& hierarchy : std::filesystem::directory_iterator(top, ignored))
    if (hierarchy.is_directory(ignored)) roots.push_back(hierarchy.path() / name);
  for (const auto& root : roots)
    if (std::filesystem::exists(root, ignored))
      for (auto it = std::filesystem::recursive_directory_iterator(root, ignored); it != std::filesystem::recursive_directory_iterator(); it.increment(ignored))
        if (it->is_directory(ignored)) found.push_back(it->path());
  return found;
}

double pss_of_all_kb(pid_t keeper) {
  double sum = field_kb(::getpid(), "smaps_rollup", "Pss:") + field_kb(keeper, "smaps_rollup", "Pss:");
  for (const pid_t pid : children_of(keeper)) sum += field_kb(pid, "smaps_rollup", "Pss:");
  return sum;
}

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)) {}

  void start() {
    char folder[] = "/tmp/skerry-bench-cold-XXXXXX";
    folder_ = ::mkdtemp(folder);
    auto environment = os::current_environment();
    if (!options_.library_path.empty()) environment.push_back("LD_LIBRARY_PATH=" + options_.library_path);
    keeper_ = must(os::spawn({.program = options_.sandbox,
                              .arguments = {"keeper", "--socket", folder_ / "keeper", "--state", folder_ / "state", "--cgroup", cgroup_},
                              .environment = environment,
                              .fds = {{STDERR_FILENO, STDERR_FILENO}}}));
    for (int i = 0; i < 2000; ++i) {
      auto client = KeeperClient::connect(folder_ / "keeper");
      if (client) {
        client_.emplace(std::move(*client));
        break;
      }
      std::this_thread::sleep_for(5ms);
    }
    if (!client_) die({Errc::Unavailable, "the keeper does not listen"});
    std::array<std::uint8_t, 32> sha{};
    if (!options_.sha256.empty())
      for (std::size_t i = 0; i < sha.size(); ++i)
        sha[i] = static_cast<std::uint8_t>(std::strtoul(options_.sha256.substr(2 * i, 2).c_str(), nullptr, 16));
    const auto native = must(os::open_file(options_.native, O_RDONLY));
    const int fds[] = {native.get()};
    must(client_->send(sandbox::PutImage{.key = "bench", .name = "bench", .sha256 = sha}, fds));
    log_ = must(os::open_file(folder_ / "log", O_WRONLY | O_APPEND | O_CREAT));
    sandbox::Assignment assignment;
    assignment.pod_uid = assignment.pod_name = assignment.container_name = assignment.image_ref = "bench";
    assignment.pod_namespace = "default";
    assignment.idle_after = options_.wakeups > 0 ? Duration(1ms) : Duration(0s);
    assignment_ = os::UniqueFd(must(sandbox::seal_assignment(assignment)));
    wait_for([this] { return image_ready_; });
  }

  void put_pod() {
    auto& pod = pods_.emplace_back(listen_on_loopback());
    metrics_.emplace_back(must(metrics::create_page(1)));
    const int fds[] = {pod.fd.get(), assignment_.get(), metrics_.back().get(), log_.get()};
    const sandbox::PodSpec spec{.id = pods_.size(), .image = "bench", .memory_bytes_max = 128u << 20, .cpu_millis_max = 1000,
                                .cpu_millis_requested = static_cast<std::uint32_t>(options_.cpu_request), .workers = 1};
    must(client_->send(sandbox::PutPod{spec}, fds));
    while (client_->pending()) {
      must(client_->flush());
      drain(0ms);
    }
  }

  void drop_all() {
    for (std::uint64_t id = 1; id <= pods_.size(); ++id) {
      must(client_->send(sandbox::DropPod{id}));
      while (client_->pending()) must(client_->flush()), drain(0ms);
    }
    pods_.clear();
    metrics_.clear();
    awake_.clear();
    // Everything is reaped and the pool is back at rest.
    for (int i = 0; i < 1000 && children_of(keeper_.pid()).size() > 4; ++i) drain(10ms);
    settle();
  }

  void cold_and_running() {
    for (int i = 0; i < options_.pods; ++i) put_pod();
    settle();
    std::vector<double> cold;
    for (int i = 0; i < options_.pods; ++i) cold.push_back(first_byte_us(pods_[static_cast<std::size_t>(i)].address));
    print_latency("cold_back_to_back", cold);
    std::vector<double> warm;
    for (int i = 0; i < options_.pods; ++i) warm.push_back(first_byte_us(pods_[static_cast<std::size_t>(i)].address));
    print_latency("warm", warm);
    drain(50ms);
    print_latency("keeper_to_ready", std::exchange(ready_, {}));
    drop_all();
    for (int i = 0; i < options_.spaced; ++i) put_pod();
    settle();
    cold.clear();
    for (int i = 0; i < options_.spaced; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(options_.pause_ms));
      cold.push_back(first_byte_us(pods_[static_cast<std::size_t>(i)].address));
      drain(0ms);
    }
    print_latency("cold_spaced", cold);
    warm.clear();
    for (int i = 0; i < options_.spaced; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(options_.pause_ms));
      warm.push_back(first_byte_us(pods_[static_cast<std::size_t>(i)].address));
    }
    print_latency("warm_spaced", warm);
    drain(50ms);
    print_latency("keeper_to_ready_spaced", std::exchange(ready_, {}));
    drop_all();
  }

  void running_slope() {
    for (int i = 0; i < options_.running; ++i) put_pod();
    settle();
    const int first = std::max(1, options_.running / 10);
    const auto wake = [this](int from, int to) {
      for (int i = from; i < to; ++i) first_byte_us(pods_[static_cast<std::size_t>(i)].address), drain(1ms);
      std::this_thread::sleep_for(7s);  // the pool of parked slots shrinks to rest
      drain(100ms);
    };
    wake(0, first);
    const double before = sum_private(), available_before = available_kb();
    wake(first, options_.running);
    const double after = sum_private(), available_after = available_kb();
    const double pods = options_.running - first;
    print("running_pod", (after - before) / pods, "KB", std::format(",\"pods\":{},\"mem_available_kb\":{:.0f}", options_.running,
                                                                 (available_before - available_after) / pods));
    drop_all();
  }

  void idle_slope() {
    for (int i = 0; i < 100; ++i) put_pod();
    settle();
    const double before = pss_of_all_kb(keeper_.pid()), available_before = available_kb();
    while (static_cast<int>(pods_.size()) < options_.pods) put_pod();
    settle();
    const double pods = options_.pods - 100;
    print("idle_pod", (pss_of_all_kb(keeper_.pid()) - before) / pods, "KB",
          std::format(",\"pods\":{},\"mem_available_kb\":{:.1f}", options_.pods, (available_before - available_kb()) / pods));
    print("pss_100_idle", before, "KB", std::format(",\"keeper_kb\":{:.0f}", field_kb(keeper_.pid(), "smaps_rollup", "Pss:")));
    drop_all();
  }

  // Returns whether nothing leaked.
  bool wake_many() {
    const Leftovers start = rest();
    const auto wake = [this](std::size_t wanted) {
      // Only what the keeper reports as a wake-up counts: a pod that has not left yet answers without one.
      for (int i = 0; i < 50; ++i) put_pod();
      for (std::size_t i = 0; ready_.size() < wanted; ++i) {
        first_byte_us(pods_[i % pods_.size()].address);
        drain(0ms);
      }
      drop_all();
    };
    wake(500);
    const Leftovers before = rest();
    const auto begin = std::chrono::steady_clock::now();
    wake(500 + static_cast<std::size_t>(options_.wakeups));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const Leftovers after = rest();
    print("wakeups", static_cast<double>(ready_.size()), "", std::format(",\"us_each\":{:.0f}", seconds * 1e6 / options_.wakeups));
    std::vector<double> times(ready_.begin() + 500, ready_.end());
    print_latency("keeper_to_ready", times);
    for (const auto& [name, left] : {std::pair{"start", &start}, {"before", &before}, {"after", &after}})
      std::printf("{\"name\":\"%s\",%s}\n", name, left->text().c_str());
    return before.counts == after.counts && after.zombies == 0 && after.per_slot(start) == before.per_slot(start) &&
           after.slots <= kSlotsMax && after.memory_kb - before.memory_kb < kMemorySlackKb && awake_.empty();
  }

  void stop() {
    must(client_->send(sandbox::Shutdown{0}));
    for (;;)
      if (!client_->receive()) break;
    const auto status = must(keeper_.wait());
    if (!status.ok()) die({Errc::Internal, "keeper: " + status.text()});
    std::filesystem::remove_all(folder_);
  }

 private:
  static constexpr double kMemorySlackKb = 256;
  static constexpr std::size_t kSlotsMax = 50 + 64 + 16;  // awake, parked, forking
  struct Leftovers {
    std::map<std::string, std::size_t> counts;  // must be the same again
    std::size_t zombies = 0, slots = 0, cgroups = 0, keeper_files = 0;
    double memory_kb = 0, keeper_kb = 0;  // dirty; of keeper and templates, of the keeper
    // Cgroups and descriptors that the keeper holds for each slot, beyond what it began with.
    std::pair<double, double> per_slot(const Leftovers& start) const {
      const auto n = static_cast<double>(slots);
      return {static_cast<double>(cgroups - start.cgroups) / n, static_cast<double>(keeper_files - start.keeper_files) / n};
    }
    std::string text() const {
      std::string out = std::format("\"zombies\":{},\"memory_kb\":{:.0f},\"keeper_kb\":{:.0f},\"slots\":{},\"cgroups\":{},\"keeper_files\":{}", zombies, memory_kb, keeper_kb, slots,
                                    cgroups, keeper_files);
      for (const auto& [name, count] : counts) out += std::format(",\"{}\":{}", name, count);
      return out;
    }
  };
  // What there is when nothing happens and the pool of parked slots has shrunk to its rest.
  Leftovers rest() {
    for (int i = 0; i < 300 && children_of(keeper_.pid()).size() > 1; ++i) drain(100ms);
    drain(500ms);
    const auto children = children_of(keeper_.pid());
    Leftovers out;
    std::set<std::string> namespaces;
    std::size_t template_files = 0, template_children = 0;
    out.memory_kb = out.keeper_kb = dirty_kb(keeper_.pid());
    for (const pid_t pid : children) {
      if (is_zombie(pid)) {
        ++out.zombies;
        continue;
      }
      std::error_code ignored;
      namespaces.insert(std::filesystem::read_symlink(std::format("/proc/{}/ns/pid", pid), ignored));
      std::ifstream in(std::format("/proc/{}/comm", pid));
      std::string name;
      std::getline(in, name);
      if (name == "skerry-slot") continue;
      template_files += open_files(pid);
      template_children += children_of(pid).size();
      out.memory_kb += dirty_kb(pid);
    }
    out.counts = {{"children", children.size()}, {"pid_namespaces", namespaces.size()},
                  {"template_files", template_files}, {"template_children", template_children}};
    out.keeper_files = open_files(keeper_.pid());
    const auto folders = folders_of(cgroup_);
    out.cgroups = folders.size();
    std::set<std::string> slots;
    for (const auto& path : folders) slots.insert(path.filename());
    out.slots = slots.size();
    return out;
  }
  double sum_private() const {
    double sum = 0;
    for (const pid_t pid : awake_) sum += private_kb(pid);
    return sum;
  }
  void settle() { drain(300ms); }
  void drain(Duration time) {
    const auto end = std::chrono::steady_clock::now() + time;
    do {
      for (;;) {
        auto received = must(client_->receive());
        if (!received) break;
        if (std::holds_alternative<sandbox::ImageReady>(received->event)) image_ready_ = true;
        if (const auto* failed = std::get_if<sandbox::ImageFailed>(&received->event)) die({Errc::Invalid, failed->text});
        if (const auto* refused = std::get_if<sandbox::Refused>(&received->event)) die({Errc::Invalid, refused->text});
        if (const auto* awake = std::get_if<sandbox::PodAwake>(&received->event)) awake_.insert(awake->row.pid), ready_.push_back(awake->cold_start_us);
        if (const auto* exited = std::get_if<sandbox::PodExited>(&received->event)) {
          awake_.erase(exited->row.pid);
          if (options_.wakeups == 0 || exited->code != 0 || exited->signal != 0)
            std::fprintf(stderr, "pod %llu ended: code %d signal %d %s\n", static_cast<unsigned long long>(exited->id), exited->code, exited->signal,
                       exited->text.c_str());
        }
      }
      if (time > 0ms) std::this_thread::sleep_for(1ms);
    } while (std::chrono::steady_clock::now() < end);
  }
  template <class F>
  void wait_for(F done) {
    for (int i = 0; i < 10000 && !done(); ++i) drain(1ms);
    if (!done()) die({Errc::Timeout, "the keeper does not come to its point"});
  }

  Options options_;
  std::filesystem::path folder_;
  const std::string cgroup_ = std::format("skerry-bench-{}", ::getpid());
  os::Child keeper_;
  std::optional<KeeperClient> client_;
  os::UniqueFd log_, assignment_;
  std::vector<Listener> pods_;
  std::vector<os::UniqueFd> metrics_;
  std::set<pid_t> awake_;
  std::vector<double> ready_;  // µs from the connection seen by the keeper to the guest ready
  bool image_ready_ = false;
};

}  // namespace
}  // namespace skerry

int main(int argc, char** argv) {
  skerry::Options options;
  const std::map<std::string_view, std::string*> texts{
      {"--sandbox", &options.sandbox}, {"--native", &options.native}, {"--sha256", &options.sha256}, {"--library-path", &options.library_path}};
  const std::map<std::string_view, int*> numbers{
      {"--pods", &options.pods}, {"--spaced", &options.spaced}, {"--pause-ms", &options.pause_ms}, {"--running", &options.running},
      {"--cpu-request", &options.cpu_request}, {"--wakeups", &options.wakeups}};
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 < argc && texts.contains(argv[i])) *texts.at(argv[i]) = argv[i + 1];
    else if (i + 1 < argc && numbers.contains(argv[i])) *numbers.at(argv[i]) = std::atoi(argv[i + 1]);
    else {
      std::fprintf(stderr, "usage: skerry-bench-cold --sandbox PROGRAM --native FILE [--sha256 HEX] [--library-path DIR] [--pods 1000] [--spaced 300] "
                           "[--pause-ms 20] [--running 200] [--cpu-request 100] | --wakeups N\n");
      return 2;
    }
  }
  if (options.sandbox.empty() || options.native.empty()) {
    std::fprintf(stderr, "skerry-bench-cold: --sandbox and --native are needed\n");
    return 2;
  }
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  skerry::Bench bench(options);
  bench.start();
  if (options.wakeups > 0) {
    const bool clean = bench.wake_many();
    bench.stop();
    return clean ? 0 : 1;
  }
  // First: memory that the later ones leave in the keeper would hide the slope.
  if (options.pods > 100) bench.idle_slope();
  if (options.pods > 0) bench.cold_and_running();
  if (options.running > 0) bench.running_slope();
  bench.stop();
  return 0;
}
