// SPDX-License-Identifier: Apache-2.0
// Logs come from the node that runs the pod: the request is passed to its serving port and the answer handed through.
#include <algorithm>
#include <format>

#include "apiserver/call.h"
#include "base/text.h"

namespace skerry::apiserver {
namespace {

constexpr auto kNodeTimeout = std::chrono::seconds(30);

// The container that is meant: named, the only one, or the one an annotation makes the default.
ApiResult<std::string> choose_container(std::string_view wanted, Json pod) {
  const std::string_view name = pod["metadata"]["name"].str();
  std::string all;
  std::string_view only;
  std::size_t count = 0;
  bool found = false;
  for (const Json container : pod["spec"]["containers"].items()) {
    only = container["name"].str();
    found = found || only == wanted;
    all += (all.empty() ? "" : " ") + std::string(only);
    ++count;
  }
  std::string inits;
  for (const Json container : pod["spec"]["initContainers"].items()) {
    found = found || container["name"].str() == wanted;
    inits += (inits.empty() ? "" : " ") + std::string(container["name"].str());
  }
  if (!wanted.empty()) {
    if (found) return std::string(wanted);
    return ApiFail(kube::status_bad_request(std::format("container {} is not valid for pod {}", wanted, name)));
  }
  if (count == 1) return std::string(only);
  if (const auto chosen = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].str(); !chosen.empty()) return std::string(chosen);
  std::string text = std::format("a container name must be specified for pod {}, choose one of: [{}]", name, all);
  if (!inits.empty()) text += std::format(" or one of the init containers: [{}]", inits);
  return ApiFail(kube::status_bad_request(text));
}

ApiResult<> check_options(const Call& call) {
  kube::FieldErrors errors;
  const auto whole = [&](const char* name, std::int64_t least, std::string_view rule) -> ApiResult<> {
    const std::string_view text = call.param(name);
    if (text.empty()) return {};
    const auto number = parse_int<std::int64_t>(text);
    if (!number) return ApiFail(kube::status_bad_request(std::format("{}: \"{}\" is not a whole number", name, text)));
    if (*number < least) errors.push_back(kube::field_invalid(name, text, rule));
    return {};
  };
  TRY_API_OK(whole("tailLines", 0, "must be greater than or equal to 0"));
  TRY_API_OK(whole("limitBytes", 1, "must be greater than 0"));
  TRY_API_OK(whole("sinceSeconds", 1, "must be greater than 0"));
  const std::string_view time = call.param("sinceTime");
  if (!time.empty() && !from_rfc3339(time)) return ApiFail(kube::status_bad_request(std::format("sinceTime: \"{}\" is not a time: write it like 2026-01-31T12:00:00Z", time)));
  if (!time.empty() && !call.param("sinceSeconds").empty()) {
    errors.push_back(kube::field_forbidden("sinceSeconds", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
  }
  if (const auto stream = call.param("stream"); !stream.empty() && stream != "All") {
    errors.push_back(kube::field_forbidden("stream", "standard output and standard error are kept together: leave it out"));
  }
  if (!errors.empty()) return ApiFail(kube::status_invalid("", "PodLogOptions", call.route.name, errors));
  return {};
}

// What the node refuses with is text for the operator: it becomes the message of a Status, which clients show.
ApiTask<> refusal(http::Response answer) {
  constexpr std::size_t kTextMax = 2048;
  std::string text(answer.text());
  while (answer.stream && text.size() < kTextMax) {
    auto chunk = co_await answer.stream->next();
    if (!chunk || !*chunk) break;
    text += ***chunk;
  }
  text.resize(std::min(text.size(), kTextMax));
  const std::string_view said = trim(text);
  Status status = answer.status == 400 ? kube::status_bad_request(said) : answer.status == 503 ? kube::status_unavailable(said) : kube::status_internal(said);
  if (answer.status == 404) {
    status.code = 404;
    status.reason = "NotFound";
    status.message = said;
  }
  if (said.empty()) status.message = std::format("the node answered {} without a word", answer.status);
  co_return ApiFail(std::move(status));
}

}  // namespace

ApiTask<> log(Call& call) {
  CO_TRY_API_OK(check_options(call));
  const ObjectPtr pod = call.server.store.get(call.id(), call.route.namespace_, call.route.name);
  if (!pod) co_return ApiFail(not_found(call.route));
  const auto doc = pod->parse();
  CO_TRY_API(const std::string container, choose_container(call.param("container"), doc.root()));
  // Not on a node yet: there is nothing to show.
  if (pod->node_name().empty()) co_return http::make_response(200, "text/plain", "");
  http::Transport* transport = call.server.options.node_transport ? call.server.options.node_transport(pod->node_name()) : nullptr;
  if (!transport) {
    co_return ApiFail(kube::status_unavailable(std::format("the serving port of node {} is not known: is the node running?", pod->node_name())));
  }
  http::Request request;
  request.method = "GET";
  request.target = std::format("/containerLogs/{}/{}/{}", http::percent_encode(pod->namespace_()), http::percent_encode(pod->name()), http::percent_encode(container));
  char separator = '?';
  for (const char* name : {"follow", "previous", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "timestamps"}) {
    if (const auto value = call.param(name); !value.empty()) {
      request.target += std::format("{}{}={}", separator, name, http::percent_encode(value));
      separator = '&';
    }
  }
  auto answer = co_await transport->send(std::move(request), http::BodyMode::Streamed, kNodeTimeout);
  if (!answer) {
    co_return ApiFail(kube::status_unavailable(std::format("node {} does not answer on its serving port: {}", pod->node_name(), answer.error().what)));
  }
  if (answer->status >= 400) co_return co_await refusal(std::move(*answer));
  http::Response response;
  response.status = answer->status;
  const std::string_view type = answer->headers.get("Content-Type");
  response.headers.set("Content-Type", type.empty() ? "text/plain" : type);
  response.body = std::move(answer->body);
  response.stream = std::move(answer->stream);
  co_return response;
}

}  // namespace skerry::apiserver
