// SPDX-License-Identifier: Apache-2.0
// What is particular about CertificateSigningRequests: who asked is written down by the server, the request is read, and whoever
// comes with a certificate that has ended may ask for one thing alone. Approval and signing are control's.
#pragma once
#include "apiserver/call.h"

namespace skerry::apiserver {

constexpr std::string_view kNodeSigner = "kubernetes.io/kube-apiserver-client-kubelet";
// spec.extra of a node's request: the new certificate must begin after this moment, so that it is newer than the last one used.
constexpr std::string_view kNewerThan = "skerry.dev/newer-than";

// Of a new object, inside the write. 429: this node has asked for too many (NodeIdentities::asks).
ApiResult<> admit_signing_request(const Call&, MutJson object);
// Times that a condition was written without.
void complete_conditions(MutJson object, Time now);
// Does this get, list or watch name one request, and was it made by the asker? Somebody else's certificate is no secret, but whoever
// holds a copy of that one's key needs only this.
bool reads_own_request(const Call&);
// For an expired certificate, in place of auth.h's authorize(): creating a request, and reading its own back. Else 401.
ApiResult<> authorize_renewal(const Call&);

}  // namespace skerry::apiserver
