// SPDX-License-Identifier: Apache-2.0
// Goal: the processes do what keeper_core decides: a pod wakes, is kept in, is limited, is reaped, outlives its keeper.
// Method: a real keeper, template and slots (skerry-sandbox-fake: the guest side is a few lines) on loopback, in a cgroup
// tree of their own. Needs root; without it the tests are skipped with that reason, or fail under REQUIRE_PEERS=1.
#include "sandbox/keeper.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <format>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "base/text.h"
#include "metrics/page.h"
#include "os/file.h"
#include "os/memfd.h"
#include "os/spawn.h"
#include "sandbox/assignment.h"
#include "sandbox/keeper_client.h"

namespace skerry::sandbox {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr auto kPatience = 20s;

struct Pod {
  std::uint64_t id = 0;
  os::UniqueFd listener, assignment, metrics, log;
  sockaddr_in address{};
  PodSpec spec;
};

struct PodOptions {
  std::uint16_t workers = 1;
  std::uint64_t memory_bytes_max = 256u << 20;
  Duration idle_after = 0s;
  std::string config = {};
};

os::UniqueFd connect_to(const Pod& pod) {
  os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&pod.address), sizeof pod.address), 0);
  return fd;
}
void ask(const os::UniqueFd& fd, const std::string& path) {
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
  ASSERT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
}
std::string answer(const os::UniqueFd& fd) {
  char buffer[4096];
  const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
  return n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : "";
}
std::string get(const Pod& pod, const std::string& path) {
  const auto fd = connect_to(pod);
  ask(fd, path);
  return answer(fd);
}
bool lives(pid_t pid) { return ::kill(pid, 0) == 0; }

std::string status_field(pid_t pid, std::string_view key) {
  const auto text = os::read_small_file(std::format("/proc/{}/status", pid)).value_or("");
  for (const auto line : split(text, '\n'))
    if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == ':') return std::string(trim(line.substr(key.size() + 1)));
  return "";
}
std::size_t open_files(pid_t pid) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(std::format("/proc/{}/fd", pid)), {}));
}

class KeeperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      ASSERT_EQ(std::getenv("REQUIRE_PEERS"), nullptr) << "root is needed for namespaces, uids and cgroups";
      GTEST_SKIP() << "root is needed for namespaces, uids and cgroups";
    }
    char name[] = "/tmp/skerry-keeper-XXXXXX";
    folder_ = ::mkdtemp(name);
    cgroup_ = "skerry-test-" + folder_.filename().native().substr(14);
    start_keeper();
    put_image();
    expect<ImageReady>();
  }
  void TearDown() override {
    if (!client_) return;
    EXPECT_TRUE(client_->send(Shutdown{0}));
    const auto status = keeper_.wait();
    EXPECT_TRUE(status && status->ok()) << (status ? status->text() : status.error().what);
    EXPECT_FALSE(fs::exists("/sys/fs/cgroup/memory/" + cgroup_));
    fs::remove_all(folder_);
  }

  std::vector<std::string> keeper_arguments() const {
    std::vector<std::string> all{"keeper", "--socket", folder_ / "socket", "--state", folder_ / "state", "--cgroup", cgroup_, "--parked-max", "8"};
    all.insert(all.end(), more_arguments_.begin(), more_arguments_.end());
    return all;
  }
  void start_keeper() {
    auto arguments = keeper_arguments();
    arguments.insert(arguments.begin(), {"--bounding-set", "-sys_ptrace", SKERRY_SANDBOX_FAKE});
    auto keeper = os::spawn({.program = may_trace_ ? SKERRY_SANDBOX_FAKE : "/usr/bin/setpriv",
                             .arguments = may_trace_ ? keeper_arguments() : arguments,
                             .environment = os::current_environment(),
                             .fds = {{STDERR_FILENO, STDERR_FILENO}}});
    ASSERT_TRUE(keeper) << keeper.error().what;
    keeper_ = std::move(*keeper);
    connect();
  }
  void connect() {
    events_.clear();
    client_.reset();
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!client_ && std::chrono::steady_clock::now() < end) {
      auto client = KeeperClient::connect(folder_ / "socket");
      if (client) client_.emplace(std::move(*client));
      else std::this_thread::sleep_for(2ms);
    }
    ASSERT_TRUE(client_) << "the keeper does not listen";
    welcome_ = expect<Welcome>();
  }
  void kill_keeper() {
    ASSERT_TRUE(keeper_.signal(SIGKILL));
    ASSERT_TRUE(keeper_.wait());
    start_keeper();
    put_image();
    expect<ImageReady>();
  }
  // A request that never ends is inside the pod's first worker.
  os::UniqueFd hang(const Pod& pod) {
    auto hanging = connect_to(pod);
    ask(hanging, "/hang");
    auto page = metrics::Page::map(pod.metrics.get()).value();
    const auto open = [&page] {
      return page.block(0).get(metrics::Counter::RequestsStarted) > page.block(0).get(metrics::Counter::RequestsFinished);
    };
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!open() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
    EXPECT_TRUE(open());
    return hanging;
  }
  void put_image(const std::string& key = "image", const std::string& code = "good image") {
    const auto native = os::make_memfd("native", code, os::Seal::Contents).value();
    const int fds[] = {native.get()};
    ASSERT_TRUE(client_->send(PutImage{.key = key, .name = key, .sha256 = {}}, fds));
  }
  Pod make_pod(std::uint64_t id, const PodOptions& options = {}) {
    Pod pod;
    pod.id = id;
    pod.listener = os::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    pod.address = {.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    socklen_t size = sizeof pod.address;
    auto* address = reinterpret_cast<sockaddr*>(&pod.address);
    EXPECT_EQ(::bind(pod.listener.get(), address, size), 0);
    EXPECT_EQ(::listen(pod.listener.get(), 64), 0);
    EXPECT_EQ(::getsockname(pod.listener.get(), address, &size), 0);
    Assignment assignment;
    assignment.pod_uid = assignment.pod_namespace = assignment.pod_name = assignment.container_name = assignment.image_ref = "test";
    assignment.idle_after = options.idle_after;
    assignment.workers = options.workers;
    assignment.config = options.config;
    pod.assignment = os::UniqueFd(seal_assignment(assignment).value());
    pod.metrics = os::UniqueFd(metrics::create_page(options.workers).value());
    pod.log = os::open_file(folder_ / std::format("log-{}", id), O_WRONLY | O_CREAT | O_APPEND).value();
    pod.spec = {.id = id, .image = "image", .memory_bytes_max = options.memory_bytes_max, .cpu_millis_max = 700, .cpu_millis_requested = 100,
                .workers = options.workers};
    return pod;
  }
  void put(const Pod& pod) {
    const int fds[] = {pod.listener.get(), pod.assignment.get(), pod.metrics.get(), pod.log.get()};
    ASSERT_TRUE(client_->send(PutPod{pod.spec}, fds));
  }
  Pod put_pod(std::uint64_t id, const PodOptions& options = {}) {
    Pod pod = make_pod(id, options);
    put(pod);
    return pod;
  }

  // The next event of this type; others before it stay for later calls.
  template <class T>
  T expect(std::vector<os::UniqueFd>* fds = nullptr) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      for (auto it = events_.begin(); it != events_.end(); ++it) {
        if (!std::holds_alternative<T>(it->event)) continue;
        T event = std::get<T>(std::move(it->event));
        if (fds != nullptr) *fds = std::move(it->fds);
        events_.erase(it);
        return event;
      }
      auto received = client_->receive();
      if (!received) {
        ADD_FAILURE() << received.error().what;
        return {};
      }
      if (*received) events_.push_back(std::move(**received));
      else std::this_thread::sleep_for(1ms);
    }
    ADD_FAILURE() << "no event of type " << typeid(T).name();
    return {};
  }

  // Among the events that came until now.
  template <class T>
  bool came() const {
    return std::ranges::any_of(events_, [](const auto& received) { return std::holds_alternative<T>(received.event); });
  }

  fs::path folder_;
  std::string cgroup_;
  os::Child keeper_;
  std::optional<KeeperClient> client_;
  Welcome welcome_;
  std::vector<std::string> more_arguments_;  // of the keepers started from now on
  bool may_trace_ = true;                    // the same
  std::deque<KeeperClient::Received> events_;
};

TEST_F(KeeperTest, AnIdlePodWakesAnswersLeavesAndWakesAgain) {
  EXPECT_EQ(welcome_.hardening, Hardening::Full);
  EXPECT_NE(welcome_.cgroups, CgroupKind::None);
  const Pod pod = put_pod(7, {.idle_after = 100ms});
  for (int round = 0; round < 3; ++round) {
    EXPECT_THAT(get(pod, "/one"), HasSubstr("hello from /one"));
    const auto awake = expect<PodAwake>();
    EXPECT_EQ(awake.id, 7u);
    EXPECT_GT(awake.cold_start_us, 0u);
    EXPECT_TRUE(lives(awake.row.pid));
    EXPECT_EQ(expect<PodExited>().code, 0);
    EXPECT_EQ(expect<PodIdle>().id, 7u);
    EXPECT_FALSE(lives(awake.row.pid));
  }
  EXPECT_EQ(os::read_small_file(folder_ / "log-7").value(), "hello from /one\nhello from /one\nhello from /one\n");
}

TEST_F(KeeperTest, TheSandboxIsKeptIn) {
  const Pod pod = put_pod(7);
  ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  const auto row = expect<PodAwake>().row;
  const auto uid = std::to_string(1'000'000'000 + row.slot);
  EXPECT_EQ(status_field(row.pid, "Uid"), std::format("{0}\t{0}\t{0}\t{0}", uid));
  EXPECT_EQ(status_field(row.pid, "Gid"), std::format("{0}\t{0}\t{0}\t{0}", uid));
  EXPECT_EQ(status_field(row.pid, "Groups"), "");
  for (const auto* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) EXPECT_EQ(status_field(row.pid, set), "0000000000000000") << set;
  EXPECT_EQ(status_field(row.pid, "NoNewPrivs"), "1");
  EXPECT_EQ(status_field(row.pid, "Seccomp"), "2");
  EXPECT_EQ(status_field(row.pid, "NSpid"), std::format("{}\t1", row.pid));
  EXPECT_EQ(status_field(row.pid, "Threads"), "1");
  for (const auto* kind : {"net", "mnt", "ipc", "uts", "pid"})
    EXPECT_NE(fs::read_symlink(std::format("/proc/{}/ns/{}", row.pid, kind)), fs::read_symlink(std::format("/proc/self/ns/{}", kind))) << kind;
  const fs::path root = std::format("/proc/{}/root", row.pid);
  EXPECT_TRUE(fs::is_empty(root));
  EXPECT_EQ(::mkdir((root / "x").c_str(), 0755), -1);
  EXPECT_EQ(errno, EROFS);
  // 0, 1, 2 are the null device; control, listener, assignment, metrics, log; the epoll and one connection at most.
  EXPECT_LE(open_files(row.pid), 10u);
  for (const int number : {0, 1, 2}) EXPECT_EQ(fs::read_symlink(std::format("/proc/{}/fd/{}", row.pid, number)), "/dev/null");
  EXPECT_EQ(os::read_small_file(std::format("/proc/{}/oom_score_adj", row.pid)).value(), "0\n");
  // The keeper goes first; what it starts for a pod weighs as much as others.
  EXPECT_EQ(::getpriority(PRIO_PROCESS, static_cast<id_t>(keeper_.pid())), -10);
  EXPECT_EQ(::getpriority(PRIO_PROCESS, static_cast<id_t>(row.pid)), 0);
}

TEST_F(KeeperTest, AForbiddenCallKillsTheSandboxAndNothingElse) {
  const Pod pod = put_pod(7), neighbour = put_pod(8);
  ASSERT_THAT(get(neighbour, "/"), HasSubstr("200 OK"));
  for (const auto* path : {"/forbidden", "/exec"}) {
    EXPECT_EQ(get(pod, path), "") << path;
    const auto exited = expect<PodExited>();
    EXPECT_EQ(exited.id, 7u);
    EXPECT_EQ(exited.signal, SIGSYS) << path;
    EXPECT_EQ(exited.requests_lost, 1u);
    EXPECT_FALSE(exited.oom_killed);
  }
  EXPECT_THAT(get(neighbour, "/"), HasSubstr("200 OK"));
  EXPECT_THAT(get(pod, "/again"), HasSubstr("200 OK"));
}

TEST_F(KeeperTest, LimitsHoldInTheCgroup) {
  if (welcome_.cgroups != CgroupKind::V1) GTEST_SKIP() << "the file names of this test are those of cgroups v1";
  const Pod pod = put_pod(7, {.memory_bytes_max = 96u << 20});
  ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  const auto row = expect<PodAwake>().row;
  const auto group = std::format("{}/slot-{}", cgroup_, row.slot);
  const auto read = [&](const char* controller, const char* file) {
    return std::string(trim(os::read_small_file(std::format("/sys/fs/cgroup/{}/{}/{}", controller, group, file)).value_or("none")));
  };
  // Also of a pod that came while no slot was parked: nothing of a guest runs before its slot is in the group.
  EXPECT_EQ(read("memory", "memory.limit_in_bytes"), std::to_string(96u << 20));
  EXPECT_EQ(read("memory", "cgroup.procs"), std::to_string(row.pid));
  EXPECT_EQ(read("cpu", "cpu.cfs_quota_us"), "35000");
  EXPECT_EQ(read("cpu", "cpu.cfs_period_us"), "50000");
  EXPECT_EQ(read("cpu", "cpu.cfs_burst_us"), "35000");
  EXPECT_EQ(read("cpu", "cpu.shares"), "102");
  EXPECT_EQ(read("cpu", "cgroup.procs"), std::to_string(row.pid));
}

TEST_F(KeeperTest, RunningOutOfMemoryIsReportedAsSuch) {
  const Pod pod = put_pod(7, {.memory_bytes_max = 64u << 20});
  EXPECT_EQ(get(pod, "/eat"), "");
  const auto exited = expect<PodExited>();
  EXPECT_EQ(exited.signal, SIGKILL);
  EXPECT_TRUE(exited.oom_killed);
  EXPECT_EQ(exited.requests_lost, 1u);
  EXPECT_THAT(get(pod, "/"), HasSubstr("200 OK"));
}

TEST_F(KeeperTest, AKilledSandboxCountsItsRequestsAndThePodWakesAgain) {
  const Pod pod = put_pod(7);
  const auto hanging = connect_to(pod);
  ask(hanging, "/hang");
  const auto row = expect<PodAwake>().row;
  auto page = metrics::Page::map(pod.metrics.get()).value();
  while (page.block(0).get(metrics::Counter::RequestsStarted) == 0) std::this_thread::sleep_for(1ms);
  ASSERT_EQ(::kill(row.pid, SIGKILL), 0);
  const auto exited = expect<PodExited>();
  EXPECT_EQ(exited.signal, SIGKILL);
  EXPECT_FALSE(exited.oom_killed);
  EXPECT_EQ(exited.requests_lost, 1u);
  EXPECT_EQ(answer(hanging), "");
  EXPECT_EQ(page.block(0).get(metrics::Counter::RequestsLost), 1u);
  EXPECT_THAT(get(pod, "/"), HasSubstr("200 OK"));
}

TEST_F(KeeperTest, SandboxesOutliveTheirKeeperAndTheNextOneAdoptsThem) {
  const Pod running = put_pod(7, {.idle_after = 1s}), idle = put_pod(8);
  ASSERT_THAT(get(running, "/"), HasSubstr("200 OK"));
  const auto row = expect<PodAwake>().row;
  const auto connection = connect_to(running);
  ask(connection, "/open");
  ASSERT_THAT(answer(connection), HasSubstr("200 OK"));

  kill_keeper();
  EXPECT_EQ(welcome_.found, 1u);
  EXPECT_EQ(welcome_.pods, 0u);
  ask(connection, "/still");
  EXPECT_THAT(answer(connection), HasSubstr("hello from /still"));
  put(running), put(idle);
  ASSERT_TRUE(client_->send(Refilled{}));
  const auto adopted = expect<PodAwake>();
  EXPECT_EQ(adopted.id, 7u);
  EXPECT_EQ(adopted.row, row);
  EXPECT_THAT(get(idle, "/"), HasSubstr("200 OK"));
  expect<PodAwake>();
  // The adopted one leaves idle, is noticed without being our child, and the pod wakes again.
  const auto exited = expect<PodExited>();
  EXPECT_EQ(exited.id, 7u);
  EXPECT_EQ(exited.row, row);
  EXPECT_EQ(exited.code, 0);
  EXPECT_EQ(exited.signal, 0);
  EXPECT_THAT(get(running, "/new"), HasSubstr("200 OK"));
  EXPECT_NE(expect<PodAwake>().row.pid, row.pid);
}

TEST_F(KeeperTest, WhatNoPodClaimsAfterAKeepersDeathIsKilled) {
  const Pod pod = put_pod(7);
  ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  const auto row = expect<PodAwake>().row;
  kill_keeper();
  EXPECT_TRUE(lives(row.pid));
  const auto pidfd = os::open_pidfd(row.pid).value();
  ASSERT_TRUE(client_->send(Refilled{}));
  pollfd gone{pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&gone, 1, 10'000), 1);
}

TEST_F(KeeperTest, WhatADroppedPodHadInsideIsCounted) {
  const Pod pod = put_pod(7);
  const auto hanging = hang(pod);
  ASSERT_TRUE(client_->send(DropPod{7}));
  EXPECT_EQ(expect<SandboxLost>(), (SandboxLost{.id = 7, .requests_lost = 1, .connections_lost = 0}));
  EXPECT_EQ(metrics::Page::map(pod.metrics.get()).value().block(0).get(metrics::Counter::RequestsLost), 1u);
  EXPECT_EQ(answer(hanging), "");
}

TEST_F(KeeperTest, WhatUnclaimedSandboxesHadInsideIsCounted) {
  const Pod pod = put_pod(7);
  const auto hanging = hang(pod);
  kill_keeper();
  ASSERT_TRUE(client_->send(Refilled{}));
  EXPECT_EQ(expect<SandboxLost>(), (SandboxLost{.id = 7, .requests_lost = 1, .connections_lost = 0}));
}

// Goal: agent and keeper die together, the pod serves on. Method: both are killed, and all that they held of the pod is closed; what
// the next keeper gives the next agent is what the sandbox holds, and the pod is put with it.
TEST_F(KeeperTest, ThePodsOfADeadKeeperAndAgentAreFoundWithTheirDescriptors) {
  Pod pod = put_pod(7, {.workers = 2});
  ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  const auto connection = connect_to(pod);
  ask(connection, "/open");
  ASSERT_THAT(answer(connection), HasSubstr("200 OK"));
  std::set<std::int32_t> pids{expect<PodAwake>().row.pid, expect<PodAwake>().row.pid};
  struct stat before{}, after{};
  ASSERT_EQ(::fstat(pod.metrics.get(), &before), 0);
  for (auto* fd : {&pod.listener, &pod.assignment, &pod.metrics}) fd->reset();
  kill_keeper();

  EXPECT_EQ(welcome_.found, 2u);
  ASSERT_TRUE(client_->send(Dump{}));
  std::vector<os::UniqueFd> fds;
  const auto found = expect<FoundPod>(&fds);
  EXPECT_EQ(found.id, 7u);
  ASSERT_EQ(found.workers.size(), 2u);
  EXPECT_EQ((std::set<std::int32_t>{found.workers[0].pid, found.workers[1].pid}), pids);
  expect<DumpEnd>();
  ASSERT_EQ(fds.size(), 3u);
  sockaddr_in name{};
  socklen_t size = sizeof name;
  ASSERT_EQ(::getsockname(fds[0].get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
  EXPECT_EQ(name.sin_port, pod.address.sin_port);
  EXPECT_EQ(read_assignment(fds[1].get())->pod_uid, "test");
  ASSERT_EQ(::fstat(fds[2].get(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);

  pod.listener = std::move(fds[0]);
  pod.assignment = std::move(fds[1]);
  pod.metrics = std::move(fds[2]);
  put(pod);
  ASSERT_TRUE(client_->send(Refilled{}));
  EXPECT_TRUE(pids.contains(expect<PodAwake>().row.pid));
  ask(connection, "/still");
  EXPECT_THAT(answer(connection), HasSubstr("hello from /still"));
  EXPECT_THAT(get(pod, "/new"), HasSubstr("200 OK"));
  for (const auto pid : pids) EXPECT_TRUE(lives(pid));
}

TEST_F(KeeperTest, ASandboxThatHoldsSomethingElseIsKilledNotTakenOver) {
  const Pod pod = put_pod(7), honest = put_pod(8);
  ASSERT_THAT(get(honest, "/"), HasSubstr("200 OK"));
  ASSERT_THAT(get(pod, "/forge"), HasSubstr("200 OK"));
  expect<PodAwake>();
  const auto row = expect<PodAwake>().row;
  const auto pidfd = os::open_pidfd(row.pid).value();
  kill_keeper();
  pollfd gone{pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&gone, 1, 10'000), 1);
  ASSERT_TRUE(client_->send(Dump{}));
  EXPECT_EQ(expect<FoundPod>().id, 8u);
  expect<DumpEnd>();
  EXPECT_FALSE(came<FoundPod>());
}

TEST_F(KeeperTest, WhereTheKernelRefusesToHandDescriptorsOverAPodIsClaimedByItsAgentAsEver) {
  if (!fs::exists("/usr/bin/setpriv")) GTEST_SKIP() << "setpriv is needed, to start a keeper without the right to trace";
  const Pod pod = put_pod(7), lost = put_pod(8);
  ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  const auto pid = expect<PodAwake>().row.pid;
  ASSERT_THAT(get(lost, "/"), HasSubstr("200 OK"));
  const auto pidfd = os::open_pidfd(expect<PodAwake>().row.pid).value();
  may_trace_ = false;
  kill_keeper();
  EXPECT_EQ(welcome_.found, 2u);
  ASSERT_TRUE(client_->send(Dump{}));
  expect<DumpEnd>();
  EXPECT_FALSE(came<FoundPod>());
  put(pod);
  EXPECT_EQ(expect<PodAwake>().row.pid, pid);
  ASSERT_TRUE(client_->send(Refilled{}));
  pollfd gone{pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&gone, 1, 10'000), 1);
}

// Goal: on a kernel that keeps no exit status of a stranger's child, a crash is no orderly end. Method: such a kernel is played by the
// keeper's option; adopted sandboxes leave idle, are killed, run out of memory, and are killed by the keeper.
TEST_F(KeeperTest, HowAnAdoptedSandboxEndedIsKnownByItsOwnMarkOrNotAtAll) {
  const Pod idle = put_pod(7, {.idle_after = 1s}), killed = put_pod(8), hungry = put_pod(9, {.memory_bytes_max = 64u << 20}), stopped = put_pod(10);
  for (const auto* pod : {&idle, &killed, &hungry, &stopped}) {
    ASSERT_THAT(get(*pod, "/"), HasSubstr("200 OK"));
    expect<PodAwake>();
  }
  more_arguments_ = {"--exit-info", "none"};
  kill_keeper();
  std::map<std::uint64_t, std::int32_t> pids;
  for (const auto* pod : {&idle, &killed, &hungry, &stopped}) {
    put(*pod);
    const auto awake = expect<PodAwake>();
    pids[awake.id] = awake.row.pid;
  }
  const auto hanging = hang(killed);
  ASSERT_EQ(::kill(pids[8], SIGKILL), 0);
  auto exited = expect<PodExited>();
  EXPECT_EQ(std::tuple(exited.id, exited.code, exited.signal, exited.requests_lost), std::tuple(8u, -1, 0, 1u));
  EXPECT_EQ(get(hungry, "/eat"), "");
  exited = expect<PodExited>();
  EXPECT_EQ(std::tuple(exited.id, exited.signal, exited.oom_killed), std::tuple(9u, SIGKILL, true));
  const auto stuck = hang(stopped);
  ASSERT_TRUE(client_->send(StopPod{10, 0}));
  exited = expect<PodExited>();
  EXPECT_EQ(std::tuple(exited.id, exited.signal, exited.requests_lost), std::tuple(10u, SIGKILL, 1u));
  exited = expect<PodExited>();
  EXPECT_EQ(std::tuple(exited.id, exited.code, exited.signal), std::tuple(7u, 0, 0)) << "it left idle, and said so";
}

TEST_F(KeeperTest, AKilledTemplateIsReplacedAndNothingIsLost) {
  const Pod awake = put_pod(7);
  ASSERT_THAT(get(awake, "/"), HasSubstr("200 OK"));
  std::vector<Pod> idle;
  for (std::uint64_t id = 10; id < 20; ++id) idle.push_back(put_pod(id));
  pid_t template_pid = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const auto pid = parse_int<pid_t>(entry.path().filename().native());
    if (pid && status_field(*pid, "PPid") == std::to_string(keeper_.pid()) && status_field(*pid, "Name") == "skerry-template") template_pid = *pid;
  }
  ASSERT_GT(template_pid, 0);
  ASSERT_EQ(::kill(template_pid, SIGKILL), 0);
  for (const auto& pod : idle) EXPECT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  EXPECT_NE(expect<ImageReady>().template_pid, template_pid);
  EXPECT_THAT(get(awake, "/"), HasSubstr("200 OK"));
}

TEST_F(KeeperTest, StopDrainsAndAStoppedPodDoesNotWake) {
  const Pod pod = put_pod(7);
  ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  ASSERT_TRUE(client_->send(StopPod{7, 10'000}));
  EXPECT_EQ(expect<PodExited>().code, 0);
  EXPECT_EQ(expect<PodStopped>().id, 7u);
  const auto waiting = connect_to(pod);
  ask(waiting, "/later");
  std::this_thread::sleep_for(50ms);
  char byte;
  EXPECT_EQ(::recv(waiting.get(), &byte, 1, MSG_DONTWAIT), -1);
  put(pod);  // a restart with the same socket: the connection that waited is answered
  EXPECT_THAT(answer(waiting), HasSubstr("hello from /later"));
}

TEST_F(KeeperTest, StopKillsAfterTheGrace) {
  const Pod pod = put_pod(7);
  const auto hanging = connect_to(pod);
  ask(hanging, "/hang");
  auto page = metrics::Page::map(pod.metrics.get()).value();
  while (page.block(0).get(metrics::Counter::RequestsStarted) == 0) std::this_thread::sleep_for(1ms);
  ASSERT_TRUE(client_->send(StopPod{7, 50}));
  const auto exited = expect<PodExited>();
  EXPECT_EQ(exited.signal, SIGKILL);
  EXPECT_EQ(exited.requests_lost, 1u);
  EXPECT_EQ(expect<PodStopped>().id, 7u);
}

TEST_F(KeeperTest, AGuestThatDoesNotStartIsReportedWithItsWordsAndHeld) {
  const Pod pod = put_pod(7, {.config = "fail"});
  const auto waiting = connect_to(pod);
  const auto exited = expect<PodExited>();
  EXPECT_EQ(exited.code, kExitGuestFailedToStart);
  EXPECT_EQ(exited.text, "the guest does not start");
  const auto held = expect<PodHeld>();
  EXPECT_EQ(held.id, 7u);
  EXPECT_EQ(held.delay_ms, 1000u);
}

TEST_F(KeeperTest, AnImageThatTheEngineRejectsIsReported) {
  put_image("bad", "bad image");
  const auto failed = expect<ImageFailed>();
  EXPECT_EQ(failed.key, "bad");
  EXPECT_EQ(failed.text, "the engine rejects it");
}

TEST_F(KeeperTest, SeveralWorkersShareOneListener) {
  const Pod pod = put_pod(7, {.workers = 3});
  ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  std::set<std::uint16_t> workers;
  std::set<std::int32_t> pids;
  for (int i = 0; i < 3; ++i) {
    const auto row = expect<PodAwake>().row;
    workers.insert(row.worker);
    pids.insert(row.pid);
  }
  EXPECT_EQ(workers, (std::set<std::uint16_t>{0, 1, 2}));
  EXPECT_EQ(pids.size(), 3u);
}

TEST_F(KeeperTest, RelogReachesTheRunningSandbox) {
  const Pod pod = put_pod(7);
  ASSERT_THAT(get(pod, "/old"), HasSubstr("200 OK"));
  expect<PodAwake>();
  const auto log = os::open_file(folder_ / "rotated", O_WRONLY | O_CREAT | O_APPEND).value();
  const int fds[] = {log.get()};
  ASSERT_TRUE(client_->send(Relog{7}, fds));
  // The sandbox reads its control socket between requests: at most one more line goes to the old file.
  for (int i = 0; i < 1000 && os::read_small_file(folder_ / "rotated").value().empty(); ++i) ASSERT_THAT(get(pod, "/new"), HasSubstr("200 OK"));
  EXPECT_THAT(os::read_small_file(folder_ / "rotated").value(), HasSubstr("hello from /new\n"));
}

TEST_F(KeeperTest, TheNextAgentGetsTheTableWithItsDescriptors) {
  const Pod pod = put_pod(7), idle = put_pod(8);
  ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
  const auto row = expect<PodAwake>().row;
  connect();  // as a restarted agent does
  EXPECT_EQ(welcome_.pods, 2u);
  ASSERT_TRUE(client_->send(Dump{}));
  EXPECT_EQ(expect<DumpedImage>(), (DumpedImage{"image", true}));
  std::vector<os::UniqueFd> fds;
  const auto first = expect<DumpedPod>(&fds);
  EXPECT_EQ(first.spec, pod.spec);
  EXPECT_EQ(first.state, PodState::Awake);
  EXPECT_THAT(first.workers, ::testing::ElementsAre(row));
  ASSERT_EQ(fds.size(), 4u);
  struct stat mine{}, theirs{};
  ASSERT_EQ(::fstat(pod.listener.get(), &mine), 0);
  ASSERT_EQ(::fstat(fds[0].get(), &theirs), 0);
  EXPECT_EQ(mine.st_ino, theirs.st_ino);
  EXPECT_EQ(expect<DumpedPod>(&fds).state, PodState::Idle);
  expect<DumpEnd>();
}

TEST_F(KeeperTest, CommandsThatCannotBeCarriedOutAreRefusedWithAReason) {
  ASSERT_TRUE(client_->send(StopPod{99, 0}));
  EXPECT_THAT(expect<Refused>().text, HasSubstr("stop pod 99"));
  Pod pod = make_pod(7);
  pod.spec.image = "unknown";
  put(pod);
  const auto refused = expect<Refused>();
  EXPECT_EQ(refused.id, 7u);
  EXPECT_THAT(refused.text, HasSubstr("image unknown is not loaded"));
  pod.spec.image = "image";
  pod.listener = os::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  put(pod);
  EXPECT_THAT(expect<Refused>().text, HasSubstr("not a listening socket"));
}

TEST_F(KeeperTest, ASecondKeeperOnTheSameSocketIsRefused) {
  const auto second = os::spawn({.program = SKERRY_SANDBOX_FAKE, .arguments = keeper_arguments(), .environment = os::current_environment()});
  ASSERT_TRUE(second);
  EXPECT_EQ(second->wait()->code, 1);
  EXPECT_THAT(get(put_pod(7), "/"), HasSubstr("200 OK"));
}

TEST_F(KeeperTest, ManyWakeUpsLeakNothing) {
  const Pod pod = put_pod(7, {.idle_after = 20ms});
  const auto cycle = [&] {
    ASSERT_THAT(get(pod, "/"), HasSubstr("200 OK"));
    expect<PodIdle>();
    events_.clear();
  };
  for (int i = 0; i < 20; ++i) cycle();
  const auto files = open_files(keeper_.pid());
  for (int i = 0; i < 150; ++i) cycle();
  // Control sockets of slots being parked at the moment of counting.
  EXPECT_LE(open_files(keeper_.pid()), files + 10);
}

}  // namespace
}  // namespace skerry::sandbox
