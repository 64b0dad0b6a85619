// SPDX-License-Identifier: Apache-2.0
// An API server alone, over TLS on loopback, without controllers or nodes: for contract tests with a real kubectl and for
// measurements of the API itself.      apiserver_fixture FOLDER
// Makes FOLDER/admin.kubeconfig and FOLDER/node.kubeconfig (system:node:n1), prints "ready PORT", ends at SIGTERM.
#include <csignal>
#include <cstdio>
#include <format>
#include <string>

#include "apiserver/apiserver.h"
#include "base/log.h"
#include "http/server.h"
#include "os/file.h"
#include "pki/certificate.h"
#include "pki/kubeconfig.h"

namespace skerry {
namespace {

Result<std::string> kubeconfig(const pki::CertificateAuthority& ca, Time now, std::uint16_t port, std::string user, std::vector<std::string> groups) {
  TRY(const auto pair, ca.issue({.common_name = user, .organizations = std::move(groups)}, now));
  return pki::to_yaml({.user = user, .server = std::format("https://127.0.0.1:{}", port), .ca_pem = ca.pair().certificate_pem, .client = pair});
}

rt::Task<> end(rt::Loop& loop, http::Server& front, store::Store& store) {
  CO_TRY_OK(co_await front.stop());
  CO_TRY_OK(co_await store.stop());
  loop.stop();
  co_return Result<>{};
}
rt::Task<> begin(apiserver::ApiServer& api, http::Server& front, store::Store& store, const pki::CertificateAuthority& ca, Time now, std::string folder) {
  CO_TRY_OK(co_await api.bootstrap());
  store.start();
  CO_TRY_OK(front.start());
  CO_TRY(const auto admin, kubeconfig(ca, now, front.port(), "admin", {"system:masters"}));
  CO_TRY(const auto node, kubeconfig(ca, now, front.port(), "system:node:n1", {"system:nodes"}));
  CO_TRY_OK(os::write_file_atomically(folder + "/admin.kubeconfig", admin, 0600));
  CO_TRY_OK(os::write_file_atomically(folder + "/node.kubeconfig", node, 0600));
  std::printf("ready %u\n", static_cast<unsigned>(front.port()));
  std::fflush(stdout);
  co_return Result<>{};
}

Result<> run(const std::string& folder) {
  const SystemClock clock;
  SystemRandom random;
  rt::Loop loop;
  TRY(auto database, sql::Database::open(folder + "/store.db", {}, store::Store::migrations()));
  TRY(const auto store, store::Store::open(loop, clock, std::move(database), {.resources = apiserver::ApiServer::store_resources()}));
  // Loopback and a throw-away certificate authority: the token is no secret.
  apiserver::ApiServer api(*store, clock, random, {.tokens = {{"fixture-token", {"load", {"system:masters"}}}}});
  TRY(const auto ca, pki::CertificateAuthority::create("skerry-fixture", clock.now()));
  TRY(const auto leaf, ca.issue({.common_name = "server", .addresses = {"127.0.0.1"}, .usage = pki::Usage::Server}, clock.now()));
  http::Server front(loop, api,
                     {.name = "api",
                      .tls = http::ServerTls{.certificate_pem = leaf.certificate_pem, .key_pem = leaf.key_pem, .client_ca_pem = ca.pair().certificate_pem}});
  rt::TaskGroup tasks(loop);
  tasks.spawn("begin", begin(api, front, *store, ca, clock.now(), folder));
  rt::TaskGroup ending(loop);
  loop.on_signal({SIGTERM, SIGINT}, [&](int) { ending.spawn("end", end(loop, front, *store)); });
  loop.run();
  return {};
}

}  // namespace
}  // namespace skerry

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: apiserver_fixture FOLDER\n", stderr);
    return 2;
  }
  if (auto done = skerry::run(argv[1]); !done) {
    LOG_ERROR("fixture failed", {"error", done.error()});
    return 1;
  }
}
