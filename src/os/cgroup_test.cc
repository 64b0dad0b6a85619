// SPDX-License-Identifier: Apache-2.0
#include "os/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <format>
#include <fstream>
#include <thread>
#include <vector>

#include "base/testing_needs.h"
#include "os/file.h"
#include "os/spawn.h"

namespace skerry::os {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHybrid =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

TEST(CgroupMounts, HybridUsesV1WhereTheControllersAre) {
  const auto mounts = parse_cgroup_mounts(kHybrid, "hugetlb\n");
  ASSERT_TRUE(mounts);
  EXPECT_EQ(mounts->version, CgroupVersion::V1);
  EXPECT_EQ(mounts->memory, "/sys/fs/cgroup/memory");
  EXPECT_EQ(mounts->cpu, "/sys/fs/cgroup/cpu,cpuacct");
}

TEST(CgroupMounts, PureV2UsesTheUnifiedHierarchy) {
  const auto mounts = parse_cgroup_mounts("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
                                          "cpuset cpu io memory hugetlb pids\n");
  ASSERT_TRUE(mounts);
  EXPECT_EQ(mounts->version, CgroupVersion::V2);
  EXPECT_EQ(mounts->cpu, "/sys/fs/cgroup");
}

TEST(CgroupMounts, NoControllersIsUnsupportedWithARemedy) {
  const auto mounts = parse_cgroup_mounts("", "");
  ASSERT_FALSE(mounts);
  EXPECT_EQ(mounts.error().code, Errc::Unsupported);
  EXPECT_THAT(mounts.error().what, ::testing::HasSubstr("cgroup_enable=memory"));
}

TEST(Cgroup, MapsMillicoresAsKubernetesDoes) {
  EXPECT_EQ(cpu_shares(0), 1024u);
  EXPECT_EQ(cpu_shares(1), 2u);
  EXPECT_EQ(cpu_shares(1000), 1024u);
  EXPECT_EQ(cpu_weight(100), 4u);
  EXPECT_EQ(cpu_weight(1000), 39u);
  EXPECT_EQ(cpu_weight(1'000'000), 10000u);
}

TEST(Cgroup, SmallLimitsAreKeptExactlyByALongerPeriod) {
  for (const std::uint32_t millis : {1u, 7u, 10u, 19u, 20u, 100u, 500u, 4000u}) {
    const auto quota = cpu_quota(millis);
    EXPECT_GE(quota.quota_us, 1000u) << millis;
    EXPECT_LE(quota.period_us, 1'000'000u) << millis;
    EXPECT_NEAR(static_cast<double>(quota.quota_us) / static_cast<double>(quota.period_us), millis / 1000.0, millis / 1e6) << millis;
  }
  EXPECT_EQ(cpu_quota(500).period_us, 50'000u);
  EXPECT_EQ(cpu_quota(0).quota_us, 0u);
}

TEST(Cgroup, TreesWeighMoreOnMoreCores) {
  EXPECT_EQ(tree_weight(CgroupVersion::V1, 2), 4096u);
  EXPECT_EQ(tree_weight(CgroupVersion::V2, 2), 400u);
  EXPECT_EQ(tree_weight(CgroupVersion::V1, 0), 2048u);
  EXPECT_EQ(tree_weight(CgroupVersion::V1, 1000), 262144u);  // the kernel's most
  EXPECT_EQ(tree_weight(CgroupVersion::V2, 1000), 10000u);
}

// A burst is time saved before, never more: a process that wants all it can get stays below the limit on average.
TEST(Cgroup, TheLimitHoldsOverABurst) {
  const auto name = std::format("skerry-test-{}-limit", ::getpid());
  auto tree = CgroupTree::open(name);
  NEEDS(tree, "no cgroups to write here: " << tree.error().what);
  {
    auto cgroup = tree->create("one");
    ASSERT_TRUE(cgroup) << cgroup.error().what;
    ASSERT_TRUE(cgroup->set({.cpu_millis_max = 200}));
    const auto started = std::chrono::steady_clock::now();
    const pid_t child = ::fork();
    if (child == 0) {
      for (const auto& file : cgroup->process_files())
        if (::write(file.get(), "0", 1) != 1) ::_exit(1);
      while (std::chrono::steady_clock::now() - started < std::chrono::milliseconds(800)) {
      }
      ::_exit(0);
    }
    int status = -1;
    rusage used{};
    ASSERT_EQ(::wait4(child, &status, 0, &used), child);
    EXPECT_EQ(status, 0);
    const double wall_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
    const auto ms = [](const timeval& t) { return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) / 1e3; };
    // One quota that the current period already gave, one of burst, and a tick of the clock.
    EXPECT_LT(ms(used.ru_utime) + ms(used.ru_stime), 0.2 * wall_ms + 10 + 10 + 10);
  }
  EXPECT_TRUE(tree->remove_all());
}

// As every slot does.
TEST(Cgroup, AProcessEntersItByItself) {
  const auto name = std::format("skerry-test-{}-self", ::getpid());
  auto tree = CgroupTree::open(name);
  NEEDS(tree, "no cgroups to write here: " << tree.error().what);
  {
    auto cgroup = tree->create("one");
    ASSERT_TRUE(cgroup) << cgroup.error().what;
    const pid_t child = ::fork();
    if (child == 0) {
      for (const auto& file : cgroup->process_files())
        if (::write(file.get(), "0", 1) != 1) ::_exit(1);
      ::pause();
    }
    std::vector<pid_t> inside;
    for (int i = 0; i < 5000 && inside.empty(); ++i) {
      ::usleep(1000);
      inside = cgroup->processes().value();
    }
    EXPECT_THAT(inside, ::testing::ElementsAre(child));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  EXPECT_TRUE(tree->remove_all());
}

// The v2 files as plain files: what is written where, without a v2 kernel set-up.
TEST(Cgroup, WritesTheV2FilesOnlyWhenSomethingChanged) {
  char name[] = "/tmp/skerry-cgroup-XXXXXX";
  const fs::path root = ::mkdtemp(name);
  const auto group = root / "skerry-test" / "slot-1";
  fs::create_directories(group);
  for (const auto* file : {"cgroup.procs", "memory.max", "memory.current", "memory.events", "cpu.max", "cpu.max.burst", "cpu.weight", "cpu.stat"})
    std::ofstream(group / file) << "";
  std::ofstream(root / "cgroup.subtree_control") << "";
  for (const auto* file : {"cgroup.subtree_control", "cpu.weight"}) std::ofstream(root / "skerry-test" / file) << "";
  const auto read = [&](const char* file) { return read_small_file(group / file).value(); };
  const auto clear = [&](const char* file) { fs::resize_file(group / file, 0); };

  auto tree = CgroupTree::open_at({CgroupVersion::V2, root, root, root, root}, "skerry-test");
  ASSERT_TRUE(tree) << tree.error().what;
  EXPECT_EQ(read_small_file(root / "cgroup.subtree_control").value(), "+memory +cpu");
  EXPECT_EQ(read_small_file(root / "skerry-test" / "cpu.weight").value(), std::to_string(tree_weight(CgroupVersion::V2, std::thread::hardware_concurrency())));
  auto cgroup = tree->create("slot-1");
  ASSERT_TRUE(cgroup) << cgroup.error().what;
  EXPECT_EQ(read("memory.max"), "max");
  for (const auto* file : {"memory.max", "cpu.max", "cpu.max.burst", "cpu.weight"}) clear(file);
  ASSERT_TRUE(cgroup->set({.memory_bytes_max = 1 << 20, .cpu_millis_max = 100, .cpu_millis_requested = 1000}));
  EXPECT_EQ(read("memory.max"), "1048576");
  EXPECT_EQ(read("cpu.max"), "5000 50000");
  EXPECT_EQ(read("cpu.max.burst"), "5000");
  EXPECT_EQ(read("cpu.weight"), "39");
  for (const auto* file : {"memory.max", "cpu.max", "cpu.max.burst", "cpu.weight"}) clear(file);
  ASSERT_TRUE(cgroup->set({.memory_bytes_max = 1 << 20, .cpu_millis_max = 0, .cpu_millis_requested = 1000}));
  EXPECT_EQ(read("memory.max"), "");
  EXPECT_EQ(read("cpu.max"), "max 50000");
  EXPECT_EQ(read("cpu.max.burst"), "0");
  std::ofstream(group / "memory.events") << "low 0\noom 3\noom_kill 2\n";
  std::ofstream(group / "memory.current") << "4096\n";
  std::ofstream(group / "cpu.stat") << "usage_usec 7\nuser_usec 3\n";
  EXPECT_EQ(cgroup->oom_kills(), 2u);
  EXPECT_EQ(cgroup->usage()->memory_bytes, 4096u);
  EXPECT_EQ(cgroup->usage()->cpu_ns, 7000u);
  fs::remove_all(root);
}

TEST(Cgroup, HoldsAProcessAndItsLimitsInTheKernel) {
  const auto name = std::format("skerry-test-{}", ::getpid());
  auto tree = CgroupTree::open(name);
  NEEDS(tree, "no cgroups to write here: " << tree.error().what);
  {
    auto cgroup = tree->create("one");
    ASSERT_TRUE(cgroup) << cgroup.error().what;
    ASSERT_TRUE(cgroup->set({.memory_bytes_max = 8u << 20, .cpu_millis_max = 500, .cpu_millis_requested = 100}));
    auto child = spawn({.program = "/bin/sleep", .arguments = {"100"}});
    ASSERT_TRUE(child);
    const auto pid = std::to_string(child->pid());
    for (const auto& file : cgroup->process_files()) ASSERT_EQ(::write(file.get(), pid.data(), pid.size()), std::ssize(pid));
    EXPECT_THAT(cgroup->processes().value(), ::testing::ElementsAre(child->pid()));
    EXPECT_EQ(cgroup->oom_kills(), 0u);
    EXPECT_TRUE(cgroup->usage());
    for (const std::uint32_t millis : {2000u, 5u, 0u, 100u})  // up, down, with another period, without a limit
      EXPECT_TRUE(cgroup->set({.memory_bytes_max = 8u << 20, .cpu_millis_max = millis})) << millis;
    EXPECT_EQ(tree->remove("one").error().code, Errc::Conflict);
    ASSERT_TRUE(child->signal(SIGKILL));
    ASSERT_TRUE(child->wait());
  }
  EXPECT_THAT(tree->groups(), ::testing::ElementsAre("one"));
  EXPECT_TRUE(tree->remove_all());
  EXPECT_TRUE(tree->groups().empty());
}

}  // namespace
}  // namespace skerry::os
