// SPDX-License-Identifier: Apache-2.0
// The three reviews that a client makes of itself (kubectl auth can-i, can-i --list, whoami): the rules of auth.cc, asked.
#include <format>

#include "apiserver/auth.h"
#include "apiserver/call.h"

namespace skerry::apiserver {
namespace {

const kube::BodyType* body_of(const Route& route) {
  if (route.group == "authorization.k8s.io" && route.version == "v1") {
    if (route.resource == "selfsubjectaccessreviews") return &kube::kSelfSubjectAccessReview;
    if (route.resource == "selfsubjectrulesreviews") return &kube::kSelfSubjectRulesReview;
  }
  if (route.group == "authentication.k8s.io" && route.version == "v1" && route.resource == "selfsubjectreviews") return &kube::kSelfSubjectReview;
  return nullptr;
}

// Would this request be let through? What only the object itself can tell (NodeRestriction) is not asked.
ApiResult<> ask(Call& call, MutJson spec) {
  if (const MutJson path = spec["nonResourceAttributes"]; path) {
    return authorize_path(call.user, path["verb"].str() == "get" ? "GET" : "POST", path["path"].str());
  }
  const MutJson wanted = spec["resourceAttributes"];
  if (!wanted) return ApiFail(kube::status_bad_request("spec: give resourceAttributes or nonResourceAttributes"));
  Route route{.verb = std::string(wanted["verb"].str()), .group = std::string(wanted["group"].str()),
              .version = std::string(wanted["version"].str()), .resource = std::string(wanted["resource"].str()),
              .namespace_ = std::string(wanted["namespace"].str()), .name = std::string(wanted["name"].str()),
              .subresource = std::string(wanted["subresource"].str())};
  if (route.version.empty() || route.version == "*") route.version = "v1";
  route.type = kube::find_resource(route.group, route.version, route.resource);
  if (!route.type && !is_master(call.user)) {
    return ApiFail(kube::status_forbidden(route.group, route.resource, "", "this server has no such resource: kubectl api-resources lists what it has"));
  }
  return authorize(Call{.server = call.server, .user = call.user, .route = std::move(route), .target = {.path = "/"}, .request = {}});
}

void say_rules(const User& user, MutJson status) {
  const auto rule = [](MutJson list, std::initializer_list<std::string_view> verbs, std::string_view groups, std::string_view field, std::string_view what) {
    MutJson one = list.push_object();
    for (const auto verb : verbs) one.array("verbs").push(verb);
    if (field == "resources") one.array("apiGroups").push(groups);
    one.array(field).push(what);
  };
  MutJson resources = status.array("resourceRules"), paths = status.array("nonResourceRules");
  status.set("incomplete", !is_master(user));
  if (is_master(user)) {
    rule(resources, {"*"}, "*", "resources", "*");
    rule(paths, {"*"}, "", "nonResourceURLs", "*");
    return;
  }
  for (const std::string_view path : {"/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/readyz", "/livez", "/healthz"}) {
    rule(paths, {"get"}, "", "nonResourceURLs", path);
  }
  if (!node_of(user).empty()) status.set("evaluationError", "what a node may depends on the object: ask for it with kubectl auth can-i VERB RESOURCE/NAME");
}

}  // namespace

bool is_review(const Route& route) { return body_of(route) != nullptr; }

ApiTask<> review(Call& call) {
  const kube::BodyType& type = *body_of(call.route);
  if (call.route.verb != "create" || !call.route.name.empty() || !call.route.namespace_.empty()) co_return ApiFail(kube::status_method_not_allowed());
  CO_TRY_API_OK(parse_write_options(call));
  CO_TRY_API(const auto validation, parse_validation(call));
  CO_TRY_API(auto decoded, kube::decode_body(type, call.header("Content-Type"), call.request.body, validation));
  call.warnings = std::move(decoded.warnings);
  MutJson root = decoded.object.root(), status = root.object("status");
  root.object("metadata").set("creationTimestamp", to_rfc3339(call.server.clock.now()));
  if (&type == &kube::kSelfSubjectReview) {
    MutJson user = status.object("userInfo");
    user.set("username", call.user.name);
    for (const auto& group : call.user.groups) user.array("groups").push(group);
  } else if (&type == &kube::kSelfSubjectRulesReview) {
    say_rules(call.user, status);
  } else {
    const auto allowed = ask(call, root.object("spec"));
    if (!allowed && allowed.error().code == 400) co_return ApiFail(allowed.error());
    status.set("allowed", allowed.has_value());
    if (!allowed) status.set("reason", allowed.error().message);
  }
  co_return respond_json(201, kube::canonical(type.message(), root));
}

}  // namespace skerry::apiserver
