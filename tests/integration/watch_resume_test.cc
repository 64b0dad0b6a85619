// SPDX-License-Identifier: Apache-2.0
// Goal: a watch outlives a restart of the server, through its real HTTP front: no 410 for a node whose pods did not change,
// and 410 for one that lost a pod meanwhile.
// Method: store, API server and HTTP server are stopped and built anew over the same disk; a client on a socket watches.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>
#include <optional>

#include "apiserver/apiserver.h"
#include "http/client.h"
#include "http/server.h"
#include "sql/faulty_vfs.h"
#include "tests/run_on.h"

namespace skerry::apiserver {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::string_view kAdmin = "admin-token";

class RealServer : public ::testing::Test {
 protected:
  RealServer() { start(); }
  ~RealServer() override { stop(); }
  void start() {
    auto database = sql::Database::open("api.db", {.vfs = disk_.name()}, store::Store::migrations()).value();
    store_ = store::Store::open(loop_, clock_, std::move(database), {.resources = ApiServer::store_resources()}).value();
    api_.emplace(*store_, clock_, random_, Options{.tokens = {{std::string(kAdmin), {"admin", {"system:masters"}}}}});
    CHECK(run_on(loop_, api_->bootstrap()).has_value());
    server_.emplace(loop_, *api_, http::Server::Options{});
    CHECK(server_->start().has_value());
    client_ = http::HttpsTransport::create(loop_, {.host = "127.0.0.1", .port = server_->port(), .bearer_token = std::string(kAdmin)}).value();
  }
  void stop() {
    (void)run_on(loop_, store_->stop());  // as `skerry server` does: it ends the watches
    client_.reset();
    (void)run_on(loop_, server_->stop(1s));
    server_.reset();
    api_.reset();
    store_.reset();
  }
  static rt::Task<http::Response> send_task(http::Transport& to, http::Request request) {
    const auto mode = request.target.contains("watch=1") ? http::BodyMode::Streamed : http::BodyMode::Whole;
    co_return co_await to.send(std::move(request), mode, 30s);
  }
  http::Response send(std::string method, std::string target, std::string body = {}) {
    http::Request request;
    request.method = std::move(method);
    request.target = std::move(target);
    request.body = std::move(body);
    if (!request.body.empty()) request.headers.set("Content-Type", "application/json");
    return run_on(loop_, send_task(*client_, std::move(request))).value();
  }
  void pod(std::string_view name, std::string_view node) {
    EXPECT_EQ(send("POST", "/api/v1/namespaces/default/pods",
                   std::format(R"({{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{}"}},"spec":{{"nodeName":"{}","containers":[{{"name":"c","image":"i"}}]}}}})", name, node))
                  .status,
              201);
  }
  // All that a watch says until its time is over.
  std::string watch(std::string_view node, std::uint64_t from) {
    auto response = send("GET", std::format("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D{}&resourceVersion={}&allowWatchBookmarks=true&timeoutSeconds=1", node, from));
    EXPECT_EQ(response.status, 200);
    std::string all;
    for (;;) {
      auto part = run_on(loop_, response.stream->next()).value();
      if (!part) return all;
      all += **part;
    }
  }

  sql::FaultyVfs disk_{"watch-resume"};
  SystemClock clock_;
  SeededRandom random_{11};
  rt::Loop loop_;
  std::unique_ptr<store::Store> store_;
  std::optional<ApiServer> api_;
  std::optional<http::Server> server_;
  std::unique_ptr<http::HttpsTransport> client_;
};

TEST_F(RealServer, AnswersAnOldWatchAfterARestart) {
  pod("a", "n"), pod("b", "m");
  const std::uint64_t seen = store_->revision().value();
  for (int i = 0; i < 3; ++i) pod(std::format("x{}", i), "other");
  EXPECT_EQ(send("DELETE", "/api/v1/namespaces/default/pods/b?gracePeriodSeconds=0").status, 200);
  stop();
  start();
  const std::string kept = watch("n", seen);
  EXPECT_THAT(kept, ::testing::Not(HasSubstr("ERROR")));
  EXPECT_THAT(kept, HasSubstr(std::format(R"({{"type":"BOOKMARK","object":{{"kind":"Pod","apiVersion":"v1","metadata":{{"resourceVersion":"{}")", store_->revision().value())));
  EXPECT_THAT(watch("m", seen), HasSubstr(R"("reason":"Expired")"));
  EXPECT_THAT(watch("other", seen), HasSubstr(R"("reason":"Expired")"));
  // From where the bookmark led, what comes next arrives.
  const std::uint64_t marked = store_->revision().value();
  pod("c", "n");
  stop();
  start();
  EXPECT_THAT(watch("n", marked), HasSubstr(R"("reason":"Expired")"));
  EXPECT_THAT(watch("m", marked), ::testing::Not(HasSubstr("ERROR")));
}

}  // namespace
}  // namespace skerry::apiserver
