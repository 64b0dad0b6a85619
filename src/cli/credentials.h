// SPDX-License-Identifier: Apache-2.0
// The keys and certificates of `skerry server`: an authority of its own, and what it issues. Renewed when a third of their
// time is left: both functions are called at the start and every kRenewalPeriod, and what they give is used from then on, so
// that a program which runs for years shows no certificate that has ended. Blocking, for milliseconds.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/identity.h"
#include "base/error.h"
#include "base/time.h"
#include "cli/kubeconfig.h"
#include "cli/layout.h"
#include "cli/options.h"
#include "control/signing_core.h"
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
// What no node gets signed by its own word: the server's names and addresses, and those of Services. But for the machine's host name,
// unless it is a --tls-name: a node has no DNS name but its own, which the operator gave it.
Result<control::SigningOptions> signing_options(const ServerCredentials&, const ServerOptions&);

// What a node shows, to the API server and on :10250, and what of it is its own to renew (agent/identity.h).
//
//   to the server   the kubeconfig's certificate (read again each time) or token; or the certificate that the node got for itself
//                   (DATA/node/pki/client.pem), where that is of the same name and cluster, and newer
//   on :10250       the server's DATA/pki/node-serving.crt, where the authority of this data folder is the cluster's; else what the
//                   cluster signed for the node (DATA/node/pki/signed-serving.pem), until it ends; else one of an authority of the
//                   node's own, as a kubelet without a signed certificate has it. The node asks for its name and address; on the machine of
//                   the API server (loopback, the kubeconfig's host) for its name alone: the address is the server's, and would not be signed
//
// The node renews what `skerry server` does not renew in this very folder, and only where it has a client certificate of its name:
// with a token it asks for nothing.
struct NodeCredentials {
  Kubeconfig config;
  pki::KeyPair serving;
  std::vector<std::string> authorities{};  // of the cluster: agent::StoredCertificate
  std::optional<agent::Identity::Managed> client_managed{}, serving_managed{};
  std::vector<std::string> remarks{};      // what an operator should know of the choice
};
Result<NodeCredentials> read_node_credentials(const DataLayout&, const NodeOptions&, Time now);

// Every kRenewalPeriod, until it is cancelled; a failure is logged and tried again.
rt::Task<> renew_certificates(std::function<Result<>()> take_up);

}  // namespace skerry::cli
