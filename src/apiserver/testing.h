// SPDX-License-Identifier: Apache-2.0
// For tests of apiserver/: a whole API server without sockets, on a disk in memory, with a clock that moves when told.
#pragma once
#include <format>
#include <memory>
#include <string>

#include "apiserver/apiserver.h"
#include "base/check.h"
#include "kube/json.h"
#include "sql/faulty_vfs.h"
#include "tests/run_on.h"

namespace skerry::apiserver {

struct Reply {
  int code = 0;
  std::string body;
  http::Headers headers;
  std::unique_ptr<http::Stream> stream;
  kube::JsonDoc doc() const { return kube::JsonDoc::parse(body).value(); }
  // A field by its dotted path, as JSON text; "" if absent.
  std::string at(std::string_view path) const {
    const auto parsed = doc();
    const kube::Json value = parsed.root().path(path);
    return value.is_string() ? std::string(value.str()) : value.exists() ? value.dump() : "";
  }
  std::string message() const { return at("message"); }
};

class TestServer {
 public:
  explicit TestServer(Options options = {}) : options_(std::move(options)) {
    open();
    bootstrap();
  }
  ~TestServer() { close(); }
  void close() {
    if (!store) return;
    api.reset();
    (void)run_on(loop, store->stop());
    store.reset();
  }
  void reopen() {
    close();
    open();
  }

  Reply send(std::string_view method, std::string_view target, std::string body = {}, std::string_view type = "application/json",
             std::string_view accept = {}) {
    http::Request request;
    request.method = method;
    request.target = target;
    request.body = std::move(body);
    if (!request.body.empty()) request.headers.set("Content-Type", type);
    if (!accept.empty()) request.headers.set("Accept", accept);
    if (!token.empty()) request.headers.set("Authorization", "Bearer " + token);
    for (const auto& [name, value] : headers) request.headers.add(name, value);
    request.peer.certificate_common_name = user;
    request.peer.certificate_organizations = groups;
    request.peer.certificate_serial = serial;
    request.peer.certificate_key = key;
    request.peer.certificate_not_before = not_before;
    request.peer.certificate_not_after = not_after;
    request.peer.expired_certificate = expired;
    auto response = run_on(loop, api->handle(std::move(request))).value();
    return {response.status, std::string(response.text()), response.headers, std::move(response.stream)};
  }
  Reply get(std::string_view target, std::string_view accept = {}) { return send("GET", target, {}, {}, accept); }
  Reply post(std::string_view target, std::string body) { return send("POST", target, std::move(body)); }
  Reply put(std::string_view target, std::string body) { return send("PUT", target, std::move(body)); }
  Reply merge(std::string_view target, std::string body) { return send("PATCH", target, std::move(body), "application/merge-patch+json"); }
  Reply strategic(std::string_view target, std::string body) {
    return send("PATCH", target, std::move(body), "application/strategic-merge-patch+json");
  }
  Reply remove(std::string_view target, std::string body = {}) { return send("DELETE", target, std::move(body)); }
  // The next event of a watch, without its newline; "" at the end.
  std::string next(Reply& watch) {
    auto chunk = run_on(loop, watch.stream->next()).value();
    return chunk ? (*chunk)->substr(0, (*chunk)->size() - 1) : "";
  }
  void as_node(std::string_view name) {
    user = std::format("system:node:{}", name);
    groups = {"system:nodes"};
  }
  void as_admin() {
    user = "admin";
    groups = {"system:masters"};
  }

  sql::FaultyVfs disk{"api-test"};
  ManualClock clock;
  SeededRandom random{7};
  rt::Loop loop;
  std::unique_ptr<store::Store> store;
  std::unique_ptr<ApiServer> api;
  std::string user = "admin", token, serial, key;
  Time not_before{}, not_after = Time::max();
  std::shared_ptr<const http::ClientCertificate> expired;
  std::vector<std::string> groups = {"system:masters"};
  std::vector<std::pair<std::string, std::string>> headers;  // of every request

 private:
  void open() {
    auto database = sql::Database::open("api.db", {.vfs = disk.name()}, store::Store::migrations()).value();
    store = store::Store::open(loop, clock, std::move(database), {.resources = ApiServer::store_resources()}).value();
    api = std::make_unique<ApiServer>(*store, clock, random, options_);
  }
  void bootstrap() { CHECK(run_on(loop, api->bootstrap()).has_value()); }
  Options options_;
};

}  // namespace skerry::apiserver
