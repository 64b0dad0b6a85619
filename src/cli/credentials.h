// SPDX-License-Identifier: Apache-2.0
// The keys and certificates of `skerry server`: an authority of its own, and what it issues. Renewed when a third of their
// time is left: both functions are called at the start and every kRenewalPeriod, and what they give is used from then on, so
// that a program which runs for years shows no certificate that has ended. Blocking, for milliseconds.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/time.h"
#include "cli/kubeconfig.h"
#include "cli/layout.h"
#include "cli/options.h"
#include "pki/certificate.h"
#include "rt/loop.h"

namespace skerry::cli {

constexpr Duration kRenewalPeriod = 10min;

struct ServerCredentials {
  std::string ca_pem;
  pki::KeyPair server;          // of the API
  std::shared_ptr<const pki::CertificateAuthority> authority;  // signs what nodes request
  pki::KeyPair node_client;     // of the node that the options name; else empty
  pki::KeyPair kubelet_client;  // what the API shows to nodes (CN kube-apiserver-kubelet-client)
};

// Also writes DATA/admin.kubeconfig, and, if the options name a node, DATA/node.kubeconfig and the node's serving
// certificate DATA/pki/node-serving.{crt,key}.
Result<ServerCredentials> make_server_credentials(const DataLayout&, const ServerOptions&, Time now);

// The node's serving certificate for :10250: the server's, if it made one in this data folder; else one of an authority of
// the node's own, as a kubelet without a signed certificate has it.
Result<pki::KeyPair> node_serving_pair(const DataLayout&, const std::string& node_name, const std::string& address, Time now);

// What a node shows: to the API server (of its kubeconfig, which is read again), and on :10250.
struct NodeCredentials {
  Kubeconfig config;
  pki::KeyPair serving;
};
Result<NodeCredentials> read_node_credentials(const DataLayout&, const NodeOptions&, Time now);

// Every kRenewalPeriod, until it is cancelled; a failure is logged and tried again.
rt::Task<> renew_certificates(std::function<Result<>()> take_up);

}  // namespace skerry::cli
