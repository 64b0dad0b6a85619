// SPDX-License-Identifier: Apache-2.0
// One run of a scenario: the world is built, the workload changes it, faults break it, time goes on; then the faults stop, and after
// the settling time everything must be as the server says. The same scenario, seed and canary give the same run.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "sim/node.h"
#include "sim/scenario.h"
#include "sim/truth.h"

namespace skerry::sim {

struct Outcome {
  std::vector<Violation> violations;
  std::deque<std::string> tail;
  Truth::Tally online, offline, booting;
  std::uint64_t events = 0, agent_starts = 0, boots = 0, faults = 0, stops = 0, lists = 0, requests_to_server = 0, drift = 0, processes = 0, damages = 0, restores = 0;
  Duration time_offline{}, time_without_power{};
};

class Simulation {
 public:
  struct Options {
    std::uint64_t seed = 1;
    Canary canary = Canary::None;
    bool print_trace = false;
  };
  Simulation(const Scenario&, Options);
  ~Simulation();
  Outcome run();

 private:
  struct Deployed {
    Scenario::Deployment what;
    int replicas = 0, image = 1, next = 1;
    std::string address;
  };
  // node and machine
  void start_agent(Duration later);
  void kill_agent();
  void power_cut();
  void power_on();
  // workload
  void reconcile(Deployed&);
  void put_service(const Deployed&);
  void put_config(const Deployed&, int version);
  void create_pod(Deployed&);
  std::vector<kube::ObjectPtr> pods_of(const Deployed&) const;
  void change(const Scenario::Change&);
  void change_once(ChangeKind);
  void request();
  Truth::Tally& tally();
  // faults
  void fault(const Scenario::Fault&, bool first);
  void fault_once(const Scenario::Fault&);
  void for_a_while(const Scenario::Fault&, std::function<void()> heal);
  void heal_all();
  bool faulty() const { return world_.elapsed() < scenario_.duration; }
  void expect();

  const Scenario& scenario_;
  Options options_;
  World world_;
  SimNet net_;
  SimServer server_;
  Truth truth_;
  Machine machine_;
  SimDisk disk_;
  ImagesOnDisk images_;
  std::unique_ptr<SimNode> node_;
  std::vector<Deployed> deployed_;
  Life start_life_;  // of a start that is due
  Outcome out_;
  std::uint64_t pods_made_ = 0, stops_before_ = 0;
  int line_faults_ = 0, server_faults_ = 0, disk_faults_ = 0;
  Instant booting_until_{};
  bool requests_stopped_ = false;
};

}  // namespace skerry::sim
