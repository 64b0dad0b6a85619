// SPDX-License-Identifier: Apache-2.0
// What must hold, whatever fails: the checkers of every run. They see what the node does, not what it thinks, and the server's truth.
//
//   durability    what was acted upon (an address that answers, an id that the keeper has) is known to every later agent, and what the
//                 server was told (address, restarts) never goes back, unless the disk itself was damaged; only a damage since the last
//                 write makes an agent start from an older copy
//   once          no container runs in two places at once, no keeper id belongs to two containers, no address to two pods
//   reason        nothing that the API server wants is stopped: only what was deleted or changed, and once for each crash; and at the
//                 end no container counts more restarts than it crashed and changed
//   convergence   when the faults have stopped, the node is what the server says, and the server is told what the node does; digests
//                 repair what a server has said wrongly, and nothing else
//   availability  a request to a pod that is ready, or to its Service, is answered within a second; counted
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "sim/machine.h"
#include "sim/node.h"
#include "sim/server.h"
#include "sim/world.h"

namespace skerry::sim {

class Truth {
 public:
  Truth(World& world, SimServer& server) : world_(world), server_(server) {}

  // --- what the node and the machine do
  void on_restored(const agent::PodTable&, bool older);
  void on_written() { damage_ahead_ = false; }
  void on_drifted(std::string_view resource);
  void on_listening(const agent::PodEntry&);
  void on_placed(const std::string& uid, std::size_t container, std::uint64_t id);
  void on_released(const std::string& uid) { pods_[uid].address.clear(); }
  void on_forgotten(const std::string& uid);
  void on_settled(const std::string& uid, bool ready, const std::string& address);
  void on_started(const SimSandbox&);
  void on_ended(const SimSandbox&, EndReason);
  void on_commanded(const std::string& uid, std::uint64_t id, std::string_view command);
  void on_told_backwards(const std::string& uid, const std::string& what);

  // The disk was damaged: what only it knew may be lost at the next start.
  void on_damage() { damage_ahead_ = true; }

  // --- requests
  struct Tally {
    std::uint64_t sent = 0, answered = 0;
    double share() const { return sent == 0 ? 1 : static_cast<double>(answered) / static_cast<double>(sent); }
  };
  // Endpoints of pods that are ready and that nobody wants to end.
  std::vector<Endpoint> ready_pods() const;
  bool expected_to_serve(const std::string& uid) const;
  // A pod of it is ready, and the node's rules have led to it already: they are not to lose it again.
  bool service_expected(const std::string& app) const;
  void look_at_routes(const Machine&);
  Tally online, offline, booting;  // by what was the case when the request was sent

  // --- at the end
  void check_convergence(const SimNode&, const Machine&);
  std::uint64_t stops() const { return stops_; }  // of containers that ran, asked for by the agent
  std::uint64_t starts() const { return starts_; }
  std::uint64_t restores() const { return restores_; }  // starts of an agent from an older copy

 private:
  struct Pod {
    std::map<std::size_t, std::uint64_t> ids;
    std::string address, app;
    bool ready = false;
    int crashes = 0, ends = 0;  // ends that the crashes are the reason for
    std::set<std::uint64_t> ending;  // by such an end, until it is placed anew: a drop follows a stop
    bool routed = false;  // its Service has led to it while it was ready
    std::set<std::string> images_run;
  };
  struct Process {
    std::string uid, container;
    std::uint64_t id = 0;
    std::uint16_t worker = 0;
  };
  bool may_end(const std::string& uid) const;  // whether it crashed or not
  std::optional<std::int64_t> restart_reasons(const std::string& uid) const;

  World& world_;
  SimServer& server_;
  std::map<std::string, Pod> pods_;                  // of which something was acted upon, until they are forgotten
  std::map<std::uint64_t, std::string> id_owner_;    // for ever
  std::map<std::int32_t, Process> processes_;
  std::set<std::string> excused_;  // uids that a damaged disk has forgotten
  std::uint64_t stops_ = 0, starts_ = 0, restores_ = 0;
  bool damage_ahead_ = false, damaged_ = false;
};

}  // namespace skerry::sim
