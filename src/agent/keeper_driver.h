// SPDX-License-Identifier: Apache-2.0
// The agent's link to the keeper: finds the one that runs, or starts one; asks what it holds; sends commands in order;
// hands its events on. When the keeper dies, a new one is started and its owner fills it again (sandboxes live on and are
// claimed by the new keeper). The keeper outlives the agent on purpose.
// Owner: the agent, on its loop. Holds no pod data and no descriptors: its owner keeps them to fill a new keeper.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "os/fd.h"
#include "os/spawn.h"
#include "rt/loop.h"
#include "rt/task_group.h"
#include "sandbox/keeper_client.h"

namespace skerry::agent {

class KeeperDriver {
 public:
  struct Options {
    std::filesystem::path program, socket, state_folder;
    std::vector<std::string> arguments, environment;
    Duration start_timeout = 10s;
    Duration restart_min = 50ms, restart_max = 5s;
  };
  struct Callbacks {
    std::function<void(sandbox::Event)> on_event;  // all but Welcome and the answers to Dump
    // A new keeper took the place of one that died: put images and pods again. Refilled is sent afterwards.
    std::function<void()> refill;
  };
  struct Held {
    sandbox::DumpedPod pod;
    std::vector<os::UniqueFd> fds;  // listener, assignment, metrics page, log (may be absent)
  };
  struct Found {
    std::vector<Held> pods;
    struct Sandboxes {
      sandbox::FoundPod pod;
      std::vector<os::UniqueFd> fds;  // listener, assignment, metrics page, taken from a sandbox: not to be trusted
    };
    std::vector<Sandboxes> unclaimed;  // of a keeper that died with its agent
    std::vector<sandbox::DumpedImage> images;
    bool started = false;  // a new keeper: it holds nothing but what is unclaimed
  };

  KeeperDriver(rt::Loop&, Options, Callbacks);

  // Connects or starts a keeper, and asks what it holds. Then call run() when the owner is ready for events.
  rt::Task<Found> start();
  void run();
  rt::Task<> stop();  // the keeper goes on
  // All pods are drained, then the keeper ends; waits for it at most grace and a few seconds.
  rt::Task<> shutdown(Duration grace);

  // In order. While no keeper is there commands are dropped: refill() will say it all again.
  void send(const sandbox::Command&, std::span<const int> fds = {});

  bool connected() const { return client_.has_value(); }
  const sandbox::Welcome& welcome() const { return welcome_; }
  std::uint64_t starts() const { return starts_; }  // keepers started by this agent

 private:
  rt::Task<> connect();
  rt::Task<> launch();
  rt::Task<std::optional<sandbox::KeeperClient::Received>> receive();
  rt::Task<> pump();
  rt::Task<> flush();
  void lost(const Error&);

  rt::Loop& loop_;
  Options options_;
  Callbacks callbacks_;
  std::optional<sandbox::KeeperClient> client_;
  sandbox::Welcome welcome_;
  std::optional<os::Child> child_;
  std::uint64_t starts_ = 0, generation_ = 0;
  bool flushing_ = false, lost_ = false, ending_ = false;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::agent
