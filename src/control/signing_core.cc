// SPDX-License-Identifier: Apache-2.0
#include "control/signing_core.h"

#include <algorithm>
#include <format>
#include <set>

#include "base/text.h"
#include "control/views.h"
#include "kube/json.h"
#include "pki/request.h"

namespace skerry::control {
namespace {

using kube::JsonEdit;
using kube::MutJson;

constexpr std::string_view kClient = "kubernetes.io/kube-apiserver-client-kubelet", kServing = "kubernetes.io/kubelet-serving";
constexpr std::string_view kNodePrefix = "system:node:", kNodes = "system:nodes", kNewerThan = "skerry.dev/newer-than";

bool has(Json list, std::string_view text) {
  return any_item(list, [&](Json item) { return item.str() == text; });
}
enum class AddressType : std::uint8_t { Ip, Any };
bool has_address(Json node, std::string_view address, AddressType type) {
  return any_item(node["status"]["addresses"], [&](Json one) {
    return one["address"].str() == address && (type == AddressType::Any || one["type"].str() == "InternalIP" || one["type"].str() == "ExternalIP");
  });
}

// Is this a name or an address of the API server, or one at which it, or a Service, is reached?
bool is_reserved(std::string_view wanted, const SigningOptions& options) {
  const auto same_letter = [](char a, char b) { return a == b || ((a ^ b) == 0x20 && (a | 0x20) >= 'a' && (a | 0x20) <= 'z'); };
  if (std::ranges::any_of(options.reserved, [&](const auto& one) { return std::ranges::equal(one, wanted, same_letter); })) return true;
  const auto address = os::Ipv4::parse(wanted);
  if (!address) return wanted == "::1" || wanted.starts_with("::ffff:");  // an IPv4 address in IPv6's clothes: clients take it for that one
  return address->value >> 24 == 127 || (options.services && options.services->contains(*address));
}

// Why it is nothing that this signer signs for anybody; "" if it is.
std::string unfit(Json spec, const pki::RequestInfo& info) {
  const bool serving = spec["signerName"].str() == kServing;
  if (!info.plain) return "the subject must be one CN and O alone, alternative names DNS and IP, and no other extensions";
  if (!info.common_name.starts_with(kNodePrefix) || info.common_name.size() == kNodePrefix.size()) return "the subject's CN must be system:node:NAME";
  if (info.organizations != std::vector<std::string>{std::string(kNodes)}) return "the subject's O must be system:nodes alone";
  const std::string_view needed = serving ? "server auth" : "client auth";
  if (!has(spec["usages"], needed)) return std::format("usages must have \"{}\"", needed);
  for (const Json usage : spec["usages"].items()) {
    if (usage.str() != needed && usage.str() != "digital signature" && usage.str() != "key encipherment") return std::format("usages must not have \"{}\"", usage.str());
  }
  const bool named = !info.dns_names.empty() || !info.addresses.empty();
  if (serving && !named) return "a serving certificate needs an alternative name";
  if (!serving && named) return "a client certificate has no alternative names";
  return "";
}

// Why this is not a node asking for itself; "" if it is.
std::string not_its_own(Json spec, const pki::RequestInfo& info, const kube::Objects& nodes, const SigningOptions& options) {
  if (spec["username"].str() != info.common_name || !has(spec["groups"], kNodes)) return std::format("{} asks for {}", spec["username"].str(), info.common_name);
  if (spec["signerName"].str() != kServing) return "";
  const std::string_view name = std::string_view(info.common_name).substr(kNodePrefix.size());
  const auto own = nodes.find(name);
  if (own == nodes.end()) return std::format("there is no node {}", name);
  for (const auto* names : {&info.dns_names, &info.addresses}) {
    for (const auto& wanted : *names) {
      if (is_reserved(wanted, options)) return std::format("{} is the API server's", wanted);
    }
  }
  for (const auto& wanted : info.dns_names) {
    if (wanted != name) return std::format("{} is not the node's name", wanted);
  }
  const auto doc = (*own)->parse();
  for (const auto& wanted : info.addresses) {
    if (!has_address(doc.root(), wanted, AddressType::Ip)) return std::format("{} is no address of its Node", wanted);
    for (const auto& other : nodes) {
      if (other->name() == name) continue;
      const bool others = other->json()->contains(wanted) && has_address(other->parse().root(), wanted, AddressType::Any);
      if (others || other->name() == wanted) return std::format("{} is also node {}'s", wanted, other->name());
    }
  }
  return "";
}

Action patch(const kube::Object& request, Verb verb, MutJson status) {
  JsonEdit edit;
  MutJson metadata = edit.root().object("metadata");
  metadata.set("uid", request.uid());
  metadata.set("resourceVersion", std::to_string(request.revision().value()));  // what was judged is what is decided
  edit.root().set("status", status);
  return {.verb = verb, .resource = kSigningRequests, .name = request.name(), .body = edit.dump()};
}

// The conditions as they are, and one more.
JsonEdit with_condition(Json root, std::string_view type, std::string_view reason, std::string_view message) {
  JsonEdit status;
  MutJson conditions = status.root().array("conditions");
  for (const Json one : root["status"]["conditions"].items()) conditions.push(one);
  MutJson added = conditions.push_object();
  added.set("type", type);
  added.set("status", "True");
  added.set("reason", reason);
  added.set("message", message);
  return status;
}

pki::LeafSpec certificate_of(Json spec, const pki::RequestInfo& info, Time now, const SigningOptions& options) {
  const bool serving = spec["signerName"].str() == kServing;
  pki::LeafSpec out{.common_name = info.common_name,
                    .organizations = info.organizations,
                    .dns_names = info.dns_names,
                    .addresses = info.addresses,
                    .usage = serving ? pki::Usage::Server : pki::Usage::Client,
                    .validity = options.validity_max};
  if (const Json seconds = spec["expirationSeconds"]; seconds) out.validity = std::min<Duration>(out.validity, std::chrono::seconds(seconds.i64()));
  // Later than the node's last one by any clock, so that the server can tell which is newer. But not by years, where a clock was wrong
  // once: there the server refuses nobody for the last one (apiserver/node_identities.h: beyond one kBackdate).
  for (const Json after : spec["extra"][kNewerThan].items()) {
    if (const auto time = from_rfc3339(after.str()); time && *time <= now + 2 * pki::kBackdate) out.not_before = *time + std::chrono::seconds(1);
  }
  return out;
}

}  // namespace

Plan reconcile_signing_request(const kube::Object& request, const kube::Objects& nodes, Time now, const SigningOptions& options, const Sign& sign) {
  Plan plan;
  const auto doc = request.parse();
  const Json root = doc.root(), spec = root["spec"];
  const bool approved = find_condition(root, "Approved").exists(), denied = find_condition(root, "Denied").exists(), failed = find_condition(root, "Failed").exists();
  const bool issued = !root["status"]["certificate"].str().empty();
  const Duration age = now - from_rfc3339(root["metadata"]["creationTimestamp"].str()).value_or(now);
  const Duration keep = denied || failed || issued ? options.keep_decided : options.keep_pending;
  if (age >= keep) {
    plan.actions.push_back({.verb = Verb::Delete, .resource = kSigningRequests, .name = request.name(), .uid = request.uid()});
    return plan;
  }
  plan.again = keep - age;
  const auto signer = spec["signerName"].str();
  if (denied || failed || issued || (signer != kClient && signer != kServing)) return plan;
  const auto pem = from_base64(spec["request"].str());
  const auto info = pki::inspect_request(pem ? *pem : "");
  const std::string wrong = info ? unfit(spec, *info) : info.error().what;
  if (!approved) {
    if (!wrong.empty() || !not_its_own(spec, *info, nodes, options).empty()) return plan;
    const auto status = with_condition(root, "Approved", "AutoApproved", "a node's request for itself, approved by skerry server");
    plan.actions.push_back(patch(request, Verb::PatchApproval, status.root()));
    return plan;
  }
  if (!sign) return plan;
  const auto certificate = wrong.empty() ? sign(*pem, certificate_of(spec, *info, now, options)) : Result<std::string>(Fail({Errc::Invalid, wrong}));
  if (certificate) {
    JsonEdit status;
    status.root().set("certificate", to_base64(*certificate));
    plan.actions.push_back(patch(request, Verb::PatchStatus, status.root()));
  } else {
    const auto status = with_condition(root, "Failed", wrong.empty() ? "SigningError" : "SignerValidationFailure", certificate.error().what);
    plan.actions.push_back(patch(request, Verb::PatchStatus, status.root()));
  }
  return plan;
}

}  // namespace skerry::control
