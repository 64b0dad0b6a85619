// SPDX-License-Identifier: Apache-2.0
// The Kubernetes API over a Store: authentication, authorization, admission, and one file per verb. See README.md.
// On the store's loop; everything it is given must outlive it. Answers every expected failure with a Status body.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/time.h"
#include "http/message.h"
#include "metrics/registry.h"
#include "store/store.h"

namespace skerry::apiserver {

struct User {
  std::string name;
  std::vector<std::string> groups;
  // Of a node whose client certificate has ended: its key's fingerprint, and when. It may renew that certificate, nothing else.
  std::string expired_key = {};
  Time expired_at = {};
};
struct BearerToken {
  std::string token;
  User user;
};

struct Options {
  std::vector<BearerToken> tokens{};
  // The way to a node's serving port (:10250), for logs; null if the node is not known. The transport must live as long
  // as this. Empty: logs are answered with 503.
  std::function<http::Transport*(std::string_view node)> node_transport{};
  std::string service_cidr = "10.43.0.0/16";  // IPv4; the first address is kept for the API itself
  std::string cluster_dns{};                  // an address of it that is given only to who asks for it; empty: none is kept
  std::uint16_t node_port_min = 30'000, node_port_max = 32'767;
  std::string server_address = "127.0.0.1:6443";  // as plain discovery names it
  std::string git_version = "v1.32.0+skerry";     // GET /version: the API level first, clients compare it
  Duration bookmark_every = std::chrono::minutes(5);  // each is a packet both ways on a node's thin line; how far back a watch may begin does not hang on it
  Duration watch_max = std::chrono::minutes(30);  // without timeoutSeconds a watch ends between that and twice that
  std::size_t watches_max = 20'000;
  std::size_t list_items_max = 200'000;
};

class ApiServer final : public http::Handler {
 public:
  ApiServer(store::Store&, const Clock&, Random&, Options);
  ~ApiServer() override;

  // The resources that the Store must be opened with.
  static std::vector<store::ResourceOptions> store_resources();
  // The namespaces that every cluster has, unless they exist. Before the first request.
  rt::Task<> bootstrap();
  rt::Task<http::Response> handle(http::Request) override;
  std::optional<http::Response> refuse_body(const http::Request&) override;  // 401: nobody known may send a body

  // This machine has made that certificate for its own node: it is not refused, even if the clock has gone back since a former one.
  rt::Task<> node_certificate_issued(std::string node, std::string serial, Time not_before);
  // What /readyz says beyond "the store works", e.g. while the controllers start. Empty text: ready.
  void set_ready_check(std::function<std::string()> check);
  // What GET /metrics exposes: requests, watches and the store. Others of this process add theirs before the first request.
  metrics::Registry& metrics();
  std::size_t watches() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skerry::apiserver
