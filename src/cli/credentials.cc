// SPDX-License-Identifier: Apache-2.0
#include "cli/credentials.h"

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
  TRY(auto loaded, folder.authority("skerry", now));
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

Result<pki::KeyPair> node_serving_pair(const DataLayout& layout, const std::string& node_name, const std::string& address, Time now) {
  const auto certificate = os::read_small_file(layout.pki() / std::format("{}.crt", kServing));
  if (certificate) {
    TRY(const auto info, pki::inspect_certificate(*certificate));
    if (info.common_name == "system:node:" + node_name) {
      TRY(auto key, os::read_small_file(layout.pki() / std::format("{}.key", kServing)));
      return pki::KeyPair{*certificate, std::move(key)};
    }
  } else if (certificate.error().code != Errc::NotFound) {
    return Fail(certificate.error());
  }
  TRY(const auto folder, pki::Folder::open(layout.node() / "pki"));
  TRY(const auto authority, folder.authority("skerry node " + node_name, now));
  return folder.leaf("serving",
                     {.common_name = "system:node:" + node_name, .organizations = {"system:nodes"}, .dns_names = {node_name}, .addresses = {"127.0.0.1", address}, .usage = pki::Usage::Server},
                     authority, now);
}

Result<NodeCredentials> read_node_credentials(const DataLayout& layout, const NodeOptions& o, Time now) {
  NodeCredentials out;
  TRY(out.config, read_kubeconfig(o.kubeconfig));
  TRY(out.serving, node_serving_pair(layout, o.node_name, o.node_address, now));
  return out;
}

rt::Task<> renew_certificates(std::function<Result<>()> take_up) {
  for (;;) {
    CO_TRY_OK(co_await rt::sleep_for(kRenewalPeriod));
    if (auto done = take_up(); !done) LOG_WARN("certificates not renewed: those in use stay", {"error", done.error()});
  }
}

}  // namespace skerry::cli
