// SPDX-License-Identifier: Apache-2.0
#include "apiserver/signing_request.h"

#include <format>

#include "apiserver/auth.h"
#include "base/text.h"
#include "kube/selector.h"
#include "pki/request.h"

namespace skerry::apiserver {
namespace {

Status refused(const Call& call, std::string_view text) {
  return kube::status_forbidden(call.route.group, call.route.resource, call.route.name, text);
}

// The one thing that an ended certificate is good for: a new one of the same name, for the same key. That the asker holds the
// key the handshake has shown, and the request's own signature shows it again.
ApiResult<> admit_renewal(const Call& call, MutJson spec, const pki::RequestInfo& info) {
  const std::string_view node = node_of(call.user);
  if (!call.server.store.newest(call.server.id("nodes"), "", node)) {
    return ApiFail(refused(call, std::format("there is no node \"{}\" (any more), so its ended certificate is not renewed: give the machine new credentials", node)));
  }
  if (spec["signerName"].str() != kNodeSigner) {
    return ApiFail(refused(call, std::format("with an ended certificate only signerName {} is served: renew the client certificate first", kNodeSigner)));
  }
  if (info.common_name != call.user.name || info.organizations != std::vector<std::string>{"system:nodes"}) {
    return ApiFail(refused(call, std::format("an ended certificate is renewed for its own name alone: CN={}, O=system:nodes", call.user.name)));
  }
  if (info.key != call.user.expired_key) {
    return ApiFail(refused(call, "an ended certificate is renewed for its own key alone: sign the request with the key of that certificate"));
  }
  return {};
}

}  // namespace

ApiResult<> admit_signing_request(const Call& call, MutJson object) {
  MutJson spec = object.object("spec");
  for (const char* key : {"username", "uid", "groups", "extra"}) spec.remove(key);
  spec.set("username", call.user.name);
  for (const auto& group : call.user.groups) spec.array("groups").push(group);
  const std::string name(object["metadata"]["name"].str());
  const auto pem = from_base64(spec["request"].str());
  const auto info = pki::inspect_request(pem ? *pem : "");
  if (!info) {
    if (spec["request"].str().empty() && call.user.expired_key.empty()) return {};  // validation says that it is missing
    return ApiFail(invalid(call.type(), name, {kube::field_invalid("spec.request", "<bytes>", info.error().what)}));
  }
  const std::string_view node = node_of(info->common_name, info->organizations);
  if (const auto* newest = node.empty() ? nullptr : call.server.identities.newest(node)) {
    spec.object("extra").array(kNewerThan).push(to_rfc3339(newest->not_before));
  }
  if (!call.user.expired_key.empty()) TRY_API_OK(admit_renewal(call, spec, *info));
  // Last: what was refused until here counts for nothing.
  const std::string_view asker = node_of(call.user);
  if (asker.empty() || is_master(call.user) || call.server.identities.asks(asker, call.server.clock.instant())) return {};
  return ApiFail(kube::status_too_many_requests(std::format("node \"{}\" has asked for {} certificates within an hour, which is the limit: wait until they are an hour old",
                                                            asker, NodeIdentities::kRequestsMax), 60));
}

void complete_conditions(MutJson object, Time now) {
  const std::string time = to_rfc3339(now);
  for (MutJson condition : object["status"]["conditions"].items()) {
    for (const char* key : {"lastUpdateTime", "lastTransitionTime"}) {
      if (condition[key].str().empty()) condition.set(key, time);
    }
  }
}

bool reads_own_request(const Call& call) {
  std::string name = call.route.name;
  if (name.empty()) {
    const auto selector = kube::FieldSelector::parse(call.param("fieldSelector"), call.type());
    if (selector) name = selector->required("metadata.name");
  }
  const ObjectPtr found = call.server.store.get(call.id(), "", name);
  if (!found) return call.route.verb == "get" && !name.empty();  // a 404 tells nothing
  const auto doc = found->parse();
  return doc.root()["spec"]["username"].str() == call.user.name;
}

ApiResult<> authorize_renewal(const Call& call) {
  const Route& route = call.route;
  if (route.group == "certificates.k8s.io" && route.resource == "certificatesigningrequests" && route.subresource.empty()) {
    if (route.verb == "create") return {};
    if (route.verb == "get" && reads_own_request(call)) return {};
  }
  Status status = kube::status_unauthorized();
  status.message = std::format("the client certificate of {} ended on {}: all that it may do now is to be renewed, by a CertificateSigningRequest of {} for its own "
                               "key", call.user.name, to_rfc3339(call.user.expired_at), kNodeSigner);
  status.details.present = true;
  status.details.causes.push_back({std::string(kEnded), "", ""});
  return ApiFail(std::move(status));
}

}  // namespace skerry::apiserver
