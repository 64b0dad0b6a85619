// SPDX-License-Identifier: Apache-2.0
// What the API server and monitoring ask of a node, on :10250: container logs, metrics, the pods it runs. Everything but
// /healthz needs a client certificate of the API server (or of an organization that may). What is not served yet (exec,
// attach, port-forward) is answered 501 with a sentence. An http::Handler; cli puts TLS in front of it.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/logs.h"
#include "agent/node_status.h"
#include "http/message.h"
#include "kube/object.h"
#include "metrics/registry.h"

namespace skerry::agent {

// One container, as the agent sees it now.
struct ContainerView {
  LogPlace place;
  std::uint32_t attempt = 0, awake = 0;
  bool serving = false;
  std::string waiting = {};      // why it has not started yet; empty once it ran
  int metrics_fd = -1;           // the metrics page; read as hostile data
  std::vector<std::int32_t> pids;
  std::optional<Time> started;
};
// What the API reads; answered by the agent, on its loop.
class NodeView {
 public:
  virtual ~NodeView() = default;
  virtual std::vector<ContainerView> containers() const = 0;
  // The attempt that runs now; nothing: there is no such container, or it will not run again.
  virtual std::optional<std::uint32_t> attempt(const std::string& uid, std::string_view container) const = 0;
  virtual std::vector<kube::ObjectPtr> pods() const = 0;
  virtual const MachineFacts& machine() const = 0;
  virtual const std::string& node_name() const = 0;
  virtual std::string health() const = 0;  // empty: well; else what is wrong
};

struct ProcessUse {
  double cpu_seconds = 0;
  std::uint64_t memory_bytes = 0;
};
ProcessUse process_use(std::int32_t pid);  // from /proc; zeroes for one that is gone

class NodeApi final : public http::Handler {
 public:
  struct Options {
    std::vector<std::string> organizations, users;
    std::size_t followers_max = 256;
  };
  NodeApi(Options options, const NodeView& view, const LogFolder& logs, const metrics::Registry& registry, const Clock& clock)
      : options_(std::move(options)), view_(view), logs_(logs), registry_(registry), clock_(clock) {}
  rt::Task<http::Response> handle(http::Request) override;

 private:
  bool may(const http::Peer&) const;
  http::Response container_logs(const http::Target&);
  http::Response metrics() const;
  http::Response resource_metrics() const;
  http::Response pods() const;
  http::Response summary() const;

  Options options_;
  const NodeView& view_;
  const LogFolder& logs_;
  const metrics::Registry& registry_;
  const Clock& clock_;
  std::shared_ptr<std::size_t> followers_ = std::make_shared<std::size_t>(0);
};

}  // namespace skerry::agent
