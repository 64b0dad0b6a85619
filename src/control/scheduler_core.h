// SPDX-License-Identifier: Apache-2.0
// Which node a pod goes to. A pure core: nodes and pods come in as they change, assignments go out; the shell binds.
// It knows every pod on every node (bound ones and those it has just assumed to be), so that a batch of a thousand pods
// is placed in one pass without waiting for the API. Filters: unschedulable, taints, node selector and required node
// affinity, resources (with the number of pods), host ports. Scores, 0..100 each: least allocated, balanced, preferred
// node affinity, few of the same owner (twice), taints preferred not. A pod that asks for what is not served here (pod
// affinity, hard topology spread) is refused with a sentence, not placed anyhow.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "kube/object.h"

namespace skerry::control {

using kube::Json;
using kube::ObjectPtr;

// Thousandths of cores, bytes of memory and storage, and other resources by name.
struct Resources {
  std::int64_t cpu = 0, memory = 0, storage = 0;
  std::map<std::string, std::int64_t> other;
  void add(const Resources&, int sign);
};
// What a pod occupies: the sum of its containers' requests, or its largest init container, plus overhead.
Resources pod_requests(Json pod_spec);

class SchedulerCore {
 public:
  struct Options {
    std::size_t feasible_max = 100;  // stop looking after so many nodes fit; the next pod starts where this one stopped
  };
  explicit SchedulerCore(Options options) : options_(options) {}
  SchedulerCore() : SchedulerCore(Options{}) {}

  void put_node(const kube::Object&);
  void remove_node(std::string_view name);
  // Any pod, as it is now. One with a node occupies it until it has ended or is removed.
  void put_pod(const kube::Object&);
  void remove_pod(std::string_view uid);
  // A binding that failed: what was assumed is taken back.
  void forget(std::string_view uid);

  struct Decision {
    std::string node;     // empty: no node fits
    std::string message;  // then why, in kube-scheduler's words
  };
  // Decides for one pod without a node, and assumes that it will be there.
  Decision schedule(const kube::Object& pod);

  std::size_t nodes() const { return nodes_.size(); }
  struct Usage {
    Resources requested;
    std::int64_t pods = 0;
  };
  std::optional<Usage> usage(std::string_view node) const;

 private:
  struct Taint {
    std::string key, value, effect;
  };
  struct Node {
    std::string name;
    kube::Labels labels;
    std::vector<Taint> taints;
    bool unschedulable = false, known = false;  // known: the Node object exists (pods may come first)
    Resources allocatable, requested;
    std::int64_t pods_max = 0, pods = 0;
    std::map<std::string, int> ports;   // "TCP/0.0.0.0/80" to the number of users
    std::map<std::string, int> owners;  // controller uid to its number of pods
  };
  struct Placed {
    std::string node;
    Resources requests;
    std::vector<std::string> ports;
    std::string owner;
    bool assumed = false;
  };
  struct Wish;  // a pod's demands, parsed
  void place(std::string_view uid, Placed placed);
  void release(std::string_view uid);
  std::optional<std::string> obstacle(const Node&, const Wish&) const;
  double score(const Node&, const Wish&, double affinity_most, int owner_most, int taints_most) const;
  Node& node(std::string_view name);

  Options options_;
  std::map<std::string, Node, std::less<>> nodes_;
  std::unordered_map<std::string, Placed> placed_;
  std::string next_start_;
};

}  // namespace skerry::control
