// SPDX-License-Identifier: Apache-2.0
#include "cli/server_process.h"

#include <format>
#include <map>

#include "apiserver/apiserver.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "cli/api_service.h"
#include "cli/credentials.h"
#include "cli/layout.h"
#include "cli/token_file.h"
#include "client/client.h"
#include "control/controllers.h"
#include "http/client.h"
#include "http/in_process.h"
#include "http/server.h"
#include "metrics/process.h"
#include "os/file.h"
#include "rt/task_group.h"
#include "sql/database.h"
#include "store/store.h"

namespace skerry::cli {

// In the order of construction; destroyed the other way round.
struct ServerProcess::Parts {
  Parts(rt::Loop& l, ServerOptions o) : loop(l), options(std::move(o)) {}
  rt::Loop& loop;
  ServerOptions options;
  os::UniqueFd lock;
  SystemClock clock;
  SystemRandom random;
  ServerCredentials credentials;
  std::unique_ptr<store::Store> store;
  std::map<std::string, std::unique_ptr<http::HttpsTransport>, std::less<>> nodes;  // by "name address:port"
  std::optional<apiserver::ApiServer> api;
  std::optional<http::Server> front;
  std::optional<http::InProcessTransport> transport;
  std::optional<client::Client> client;
  std::optional<control::Controllers> controllers;
  rt::TaskGroup tasks{loop};

  http::ServerTls server_tls(const ServerCredentials& c) const {
    return {.certificate_pem = c.server.certificate_pem, .key_pem = c.server.key_pem, .client_ca_pem = c.ca_pem};
  }
  http::ClientTls node_tls(const ServerCredentials& c, std::string name) const {
    return {.ca_pem = c.ca_pem, .certificate_pem = c.kubelet_client.certificate_pem, .key_pem = c.kubelet_client.key_pem, .server_name = std::move(name)};
  }

  Result<> take_up_certificates() {
    TRY(auto fresh, make_server_credentials(DataLayout{options.data_dir}, options, clock.now()));
    if (fresh.server.certificate_pem != credentials.server.certificate_pem) TRY_OK(front->set_tls(server_tls(fresh)));
    if (fresh.kubelet_client.certificate_pem != credentials.kubelet_client.certificate_pem)
      for (auto& [key, way] : nodes) TRY_OK(way->set_credentials(node_tls(fresh, key.substr(0, key.find(' '))), {}));
    const bool node_renewed = fresh.node_client.certificate_pem != credentials.node_client.certificate_pem;
    credentials = std::move(fresh);
    if (node_renewed) tasks.spawn("node certificate", own_node());
    return {};
  }

  // The certificate of this machine's node is a good one by our word, whatever its clock said.
  rt::Task<> own_node() {
    if (options.node_name.empty()) co_return Result<>{};
    CO_TRY(const auto info, pki::inspect_certificate(credentials.node_client.certificate_pem));
    co_return co_await api->node_certificate_issued(options.node_name, info.serial, info.not_before);
  }

  // The way to a node's :10250, as its Node object says. Its certificate is ours and names the node, whatever the address.
  http::Transport* node_transport(std::string_view name) {
    const auto id = store->find_resource("nodes");
    const auto node = id ? store->get(*id, "", name) : nullptr;
    if (!node) return nullptr;
    const auto doc = node->parse();
    const auto status = doc.root()["status"];
    std::string_view address;
    for (const auto entry : status["addresses"].items())
      if (entry["type"].str() == "InternalIP") address = entry["address"].str();
    const auto port = status.path("daemonEndpoints.kubeletEndpoint.Port").i64();
    if (address.empty() || port <= 0 || port > 65535) return nullptr;
    const auto key = std::format("{} {}:{}", name, address, port);
    if (const auto known = nodes.find(key); known != nodes.end()) return known->second.get();
    auto made = http::HttpsTransport::create(loop, {.host = std::string(address),
                                                    .port = static_cast<std::uint16_t>(port),
                                                    .tls = node_tls(credentials, std::string(name))});
    if (!made) {
      LOG_ERROR("no way to a node's API", {"node", name}, {"error", made.error()});
      return nullptr;
    }
    return nodes.emplace(key, std::move(*made)).first->second.get();
  }
};

ServerProcess::ServerProcess(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
ServerProcess::~ServerProcess() = default;

Result<std::unique_ptr<ServerProcess>> ServerProcess::open(rt::Loop& loop, const ServerOptions& options) {
  auto parts = std::make_unique<Parts>(loop, options);
  Parts& p = *parts;
  const DataLayout layout{options.data_dir};
  TRY_OK(os::make_folders(layout.server(), 0700));
  auto lock = os::lock_file(layout.server() / "lock");
  if (!lock) {
    if (lock.error().code != Errc::AlreadyExists) return Fail(lock.error());
    return Fail({Errc::AlreadyExists, std::format("another `skerry server` uses {}; stop it, or give --data-dir another folder", options.data_dir.string())});
  }
  p.lock = std::move(*lock);
  TRY(p.credentials, make_server_credentials(layout, options, p.clock.now()));

  const auto file = (layout.server() / "store.db").string(), last_good = (layout.server() / "store.good.db").string();
  TRY(auto opened, sql::Database::open_or_restore(file, last_good, {}, store::Store::migrations()));
  if (opened.emptied)
    LOG_ERROR("the store was damaged and there is no good copy: it begins empty; apply the manifests again, and look at the disk", {"file", file}, {"reason", opened.reason});
  else if (opened.restored)
    LOG_ERROR("the store was damaged: the last good copy is used; look at what changed since, and at the disk", {"file", file}, {"reason", opened.reason});
  store::Store::Options store_options{.resources = apiserver::ApiServer::store_resources(), .copy_to = last_good};
  if (opened.restored) store_options.skip_revisions = store::Store::kAfterRestore;
  TRY(p.store, store::Store::open(loop, p.clock, std::move(opened.database), std::move(store_options)));
  TRY(const auto cluster_dns, cluster_dns_address(options.cluster_dns, options.service_cidr));
  std::vector<apiserver::BearerToken> tokens;
  if (!options.token_file.empty()) {
    TRY(tokens, read_token_file(options.token_file));
  }
  p.api.emplace(*p.store, p.clock, p.random,
                apiserver::Options{.tokens = std::move(tokens),
                                   .node_transport = [&p](std::string_view name) { return p.node_transport(name); },
                                   .service_cidr = options.service_cidr,
                                   .cluster_dns = cluster_dns.str(),
                                   .server_address = std::format("{}:{}", options.listen.address, options.listen.port)});
  p.front.emplace(loop, *p.api,
                  http::Server::Options{.name = "api",
                                        .address = options.listen.address,
                                        .port = options.listen.port,
                                        .tls = p.server_tls(p.credentials),
                                        .connections_max = 20'000});
  p.transport.emplace(*p.api);
  p.client.emplace(*p.transport);
  // The controllers hold the server's own objects, so that none lies in memory twice.
  const auto share = [&p](const client::ResourcePath& path, const kube::Object& object) -> kube::ObjectPtr {
    const auto id = p.store->find_resource(path.group.empty() ? path.resource : path.resource + "." + path.group);
    auto current = id ? p.store->get(*id, object.namespace_(), object.name()) : nullptr;
    return current && current->revision() == object.revision() ? current : nullptr;
  };
  const auto sign = [&p](std::string_view request, const pki::LeafSpec& spec) { return p.credentials.authority->sign(request, spec, p.clock.now()); };
  TRY(auto signing, signing_options(p.credentials, options));
  p.controllers.emplace(loop, *p.client, p.clock, p.random, control::Controllers::Options{.signing = std::move(signing), .sign = sign, .share = share});
  p.api->metrics().on_expose([&p](metrics::Exposition& out) { p.controllers->write_metrics(out); });
  p.api->metrics().on_expose(metrics::write_process_metrics);
  p.api->set_ready_check([&p] { return std::string(p.controllers->synced() ? "" : "the controllers are still reading the cluster"); });
  return std::unique_ptr<ServerProcess>(new ServerProcess(std::move(parts)));
}

rt::Task<> ServerProcess::start() {
  Parts& p = *parts_;
  p.store->start();
  CO_TRY_OK(co_await p.api->bootstrap());
  CO_TRY_OK(co_await p.own_node());
  CO_TRY(auto service, api_service(p.options.listen, p.options.service_cidr));
  CO_TRY_OK(co_await publish_api_service(*p.client, std::move(service)));
  CO_TRY_OK(p.front->start());
  p.controllers->start();
  p.tasks.spawn("certificates", renew_certificates([&p] { return p.take_up_certificates(); }));
  LOG_INFO("server is ready", {"address", std::format("{}:{}", p.options.listen.address, p.front->port())}, {"revision", p.store->revision().value()},
           {"kubeconfig", DataLayout{p.options.data_dir}.admin_kubeconfig().string()});
  co_return Result<>{};
}

rt::Task<> ServerProcess::stop() {
  Parts& p = *parts_;
  // Whatever fails to stop is said, and the rest stops all the same.
  const auto said = [](std::string_view part, const Result<>& result) {
    if (!result) LOG_WARN("stopping failed", {"part", part}, {"error", result.error()});
  };
  said("certificates", co_await p.tasks.stop());
  said("controllers", co_await p.controllers->stop());
  said("api", co_await p.front->stop());
  said("store", co_await p.store->stop());
  co_return Result<>{};
}

}  // namespace skerry::cli
