// SPDX-License-Identifier: Apache-2.0
// A scenario is data (sim/scenarios/*.toml): a workload, faults, how long, and what is expected beyond what always must hold.
//
//   title = "…"   duration = "30m"   settle = "10m"   requests_per_second = 2.0
//   [[deployment]] name = "web"  replicas = 4  service = true  config_map = true
//   [[change]]     kind = "scale" | "roll" | "delete" | "force-delete" | "config" | "service"   every = "1m..3m"
//   [[fault]]      kind = see FaultKind   first = "1m"   every = "5m..10m"   lasts = "1s..2m"   share = 0.1
//   [expect]       offline_share = 0.9999   counted_share = 0.999   stops_max = 0   relists_max = 0
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "sim/world.h"

namespace skerry::sim {

enum class ChangeKind : std::uint8_t { Scale, Roll, Delete, ForceDelete, Config, Service };
enum class FaultKind : std::uint8_t {
  LineCut, HalfOpen, Loss, SlowLine,                                  // the line
  ServerDown, ServerRestart, ServerCompact, ServerBackup, ServerRestore, Nonsense,
  AgentKill, KeeperKill, BothKill, SandboxKill, GuestCrash, WriteKill,  // processes
  PowerCut, WriteCut,                                                  // the machine; in the middle of a write
  DiskFull, DiskSlow, DiskDamage, ClockJump,
};

struct Scenario {
  struct Deployment {
    std::string name;
    int replicas = 1;
    bool service = true, config_map = false;
  };
  struct Change {
    ChangeKind kind{};
    Range every;
  };
  struct Fault {
    FaultKind kind{};
    Range every, lasts{1s, 10s};
    std::optional<Duration> first{};
    double share = 0.1;  // of Loss and Nonsense
  };
  struct Expect {
    double offline_share = 0, counted_share = 0;                 // of requests answered within a second
    std::optional<std::uint64_t> stops_max{}, relists_max{};     // of running containers, of resources; after the first minute
  };
  std::string name, title;
  Duration duration = 30min, settle = 10min;
  double requests_per_second = 1;
  Range boot = {10s, 30s};  // from power to the agent's start
  std::vector<Deployment> deployments;
  std::vector<Change> changes;
  std::vector<Fault> faults;
  Expect expect;

  // Invalid: not TOML, or a key or value that nobody knows; the text says where.
  static Result<Scenario> parse(std::string name, const std::string& text);
  static Result<Scenario> load(const std::filesystem::path&);
};

}  // namespace skerry::sim
