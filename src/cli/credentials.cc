// SPDX-License-Identifier: Apache-2.0
#include "cli/credentials.h"

#include <algorithm>
#include <format>

#include "base/log.h"
#include "os/file.h"
#include "os/ipv4.h"
#include "pki/folder.h"
#include "pki/kubeconfig.h"

namespace skerry::cli {
namespace {

constexpr auto kServing = "node-serving";

pki::LeafSpec client_spec(std::string name, std::string organization) {
  return {.common_name = std::move(name), .organizations = {std::move(organization)}};
}

Result<pki::LeafSpec> server_spec(const ServerOptions& o) {
  pki::LeafSpec spec{.common_name = "kube-apiserver",
                     .dns_names = {"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
                     .addresses = {"127.0.0.1", "::1"},
                     .usage = pki::Usage::Server};
  if (o.listen.address != "127.0.0.1" && o.listen.address != "::1" && o.listen.address != "0.0.0.0" && o.listen.address != "::")
    spec.addresses.push_back(o.listen.address);
  if (const auto services = os::Ipv4Range::parse(o.service_cidr)) spec.addresses.push_back(services->at(1).str());
  if (auto name = host_name(); name && *name != "localhost") spec.dns_names.push_back(*name);
  for (const auto& name : o.tls_names) {
    const bool address = name.find(':') != std::string::npos || os::Ipv4::parse(name).has_value();
    (address ? spec.addresses : spec.dns_names).push_back(name);
  }
  return spec;
}

// What clients on this machine connect to.
std::string url_of(const Endpoint& listen) {
  if (listen.address == "0.0.0.0") return std::format("https://127.0.0.1:{}", listen.port);
  if (listen.address == "::") return std::format("https://[::1]:{}", listen.port);
  if (listen.address.find(':') != std::string::npos) return std::format("https://[{}]:{}", listen.address, listen.port);
  return std::format("https://{}:{}", listen.address, listen.port);
}

// Flash wears: what stands there already is not written again.
Result<> write_if_changed(const std::filesystem::path& path, const std::string& text) {
  constexpr std::size_t kTextMax = 256 * 1024;
  const auto there = os::read_small_file(path, kTextMax);
  if (there && *there == text) return {};
  return os::write_file_atomically(path, text, 0600);
}

}  // namespace

Result<ServerCredentials> make_server_credentials(const DataLayout& layout, const ServerOptions& o, Time now) {
  TRY(const auto folder, pki::Folder::open(layout.pki()));
  TRY(auto loaded, folder.authority("skerry"));
  const auto shared = std::make_shared<const pki::CertificateAuthority>(std::move(loaded));
  const auto& authority = *shared;
  TRY(const auto spec, server_spec(o));
  ServerCredentials out{.ca_pem = authority.pair().certificate_pem, .server = {}, .authority = shared, .node_client = {}, .kubelet_client = {}};
  TRY(out.server, folder.leaf("server", spec, authority, now));
  TRY(out.kubelet_client, folder.leaf("apiserver-kubelet-client", client_spec("kube-apiserver-kubelet-client", "system:masters"), authority, now));

  const auto write_kubeconfig = [&](const std::filesystem::path& path, std::string user, const pki::KeyPair& pair) {
    return write_if_changed(path, pki::to_yaml({.user = std::move(user), .server = url_of(o.listen), .ca_pem = out.ca_pem, .client = pair, .token = {}, .namespace_ = {}}));
  };
  TRY(const auto admin, folder.leaf("admin", client_spec("kubernetes-admin", "system:masters"), authority, now));
  TRY_OK(write_kubeconfig(layout.admin_kubeconfig(), "admin", admin));
  if (!o.node_name.empty()) {
    const auto user = "system:node:" + o.node_name;
    TRY(const auto node, folder.leaf("node-client", client_spec(user, "system:nodes"), authority, now));
    out.node_client = node;
    TRY_OK(folder.leaf(kServing,
                       {.common_name = user, .organizations = {"system:nodes"}, .dns_names = {o.node_name}, .addresses = {"127.0.0.1"}, .usage = pki::Usage::Server},
                       authority, now));
    // Last: a node that waits for this file finds all the rest.
    TRY_OK(write_kubeconfig(layout.node_kubeconfig(), user, node));
  }
  return out;
}

Result<control::SigningOptions> signing_options(const ServerCredentials& credentials, const ServerOptions& o) {
  TRY(const auto own, pki::inspect_certificate(credentials.server.certificate_pem));
  control::SigningOptions out{.reserved = own.dns_names, .services = os::Ipv4Range::parse(o.service_cidr)};
  out.reserved.insert(out.reserved.end(), own.addresses.begin(), own.addresses.end());
  // A node on this machine is called as the machine is, unless it is told otherwise: it must not wait for somebody to approve that.
  if (const auto host = host_name(); host && *host != "localhost" && std::ranges::find(o.tls_names, *host) == o.tls_names.end()) std::erase(out.reserved, *host);
  return out;
}

namespace {

using Purpose = agent::RenewalCore::Purpose;

std::string user_of(const NodeOptions& o) { return "system:node:" + o.node_name; }

bool is_loopback(const std::string& address) {
  const auto parsed = os::Ipv4::parse(address);
  return parsed ? parsed->value >> 24 == 127 : address == "::1";
}

// Is the authority of this data folder, where there is one, one of the cluster's? Then `skerry server` keeps the node's certificates here.
Result<bool> authority_is_here(const DataLayout& layout, const std::vector<std::string>& authorities) {
  const auto pem = os::read_small_file(layout.pki() / "ca.crt");
  if (!pem && pem.error().code == Errc::NotFound) return false;
  if (!pem) return Fail(pem.error());
  TRY(const auto keys, pki::inspect_keys(*pem));
  return std::ranges::find(authorities, keys.front()) != authorities.end();
}

// The client's: fills config's certificate and client_managed.
Result<> choose_client(const DataLayout& layout, const NodeOptions& o, bool server_here, const agent::IdentityFolder& folder, NodeCredentials& out) {
  TRY(const auto given, pki::inspect_certificate(out.config.client_certificate_pem));
  std::error_code ignored;
  if (server_here && std::filesystem::equivalent(o.kubeconfig, layout.node_kubeconfig(), ignored)) return {};
  const pki::LeafSpec wanted{.common_name = user_of(o), .organizations = {"system:nodes"}};
  if (given.common_name != wanted.common_name || given.organizations != wanted.organizations) {
    out.remarks.push_back(std::format("the client certificate of {} is of {}, not of {} in system:nodes: the node does not renew it; it ends on {}", o.kubeconfig.string(),
                                      given.common_name, wanted.common_name, to_rfc3339(given.not_after)));
    return {};
  }
  agent::Identity::Managed managed{.pair = {out.config.client_certificate_pem, out.config.client_key_pem}, .key_kept = false, .wanted = wanted};
  const auto stored = folder.load(Purpose::Client);
  if (!stored) {
    out.remarks.push_back("the kubeconfig's client certificate is used: " + stored.error().what);
  } else if (*stored) {
    const auto why_not = agent::why_not_stored(given, out.authorities, **stored);
    if (why_not.empty()) {
      managed.pair = (*stored)->pair;
      managed.key_kept = (*stored)->key_kept;
    } else {
      out.remarks.push_back(std::format("the kubeconfig's client certificate is used, not the one in {}: {}", folder.file(Purpose::Client).string(), why_not));
    }
  }
  out.config.client_certificate_pem = managed.pair.certificate_pem;
  out.config.client_key_pem = managed.pair.key_pem;
  out.client_managed = std::move(managed);
  return {};
}

// A pair that `skerry server` made for this node in this folder; nothing if it did not.
Result<std::optional<pki::KeyPair>> serving_of_server(const DataLayout& layout, const NodeOptions& o) {
  auto certificate = os::read_small_file(layout.pki() / std::format("{}.crt", kServing));
  if (!certificate && certificate.error().code == Errc::NotFound) return std::optional<pki::KeyPair>();
  if (!certificate) return Fail(certificate.error());
  TRY(const auto info, pki::inspect_certificate(*certificate));
  if (info.common_name != user_of(o)) return std::optional<pki::KeyPair>();
  TRY(auto key, os::read_small_file(layout.pki() / std::format("{}.key", kServing)));
  return std::optional(pki::KeyPair{std::move(*certificate), std::move(key)});
}

Result<> choose_serving(const DataLayout& layout, const NodeOptions& o, bool server_here, const agent::IdentityFolder& folder, Time now, NodeCredentials& out) {
  if (server_here) {
    TRY(auto made, serving_of_server(layout, o));
    if (made) {
      out.serving = std::move(*made);
      return {};
    }
  }
  pki::LeafSpec wanted{.common_name = user_of(o), .organizations = {"system:nodes"}, .dns_names = {o.node_name}, .addresses = {}, .usage = pki::Usage::Server};
  if (o.node_address != out.config.host && !is_loopback(o.node_address)) wanted.addresses.push_back(o.node_address);
  if (out.client_managed) out.serving_managed.emplace(agent::Identity::Managed{.wanted = wanted});
  const auto stored = folder.load(Purpose::Serving);
  if (!stored) out.remarks.push_back(stored.error().what);
  if (stored && *stored) {
    const auto& authorities = (*stored)->authorities;
    const bool same_cluster = std::ranges::any_of(authorities, [&](const auto& one) { return std::ranges::find(out.authorities, one) != out.authorities.end(); });
    TRY(const auto info, pki::inspect_certificate((*stored)->pair.certificate_pem));
    if (same_cluster && info.common_name == wanted.common_name && now < info.not_after) {
      out.serving = (*stored)->pair;
      if (out.serving_managed) out.serving_managed->pair = out.serving;
      return {};
    }
  }
  TRY(const auto own, pki::Folder::open(layout.node_pki()));
  TRY(const auto authority, own.authority("skerry node " + o.node_name));
  wanted.addresses = {"127.0.0.1", o.node_address};
  TRY(out.serving, own.leaf("serving", wanted, authority, now));
  return {};
}

}  // namespace

Result<NodeCredentials> read_node_credentials(const DataLayout& layout, const NodeOptions& o, Time now) {
  NodeCredentials out;
  TRY(out.config, read_kubeconfig(o.kubeconfig));
  TRY(out.authorities, pki::inspect_keys(out.config.ca_pem));
  TRY(const bool server_here, authority_is_here(layout, out.authorities));
  TRY(const auto folder, agent::IdentityFolder::open(layout.node_pki()));
  if (!out.config.client_certificate_pem.empty()) TRY_OK(choose_client(layout, o, server_here, folder, out));
  TRY_OK(choose_serving(layout, o, server_here, folder, now, out));
  return out;
}

rt::Task<> renew_certificates(std::function<Result<>()> take_up) {
  for (;;) {
    CO_TRY_OK(co_await rt::sleep_for(kRenewalPeriod));
    if (auto done = take_up(); !done) LOG_WARN("certificates not renewed: those in use stay", {"error", done.error()});
  }
}

}  // namespace skerry::cli
