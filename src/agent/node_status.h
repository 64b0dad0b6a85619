// SPDX-License-Identifier: Apache-2.0
// The Node object that this machine shows: capacity (what it has), allocatable (what it offers: (machine − reserve) ×
// overcommit, docs/adr/0002), conditions, addresses, nodeInfo, images. Pure: MachineFacts come from read_machine().
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "agent/agent.h"
#include "base/error.h"
#include "base/time.h"

namespace skerry::agent {

struct MachineFacts {
  std::int64_t cpus = 1, memory_bytes = 0, memory_available_bytes = 0, disk_bytes = 0, disk_available_bytes = 0;
  std::string hostname, kernel, os_image, architecture;  // "amd64", "arm64"
  std::string machine_id, system_uuid, boot_id;
  double memory_pressure_10s = 0;  // PSI some avg10, percent; 0 where the kernel has none
  std::uint64_t memory_stall_us = 0;
};
// From /proc, /sys, statvfs of `folder`. What cannot be read stays empty.
MachineFacts read_machine(const std::string& folder);

struct NodeImage {
  std::string name;
  std::int64_t size = 0;
};

class NodeStatus {
 public:
  explicit NodeStatus(const AgentOptions& options) : options_(options) {}

  std::string allocatable_cpu(const MachineFacts&) const;
  std::string allocatable_memory(const MachineFacts&) const;
  // The body of a POST: metadata and status.
  std::string node(const MachineFacts&, const std::vector<NodeImage>&, Time now);
  // Bodies of strategic merge patches: the labels and the annotation that are ours; the status.
  std::string metadata_patch() const;
  // Transition times are kept over calls; heartbeats are `now`.
  std::string status_patch(const MachineFacts&, const std::vector<NodeImage>&, Time now);
  // The same without heartbeats: differs only when something that matters has changed.
  std::string essence(const MachineFacts&, const std::vector<NodeImage>&) const;

  bool memory_pressure(const MachineFacts&) const;
  bool disk_pressure(const MachineFacts&) const;
  // The annotation skerry.dev/autonomy, as edge-config has it; nothing: it is an operator's, and left alone. Once it was set here, nothing
  // takes it away.
  void set_autonomy(std::optional<bool> autonomy);
  // Why the node's own disk takes nothing, or empty. What serves goes on serving, so the node stays Ready; DiskPressure
  // keeps new pods away.
  void set_disk_trouble(std::string text) { disk_trouble_ = std::move(text); }

 private:
  struct Condition {
    const char* type;
    bool value = false, known = false;
    Time since{};
  };
  friend struct NodeStatusWriter;
  const AgentOptions& options_;
  std::string disk_trouble_;
  std::optional<bool> autonomy_;
  bool autonomy_said_ = false;
  Condition conditions_[4] = {{.type = "MemoryPressure"}, {.type = "DiskPressure"}, {.type = "PIDPressure"}, {.type = "Ready"}};
};

// The Lease's annotation "skerry.dev/machine", by which the API server tells a copy of this node from it (ADR 0035); "": there is none.
std::string machine_annotation(const MachineFacts&);
// A Lease lasts four periods, in whole seconds.
std::string lease_body(const std::string& node, const std::string& node_uid, const std::string& machine, Duration period, Time now);
// A merge patch. `machine`: said if it is not empty.
std::string lease_renewal(const std::string& node, const std::string& machine, Duration period, Time now);

}  // namespace skerry::agent
