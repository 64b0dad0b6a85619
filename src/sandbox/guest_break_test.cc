// SPDX-License-Identifier: Apache-2.0
// Everything that is known to break the engine, and the way round it: one request fails with a clean status, the next on the
// same process succeeds, a counter tells.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <format>
#include <fstream>
#include <random>
#include <sstream>

#include "base/testing_needs.h"
#include "sandbox/guest_test_kit.h"
#include "sandbox/zero_map.h"
#include "wasm/native_cache.h"

namespace skerry::sandbox::test {
namespace {
using metrics::Counter;
using testing::HasSubstr;

Sandbox::Options with_deadline(Duration deadline) {
  Assignment a;
  a.request_deadline = deadline;
  return {.assignment = a};
}
// What of the process' stack is in memory; the guest's frames are in it, whatever else the build keeps.
std::size_t stack_kb(int pid) {
  std::ifstream in(std::format("/proc/{}/smaps", pid));
  bool in_stack = false;
  for (std::string line; std::getline(in, line);) {
    if (line.find("[stack]") != std::string::npos) in_stack = true;
    if (in_stack && line.starts_with("Rss:")) return std::strtoul(line.c_str() + 4, nullptr, 10);
  }
  return 0;
}
std::uint64_t status_number(int pid, std::string_view key) {
  std::ifstream in(std::format("/proc/{}/status", pid));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key)) return std::strtoull(line.c_str() + key.size() + 1, nullptr, 10);
  }
  return 0;
}

struct Breakage {
  const char* path;
  int status;
  Counter counter;
  const char* reason;
};
class Breaks : public testing::TestWithParam<Breakage> {};

TEST_P(Breaks, OneRequestFailsAndTheNextSucceedsInTheSameProcess) {
  Sandbox s(with_deadline(300ms));
  Client c(s.port());
  EXPECT_EQ(c.get("/hello").status, 200);
  const auto before = s.counter(GetParam().counter);
  for (int i = 0; i < 3; ++i) {
    const auto reply = c.get(GetParam().path);
    EXPECT_EQ(reply.status, GetParam().status);
    EXPECT_THAT(reply.body, HasSubstr(GetParam().reason));
    EXPECT_EQ(c.get("/hello").body, "hello\n");
    EXPECT_EQ(c.get("/calls").body, "2 1\n");  // a new instance, started anew
  }
  EXPECT_EQ(s.counter(GetParam().counter), before + 3);
  EXPECT_TRUE(s.alive());
  EXPECT_THAT(s.log(), HasSubstr(GetParam().reason));
}
INSTANTIATE_TEST_SUITE_P(
    Guest, Breaks,
    testing::Values(Breakage{"/unreachable", 500, Counter::TrapsUnreachable, "unreachable"},
                    Breakage{"/bounds", 500, Counter::TrapsMemoryBounds, "memory access out of bounds"},
                    Breakage{"/divide", 500, Counter::TrapsArithmetic, "division by zero"},
                    Breakage{"/indirect", 500, Counter::GuestTraps, "trapped"},
                    Breakage{"/null-call", 500, Counter::GuestTraps, "trapped"},
                    Breakage{"/recurse", 500, Counter::TrapsStackOverflow, "deeper than its stack"},
                    Breakage{"/recurse-host", 500, Counter::TrapsStackOverflow, "deeper than its stack"},
                    Breakage{"/recurse-memory", 500, Counter::TrapsMemoryBounds, "memory access out of bounds"},
                    Breakage{"/loop", 504, Counter::Deadlines, "deadline of 300ms"},
                    Breakage{"/loop-later", 504, Counter::Deadlines, "deadline of 300ms"},
                    Breakage{"/sleep", 504, Counter::Deadlines, "deadline of 300ms"},
                    Breakage{"/exit", 500, Counter::GuestExits, "proc_exit(3)"},
                    Breakage{"/bad-pointer", 500, Counter::TrapsHostRefusal, "refused its arguments"},
                    Breakage{"/bad-kind", 500, Counter::TrapsHostRefusal, "refused its arguments"},
                    Breakage{"/bad-header", 500, Counter::TrapsHostRefusal, "refused its arguments"},
                    Breakage{"/hoard", 500, Counter::TrapsHostRefusal, "refused its arguments"},
                    Breakage{"/status/99", 500, Counter::TrapsHostRefusal, "refused its arguments"}),
    [](const auto& test) {
      std::string name;
      for (const char c : std::string_view(test.param.path)) {
        if (std::isalnum(static_cast<unsigned char>(c)) != 0) name += c;
      }
      return name;
    });

TEST(Break, AStackOverflowLeavesNoMemoryBehind) {
  Sandbox s;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(s.get("/recurse").status, 500);
    EXPECT_LT(stack_kb(s.pid()), 300u);  // of 1 MB, all of which the recursion touched
  }
}

// Goal: a frame that is larger than the gap which a stack probe would need does not step over the stack's end.
TEST(Break, FramesOfManyLocalsOverflowTheStackAsCleanly) {
  Sandbox s({.image = "wide"});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(s.get("/").status, 200);
    EXPECT_EQ(s.get("/").status, 500);
    EXPECT_EQ(s.get("/").status, 200);  // of the new instance
    EXPECT_EQ(s.get("/").status, 500);
  }
  EXPECT_EQ(s.counter(Counter::TrapsStackOverflow), 10u);
  EXPECT_TRUE(s.alive());
}

// Goal: code that never looks at the token is left at its deadline all the same, and only its request fails.
TEST(Break, ALoopThatCannotBeCancelledIsLeftByForce) {
  auto options = with_deadline(50ms);
  options.image = "tail";
  Sandbox s(options);
  Client c(s.port());
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(c.get("/").status, 200) << i;
    const auto reply = c.get("/");
    ASSERT_EQ(reply.status, 504) << i;
    EXPECT_THAT(reply.body, HasSubstr("deadline of 50ms"));
  }
  EXPECT_EQ(s.counter(Counter::Deadlines), 20u);
  EXPECT_EQ(s.counter(Counter::GuestTraps), 0u);
  EXPECT_TRUE(s.alive());
}

// Goal: two workers that trap and loop at the same time do not break each other, as two threads of one process would.
TEST(Break, WorkersTrapAtTheSameTimeInProcessesOfTheirOwn) {
  auto options = with_deadline(50ms);
  options.workers = 2;
  Sandbox s(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(std::make_unique<Client>(s.port()));
  const std::pair<const char*, int> kinds[] = {{"/recurse", 500}, {"/unreachable", 500}, {"/loop", 504}, {"/divide", 500}};
  for (int round = 0; round < 30; ++round) {
    for (std::size_t i = 0; i < clients.size(); ++i) {
      ASSERT_TRUE(clients[i]->send(std::format("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", kinds[(i + static_cast<std::size_t>(round)) % 4].first)));
    }
    for (std::size_t i = 0; i < clients.size(); ++i) {
      ASSERT_EQ(clients[i]->read().status, kinds[(i + static_cast<std::size_t>(round)) % 4].second) << round << " " << i;
    }
  }
  EXPECT_EQ(s.counter(Counter::Deadlines), 60u);
  EXPECT_EQ(s.counter(Counter::GuestTraps), 180u);
  EXPECT_EQ(s.counter(Counter::RequestsFinished), 240u);
  EXPECT_TRUE(s.alive());
  for (const std::size_t worker : {std::size_t{0}, std::size_t{1}}) EXPECT_EQ(status_number(s.pid(worker), "Threads:"), 1u);
}

TEST(Break, AResponseBeyondItsLimitIsCutOff) {
  Assignment a;
  a.response_bytes_max = 100'000;
  Sandbox s({.assignment = a});
  EXPECT_EQ(s.get("/big/100000").status, 200);
  EXPECT_EQ(s.get("/big/100001").status, 500);
  EXPECT_EQ(s.counter(Counter::TrapsHostRefusal), 1u);
  a.response_bytes_max = 1u << 20;  // by then the head is out
  Sandbox large({.assignment = a});
  EXPECT_EQ(large.get("/big/2000000").status, 0);
  EXPECT_EQ(large.get("/hello").status, 200);
}

TEST(Break, ATrapInTheMiddleOfAStreamCutsTheConnection) {
  Sandbox s;
  Client c(s.port());
  const auto reply = c.get("/big-then-trap");
  EXPECT_EQ(reply.status, 0);  // the last chunk never came
  EXPECT_EQ(s.get("/hello").status, 200);
}

TEST(Break, MemoryIsBoundByThePodsLimitNotTheImages) {
  Assignment a;
  a.memory_bytes_max = 4u << 20;
  Sandbox small({.assignment = a});
  a.memory_bytes_max = 16u << 20;
  Sandbox large({.assignment = a});
  const auto pages_small = std::stoi(small.get("/grow").body), pages_large = std::stoi(large.get("/grow").body);
  EXPECT_GT(pages_small, 0);
  EXPECT_LE(pages_small, 64);
  EXPECT_GT(pages_large, 150);
  EXPECT_LE(pages_large, 256);
  a.memory_bytes_max = 64u << 20;
  Sandbox by_slot({.assignment = a, .limits = {.memory_bytes_max = 4u << 20}});
  EXPECT_LE(std::stoi(by_slot.get("/grow").body), 64);
}

TEST(Break, AModuleThatNeedsMoreMemoryThanItsLimitIsRefusedWithTheReason) {
  Assignment a;
  a.memory_bytes_max = 16u << 20;
  Sandbox s({.image = "hungry", .assignment = a});
  EXPECT_EQ(s.wait_for_exit(), kExitGuestFailedToStart);
  const auto why = s.control_packet();
  EXPECT_THAT(why, HasSubstr("needs 1024 pages"));
  EXPECT_THAT(why, HasSubstr("limit is 256 pages"));
  EXPECT_EQ(s.counter(Counter::InstancesFailed), 1u);
}

// The engine calls an instance whose memory could not be mapped a success.
TEST(Break, MemoryThatCannotBeMappedIsRefusedWithTheReason) {
  Sandbox s({.no_memory_for = {12ull << 30}});
  EXPECT_EQ(s.wait_for_exit(), kExitGuestFailedToStart);
  EXPECT_THAT(s.control_packet(), HasSubstr("Is there room for its memory"));
  EXPECT_EQ(s.counter(Counter::InstancesFailed), 1u);
  Sandbox without_data({.image = "started", .no_memory_for = {12ull << 30}});
  EXPECT_EQ(without_data.wait_for_exit(), kExitGuestFailedToStart);
  EXPECT_THAT(without_data.control_packet(), HasSubstr("needs 1 pages of memory (64 KiB) and got 0"));
}

TEST(Break, MemoryThatCannotGrowIsTheGuestsToHandle) {
  Sandbox s({.no_memory_for = {16 * 65536}});
  EXPECT_EQ(s.get("/grow").body, "0\n");
  EXPECT_EQ(s.get("/grown").body, "/grown");  // one page is to be had
  EXPECT_EQ(s.counter(Counter::GuestTraps), 0u);
}

// Goal: an instance whose memory begins with no page sees none of its predecessor's, and leaves no reservation behind.
TEST(Break, AMemoryThatBeginsEmptyIsNewForEachInstance) {
  Assignment a;
  a.isolation = Isolation::PerRequest;
  Sandbox s({.image = "growing", .assignment = a});
  Client c(s.port());
  EXPECT_EQ(c.get("/").status, 200);
  EXPECT_EQ(c.get("/").status, 200);
  const auto before = status_number(s.pid(), "VmSize:");
  for (int i = 0; i < 50; ++i) ASSERT_EQ(c.get("/").status, 200) << i;
  EXPECT_LT(status_number(s.pid(), "VmSize:"), before + (12u << 20));  // KB: one reservation
  Sandbox reused({.image = "growing"});
  for (int i = 0; i < 50; ++i) ASSERT_EQ(reused.get("/").status, 200) << i;
}

TEST(Break, AHandlerThatIsPreparedByStartIsPreparedAgainAfterATrap) {
  Sandbox s({.image = "started"});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(s.get("/").status, i % 2 == 0 ? 200 : 500) << i;
  EXPECT_EQ(s.counter(Counter::TrapsUnreachable), 5u);
}

TEST(Break, WhatTheHostKeepsForARequestIsBounded) {
  Sandbox s;
  EXPECT_EQ(s.get("/look-up").body, "looked up\n");  // 100,000 of them keep nothing
  EXPECT_EQ(s.get("/grown").body, "/grown");
}

TEST(Break, AWagiProgramThatLoopsOrTrapsFailsOneRequest) {
  auto options = with_deadline(200ms);
  options.image = "wagi";
  options.assignment.kind = GuestKind::Wagi;
  Sandbox s(options);
  Client c(s.port());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(c.get("/loop").status, 504);
    EXPECT_EQ(c.get("/trap").status, 500);
    EXPECT_EQ(c.get("/count").body, "1\n");
  }
  EXPECT_EQ(s.counter(Counter::Deadlines), 3u);
  EXPECT_EQ(s.counter(Counter::TrapsUnreachable), 3u);
  EXPECT_TRUE(s.alive());
}

// A client that stops reading ends its own request; it is neither a trap of the guest nor a deadline.
TEST(Break, AClientThatTakesNothingEndsItsRequestAndIsNoTrap) {
  Assignment a;
  a.write_timeout = 200ms;
  a.response_bytes_max = 64u << 20;
  Sandbox s({.assignment = a});
  Client c(s.port());
  const int small = 4096;
  setsockopt(c.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  ASSERT_TRUE(c.send("GET /big/60000000 HTTP/1.1\r\nHost: t\r\n\r\n"));
  for (int i = 0; i < 1000 && s.counter(Counter::RequestsFinished) == 0; ++i) usleep(5000);
  EXPECT_EQ(s.counter(Counter::RequestsFinished), 1u);
  EXPECT_EQ(s.counter(Counter::Timeouts), 1u);
  EXPECT_EQ(s.counter(Counter::GuestTraps), 0u);
  EXPECT_EQ(s.counter(Counter::GuestExits), 0u);
  EXPECT_EQ(s.get("/calls").body, "1 1\n");  // the guest was left in the middle: a new instance
}

TEST(Break, AGuestThatDoesNotStartIsAnExitCodeWithAReason) {
  Assignment a;
  a.start_deadline = 200ms;
  for (const auto& [name, reason] : {std::pair{"LOOP_AT_START", "longer than its deadline of 200ms"}, {"TRAP_AT_START", "unreachable"},
                                     {"EXIT_AT_START", "proc_exit(5)"}}) {
    a.env = {{name, "5"}};
    Sandbox s({.assignment = a});
    EXPECT_EQ(s.wait_for_exit(), kExitGuestFailedToStart) << name;
    EXPECT_THAT(s.control_packet(), HasSubstr(reason)) << name;
    EXPECT_THAT(s.log(), HasSubstr(reason)) << name;
  }
}

TEST(Break, AStartSectionThatNeverEndsIsAnExitCodeWithAReason) {
  Assignment a;
  a.start_deadline = 100ms;
  Sandbox s({.image = "looping_start", .assignment = a});
  EXPECT_EQ(s.wait_for_exit(), kExitGuestFailedToStart);
  EXPECT_THAT(s.control_packet(), HasSubstr("its start section took longer than its deadline of 100ms"));
}

TEST(Break, WhatCannotBeServedIsRefusedWithTheReason) {
  Sandbox no_worker({.assignment = {}, .limits = {}, .workers = 1});
  EXPECT_EQ(no_worker.get("/hello").status, 200);
  Sandbox wrong_kind({.image = "wagi"});
  EXPECT_EQ(wrong_kind.wait_for_exit(), kExitGuestFailedToStart);
  EXPECT_THAT(wrong_kind.control_packet(), HasSubstr("no handle_request"));
}

TEST(Break, NativeCodeWithAWrongHashIsNeverLoaded) {
  auto native = wasm::verify_native(native_path("handler"));
  ASSERT_TRUE(native);
  auto hash = native->hash;
  hash[0] ^= 1;
  const auto corrupt = load_image({.native_fd = native->fd, .sha256 = hash, .name = "x"});
  ASSERT_FALSE(corrupt);
  EXPECT_EQ(corrupt.error().code, Errc::Corrupt);
  // Truncated: the loader would crash on it.
  std::string bytes(2000, '\0');
  ASSERT_EQ(pread(native->fd, bytes.data(), bytes.size(), 0), 2000);
  const int cut = memfd_create("cut", MFD_CLOEXEC);
  ASSERT_EQ(write(cut, bytes.data(), bytes.size()), 2000);
  EXPECT_EQ(load_image({.native_fd = cut, .sha256 = native->hash, .name = "x"}).error().code, Errc::Corrupt);
  close(cut);
  close(native->fd);
}

// The engine's loader takes them, for its interpreter, in which endless recursion eats memory.
TEST(Break, AModuleThatIsNotNativeIsNeverInterpreted) {
  const int fd = open((std::string(SKERRY_TEST_NATIVE) + "/handler.wasm").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  const auto image = load_image({.native_fd = fd, .sha256 = wasm::sha256_of_file(fd).value(), .name = "plain"});
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code, Errc::Invalid);
  EXPECT_THAT(image.error().what, HasSubstr("plain: it is no native code"));
  close(fd);
}

// Goal: a cancel that meets a call which ends by itself never answers another request, and nothing crashes.
// Method: a deadline of 2 ms against requests that take about that long, mixed with every kind of trap. Each answer is
// exact: the one status of its path, or 504 if that request really took its 2 ms, which the client's clock tells. A 504
// that comes sooner is the mark of a token left over from another request.
// SKERRY_BREAK_REQUESTS: how many; scripts/soak breakage runs 100,000.
class Mixed {
 public:
  explicit Mixed(std::uint16_t port) : client_(port) {}
  testing::AssertionResult ask(const std::string& path, int status, std::string_view text) {
    const auto begin = std::chrono::steady_clock::now();
    const auto reply = client_.get(path);
    const auto took = std::chrono::steady_clock::now() - begin;
    if (reply.status == status && reply.body.find(text) != std::string::npos) {
      ++in_time;
      return testing::AssertionSuccess();
    }
    if (reply.status == 504 && took >= kDeadline && reply.body.find("longer than its deadline of 2ms") != std::string::npos) {
      ++late;
      return testing::AssertionSuccess();
    }
    return testing::AssertionFailure() << path << " after " << std::chrono::duration_cast<std::chrono::microseconds>(took).count()
                                       << " us: " << reply.status << " " << reply.body;
  }
  static constexpr auto kDeadline = 2ms;
  int in_time = 0, late = 0;

 private:
  Client client_;
};

TEST(Break, MixedRequestsAtTheEdgeOfTheDeadlineAreAllAnsweredRight) {
  const char* asked = std::getenv("SKERRY_BREAK_REQUESTS");
  const int requests = asked != nullptr ? std::atoi(asked) : 3000;
  Sandbox s(with_deadline(Mixed::kDeadline));
  std::mt19937 random(42);
  Mixed edge(s.port()), traps(s.port()), loops(s.port()), others(s.port());
  for (int i = 0; i < requests; ++i) {
    const auto kind = random() % 20;
    if (kind < 10) ASSERT_TRUE(edge.ask("/spin/" + std::to_string(1900 + random() % 200), 200, "spun\n"));
    else if (kind == 10) ASSERT_TRUE(traps.ask("/unreachable", 500, "unreachable"));
    else if (kind == 11) ASSERT_TRUE(traps.ask("/divide", 500, "division by zero"));
    else if (kind == 12) ASSERT_TRUE(traps.ask("/recurse", 500, "deeper than its stack"));
    else if (kind == 13) ASSERT_TRUE(loops.ask("/loop", 504, "longer than its deadline of 2ms"));
    else ASSERT_TRUE(others.ask("/hello", 200, "hello\n"));
  }
  EXPECT_TRUE(s.alive());
  // Each late answer is counted, each trap is, none was lost, and none of the deadlines is a token's that was left over.
  EXPECT_EQ(s.counter(Counter::RequestsStarted), static_cast<std::uint64_t>(requests));
  EXPECT_EQ(s.counter(Counter::RequestsFinished), static_cast<std::uint64_t>(requests));
  EXPECT_EQ(s.counter(Counter::Deadlines), static_cast<std::uint64_t>(edge.late + traps.late + loops.in_time + others.late));
  EXPECT_EQ(s.counter(Counter::GuestTraps), static_cast<std::uint64_t>(traps.in_time));
  EXPECT_GT(edge.in_time, 0);
  EXPECT_GT(edge.late, 0);
  std::printf("edge: %d in time, %d late; others late: %d of %d; traps late: %d; stale tokens drained: %llu\n", edge.in_time, edge.late, others.late,
              others.in_time + others.late, traps.late, static_cast<unsigned long long>(s.counter(Counter::StaleTokensDrained)));
}

TEST(Break, ADeadWorkersRequestsAreCountedAsLost) {
  Sandbox s(with_deadline(20s));
  Client c(s.port());
  ASSERT_TRUE(c.send("GET /loop HTTP/1.1\r\nHost: t\r\n\r\n"));
  for (int i = 0; i < 1000 && s.counter(Counter::RequestsStarted) == 0; ++i) usleep(5000);
  s.signal(SIGKILL);
  EXPECT_EQ(s.wait_for_exit(), -SIGKILL);
  EXPECT_EQ(metrics::account_for_death(s.page(), 0).requests, 1u);
  EXPECT_EQ(s.counter(Counter::RequestsLost), 1u);
}

// Goal: a log that takes nothing more loses lines, each of them counted, and no request. /log writes four lines.
class FullLog : public testing::Test {
 protected:
  static constexpr int kRequests = 50;
  static constexpr std::uint64_t kLines = 4 * kRequests;
  static void ask(Sandbox& s) {
    Client c(s.port());
    for (int i = 0; i < kRequests; ++i) ASSERT_EQ(c.get("/log").status, 200);
    EXPECT_EQ(c.get("/hello").body, "hello\n");
    EXPECT_TRUE(s.alive());
  }
  // Every line of it but torn ones is whole; returns how many are torn.
  static int torn_lines(const std::string& log) {
    int torn = 0;
    std::istringstream in(log);
    for (std::string line; std::getline(in, line);) {
      const bool whole = line.ends_with("F an info line") || line.ends_with("F an error line") || line.ends_with("F to stdout") || line.ends_with("F to stderr");
      torn += !whole;
      EXPECT_EQ(line.find("stdout"), line.rfind("stdout", line.find(" F "))) << line;  // no second line in it
    }
    return torn;
  }
};

TEST_F(FullLog, ADeviceWithoutRoom) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  Sandbox s({.log = full});
  close(full);
  ask(s);
  EXPECT_EQ(s.counter(Counter::LogLinesDropped), kLines);
  EXPECT_EQ(s.counter(Counter::LogLines), 0u);
}

TEST_F(FullLog, AFileAtItsLimit) {
  Sandbox s({.log_bytes_max = 2000});
  ask(s);
  const auto log = s.log();
  EXPECT_EQ(log.size(), 2000u);
  EXPECT_LE(torn_lines(log), 1);
  EXPECT_GT(s.counter(Counter::LogLines), 20u);
  EXPECT_EQ(s.counter(Counter::LogLines) + s.counter(Counter::LogLinesDropped), kLines);
}

TEST_F(FullLog, AFullDiskAndThenRoomAgain) {
  NEEDS(geteuid() == 0, "mounts a file system, which takes root");
  char folder[] = "/tmp/skerry-full-disk-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  ASSERT_EQ(mount("skerry-test", folder, "tmpfs", 0, "size=64k"), 0) << std::strerror(errno);
  const int log = open((std::string(folder) + "/log").c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const int other = open((std::string(folder) + "/other").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  umount2(folder, MNT_DETACH);  // it lives as long as the descriptors
  rmdir(folder);
  ASSERT_GE(log, 0);
  ASSERT_GE(other, 0);
  const std::string filler(4096, 'x');
  for (int pages = 0; pages < 15; ++pages) ASSERT_EQ(write(other, filler.data(), filler.size()), 4096);
  Sandbox s({.log = log});
  ask(s);
  EXPECT_EQ(s.log().size(), 4096u);
  const auto dropped = s.counter(Counter::LogLinesDropped);
  EXPECT_GT(dropped, 0u);
  EXPECT_EQ(s.counter(Counter::LogLines) + dropped, kLines);
  ASSERT_EQ(ftruncate(other, 0), 0);
  ask(s);
  EXPECT_EQ(s.counter(Counter::LogLinesDropped), dropped);
  EXPECT_EQ(s.counter(Counter::LogLines) + dropped, 2 * kLines);
  EXPECT_LE(torn_lines(s.log()), 1);
  close(log);
  close(other);
}

// Goal: a kept reservation is never seen by the next instance, and never larger than what that asked for.
TEST(ZeroMap, AReusedReservationIsZeroAndItsExcessTraps) {
  const pid_t pid = fork();
  if (pid == 0) {
    zero_map::enable();
    constexpr std::size_t kAll = 12ull << 30, kPage = 65536;
    const auto reserve = [&] { return static_cast<char*>(mmap(nullptr, kAll, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)); };
    const auto commit = [&](char* at, std::size_t n) { return mmap(at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at; };
    char* first = reserve();
    char* memory = first + (4ull << 30);
    if (!commit(memory, 8 * kPage) || !commit(memory + 8 * kPage, 8 * kPage)) _exit(1);
    memset(memory, 'x', 16 * kPage);
    if (munmap(first, kAll) != 0) _exit(2);
    char* second = reserve();
    if (second != first || zero_map::stats().reservations_reused != 1) _exit(3);
    if (!commit(memory, 2 * kPage)) _exit(4);
    for (std::size_t i = 0; i < 2 * kPage; ++i) {
      if (memory[i] != 0) _exit(5);
    }
    unsigned char resident[1];
    const int pipe_or_null = open("/dev/null", O_WRONLY);
    (void)resident;
    // The excess is not readable: the kernel refuses to copy from it. (/dev/null would not look; a pipe does.)
    close(pipe_or_null);
    int ends[2];
    if (pipe(ends) != 0) _exit(6);
    if (write(ends[1], memory + 2 * kPage, 1) == 1) _exit(7);
    if (write(ends[1], memory + 15 * kPage, 1) == 1) _exit(8);
    if (!commit(memory + 2 * kPage, 3 * kPage)) _exit(9);
    for (std::size_t i = 0; i < 5 * kPage; ++i) {
      if (memory[i] != 0) _exit(10);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
}

}  // namespace
}  // namespace skerry::sandbox::test
