// SPDX-License-Identifier: Apache-2.0
// The node's certificates, kept good: a shell around a RenewalCore for the client certificate and one for the serving certificate
// of :10250. Makes keys and CertificateSigningRequests, reads them back, writes what was signed to the IdentityFolder, and only then
// has it taken into use: a certificate that was used once ends its predecessor at the API server (ADR 0035), so one that a power cut
// could take away must never be shown.
//
// Owner: cli, on the agent's loop; deps, folder and callbacks must outlive it. What is shown now, and what of it is the node's own to
// renew, cli says with set(); this class asks it to look again with `take_up`.
#pragma once
#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/api_standing.h"
#include "agent/api_writers.h"
#include "agent/identity_folder.h"
#include "agent/renewal_core.h"
#include "base/random.h"
#include "client/client.h"
#include "metrics/registry.h"
#include "pki/certificate.h"
#include "rt/blocking_pool.h"
#include "rt/task_group.h"

namespace skerry::agent {

class Identity {
 public:
  using Purpose = RenewalCore::Purpose;
  struct Options {
    std::string node_name;
    std::filesystem::path folder;  // DATA/node/pki
    RenewalCore::Options renewal{};  // of both; the purpose is set here
  };
  struct Deps {
    client::Client& api;
    rt::BlockingPool& disk;  // for saves
    const Clock& clock;
    Random& random;
    std::function<Result<>()> take_up;  // reads what is on the disk, uses it, and calls set()
  };
  struct Managed {
    pki::KeyPair pair{};     // empty: there is none yet (serving)
    bool key_kept = false;
    pki::LeafSpec wanted{};
  };

  Identity(rt::Loop&, Deps, Options);
  void start();
  rt::Task<> stop() { return tasks_.stop(); }

  // At any time on the loop. `authorities`: of the cluster, as StoredCertificate has them. Nothing: not the node's to renew. Corrupt: the
  // pair cannot be read.
  Result<> set(Purpose, std::optional<Managed>, std::vector<std::string> authorities);
  void on_standing(Standing);
  void on_event(std::function<void(EventText)> post) { post_ = std::move(post); }
  void write_metrics(metrics::Exposition&) const;

 private:
  struct Part {
    Part(rt::Loop& loop, RenewalCore::Options options, Random& random) : core(options, random), changed(loop) {}
    RenewalCore core;
    rt::Event changed;
    pki::KeyPair shown{};
    std::string key_pem{}, request{};  // of what was asked for: the key and the request's name
    bool key_kept = false;
    std::uint64_t renewed = 0, failed = 0;
  };
  Part& part(Purpose p) { return p == Purpose::Client ? client_ : serving_; }
  rt::Task<> run(Purpose);
  rt::Task<> ask(Purpose, RenewalCore::KeyChoice);
  rt::Task<> read(Purpose);
  rt::Task<> take(Purpose);
  void tell(Part&, std::optional<RenewalCore::Note>);

  Deps deps_;
  Options options_;
  Part client_, serving_;
  std::vector<std::string> authorities_;
  std::function<void(EventText)> post_;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::agent
