// SPDX-License-Identifier: Apache-2.0
// The node agent: makes a machine a Kubernetes node for Wasm handlers. It registers the Node and renews its Lease, takes
// the pods bound to it through their life (pod_core.h), keeps what it needs on disk (checkpoint.h), drives the keeper,
// reports status and Events, keeps the Services' rules, and answers :10250.
//
// Owner: cli/cmd_node.cc, which builds what is in AgentDeps; all of it must outlive the agent. Everything runs on the one
// loop; files, fsync and compilation run on pools. start() reads the checkpoint and begins to serve before it looks for
// the API server; nothing that serves waits for it. stop() leaves the pods running (an agent's end stops no pod) unless
// told otherwise. kill -9 at any point loses nothing: the next agent adopts what the keeper still holds.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "base/time.h"
#include "http/message.h"
#include "oci/puller.h"
#include "oci/registries.h"
#include "rt/loop.h"
#include "sql/database.h"

namespace skerry::client {
class Client;
}
namespace skerry::net {
class NameServer;
class PodNetwork;
class ServiceProxy;
}  // namespace skerry::net

namespace skerry::agent {

class Identity;

struct Overcommit {
  double cpu = 1, memory = 1;
  // "cpu=10,memory=4". Invalid: malformed, unknown name, or a factor outside 1…100.
  static Result<Overcommit> parse(std::string_view text);
  std::string text() const;
};

struct AgentOptions {
  std::string node_name;
  std::string node_address;                       // InternalIP: where :10250 is reached
  std::uint16_t node_port = 10250;                // told the API server as kubeletEndpoint.Port
  std::filesystem::path data_folder;              // DIR/agent.db, DIR/node.key, DIR/native, DIR/logs; made if absent
  sql::Database::Options checkpoint = {};         // of agent.db
  std::filesystem::path image_folder;             // oci::ImageStore's
  std::filesystem::path keeper_program;           // skerry-sandbox
  std::vector<std::string> keeper_arguments;      // after those that the agent gives (keeper --socket … --state …)
  std::vector<std::string> keeper_environment;    // NAME=value, e.g. LD_LIBRARY_PATH for the compiler's stand-in
  std::filesystem::path keeper_socket;            // empty: data_folder/keeper.sock
  std::filesystem::path compile_program;          // skerry-compile
  oci::RegistryProgram registry;                  // skerry-registry
  oci::Registries registries;
  std::string version = "v0.1.0";                 // of skerry, in nodeInfo
  Overcommit overcommit;
  std::int64_t reserve_cpu_millis = 100, reserve_memory_bytes = 256LL << 20;  // not offered to pods
  std::uint32_t pods_max = 1100;
  std::map<std::string, std::string> labels;      // beside kubernetes.io/{os,arch,hostname}
  // The Lease lasts four of its periods. It is the heartbeat: a status that says nothing new is said as rarely as status_period_max.
  Duration lease_period = 10s, status_period = 10s, status_period_max = 1h;
  std::uint64_t log_bytes_max = 10 << 20;         // of one file, then it is rotated
  std::uint32_t log_files_max = 5;                // of one attempt
  Duration slow_write_period = 5s;                // how long what came from watches may wait for the disk
  Duration log_check_period = 10s, relief_period = 5s;  // how often sizes of logs, and the memory left, are looked at
  std::uint64_t compile_memory_bytes_max = 1ULL << 30;
  // Client certificates that may use :10250 beside healthz: an organization, or a common name.
  std::vector<std::string> api_organizations = {"system:masters"}, api_users = {"kube-apiserver-kubelet-client"};
};

struct MachineFacts;  // agent/node_status.h
class LocalView;      // agent/local_view.h

struct AgentDeps {
  client::Client& api;
  net::PodNetwork& network;
  net::ServiceProxy* services = nullptr;  // null: Services are not served (tests)
  net::NameServer* names = nullptr;        // null: names are not answered; fed here, started by cli
  Identity* identity = nullptr;            // null: nobody here renews the node's certificates; told how the API server answers, started by cli
  Clock& clock;
  Random& random;
  std::function<MachineFacts()> machine = nullptr;  // what this machine has and has left; null: read_machine()
};

enum class OnStop : std::uint8_t { KeepPods, StopPods };

class Agent {
 public:
  Agent(rt::Loop&, AgentDeps, AgentOptions);
  ~Agent();  // CHECK: stopped, if it was started
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Opens the data folder, reads the checkpoint, finds or starts the keeper and adopts what it holds; then goes on by itself.
  // An error: the node cannot work at all (folder not writable, another agent runs, no keeper program).
  rt::Task<> start();
  // KeepPods: keeper and sandboxes go on serving. StopPods: every pod is drained, then the keeper ends.
  rt::Task<> stop(OnStop = OnStop::KeepPods);

  // What :10250 serves; give it to an http::Server with TLS. Valid as long as the agent.
  http::Handler& node_api();
  // What this node shows of itself on its loopback, and what may be changed there (local_view.h). Valid as long as the agent.
  LocalView& local_view();

  struct Summary {
    std::size_t pods = 0, ready = 0, awake = 0;
    bool connected = false;  // the API server is there
    std::int32_t keeper_pid = 0;
  };
  Summary summary() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skerry::agent
