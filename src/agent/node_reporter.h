// SPDX-License-Identifier: Apache-2.0
// Keeps this node's Node and Lease at the API server: registers (or takes over what is there), renews the Lease, reports the
// status when it changed and now and then. Owner: the agent, on its loop.
#pragma once
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "agent/api_standing.h"
#include "agent/node_status.h"
#include "base/random.h"
#include "client/client.h"
#include "kube/digest.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::agent {

class NodeReporter {
 public:
  using Images = std::function<std::vector<NodeImage>()>;
  using Machine = std::function<MachineFacts()>;
  NodeReporter(rt::Loop&, client::Client&, Clock&, Random&, const AgentOptions&, Images, Machine);
  void start();
  rt::Task<> stop() { return tasks_.stop(); }
  // Says the status soon (readiness or images changed).
  void touch() { changed_.set(); }
  // Labels or annotations of the Node have changed: says them soon.
  void touch_metadata() {
    metadata_due_ = true;
    touch();
  }
  // Asks with the Lease, about so often, for what the server holds for this node (docs/wire/digest.md); `answer` gets the digests. A
  // server that does not know them gives none.
  void compare_every(Duration period) {
    digest_period_ = period;
    renewal_.set();
  }
  void on_digests(std::function<void(const kube::Digests&)> answer) { on_digests_ = std::move(answer); }
  NodeStatus& status() { return status_; }
  const MachineFacts& machine() const { return machine_; }
  const std::string& node_uid() const { return uid_; }
  bool reachable() const { return reachable_; }  // the last exchange with the API server was answered
  ApiStanding& standing() { return standing_; }
  // The Node as the server had it last (asked for every few hours), with our status as of the last reading; and its Lease as it was renewed last, or null.
  kube::ObjectPtr node();
  kube::ObjectPtr lease() const;
  const kube::ObjectPtr& servers_node() const { return node_; }  // as the server had it last, or null
  // From the checkpoint: what the server said of the Node (labels, taints, uid) before this start.
  void restore(kube::ObjectPtr node);
  // Called with each answer about the Node. On the loop.
  void on_node(std::function<void(const kube::ObjectPtr&)> said) { on_node_ = std::move(said); }

 private:
  rt::Task<> run_status();
  rt::Task<> run_lease();
  rt::Task<> register_node();
  rt::Task<> renew();
  void look_at_machine();
  void heard(kube::ObjectPtr node);
  void on_renewed();
  Duration renewal_period() const { return on_digests_ ? std::min(options_.lease_period, digest_period_) : options_.lease_period; }
  http::Headers digest_wish();
  void take_digests(const http::Headers&);

  client::Client& api_;
  Clock& clock_;
  Random& random_;
  const AgentOptions& options_;
  Images images_;
  Machine read_;
  NodeStatus status_;
  ApiStanding standing_;
  MachineFacts machine_;
  Time machine_at_{};  // when it was read
  std::string uid_, said_;
  kube::ObjectPtr node_;  // the server's last word
  Instant heard_at_{};
  std::function<void(const kube::ObjectPtr&)> on_node_;
  Instant said_at_{}, machine_said_at_{}, renewed_at_{};
  Time renewed_time_{};
  Duration digest_period_ = 60s;
  Instant digest_asked_{};
  std::function<void(const kube::Digests&)> on_digests_;
  bool registered_ = false, reachable_ = false, lease_known_ = false, metadata_due_ = false;
  rt::Event changed_, registered_event_, renewal_;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::agent
