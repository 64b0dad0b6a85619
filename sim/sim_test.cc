// SPDX-License-Identifier: Apache-2.0
// Every scenario with twenty seeds; and the checkers themselves: deliberate mistakes of the node must be found.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <format>

#include "base/log.h"
#include "sim/herd.h"
#include "sim/simulation.h"

namespace skerry::sim {
namespace {

constexpr std::uint64_t kSeeds = 20;

Scenario load(const std::string& name) {
  auto out = Scenario::load(std::filesystem::path(SKERRY_SIM_SCENARIOS) / (name + ".toml"));
  if (!out) ADD_FAILURE() << out.error().what;
  return out ? std::move(*out) : Scenario{};
}

std::string describe(const Scenario& scenario, std::uint64_t seed, const Outcome& o) {
  std::string out = std::format("again: build/debug/bin/skerry-sim --scenario {} --seed {} --trace\n", scenario.name, seed);
  for (const Violation& v : o.violations) out += std::format("{}: {}\n", v.checker, v.text);
  const std::size_t lines = std::min<std::size_t>(o.tail.size(), 40);
  for (std::size_t i = o.tail.size() - lines; i < o.tail.size(); ++i) out += o.tail[i] + "\n";
  return out;
}

// The agent's cores log what a broken disk or server makes them say; that is the world's doing, not a failure of the test.
class Sim : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::Error);
  }
  void TearDown() override { set_log_level(LogLevel::Info); }
};

class EveryScenario : public Sim, public ::testing::WithParamInterface<std::string> {};

TEST_P(EveryScenario, HoldsForTwentySeeds) {
  const Scenario scenario = load(GetParam());
  std::uint64_t damages = 0, restores = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Outcome o = Simulation(scenario, {.seed = seed}).run();
    damages += o.damages;
    restores += o.restores;
    ASSERT_TRUE(o.violations.empty()) << describe(scenario, seed, o);
    EXPECT_GT(o.agent_starts, 0u);
    EXPECT_GT(o.online.sent + o.offline.sent, 0u) << "a run without requests shows nothing of availability";
  }
  EXPECT_EQ(restores > 0, damages > 0) << "a damage that no start finds shows nothing of durability";
}

std::vector<std::string> scenarios() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(SKERRY_SIM_SCENARIOS))
    if (entry.path().extension() == ".toml" && entry.path().stem() != "day") out.push_back(entry.path().stem().string());
  std::ranges::sort(out);
  return out;
}
INSTANTIATE_TEST_SUITE_P(Scenarios, EveryScenario, ::testing::ValuesIn(scenarios()), [](const auto& one) { return one.param; });

// Goal: a checker that finds nothing is worth nothing. Method: nodes that are wrong on purpose, until a seed shows it.
struct Mistake {
  Canary canary;
  std::string scenario, checker;
};
class Canaries : public Sim, public ::testing::WithParamInterface<Mistake> {};

TEST_P(Canaries, AreFound) {
  const Scenario scenario = load(GetParam().scenario);
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Outcome o = Simulation(scenario, {.seed = seed, .canary = GetParam().canary}).run();
    if (std::ranges::any_of(o.violations, [](const Violation& v) { return v.checker == GetParam().checker; })) return;
  }
  FAIL() << "no seed of " << scenario.name << " has shown the mistake to the checker " << GetParam().checker;
}
INSTANTIATE_TEST_SUITE_P(Mistakes, Canaries,
                         ::testing::Values(Mistake{Canary::ActBeforeDurable, "crashes", "durability"}, Mistake{Canary::RevisionBeforeObjects, "crashes", "convergence"},
                                           Mistake{Canary::ListsAreBelieved, "nonsense", "reason"}, Mistake{Canary::ForgetsKeeperIds, "crashes", "once"},
                                           Mistake{Canary::DamagesItsDisk, "crashes", "durability"}, Mistake{Canary::CrashesLinger, "crashes", "reason"}),
                         [](const auto& one) { return std::format("Mistake{}", static_cast<int>(one.param.canary)); });

TEST_F(Sim, TheSameSeedGivesTheSameRun) {
  const Scenario scenario = load("crashes");
  const Outcome a = Simulation(scenario, {.seed = 7}).run(), b = Simulation(scenario, {.seed = 7}).run();
  EXPECT_EQ(a.events, b.events);
  EXPECT_EQ(a.tail, b.tail);
  EXPECT_NE(a.events, Simulation(scenario, {.seed = 8}).run().events);
}

TEST_F(Sim, FiveThousandNodesComeBackOverHalfAMinute) {
  const Herd h = run_herd({});
  EXPECT_EQ(h.requests, h.connections) << "one watch each, and no list";
  EXPECT_EQ(h.lists, 0u);
  EXPECT_LT(h.peak_second, h.connections / 10);
  EXPECT_LE(h.all_back, 30s);
  EXPECT_LT(h.attempts_per_second_away, static_cast<double>(h.connections) / 15);
  const Herd same = run_herd({.nodes = 500, .jitter = false});
  EXPECT_GT(same.peak_second, same.connections / 3) << "without jitter the same measure shows the herd";
}

TEST_F(Sim, AScenarioThatNobodyUnderstandsIsRefused) {
  EXPECT_EQ(Scenario::parse("x", "titel = 1\n[[deployment]]\nname = \"a\"\n").error().what, "scenario x: titel is not known");
  EXPECT_EQ(Scenario::parse("x", "[[deployment]]\nname = \"a\"\n[[fault]]\nkind = \"flood\"\n").error().what, "scenario x: fault[0].kind \"flood\" is not known");
  EXPECT_EQ(Scenario::parse("x", "duration = \"soon\"\n[[deployment]]\nname = \"a\"\n").error().what, "scenario x: duration \"soon\" is no duration like 5m or 1m..3m");
  EXPECT_EQ(Scenario::parse("x", "duration = \"5m\"\n").error().what, "scenario x: it has no deployment");
}

}  // namespace
}  // namespace skerry::sim
