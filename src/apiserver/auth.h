// SPDX-License-Identifier: Apache-2.0
// Who asks, and may they: certificates and bearer tokens; system:masters everything, a node what a node needs (the Node
// authorizer and the NodeRestriction admission of Kubernetes), everybody else nothing.
#pragma once
#include "apiserver/call.h"

namespace skerry::apiserver {

// 401 without valid credentials, and for a node's certificate that a newer one has replaced. A certificate that has ended since the
// handshake is judged as one that had ended before. A request of this process is system:masters.
ApiResult<User> authenticate(const Server&, const http::Request&);
// The node that a certificate names, if it names one; else empty.
std::string_view node_of(std::string_view user, const std::vector<std::string>& groups);
bool is_master(const User&);
// kubectl --as and --as-group: an administrator speaks for somebody else, with that one's rights. 403 for others.
ApiResult<User> impersonate(User, const http::Headers&);
// The name of the node that this user is; empty if it is none.
std::string_view node_of(const User&);

// 403, before anything is read.
ApiResult<> authorize(const Call&);
// 403 for a path that is no resource: health, version and discovery are open to every known user.
ApiResult<> authorize_path(const User&, std::string_view method, std::string_view path);

// What a node may change in an object it may write. `old` is null on creation. For other users: allowed. 403 with the cause
// kMachineConflict: the node is live on another machine than the one that writes.
// A 401 with the cause kReplaced, whose message is the node's name: its certificate was replaced.
inline constexpr std::string_view kReplaced = "CertificateReplaced";
inline constexpr std::string_view kMachineConflict = "MachineConflict";
// A 401's cause: the certificate has ended, and may still be renewed.
inline constexpr std::string_view kEnded = "CertificateEnded";
ApiResult<> admit_node_write(const Call&, Json object, const ObjectPtr& old);
ApiResult<> admit_node_delete(const Call&, const ObjectPtr& old);

}  // namespace skerry::apiserver
