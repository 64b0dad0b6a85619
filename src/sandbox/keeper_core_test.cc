// SPDX-License-Identifier: Apache-2.0
#include "sandbox/keeper_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <format>
#include <random>
#include <set>
#include <tuple>
#include <utility>

namespace skerry::sandbox {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::StartsWith;

struct Name {
  std::string operator()(const PodAwake& e) const { return std::format("awake {}.{} {}us", e.id, e.row.worker, e.cold_start_us); }
  std::string operator()(const PodIdle& e) const { return std::format("idle {}", e.id); }
  std::string operator()(const PodExited& e) const { return std::format("exited {} {}/{}", e.id, e.code, e.signal); }
  std::string operator()(const SandboxLost& e) const { return std::format("lost {} {}+{}", e.id, e.requests_lost, e.connections_lost); }
  std::string operator()(const PodStopped& e) const { return std::format("stopped {}", e.id); }
  std::string operator()(const PodHeld& e) const { return std::format("held {} {}ms", e.id, e.delay_ms); }
  std::string operator()(const ImageReady& e) const { return "ready " + e.key; }
  std::string operator()(const ImageFailed& e) const { return "failed " + e.key + ": " + e.text; }
  std::string operator()(const auto&) const { return "other"; }
};

// A keeper core with a world that is asked by hand: what the core decides comes back as short words.
class World {
 public:
  explicit World(KeeperCore::Options options = {.parked_min = 2, .parked_max = 8, .refill_delay = 0ms}) : core(options) {}

  std::vector<std::string> take() {
    core.poll(now);
    while (core.refill_due(now)) core.refill(now);
    std::vector<std::string> words;
    for (const auto& action : core.actions()) words.push_back(std::visit([this](const auto& a) { return word(a); }, action));
    core.actions().clear();
    return words;
  }
  // An image whose template is there and whose slots are parked.
  ImageId ready_image(const std::string& key = "image") {
    const ImageId id = core.put_image(key, now).value();
    take();
    core.on_template_ready(id, 100, 1000, now);
    take();
    return id;
  }
  PodSpec spec(std::uint64_t id, std::uint16_t workers = 1) const {
    return {.id = id, .image = "image", .memory_bytes_max = 64u << 20, .cpu_millis_max = 200, .cpu_millis_requested = 100, .workers = workers};
  }
  PodRow put(std::uint64_t id, std::uint16_t workers = 1) { return core.put_pod(spec(id, workers), now).value().row; }
  // Parks every slot that was asked for, until the pool is at rest.
  void park_all() {
    for (take(); !forking.empty(); take()) {
      const SlotId slot = forking.front();
      forking.erase(forking.begin());
      core.on_slot_parked(slot, 1000 + static_cast<std::int32_t>(slot), now);
    }
  }
  void wake(PodRow row) {
    core.on_readable(row, now);
    take();
    for (const auto& worker : core.workers(row)) core.on_slot_serving(worker.slot, now);
    take();
  }
  SlotId slot_of(PodRow row, std::size_t i = 0) const { return core.workers(row).at(i).slot; }

  KeeperCore core;
  Instant now{};
  std::vector<SlotId> forking;
  std::vector<Event> events;

 private:
  std::string word(const action::StartTemplate& a) { return std::format("start {}", a.image); }
  std::string word(const action::StopTemplate& a) { return std::format("stop {}", a.image); }
  std::string word(const action::KillTemplate& a) { return std::format("kill {}", a.image); }
  std::string word(const action::SpawnSlot& a) {
    forking.push_back(a.slot);
    return std::format("spawn {}", a.slot);
  }
  std::string word(const action::Assign& a) { return std::format("assign {} to {}.{}", a.slot, core.spec(a.pod).id, a.worker); }
  std::string word(const action::CloseSlot& a) { return std::format("close {}", a.slot); }
  std::string word(const action::Poll& a) { return std::format("poll {}", core.spec(a.pod).id); }
  std::string word(const action::Unpoll&) { return "unpoll"; }
  std::string word(const action::Signal& a) { return std::format("signal {} {}", a.slot, a.number); }
  std::string word(const action::ForgetPod&) { return "forget"; }
  std::string word(const action::Report& a) {
    events.push_back(a.event);
    return std::visit(Name{}, a.event);
  }
  std::string word(const action::Exit&) { return "exit"; }
};

TEST(KeeperCore, WakesAnIdlePodOnAParkedSlotAndRefills) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7);
  EXPECT_THAT(world.take(), ElementsAre("poll 7", "spawn 0", "spawn 1"));
  world.park_all();
  world.core.on_readable(row, world.now);
  EXPECT_THAT(world.take(), ElementsAre("assign 1 to 7.0", "spawn 2"));
  world.core.on_slot_serving(1, world.now + 650us);
  EXPECT_THAT(world.take(), ElementsAre("awake 7.0 650us"));
  EXPECT_EQ(world.core.state(row), PodState::Awake);
  world.core.on_slot_exited(1, {.code = 0}, world.now);
  EXPECT_THAT(world.take(), ElementsAre("exited 7 0/0", "poll 7", "idle 7"));
}

TEST(KeeperCore, PodsWaitForATemplateThatIsNotReadyAndNothingIsLost) {
  World world;
  const ImageId image = world.core.put_image("image", world.now).value();
  const PodRow row = world.put(7);
  EXPECT_THAT(world.take(), ElementsAre("start 0", "poll 7"));
  world.core.on_readable(row, world.now);
  EXPECT_THAT(world.take(), IsEmpty());
  world.core.on_template_ready(image, 1, 1, world.now);
  const auto words = world.take();
  EXPECT_EQ(words.at(0), "ready image");
  EXPECT_EQ(words.at(1), "spawn 0");
  world.core.on_slot_parked(0, 1000, world.now);
  EXPECT_THAT(world.take(), ElementsAre("assign 0 to 7.0"));
}

TEST(KeeperCore, ATemplateThatDiesIsStartedAgainAndItsSlotsGoOn) {
  World world;
  const ImageId image = world.ready_image();
  const PodRow row = world.put(7);
  world.park_all();
  world.core.on_template_exited(image, world.now);
  EXPECT_THAT(world.take(), ElementsAre("start 0"));
  world.core.on_readable(row, world.now);  // a parked slot needs no template
  EXPECT_THAT(world.take(), ElementsAre("assign 1 to 7.0"));
  world.core.on_template_exited(image, world.now);
  EXPECT_THAT(world.take(), IsEmpty());  // backs off
  world.now += 200ms;
  EXPECT_THAT(world.take(), ElementsAre("start 0"));
}

TEST(KeeperCore, SlotsLostWithTheirTemplateAreAskedForAgain) {
  World world;
  const ImageId image = world.ready_image();
  const PodRow row = world.put(7);
  world.take();
  world.core.on_readable(row, world.now);
  world.take();
  for (const auto slot : std::exchange(world.forking, {})) world.core.on_slot_lost(slot, "", world.now);
  world.core.on_template_exited(image, world.now);
  EXPECT_THAT(world.take(), ElementsAre("start 0"));
  world.core.on_template_ready(image, 2, 1, world.now);
  world.park_all();
  EXPECT_EQ(world.core.workers(row).size(), 1u);
}

TEST(KeeperCore, AnImageThatCannotBeLoadedIsReportedAndTriedAgainOnPut) {
  World world;
  const ImageId image = world.core.put_image("image", world.now).value();
  world.take();
  world.core.on_template_failed(image, "corrupt", world.now);
  world.core.on_template_exited(image, world.now);
  EXPECT_THAT(world.take(), ElementsAre("failed image: corrupt"));
  ASSERT_TRUE(world.core.put_image("image", world.now));
  EXPECT_THAT(world.take(), ElementsAre("start 0"));
}

TEST(KeeperCore, AnImageWhoseSlotsNeverParkIsReportedAndTriedAgainLater) {
  World world;
  world.ready_image();
  world.put(7);
  world.take();
  for (int i = 0; i < 8; ++i) {
    const SlotId slot = world.forking.at(0);
    world.forking.erase(world.forking.begin());
    world.core.on_slot_lost(slot, "seccomp", world.now);
    if (i < 7) world.take();
  }
  EXPECT_THAT(world.take(), ElementsAre("failed image: its sandboxes end before they are ready: seccomp; it is tried again", "start 0"));
}

TEST(KeeperCore, ATemplateThatHangsIsKilledAndItsPodsWaitForTheNext) {
  World world;
  const ImageId image = world.core.put_image("image", world.now).value();
  const PodRow row = world.put(7);
  world.take();
  world.core.on_readable(row, world.now);
  world.now += 29s;
  EXPECT_THAT(world.take(), IsEmpty());
  world.now += 1s;  // it did not load
  EXPECT_THAT(world.take(), ElementsAre(StartsWith("failed image"), "kill 0"));
  world.core.on_template_exited(image, world.now);
  EXPECT_THAT(world.take(), ElementsAre("start 0"));
  world.core.on_template_ready(image, 1, 1, world.now);
  EXPECT_THAT(world.take(), Contains("spawn 0"));
  world.now += 30s;  // it loaded, and forks nothing
  const auto words = world.take();
  EXPECT_THAT(words, IsSupersetOf({"close 0", "kill 0"}));
  for (const auto slot : std::exchange(world.forking, {})) world.core.on_slot_lost(slot, "", world.now);
  world.core.on_template_exited(image, world.now);
  world.now += 1s;
  EXPECT_THAT(world.take(), Contains("start 0"));
  world.core.on_template_ready(image, 1, 1, world.now);
  EXPECT_THAT(world.take(), Contains(StartsWith("spawn")));
  world.park_all();
  EXPECT_EQ(world.core.workers(row).size(), 1u);
}

TEST(KeeperCore, TheParkedPoolGrowsUnderABurstAndShrinksAtRest) {
  World world;
  const ImageId image = world.ready_image();
  std::vector<PodRow> rows;
  for (std::uint64_t id = 1; id <= 6; ++id) rows.push_back(world.put(id));
  world.park_all();
  EXPECT_EQ(world.core.parked(image), 2u);
  for (const auto row : rows) world.core.on_readable(row, world.now);
  world.park_all();
  EXPECT_EQ(world.core.parked(image), 8u);  // parked_max
  for (int i = 0; i < 20; ++i) {
    world.now += 6s;
    world.take();
  }
  EXPECT_EQ(world.core.parked(image), 2u);
}

TEST(KeeperCore, RefillingWaitsForTheFirstRequestWhileHalfOfThePoolIsLeft) {
  World world({.parked_min = 4, .parked_max = 8, .refill_delay = 2ms});
  world.ready_image();
  std::vector<PodRow> rows;
  for (std::uint64_t id = 1; id <= 3; ++id) rows.push_back(world.put(id));
  world.park_all();
  world.core.on_readable(rows[0], world.now);
  EXPECT_THAT(world.take(), ElementsAre("assign 3 to 1.0"));
  EXPECT_EQ(world.core.next_deadline(), world.now + 2ms);
  world.core.on_readable(rows[1], world.now);
  EXPECT_THAT(world.take(), ElementsAre("assign 2 to 2.0"));
  world.core.on_readable(rows[2], world.now);  // one of four is left: at once
  EXPECT_THAT(world.take(), ElementsAre("assign 1 to 3.0", "spawn 4", "spawn 5", "spawn 6"));
}

TEST(KeeperCore, AnImageWithoutPodsHoldsNoSlots) {
  World world;
  const ImageId image = world.ready_image();
  world.put(7);
  world.park_all();
  EXPECT_EQ(world.core.drop_image("image").error().code, Errc::Conflict);
  ASSERT_TRUE(world.core.drop_pod(7, world.now));
  world.take();
  EXPECT_EQ(world.core.parked(image), 0u);
  ASSERT_TRUE(world.core.drop_image("image"));
  EXPECT_THAT(world.take(), ElementsAre("stop 0"));
  EXPECT_FALSE(world.core.image_of("image"));
}

TEST(KeeperCore, RepeatedFailuresAreHeldWithAGrowingDelay) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7);
  world.park_all();
  std::vector<std::string> held;
  for (int i = 0; i < 6; ++i) {
    world.core.on_readable(row, world.now);
    world.core.on_slot_exited(world.slot_of(row), {.code = -1, .signal = SIGSEGV}, world.now);
    for (const auto& word : world.take())
      if (word.starts_with("held")) held.push_back(word);
    if (world.core.state(row) == PodState::Held) {
      world.core.on_readable(row, world.now);  // cannot come: it is not polled
      EXPECT_EQ(world.core.state(row), PodState::Held);
      world.now = *world.core.next_deadline();
      EXPECT_THAT(world.take(), ::testing::Contains("poll 7"));
    }
    world.park_all();
  }
  EXPECT_THAT(held, ElementsAre("held 7 1000ms", "held 7 2000ms", "held 7 4000ms"));
  world.wake(row);
  world.now += 11s;
  world.core.on_slot_exited(world.slot_of(row), {.code = -1, .signal = SIGSEGV}, world.now);
  EXPECT_THAT(world.take(), ::testing::Contains("idle 7"));  // it lived: counted from the start again
}

TEST(KeeperCore, StopDrainsThenKillsAfterTheGrace) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7);
  world.park_all();
  world.wake(row);
  const SlotId slot = world.slot_of(row);
  ASSERT_TRUE(world.core.stop_pod(7, 30s, world.now));
  EXPECT_THAT(world.take(), ElementsAre(std::format("signal {} 15", slot)));
  world.now += 29s;
  EXPECT_THAT(world.take(), ::testing::Not(::testing::Contains(std::format("signal {} 9", slot))));
  world.now += 1s;
  EXPECT_THAT(world.take(), ::testing::Contains(std::format("signal {} 9", slot)));
  world.core.on_slot_exited(slot, {.code = -1, .signal = SIGKILL}, world.now);
  EXPECT_THAT(world.take(), ElementsAre("exited 7 -1/9", "stopped 7"));
  world.core.on_readable(row, world.now);
  EXPECT_EQ(world.core.state(row), PodState::Stopped);
}

TEST(KeeperCore, ASandboxThatIsNotServingYetIsAskedToStopWhenItIs) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7);
  world.park_all();
  world.core.on_readable(row, world.now);
  world.take();
  ASSERT_TRUE(world.core.stop_pod(7, 30s, world.now));
  EXPECT_THAT(world.take(), IsEmpty());
  world.core.on_slot_serving(world.slot_of(row), world.now);
  EXPECT_THAT(world.take(), ::testing::Contains(std::format("signal {} 15", world.slot_of(row))));
}

TEST(KeeperCore, StoppingAnIdlePodIsDoneAtOnceAndPuttingItAgainRevivesIt) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7);
  world.park_all();
  ASSERT_TRUE(world.core.stop_pod(7, 30s, world.now));
  EXPECT_THAT(world.take(), ElementsAre("unpoll", "stopped 7"));
  EXPECT_EQ(world.put(7), row);
  EXPECT_THAT(world.take(), ElementsAre("poll 7"));
}

TEST(KeeperCore, WorkersStartTogetherAndAFailedOneAloneIsReplaced) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7, 3);
  world.park_all();
  world.core.on_readable(row, world.now);
  world.park_all();
  ASSERT_EQ(world.core.workers(row).size(), 3u);
  for (const auto& worker : world.core.workers(row)) world.core.on_slot_serving(worker.slot, world.now);
  world.take();
  const auto gone = world.core.workers(row).at(1);
  world.core.on_slot_exited(gone.slot, {.code = -1, .signal = SIGSEGV}, world.now);
  world.park_all();
  std::set<std::uint16_t> indices;
  for (const auto& worker : world.core.workers(row)) indices.insert(worker.worker);
  EXPECT_EQ(indices, (std::set<std::uint16_t>{0, 1, 2}));
  // One that leaves idle stays away, until the others are busy.
  world.core.on_slot_exited(world.slot_of(row), {.code = 0}, world.now);
  EXPECT_EQ(world.core.workers(row).size(), 2u);
  EXPECT_THAT(world.core.short_of_workers(), ElementsAre(row));
  world.core.worker_missing(row, world.now);
  world.park_all();
  EXPECT_EQ(world.core.workers(row).size(), 3u);
}

TEST(KeeperCore, ClaimsSandboxesOfAnEarlierKeeperAndKillsTheRest) {
  World world;
  ASSERT_TRUE(world.core.found(3, 555, 7, 0));
  ASSERT_TRUE(world.core.found(1, 556, 8, 0));
  EXPECT_FALSE(world.core.found(3, 557, 9, 0));
  EXPECT_EQ(world.core.found_unclaimed(), 2u);
  world.ready_image();
  const PodRow row = world.put(7);
  EXPECT_THAT(world.take(), ElementsAre("awake 7.0 0us", "spawn 2", "spawn 0"));
  world.core.refilled();
  EXPECT_THAT(world.take(), ElementsAre("signal 1 9"));
  world.core.on_slot_exited(1, {.code = -1, .signal = SIGKILL, .lost = {.requests = 2, .connections = 3}}, world.now);
  EXPECT_THAT(world.take(), ElementsAre("lost 8 2+3", "idle 8")) << "what the unclaimed ones had inside is told";
  world.core.on_slot_exited(3, {}, world.now);
  EXPECT_THAT(world.take(), ElementsAre("exited 7 -1/0", "poll 7", "idle 7"));
  EXPECT_EQ(world.core.state(row), PodState::Idle);
}

TEST(KeeperCore, DropsSandboxesOfAnEarlierKeeperByTheirPodsId) {
  World world;
  ASSERT_TRUE(world.core.found(3, 555, 7, 0));
  ASSERT_TRUE(world.core.found(1, 556, 8, 0));
  ASSERT_TRUE(world.core.drop_pod(7, world.now));
  EXPECT_THAT(world.take(), ElementsAre("signal 3 9"));
}

TEST(KeeperCore, AnEndThatNobodySawIsAFailure) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7);
  std::vector<std::string> words;
  for (int i = 0; i < 4; ++i) {
    world.park_all();
    world.wake(row);
    world.core.on_slot_exited(world.slot_of(row), {}, world.now);
    words = world.take();
  }
  EXPECT_THAT(words, Contains("held 7 1000ms"));
}

// Goal: what dies with a dropped pod is counted in its page, so its row stays until then. Method: two workers; drop; put the id again.
TEST(KeeperCore, ADroppedPodIsForgottenWhenItsLastSandboxIsGoneAndItsLossesAreTold) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7, 2);
  world.park_all();
  world.core.on_readable(row, world.now);
  world.park_all();
  const auto workers = world.core.workers(row);
  ASSERT_EQ(workers.size(), 2u);
  ASSERT_TRUE(world.core.drop_pod(7, world.now));
  const auto words = world.take();
  EXPECT_THAT(words, IsSupersetOf({std::format("signal {} 9", workers[0].slot), std::format("signal {} 9", workers[1].slot)}));
  EXPECT_THAT(words, ::testing::Not(Contains("forget")));
  EXPECT_THAT(world.core.rows(), IsEmpty());
  EXPECT_EQ(world.core.pods(), 0u);
  EXPECT_NE(world.put(7), row) << "the same id again is another pod";
  world.take();
  EXPECT_EQ(world.core.owner(workers[0].slot)->pod, row);
  world.core.on_slot_exited(workers[0].slot, {.code = -1, .signal = SIGKILL, .lost = {.requests = 1, .connections = 2}}, world.now);
  EXPECT_THAT(world.take(), Contains("lost 7 1+2"));
  world.core.on_slot_exited(workers[1].slot, {.code = 0}, world.now);
  const auto end = world.take();
  EXPECT_THAT(end, Contains("forget"));
  EXPECT_THAT(end, ::testing::Not(Contains(StartsWith("exited"))));
}

TEST(KeeperCore, RefusesWhatItCannotHold) {
  World world({.parked_min = 1, .parked_max = 2, .slots_max = 2, .pods_max = 2, .images_max = 1, .refill_delay = 0ms});
  EXPECT_EQ(world.core.put_pod(world.spec(1), world.now).error().code, Errc::NotFound);
  world.ready_image();
  EXPECT_EQ(world.core.put_image("other", world.now).error().code, Errc::Exhausted);
  const PodRow first = world.put(1), second = world.put(2);
  EXPECT_EQ(world.core.put_pod(world.spec(3), world.now).error().code, Errc::Exhausted);
  EXPECT_EQ(world.core.stop_pod(3, 1s, world.now).error().code, Errc::NotFound);
  // All slots in use: the next pod waits, and gets the slot that becomes free.
  world.park_all();
  world.wake(first), world.park_all(), world.wake(second), world.park_all();
  EXPECT_EQ(world.core.slots_in_use(), 2u);
}

TEST(KeeperCore, ShutdownStopsAllAndEnds) {
  World world;
  world.ready_image();
  const PodRow row = world.put(7);
  world.put(8);
  world.park_all();
  world.wake(row);
  world.park_all();
  world.core.shutdown(1s, world.now);
  EXPECT_THAT(world.take(), ::testing::Not(::testing::Contains("exit")));
  world.core.on_slot_exited(world.slot_of(row), {.code = 0}, world.now);
  EXPECT_THAT(world.take(), ::testing::Contains("exit"));
  EXPECT_EQ(world.core.put_pod(world.spec(9), world.now).error().code, Errc::Unavailable);
}

// Goal: whatever happens in whatever order, no slot leaks, no worker is held twice, and every pod can still be woken.
// Method: random events for many steps, then everything is dropped and the slots are counted.
TEST(KeeperCore, RandomEventsLeakNoSlot) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    std::mt19937 random(seed);
    const auto dice = [&random](unsigned n) { return static_cast<unsigned>(random() % n); };
    World world({.parked_min = 1, .parked_max = 4, .slots_max = 16, .pods_max = 8, .refill_delay = 0ms});
    const ImageId image = world.ready_image();
    for (int step = 0; step < 3000; ++step) {
      world.now += std::chrono::milliseconds(dice(400));
      const std::uint64_t id = 1 + dice(8);
      const auto row = world.core.row_of(id);
      switch (dice(10)) {
        case 0: std::ignore = world.core.put_pod(world.spec(id, static_cast<std::uint16_t>(1 + dice(3))), world.now); break;
        case 1: if (dice(4) == 0) std::ignore = world.core.drop_pod(id, world.now); break;
        case 2: if (dice(3) == 0) std::ignore = world.core.stop_pod(id, 1s, world.now); break;
        case 3: case 4: if (row) world.core.on_readable(*row, world.now); break;
        case 5: case 6:
          if (!world.forking.empty()) {
            const SlotId slot = world.forking.back();
            world.forking.pop_back();
            if (dice(8) == 0) world.core.on_slot_lost(slot, "", world.now);
            else world.core.on_slot_parked(slot, static_cast<std::int32_t>(slot) + 1, world.now);
          }
          break;
        case 7:
          if (row && !world.core.workers(*row).empty()) world.core.on_slot_serving(world.slot_of(*row), world.now);
          break;
        case 8: {
          const SlotId slot = dice(16);
          if (std::ranges::find(world.forking, slot) == world.forking.end())
            world.core.on_slot_exited(slot, dice(2) == 0 ? SlotExit{.code = 0} : SlotExit{.code = -1, .signal = 9}, world.now);
          break;
        }
        case 9: if (dice(10) == 0) world.core.on_template_exited(image, world.now); break;
      }
      for (const auto& word : world.take()) {
        if (word == "start 0") world.core.on_template_ready(image, 1, 1, world.now);
        if (word.starts_with("failed")) {
          ASSERT_TRUE(world.core.put_image("image", world.now));
        }
      }
      for (const auto each : world.core.rows()) {
        std::set<std::uint16_t> indices;
        for (const auto& worker : world.core.workers(each)) EXPECT_TRUE(indices.insert(worker.worker).second);
      }
    }
    for (std::uint64_t id = 1; id <= 8; ++id) ASSERT_TRUE(world.core.drop_pod(id, world.now));
    for (int i = 0; i < 100; ++i) {
      world.take();
      for (const auto slot : std::exchange(world.forking, {})) world.core.on_slot_lost(slot, "", world.now);
      for (SlotId slot = 0; slot < 16; ++slot) world.core.on_slot_exited(slot, {}, world.now);
    }
    EXPECT_EQ(world.core.slots_in_use(), 0u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace skerry::sandbox
