// SPDX-License-Identifier: Apache-2.0
// What does not change while the program runs: discovery, OpenAPI, version; and the health of the server.
#include <format>

#include "apiserver/call.h"
#include "base/text.h"
#include "kube/discovery.h"
#include "kube/openapi.h"

namespace skerry::apiserver {
namespace {

http::Response shared(const http::Chunk& body, std::string_view content_type) {
  http::Response response;
  response.headers.set("Content-Type", content_type);
  response.body = body;
  return response;
}
http::Response text(int status, std::string body) { return http::make_response(status, "text/plain; charset=utf-8", std::move(body)); }

template <class Make>
http::Chunk kept(Server& server, const std::string& key, const Make& make) {
  auto& document = server.documents[key];
  if (!document) document = std::make_shared<const std::string>(make());
  return document;
}

http::Response version(const Server& server) {
  JsonEdit edit;
  MutJson root = edit.root();
  std::string_view text = server.options.git_version;  // v1.32.0+skerry
  const auto parts = split(text.starts_with('v') ? text.substr(1) : text, '.');
  root.set("major", parts[0]);
  root.set("minor", parts.size() > 1 ? parts[1] : "0");
  root.set("gitVersion", server.options.git_version);
  root.set("gitCommit", "");
  root.set("gitTreeState", "clean");
  root.set("buildDate", "1970-01-01T00:00:00Z");
  root.set("goVersion", "");
  root.set("compiler", "gcc");
#if defined(__aarch64__)
  root.set("platform", "linux/arm64");
#else
  root.set("platform", "linux/amd64");
#endif
  return respond_json(200, edit.dump());
}

http::Response health(const Server& server, std::string_view what, bool verbose) {
  std::string reason;
  if (what == "readyz" && server.ready_check) reason = server.ready_check();
  const bool good = reason.empty();
  std::string body = std::format("[+]ping ok\n[+]store ok\n{}", good ? "" : std::format("[-]ready failed: {}\n", reason));
  body += std::format("{} check {}\n", what, good ? "passed" : "failed");
  if (good && !verbose) return text(200, "ok");
  return text(good ? 200 : 500, std::move(body));
}

// GET /: where there is something.
std::string paths() {
  JsonEdit edit;
  MutJson list = edit.root().array("paths");
  for (const char* path : {"/api", "/api/v1", "/apis"}) list.push(path);
  for (const auto& [group, version] : kube::group_versions()) {
    if (group.empty()) continue;
    list.push(std::format("/apis/{}", group));
    list.push(std::format("/apis/{}/{}", group, version));
  }
  for (const char* path : {"/healthz", "/livez", "/metrics", "/openapi/v3", "/readyz", "/version"}) list.push(path);
  return edit.dump();
}

}  // namespace

std::optional<http::Response> document(Server& server, const http::Target& target, std::string_view accept) {
  std::string path = target.path;
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const auto json = [&](const std::string& key, const auto& make) { return shared(kept(server, key, make), kube::kJsonType); };
  if (path == "/healthz" || path == "/readyz" || path == "/livez") {
    return health(server, std::string_view(path).substr(1), target.has_param("verbose"));
  }
  if (path == "/version") return version(server);
  if (path == "/") return json(path, paths);
  if (path == "/api" || path == "/apis") {
    const bool core = path == "/api";
    if (kube::accepts_aggregated(accept)) {
      return shared(kept(server, path + "#aggregated", [&] { return core ? kube::aggregated_api() : kube::aggregated_apis(); }), kube::kAggregatedType);
    }
    return json(path, [&] { return core ? kube::api_versions(server.options.server_address) : kube::api_group_list(); });
  }
  if (path == "/openapi/v3") return json(path, [] { return kube::openapi_index(); });
  const auto parts = split(std::string_view(path).substr(1), '/');
  const auto optional_json = [&](const std::optional<std::string>& body) -> std::optional<http::Response> {
    if (!body) return std::nullopt;
    return json(path, [&] { return *body; });
  };
  if (const auto at = server.documents.find(path); at != server.documents.end() && at->second) return shared(at->second, kube::kJsonType);
  if (path.starts_with("/openapi/v3/api/") && parts.size() == 4) return optional_json(kube::openapi_document("", parts[3]));
  if (path.starts_with("/openapi/v3/apis/") && parts.size() == 5) return optional_json(kube::openapi_document(parts[3], parts[4]));
  if (parts.size() == 2 && parts[0] == "api") return optional_json(kube::api_resource_list("", parts[1]));
  if (parts.size() == 2 && parts[0] == "apis") return optional_json(kube::api_group(parts[1]));
  if (parts.size() == 3 && parts[0] == "apis") return optional_json(kube::api_resource_list(parts[1], parts[2]));
  return std::nullopt;
}

}  // namespace skerry::apiserver
