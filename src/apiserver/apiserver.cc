// SPDX-License-Identifier: Apache-2.0
#include "apiserver/apiserver.h"

#include <algorithm>
#include <format>

#include "apiserver/auth.h"
#include "apiserver/call.h"
#include "apiserver/node_events.h"
#include "apiserver/request_metrics.h"
#include "apiserver/server_metrics.h"
#include "apiserver/service_addresses.h"
#include "base/check.h"
#include "base/log.h"
#include "kube/digest.h"

namespace skerry::apiserver {
namespace {

constexpr std::string_view kNodeCertificates = "nodecertificates.skerry.dev";  // in the store alone: not a resource of the API

// Subresources of pods that Kubernetes has and this server does not.
std::string_view unserved(std::string_view subresource) {
  if (subresource == "exec" || subresource == "attach" || subresource == "portforward") {
    return "exec, attach and port-forward are not served yet: use kubectl logs, or reach the pod through a Service";
  }
  if (subresource == "ephemeralcontainers") return "ephemeral containers are not served: a Wasm pod has no shell to debug with";
  if (subresource == "token") return "service account tokens are not served: use a client certificate or a bearer token of the server's configuration";
  if (subresource == "proxy") return "the API does not proxy to pods, services and nodes: reach them directly";
  if (subresource == "resize") return "pods are not resized in place: change the Deployment, whose pods are then replaced";
  return {};
}

ApiTask<> dispatch_subresource(Call& call) {
  const Route& route = call.route;
  const std::string_view sub = route.subresource, verb = route.verb;
  if (const auto sentence = unserved(sub); !sentence.empty()) co_return ApiFail(kube::status_not_implemented(sentence));
  const auto* known = route.type->subresource(sub);
  if (!known) co_return ApiFail(kube::status_unknown_path());
  if (std::ranges::find(known->verbs, verb) == known->verbs.end()) co_return ApiFail(kube::status_method_not_allowed());
  if (sub == "scale") co_return co_await scale(call);
  if (sub == "binding") co_return co_await bind(call);
  if (sub == "eviction") co_return co_await evict(call);
  if (sub == "log") co_return co_await log(call);
  if (sub == "finalize") co_return co_await finalize(call);
  if (sub == "status" || sub == "approval") {
    if (verb == "get") co_return co_await get(call);
    if (verb == "update") co_return co_await update(call);
    co_return co_await patch(call);
  }
  co_return ApiFail(kube::status_unknown_path());
}

ApiTask<> dispatch(Call& call) {
  const Route& route = call.route;
  if (!route.type) co_return ApiFail(unserved_resource(route));
  // The namespace is part of the path of a namespaced object, and of no other.
  if (route.type->namespaced ? route.namespace_.empty() && !route.name.empty() : !route.namespace_.empty()) {
    co_return ApiFail(kube::status_unknown_path());
  }
  if (!route.subresource.empty()) co_return co_await dispatch_subresource(call);
  if (!route.type->has_verb(route.verb)) co_return ApiFail(kube::status_method_not_allowed());
  if (route.verb == "get") co_return co_await get(call);
  if (route.verb == "list") co_return co_await list(call);
  if (route.verb == "watch") co_return co_await watch(call);
  if (route.verb == "create") co_return co_await create(call);
  if (route.verb == "deletecollection") co_return co_await remove_collection(call);
  if (route.name.empty()) co_return ApiFail(kube::status_method_not_allowed());
  if (route.verb == "update") co_return co_await update(call);
  if (route.verb == "patch") co_return co_await patch(call);
  if (route.verb == "delete") co_return co_await remove(call);
  co_return ApiFail(kube::status_method_not_allowed());
}

// A subresource that is not served is counted as such, by no name of the client's choice.
RequestMetrics::Kind kind_of(const Call& call) {
  const Route& route = call.route;
  RequestMetrics::Kind kind{.verb = RequestMetrics::metric_verb(route.verb), .type = route.type};
  if (!route.subresource.empty()) {
    const auto* known = route.type->subresource(route.subresource);
    kind.subresource = known ? known->name : "unserved";
  }
  kind.scope = !route.name.empty() || route.verb == "create" ? "resource" : route.namespace_.empty() ? "cluster" : "namespace";
  if (call.param("dryRun") == "All") kind.dry_run = "All";
  return kind;
}

}  // namespace

struct ApiServer::State {
  Server server;
  metrics::Registry registry{};
  RequestMetrics requests{registry};

  // Whoever shows the newest certificate of a node has it remembered, durably, before it is answered: all older ones end with that.
  rt::asio::awaitable<void> remember(const http::Peer& peer) {
    const std::string node(node_of(peer.certificate_common_name, peer.certificate_organizations));
    const Time now = server.clock.now();
    if (node.empty() || peer.certificate_serial.empty() || now >= peer.certificate_not_after) co_return;
    if (server.identities.judge(node, peer.certificate_serial, peer.certificate_not_before, now) != NodeIdentities::Judgement::Newer) co_return;
    NodeIdentities::Certificate newest{peer.certificate_serial, peer.certificate_not_before};
    // A full disk must not shut out the nodes: the next request tries again, and until then the former is not refused.
    if (!co_await write_down(node, newest)) co_return;
    LOG_INFO("node certificate in use", {"node", node}, {"serial", newest.serial}, {"begun", to_rfc3339(newest.not_before)});
    server.identities.remember(node, std::move(newest), server.clock.now());
  }
  rt::Task<> write_down(std::string node, NodeIdentities::Certificate newest) {
    CO_TRY_OK(co_await server.store.write(server.id(kNodeCertificates), "", node, [&](const ObjectPtr& old, Revision next) -> Result<store::Outcome> {
      if (old && old->parse().root()["serial"].str() == newest.serial) return store::Keep{};
      JsonEdit edit;
      edit.root().set("kind", "NodeCertificate");
      MutJson metadata = edit.root().object("metadata");
      metadata.set("name", node);
      metadata.set("resourceVersion", std::to_string(next.value()));
      edit.root().set("serial", newest.serial);
      edit.root().set("notBefore", to_rfc3339(newest.not_before));
      return store::Put{edit.dump()};
    }));
    co_return Result<>{};
  }

  void count_refusal(const Status& status) {
    for (const auto& cause : status.details.causes) {
      server.certificates_refused += cause.reason == kReplaced;
      server.machines_refused += cause.reason == kMachineConflict;
    }
  }
  // What an operator should see on the node itself.
  rt::asio::awaitable<void> report(const Status& status) {
    count_refusal(status);
    for (const auto& cause : status.details.causes) {
      if (cause.reason == kReplaced) co_await warn_about_node(server, cause.message, "CertificateReplaced", status.message);
      if (cause.reason == kMachineConflict) co_await warn_about_node(server, status.details.name, "MachineConflict", cause.message);
    }
  }

  ApiTask<> answer(http::Request request, RequestMetrics::Kind& kind) {
    auto target = http::Target::parse(request.target);
    if (!target) co_return ApiFail(kube::status_bad_request(target.error().what));
    if (target->path == "/healthz") co_return *document(server, *target, "");
    auto known = authenticate(server, request);
    if (!known) {
      co_await report(known.error());
      co_return ApiFail(std::move(known).error());
    }
    User caller = std::move(*known);
    co_await remember(request.peer);
    CO_TRY_API(User user, impersonate(std::move(caller), request.headers));
    auto route = parse_route(request.method, *target);
    if (!route) {
      CO_TRY_API_OK(authorize_path(user, request.method, target->path));
      if (request.method == "GET" || request.method == "HEAD") {
        if (target->path == "/metrics") {
          kind = {.verb = "GET", .subresource = "/metrics"};
          co_return http::make_response(200, metrics::kContentType, registry.expose());
        }
        if (auto found = document(server, *target, request.headers.get("Accept"))) {
          kind.verb = "GET";
          co_return std::move(*found);
        }
      }
      co_return http::make_response(404, "text/plain; charset=utf-8", "404 page not found\n");
    }
    Call call{.server = server, .user = std::move(user), .route = std::move(*route), .target = std::move(*target), .request = std::move(request)};
    if (!call.user.expired_key.empty()) CO_TRY_API_OK(authorize(call));
    if (is_review(call.route)) co_return co_await review(call);
    if (!call.route.type && !is_of_kubernetes(call.route.group)) co_return http::make_response(404, "text/plain; charset=utf-8", "404 page not found\n");
    if (call.route.type) kind = kind_of(call);
    CO_TRY_API_OK(authorize(call));
    auto response = co_await dispatch(call);
    if (!response && response.error().code == 403) co_await report(response.error());
    if (response) add_warnings(*response, call.warnings);
    if (response) tell_digests(call, *response);
    co_return response;
  }

  // To who writes a node's Lease and asks for it: what there is for that node (docs/wire/digest.md).
  void tell_digests(const Call& call, http::Response& response) {
    const std::string& node = call.route.name;
    if (node.empty() || call.route.resource != "leases" || call.route.namespace_ != "kube-node-lease" || !call.request.headers.has(kube::kDigestHeader)) return;
    const store::Store& store = server.store;
    kube::Digest edge;
    if (const ObjectPtr config = store.get(server.id("configmaps"), "default", "edge-config")) edge.add(*config);
    response.headers.set(kube::kDigestHeader, kube::digests_text({{"pods", store.digest(server.id("pods"), node)},
                                                                  {"services", store.digest(server.id("services"))},
                                                                  {"endpointslices", store.digest(server.id("endpointslices.discovery.k8s.io"))},
                                                                  {"edge-config", edge.value()},
                                                                  {"references", server.references.digest(server, node)}}));
  }
};

ApiServer::ApiServer(store::Store& store, const Clock& clock, Random& random, Options options)
    : state_(new State{.server = {.store = store, .clock = clock, .random = random, .options = std::move(options), .identities = NodeIdentities(clock.instant()), .ready_check = {}, .documents = {}}}) {
  const auto range = parse_range(state_->server.options.service_cidr);
  CHECK(range.has_value());  // cli has checked it
  state_->server.service_base = range->base;
  state_->server.service_mask = range->mask;
  state_->server.cluster_dns = parse_ipv4(state_->server.options.cluster_dns).value_or(0);
  store.for_each_newest(state_->server.id(kNodeCertificates), [this](const kube::Object& one) {
    const auto doc = one.parse();
    const auto begun = from_rfc3339(doc.root()["notBefore"].str());
    if (begun) state_->server.identities.replace(one.name(), {std::string(doc.root()["serial"].str()), *begun});
  });
  state_->registry.on_expose([this](metrics::Exposition& out) { write_server_metrics(state_->server, out); });
}
ApiServer::~ApiServer() { CHECK(state_->server.watches == 0); }

std::vector<store::ResourceOptions> ApiServer::store_resources() {
  std::vector<store::ResourceOptions> out;
  for (const ResourceType& type : kube::resources()) {
    const std::string name = type.qualified();
    if (std::ranges::find(out, name, &store::ResourceOptions::name) != out.end()) continue;  // in two versions
    store::ResourceOptions options{.name = name};
    if (type.kind == "Pod") options.removal_scope = store::RemovalScope::Node;  // a node watches its own
    if (type.kind == "Lease") options.durability = store::Durability::Coalesced;
    if (type.kind == "Event") {
      options.ttl = std::chrono::hours(1);
      options.objects_max = 20'000;
    }
    // 5000 nodes at once, several each. One node makes few: NodeIdentities::kRequestsMax.
    if (type.kind == "CertificateSigningRequest") options.objects_max = 50'000;
    out.push_back(std::move(options));
  }
  out.push_back({.name = std::string(kNodeCertificates), .objects_max = 100'000});
  return out;
}

rt::Task<> ApiServer::bootstrap() {
  for (const char* name : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
    http::Request request;
    request.method = "POST";
    request.target = "/api/v1/namespaces";
    request.headers.set("Content-Type", kube::kJsonType);
    request.body = std::format(R"({{"kind":"Namespace","apiVersion":"v1","metadata":{{"name":"{}"}}}})", name);
    request.peer.in_process = true;
    CO_TRY(const http::Response response, co_await handle(std::move(request)));
    if (response.status != 201 && response.status != 409) {
      co_return Fail({Errc::Internal, std::format("create namespace {}: {}", name, response.text())});
    }
  }
  co_return Result<>{};
}

rt::Task<http::Response> ApiServer::handle(http::Request request) {
  RequestMetrics::Kind kind;
  const RequestMetrics::InFlight counted(state_->requests, request.method);
  const Instant begin = state_->server.clock.instant();
  auto answer = co_await state_->answer(std::move(request), kind);
  http::Response response = answer ? std::move(*answer) : respond(answer.error());
  state_->requests.finished(kind, response.status, state_->server.clock.instant() - begin);
  if (response.status >= 500 && response.status != 501) {
    LOG_WARN("request failed", {"verb", kind.verb}, {"resource", kind.type ? kind.type->resource : ""}, {"code", response.status},
             {"message", answer ? std::string_view("passed on from a node") : std::string_view(answer.error().message)});
  }
  co_return response;
}

std::optional<http::Response> ApiServer::refuse_body(const http::Request& head) {
  const auto user = authenticate(state_->server, head);
  if (user) return std::nullopt;
  state_->count_refusal(user.error());
  RequestMetrics::Kind kind;
  http::Response response = respond(user.error());
  state_->requests.finished(kind, response.status, {});
  return response;
}

rt::Task<> ApiServer::node_certificate_issued(std::string node, std::string serial, Time not_before) {
  auto& identities = state_->server.identities;
  // In order by the clock: its first use says so, and until then the node may use the former.
  if (const auto* known = identities.newest(node); !known || known->serial == serial || known->not_before <= not_before) co_return Result<>{};
  const NodeIdentities::Certificate newest{std::move(serial), not_before};
  CO_TRY_OK(co_await state_->write_down(node, newest));
  identities.replace(node, newest);
  co_return Result<>{};
}

void ApiServer::set_ready_check(std::function<std::string()> check) { state_->server.ready_check = std::move(check); }
metrics::Registry& ApiServer::metrics() { return state_->registry; }
std::size_t ApiServer::watches() const { return state_->server.watches; }

}  // namespace skerry::apiserver
