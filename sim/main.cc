// SPDX-License-Identifier: Apache-2.0
// skerry-sim: runs scenarios of sim/scenarios on virtual time.
//   skerry-sim --scenario NAME [--seed N | --seeds N..M] [--trace] [--canary KIND]    exit code 1: a checker has found something
//   skerry-sim --all --seeds 1..20          every scenario
//   skerry-sim --day [--seed N]             the figures of a simulated day, as one JSON object
//   skerry-sim --herd [--seed N]            5000 nodes come back at once, as one JSON object
#include <algorithm>
#include <cstdio>
#include <format>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/text.h"
#include "kube/json.h"
#include "sim/herd.h"
#include "sim/simulation.h"

namespace skerry::sim {
namespace {

struct Flags {
  std::string scenario, folder = SKERRY_SIM_SCENARIOS;
  std::uint64_t first = 1, last = 1;
  Canary canary = Canary::None;
  bool trace = false, all = false, day = false, herd = false;
};

int usage(std::string_view why) {
  std::fprintf(stderr, "skerry-sim: %.*s\nskerry-sim --scenario NAME | --all | --day | --herd  [--seed N | --seeds N..M] [--trace] [--canary act-first|revision-first|believe-lists|forget-ids|damage|crashes-linger] [--scenarios FOLDER]\n",
               static_cast<int>(why.size()), why.data());
  return 2;
}

std::optional<std::string> read(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    const auto value = [&]() -> std::string { return i + 1 < argc ? argv[++i] : ""; };
    if (flag == "--trace") {
      flags.trace = true;
    } else if (flag == "--all") {
      flags.all = true;
    } else if (flag == "--day") {
      flags.day = true;
    } else if (flag == "--herd") {
      flags.herd = true;
    } else if (flag == "--scenario") {
      flags.scenario = value();
    } else if (flag == "--scenarios") {
      flags.folder = value();
    } else if (flag == "--seed" || flag == "--seeds") {
      const std::string text = value();
      const auto dots = text.find("..");
      const auto first = parse_int<std::uint64_t>(text.substr(0, dots));
      const auto last = dots == std::string::npos ? first : parse_int<std::uint64_t>(text.substr(dots + 2));
      if (!first || !last || *first > *last) return std::format("{} {}: not a number or a range like 1..20", flag, text);
      flags.first = *first;
      flags.last = *last;
    } else if (flag == "--canary") {
      const std::string text = value();
      if (text == "act-first") flags.canary = Canary::ActBeforeDurable;
      else if (text == "revision-first") flags.canary = Canary::RevisionBeforeObjects;
      else if (text == "believe-lists") flags.canary = Canary::ListsAreBelieved;
      else if (text == "forget-ids") flags.canary = Canary::ForgetsKeeperIds;
      else if (text == "damage") flags.canary = Canary::DamagesItsDisk;
      else if (text == "crashes-linger") flags.canary = Canary::CrashesLinger;
      else return std::format("no canary \"{}\"", text);
    } else {
      return std::format("unknown flag {}", flag);
    }
  }
  if (flags.scenario.empty() && !flags.all && !flags.day && !flags.herd) return "say which scenario";
  return std::nullopt;
}

std::string day_json(const Outcome& o, const Flags& flags) {
  kube::JsonEdit edit;
  auto root = edit.root();
  const auto tally = [&](const char* name, const Truth::Tally& t) {
    auto out = root.object(name);
    out.set("requests", static_cast<std::int64_t>(t.sent));
    out.set("answered", static_cast<std::int64_t>(t.answered));
    out.set("share", t.share());
  };
  root.set("scenario", "day");
  root.set("seed", static_cast<std::int64_t>(flags.first));
  tally("control_plane_away", o.offline);
  tally("control_plane_there", o.online);
  tally("booting", o.booting);
  tally("with_every_boot", {o.online.sent + o.offline.sent + o.booting.sent, o.online.answered + o.offline.answered + o.booting.answered});
  // What an agent has lost of what was acted upon or told before it started, or has otherwise.
  root.set("state_violations", static_cast<std::int64_t>(std::ranges::count(o.violations, "durability", &Violation::checker)));
  root.set("violations", static_cast<std::int64_t>(o.violations.size()));
  root.set("faults", static_cast<std::int64_t>(o.faults));
  root.set("agent_starts", static_cast<std::int64_t>(o.agent_starts));
  root.set("boots", static_cast<std::int64_t>(o.boots));
  root.set("hours_without_control_plane", std::chrono::duration<double>(o.time_offline).count() / 3600);
  root.set("minutes_without_power", std::chrono::duration<double>(o.time_without_power).count() / 60);
  root.set("requests_to_server", static_cast<std::int64_t>(o.requests_to_server));
  return edit.dump();
}

int run(const Flags& flags, const std::vector<Scenario>& scenarios) {
  bool good = true;
  for (const Scenario& scenario : scenarios) {
    std::uint64_t failures = 0, events = 0;
    for (std::uint64_t seed = flags.first; seed <= flags.last; ++seed) {
      const Outcome o = Simulation(scenario, {.seed = seed, .canary = flags.canary, .print_trace = flags.trace}).run();
      events += o.events;
      if (flags.day) std::printf("%s\n", day_json(o, flags).c_str());
      if (o.violations.empty()) continue;
      ++failures;
      good = false;
      FILE* const to = flags.day ? stderr : stdout;
      for (const Violation& v : o.violations)
        std::fprintf(to, "%s seed %llu: %s after %.3f s: %s\n", scenario.name.c_str(), static_cast<unsigned long long>(seed), v.checker.c_str(),
                     std::chrono::duration<double>(v.at).count(), v.text.c_str());
      std::fprintf(to, "again: build/debug/bin/skerry-sim --scenario %s --seed %llu --trace\n", scenario.name.c_str(), static_cast<unsigned long long>(seed));
    }
    if (!flags.day)
      std::printf("%-16s %llu runs, %llu failed, %llu events\n", scenario.name.c_str(), static_cast<unsigned long long>(flags.last - flags.first + 1),
                  static_cast<unsigned long long>(failures), static_cast<unsigned long long>(events));
  }
  return good ? 0 : 1;
}

int main(int argc, char** argv) {
  Flags flags;
  if (const auto wrong = read(argc, argv, flags)) return usage(*wrong);
  set_log_level(LogLevel::Error);
  if (flags.herd) {
    const auto herd = run_herd({.seed = flags.first});
    std::printf("%s\n", to_json(herd).c_str());
    return 0;
  }
  std::vector<std::string> names;
  if (flags.all) {
    for (const auto& entry : std::filesystem::directory_iterator(flags.folder))
      if (entry.path().extension() == ".toml" && entry.path().stem() != "day") names.push_back(entry.path().stem().string());
    std::ranges::sort(names);
  } else {
    names.push_back(flags.day ? "day" : flags.scenario);
  }
  std::vector<Scenario> scenarios;
  for (const std::string& name : names) {
    auto scenario = Scenario::load(std::filesystem::path(flags.folder) / (name + ".toml"));
    if (!scenario) return usage(scenario.error().what);
    scenarios.push_back(std::move(*scenario));
  }
  return run(flags, scenarios);
}

}  // namespace
}  // namespace skerry::sim

int main(int argc, char** argv) { return skerry::sim::main(argc, argv); }
