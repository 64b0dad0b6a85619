// SPDX-License-Identifier: Apache-2.0
// What a Pod object asks of this node, read once: the few fields that the agent acts on, the objects it refers to, and,
// if the pod needs something that the node does not serve, the sentence that says so. A pure value, small: a node holds a
// thousand of them, so what is needed once (environment, arguments) is read from the object's bytes when it is needed.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/annotations.h"
#include "base/time.h"
#include "kube/object.h"

namespace skerry::agent {

enum class RestartPolicy : std::uint8_t { Always, OnFailure, Never };
enum class PullPolicy : std::uint8_t { IfNotPresent, Always, Never };

inline constexpr std::uint16_t kDefaultPort = 8080;
inline constexpr std::int64_t kDefaultMemoryBytes = 128 << 20;  // without limits.memory
inline constexpr std::int64_t kMemoryBytesMin = 4 << 20;
inline constexpr std::size_t kContainersMax = 16;

struct ContainerPlan {
  std::string name, image;
  PullPolicy pull = PullPolicy::IfNotPresent;
  std::uint16_t port = kDefaultPort;
  std::int64_t memory_bytes_max = kDefaultMemoryBytes;
  std::int64_t cpu_millis_max = 0;      // 0: no limit
  std::int64_t cpu_millis_request = 0;
  std::uint16_t workers = 1;            // whole cores of limits.cpu, rounded up
  friend bool operator==(const ContainerPlan&, const ContainerPlan&) = default;
};

// A pod is refused with a reason for kubectl's STATUS column and a sentence.
struct Refusal {
  std::string reason;  // Unsupported, InvalidAnnotation
  std::string message;
  friend bool operator==(const Refusal&, const Refusal&) = default;
};

struct PodPlan {
  std::shared_ptr<const kube::Identity> pod;
  std::string runtime_class;
  Duration grace = 30s;                  // spec.terminationGracePeriodSeconds, or the deletion's own
  RestartPolicy restart = RestartPolicy::Always;
  bool deleting = false;
  bool finished = false;                 // the server has it as Succeeded or Failed
  bool scheduled = false;                // it has the condition PodScheduled
  std::int64_t priority = 0;
  PodAnnotations annotations;
  std::vector<ContainerPlan> containers;
  std::vector<std::string> config_maps, secrets;  // referred to by the environment, sorted, unique
  std::vector<std::string> pull_secrets;
  std::shared_ptr<const Refusal> refusal;  // null: none
};

struct PlanOptions {
  PodAnnotations defaults;
  std::uint16_t workers_max = 8;
};

// Invalid: a Pod that this node cannot read (no usable uid, a quantity that is none, too many containers). Corrupt: what no API server
// accepts (no container, one without a name or image): somebody talks nonsense.
Result<PodPlan> plan_pod(const kube::Object&, const PlanOptions&);

}  // namespace skerry::agent
