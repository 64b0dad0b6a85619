// SPDX-License-Identifier: Apache-2.0
// Certificates of nodes: which CertificateSigningRequests are approved without asking, what a signed certificate says, and when a
// request goes. Pure, but for the signature itself (Sign).
//
// Approved: a node's request for its own name. Of signer kube-apiserver-client-kubelet: CN=system:node:NAME, O=system:nodes, no
// alternative names, usages of a client. Of kubelet-serving: the same subject, usages of a server, no DNS name but the node's own,
// and addresses that its Node object has as InternalIP or ExternalIP and no other Node has. A node writes its Node object itself, so
// that is not believed of what is the API server's, whose certificate is of the same authority: SigningOptions::reserved, the range
// of Services, loopback. Everything else waits for `kubectl certificate approve`; once approved it is signed if it fits its signer
// (alternative names of a serving certificate are then the approver's word), else it fails with a reason. Other signers are not ours.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/action.h"
#include "kube/object.h"
#include "os/ipv4.h"
#include "pki/certificate.h"

namespace skerry::control {

inline const client::ResourcePath kSigningRequests{"certificates.k8s.io", "v1", "certificatesigningrequests", false};

// A certificate (PEM) for the key of this request that says what the spec says.
using Sign = std::function<Result<std::string>(std::string_view request_pem, const pki::LeafSpec&)>;

struct SigningOptions {
  Duration validity_max = std::chrono::hours(24 * 365);
  Duration keep_decided = std::chrono::hours(1), keep_pending = std::chrono::hours(24);  // then the request is deleted
  std::vector<std::string> reserved = {};  // names and addresses of the API server's certificate, as pki::inspect_certificate has them
  std::optional<os::Ipv4Range> services = {};
};

// `nodes`: all Nodes. An empty `sign`: approved requests wait for another signer.
Plan reconcile_signing_request(const kube::Object& request, const kube::Objects& nodes, Time now, const SigningOptions&, const Sign& sign);

}  // namespace skerry::control
