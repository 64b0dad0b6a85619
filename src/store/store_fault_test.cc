// SPDX-License-Identifier: Apache-2.0
// Goal: whatever fails, and whenever the power goes, nothing that was answered is lost, the revision never goes back, the
// reopened store equals what its answers said, and no watch is resumed over a removal that was answered.
// Methods: fail the n-th I/O for n = 1, 2, … with a power loss after it; kill -9 of a process that writes to a real disk.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <format>
#include <map>
#include <thread>

#include "sql/faulty_vfs.h"
#include "store/store.h"
#include "tests/run_on.h"

namespace skerry::store {
namespace {

constexpr ResourceId kMaps(0), kLeases(1);
Store::Options options() {
  return {.resources = {{.name = "configmaps"}, {.name = "leases", .durability = Durability::Coalesced}}};
}
std::string body(std::string_view name, Revision revision, std::size_t size) {
  return std::format(R"({{"kind":"ConfigMap","metadata":{{"name":"{}","namespace":"d","resourceVersion":"{}"}},"v":"{}"}})", name,
                     revision.value(), std::string(size, 'x'));
}
rt::Task<ObjectPtr> write_one(Store& store, ResourceId id, int step) {
  const std::string name = std::format("n{}", step % 5);
  co_return co_await store.write(id, "d", name, [&](const ObjectPtr& newest, Revision next) -> Result<Outcome> {
    if (newest && step % 4 == 3) return Remove{body(name, next, 1)};
    return Put{body(name, next, 500 + static_cast<std::size_t>(step) * 100)};
  });
}

TEST(StoreFault, LosesNothingAnsweredWhateverFails) {
  const ManualClock clock;
  for (std::uint64_t n = 1;; ++n) {
    sql::FaultyVfs disk("store-fault");
    SeededRandom random(n);
    std::map<std::string, ObjectPtr> answered;  // null: removed
    std::set<std::string> unsure;               // a write failed after the last answered one
    std::uint64_t newest = 0, removed = 0;
    {
      disk.fail_at(n, n % 3 == 0 ? sql::FaultyVfs::Fault::Sticky : sql::FaultyVfs::Fault::Once);
      rt::Loop loop;
      auto database = sql::Database::open("s.db", {.cache_kib = 16, .vfs = disk.name()}, Store::migrations());
      if (database) {
        auto opened = Store::open(loop, clock, std::move(*database), options());
        if (opened) {
          Store& store = **opened;
          for (int step = 0; step < 20; ++step) {
            const ResourceId id = step % 7 == 6 ? kLeases : kMaps;
            const auto done = run_on(loop, write_one(store, id, step));
            const std::string name = std::format("n{}", step % 5);
            if (id == kLeases) continue;
            if (done) {
              newest = std::max(newest, (*done)->revision().value());
              answered[name] = store.get(kMaps, "d", name);
              unsure.erase(name);
              if (!answered[name]) removed = (*done)->revision().value();
            } else {
              unsure.insert(name);
            }
            newest = std::max(newest, store.revision().value());
          }
          disk.crash(&random);
          (void)run_on(loop, store.stop());
        }
      }
      disk.crash(&random);
    }
    const bool failed = disk.has_failed();
    disk.restart();
    rt::Loop loop;
    auto database = sql::Database::open("s.db", {.vfs = disk.name()}, Store::migrations());
    ASSERT_TRUE(database) << "n=" << n << ": " << database.error().what;
    auto store = Store::open(loop, clock, std::move(*database), options()).value();
    EXPECT_GE(store->revision().value(), newest) << "n=" << n;
    for (const auto& [name, object] : answered) {
      if (unsure.contains(name)) continue;
      const auto there = store->get(kMaps, "d", name);
      ASSERT_EQ(there != nullptr, object != nullptr) << "n=" << n << " " << name;
      if (object) {
        EXPECT_EQ(*there->json(), *object->json()) << "n=" << n << " " << name;
      }
    }
    if (removed != 0) {
      EXPECT_FALSE(store->watch(kMaps, {}, Revision(removed - 1))) << "n=" << n;
      EXPECT_FALSE(store->watch(kMaps, {.filter = {}, .lasting = Selected::Lasting{.namespace_ = "d", .node = {}}}, Revision(removed - 1))) << "n=" << n;
    }
    if (!failed) {
      EXPECT_GT(removed, 0U);
      EXPECT_GT(n, 30U);
      break;
    }
  }
}

// Writes for ever; tells each answered write as "name revision\n" on the pipe.
rt::Task<> write_for_ever(Store& store, int out) {
  for (int step = 0;; ++step) {
    CO_TRY(auto object, co_await store.write(kMaps, "d", std::format("n{}", step % 50), [&](const ObjectPtr&, Revision next) -> Result<Outcome> {
      return Put{body(std::format("n{}", step % 50), next, 300)};
    }));
    const std::string line = std::format("{} {}\n", object->name(), object->revision().value());
    if (::write(out, line.data(), line.size()) < 0) co_return Result<>{};
  }
}
[[noreturn]] void child(const std::string& path, int out) {
  {
    static const SystemClock clock;
    rt::Loop loop;
    auto database = sql::Database::open(path, {}, Store::migrations());
    auto store = Store::open(loop, clock, std::move(*database), options());
    rt::TaskGroup group(loop);
    for (int i = 0; i < 4; ++i) group.spawn("writer", write_for_ever(**store, out));
    loop.run();
  }
  std::_Exit(0);
}

TEST(StoreFault, SurvivesKillNine) {
  std::string folder = "/tmp/skerry-store-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/s.db";
  std::map<std::string, std::uint64_t> answered;
  std::uint64_t newest = 0;
  for (int round = 0; round < 4; ++round) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t pid = ::fork();  // this test has one thread here
    if (pid == 0) {
      ::close(pipe[0]);
      child(path, pipe[1]);
    }
    ::close(pipe[1]);
    std::string text;
    char buffer[4096];
    std::size_t wanted = 200 + static_cast<std::size_t>(round) * 531;
    for (;;) {
      const auto got = ::read(pipe[0], buffer, sizeof buffer);
      if (got <= 0) break;
      text.append(buffer, static_cast<std::size_t>(got));
      if (text.size() > wanted * 10 && wanted != 0) {
        ::kill(pid, SIGKILL);
        wanted = 0;
      }
    }
    ::close(pipe[0]);
    int status = 0;
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    for (std::size_t at = 0; at < text.size();) {
      const auto end = text.find('\n', at);
      if (end == std::string::npos) break;
      const std::string line = text.substr(at, end - at);
      const auto space = line.find(' ');
      const std::uint64_t revision = std::stoull(line.substr(space + 1));
      EXPECT_GT(revision, newest) << "the revision went back";
      answered[line.substr(0, space)] = std::max(answered[line.substr(0, space)], revision);
      at = end + 1;
    }
    for (const auto& [name, revision] : answered) newest = std::max(newest, revision);
    const SystemClock clock;
    rt::Loop loop;
    auto store = Store::open(loop, clock, sql::Database::open(path, {}, Store::migrations()).value(), options()).value();
    EXPECT_GE(store->revision().value(), newest);
    for (const auto& [name, revision] : answered) {
      ASSERT_NE(store->get(kMaps, "d", name), nullptr);
      EXPECT_GE(store->get(kMaps, "d", name)->revision().value(), revision);
    }
    EXPECT_GT(answered.size(), 10U);
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace skerry::store
