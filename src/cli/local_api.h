// SPDX-License-Identifier: Apache-2.0
// kubectl on the node's own loopback (ADR 0036): an apiserver::ApiServer over a store in memory, the mirror, filled with what the
// agent holds. The mirror is made by the first request of a known client and dropped when nobody has asked for a while, so
// that it costs nothing in between. Reads are the ApiServer's. Of writes two are taken, both of Deployments (spec.replicas, and the
// template's restart annotation): they run dry through the mirror, which judges their form, and then go to the agent. All
// others are refused with a sentence. An http::Handler behind TLS; everything is done on the one loop.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "agent/local_view.h"
#include "base/random.h"
#include "base/time.h"
#include "http/message.h"
#include "pki/certificate.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::cli {

class LocalApi final : public http::Handler {
 public:
  struct Options {
    std::string node;
    Duration idle_max = 3min;          // without a request or a watch: the mirror goes
    Duration fresh_for = 200ms;        // how old an answer may be
    Duration watch_period = 1s;        // how often the mirror is brought up to date while somebody watches
    std::size_t watches_max = 64;
    std::size_t objects_max = 50'000;  // of a kind; those beyond are not shown, and the log says so
  };
  // `node_api` answers for logs. All must outlive this; the clock also measures idleness.
  LocalApi(rt::Loop&, agent::LocalView&, http::Handler& node_api, const Clock&, Random&, Options);
  ~LocalApi() override;  // CHECK: stopped, if it was started

  void start();
  rt::Task<> stop();  // the front must have stopped: no request is under way
  rt::Task<http::Response> handle(http::Request) override;
  std::optional<http::Response> refuse_body(const http::Request&) override;
  bool has_mirror() const { return mirror_ != nullptr; }

 private:
  struct Mirror;
  rt::Task<> run();
  rt::Task<> build();
  rt::Task<> refresh();
  rt::Task<> drop();
  bool busy() const;
  rt::Task<> freshen();
  rt::Task<http::Response> write(http::Request, http::Target, std::string namespace_, std::string name, bool scale);

  rt::Loop& loop_;
  agent::LocalView& view_;
  http::Handler& node_api_;
  const Clock& clock_;
  Random& random_;
  Options options_;
  std::unique_ptr<Mirror> mirror_, leaving_;  // leaving_: its store is being stopped; stop() finishes what was cancelled
  std::uint64_t asked_ = 0, done_ = 0;  // rounds of bringing the mirror up to date
  Result<> outcome_;                    // of the last round
  Instant fresh_at_{}, used_at_{};
  bool stale_ = true, started_ = false;
  std::size_t under_way_ = 0;
  rt::Event work_, round_done_;
  rt::TaskGroup tasks_;
};

// The credentials of that front: an authority of the node's own under FOLDER/local-pki, and FOLDER/local.kubeconfig (0600) for
// who may ask. Renewed as they need it: call it again now and then. Blocking.
struct LocalCredentials {
  std::string ca_pem;
  pki::KeyPair serving;
};
Result<LocalCredentials> make_local_credentials(const std::filesystem::path& folder, const std::string& node, std::uint16_t port, Time now);

}  // namespace skerry::cli
