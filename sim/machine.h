// SPDX-License-Identifier: Apache-2.0
// The machine under the agent: listeners, what Services' rules lead where, sandboxes, the keeper, and the power. What a process holds
// goes with it, what several hold goes with the last: a listener that agent, keeper and a sandbox share outlives two of them.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "os/ipv4.h"
#include "sandbox/assignment.h"
#include "sandbox/keeper_core.h"
#include "sim/world.h"

namespace skerry::sim {

struct Endpoint {
  os::Ipv4 address;
  std::uint16_t port = 0;
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

// Answered once.
struct Request {
  Instant sent{};
  std::function<void(bool answered)> done;
  bool over = false;
  void finish(bool answered) {
    if (std::exchange(over, true)) return;
    done(answered);
  }
};
using RequestPtr = std::shared_ptr<Request>;

class SimSandbox;
struct Listener {
  Endpoint at;
  std::string uid;
  std::deque<RequestPtr> queue;
  std::vector<std::weak_ptr<SimSandbox>> serving;
  std::function<void()> readable;  // of the keeper that polls it
  ~Listener() {
    for (const auto& request : queue) request->finish(false);
  }
};
using ListenerPtr = std::shared_ptr<Listener>;

// What stands for the descriptors of a container.
struct Held {
  ListenerPtr listener;
  std::shared_ptr<const sandbox::Assignment> assignment;
  std::string image;  // key
};

enum class EndReason : std::uint8_t { Idle, Crash, Asked, Killed, Power };

// One guest process. It outlives keeper and agent.
class SimSandbox : public std::enable_shared_from_this<SimSandbox> {
 public:
  std::int32_t pid = 0;
  sandbox::SlotId slot = 0;
  std::uint64_t id = 0;  // the keeper's id of its container
  std::uint16_t worker = 0;
  Held held;
  bool alive = true, draining = false;
  RequestPtr current;
  Instant last_used{};
};
using SandboxPtr = std::shared_ptr<SimSandbox>;

class SimKeeper;

class Machine {
 public:
  struct Hooks {
    std::function<void(const SimSandbox&)> started;
    std::function<void(const SimSandbox&, EndReason)> ended;
    std::function<void(const std::string& uid, std::uint64_t id, std::string_view command)> commanded;  // Stop, Drop of what lived
  };
  Machine(World&, Hooks);
  ~Machine();

  World& world() { return world_; }

  // --- the kernel
  // AlreadyExists: somebody listens there.
  Result<ListenerPtr> listen(Endpoint, const std::string& uid);
  std::map<std::string, std::vector<Endpoint>> routes;  // "10.43.0.5 tcp 80" → pods
  void send(Endpoint, RequestPtr);                      // to a pod
  void send_to_service(const std::string& route, RequestPtr);

  // --- sandboxes
  SandboxPtr start_sandbox(sandbox::SlotId, std::uint64_t id, std::uint16_t worker, Held);
  void end_sandbox(const SandboxPtr&, EndReason, int code, int signal);
  void drain(const SandboxPtr&);
  const std::map<std::int32_t, SandboxPtr>& sandboxes() const { return sandboxes_; }
  void work(const SandboxPtr&);  // takes what waits in its listener

  // --- the keeper
  std::shared_ptr<SimKeeper> keeper;  // null: none runs
  void start_keeper();
  void kill_keeper();
  // Called a moment after the keeper has died, once.
  void when_keeper_ends(LifeOf, std::function<void()>);

  bool powered() const { return powered_; }
  void power_off();
  void power_on() { powered_ = true; }

  std::int32_t next_pid() { return ++last_pid_; }
  Range service_time = {1ms, 8ms};
  Hooks hooks;

 private:
  World& world_;
  std::map<Endpoint, std::weak_ptr<Listener>> listeners_;
  std::map<std::int32_t, SandboxPtr> sandboxes_;
  std::vector<std::pair<LifeOf, std::function<void()>>> mourners_;
  std::int32_t last_pid_ = 100;
  bool powered_ = true;
};

// The keeper: sandbox::KeeperCore, carried out on the model's processes as keeper_agent.cc and keeper_actions.cc do on real ones.
class SimKeeper : public std::enable_shared_from_this<SimKeeper> {
 public:
  struct Agent {
    LifeOf life;
    std::function<void(sandbox::Event)> event;
  };
  struct Dump {
    struct Pod {
      sandbox::DumpedPod row;
      Held held;
    };
    std::vector<Pod> pods;
    std::vector<Pod> unclaimed;  // row.spec.id and workers only
    std::vector<sandbox::DumpedImage> images;
  };
  SimKeeper(Machine&, std::int32_t pid);
  void start();  // finds what lives

  void connect(Agent agent) { agent_ = std::move(agent); }
  Dump dump() const;
  void command(const sandbox::Command&, Held = {});
  void on_sandbox_ended(const SimSandbox&, int code, int signal);
  std::int32_t pid() const { return pid_; }
  const Life& life() const { return life_; }

 private:
  Instant now() const;
  void act();
  void settle();  // poll, refill, and the next deadline
  void run(const sandbox::Action&);
  void told(sandbox::Event);
  SandboxPtr at_slot(sandbox::SlotId) const;

  Machine& machine_;
  std::int32_t pid_;
  Life life_ = new_life();
  sandbox::KeeperCore core_;
  Agent agent_;
  std::map<sandbox::PodRow, Held> rows_;
  std::map<sandbox::PodRow, Life> polled_;
  std::map<sandbox::SlotId, std::int32_t> parked_;
  bool acting_ = false;
  std::optional<Instant> armed_;
};

}  // namespace skerry::sim
