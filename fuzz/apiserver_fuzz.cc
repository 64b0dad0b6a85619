// SPDX-License-Identifier: Apache-2.0
// A whole request to the API: "METHOD TARGET\nCONTENT-TYPE\nACCEPT\nBODY". The server keeps its objects from one input to
// the next, as a real one does, up to a number; whatever comes, it answers, and JSON where it says so.
#include "apiserver/testing.h"
#include "base/log.h"
#include "fuzz/fuzz.h"

namespace skerry::fuzz {
namespace {

std::unique_ptr<apiserver::TestServer> make_server() {
  auto server = std::make_unique<apiserver::TestServer>();
  server->post("/api/v1/namespaces/default/configmaps", R"({"metadata":{"name":"live"},"data":{"k":"v"}})");
  server->post("/api/v1/namespaces/default/pods", R"({"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}})");
  server->post("/api/v1/namespaces/default/services", R"({"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}})");
  server->post("/apis/apps/v1/namespaces/default/deployments",
               R"({"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},)"
               R"("spec":{"containers":[{"name":"c","image":"i"}]}}}})");
  return server;
}

}  // namespace

void fuzz_one(std::string_view input) {
  static std::unique_ptr<apiserver::TestServer> server = [] {
    set_log_level(LogLevel::Error);
    return make_server();
  }();
  static int uses = 0;
  if (++uses % 5000 == 0) {
    server.reset();
    server = make_server();
  }
  const auto line = take_until(input, '\n');
  auto rest = line;
  const std::string method(take_until(rest, ' '));
  const std::string target(rest);
  const auto type = take_until(input, '\n'), accept = take_until(input, '\n');
  auto reply = server->send(method, target, std::string(input), type, accept);
  REQUIRE(reply.code >= 200 && reply.code < 600);
  if (reply.headers.get("Content-Type") == "application/json" && !reply.stream) REQUIRE(kube::JsonDoc::parse(reply.body).has_value());
}
}  // namespace skerry::fuzz
