// SPDX-License-Identifier: Apache-2.0
#include <format>

#include "apiserver/admission.h"
#include "apiserver/auth.h"
#include "apiserver/call.h"
#include "apiserver/signing_request.h"
#include "base/random.h"
#include "kube/defaults.h"
#include "kube/strategy.h"

namespace skerry::apiserver {
namespace {

constexpr int kNameAttempts = 8;
constexpr std::size_t kGeneratedNameMax = 63, kSuffix = 5;

// metadata as the path demands it; what only the server sets goes.
ApiResult<> place(Call& call, MutJson object) {
  MutJson metadata = object.object("metadata");
  if (call.type().namespaced) {
    const std::string_view stated = metadata["namespace"].str();
    if (!stated.empty() && stated != call.route.namespace_) {
      return ApiFail(kube::status_bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    metadata.set("namespace", call.route.namespace_);
  } else {
    metadata.remove("namespace");
  }
  if (!metadata["resourceVersion"].str().empty()) {
    return ApiFail(kube::status_bad_request("resourceVersion should not be set on objects to be created"));
  }
  return {};
}

// Admission, allocation and validation of a new object; the outcome is what is stored.
ApiResult<store::Outcome> finish(Call& call, JsonEdit object, Revision next) {
  const ResourceType& type = call.type();
  MutJson root = object.root();
  const std::string name(root["metadata"]["name"].str());
  TRY_API_OK(admit_namespace(call));
  if (type.kind == "Pod") {
    TRY_API_OK(admit_priority(root));
    TRY_API_OK(admit_runtime_class(call, root));
    admit_service_account(call, root);
  }
  if (type.kind == "CertificateSigningRequest") TRY_API_OK(admit_signing_request(call, root));
  const auto frozen = object.freeze();
  TRY_API_OK(admit_node_write(call, frozen.root(), nullptr));
  if (const auto errors = kube::validate_create(type, frozen.root()); !errors.empty()) return ApiFail(invalid(type, name, errors));
  if (type.kind == "Service") TRY_API_OK(admit_service(call, root, nullptr));
  return store::Put{seal(type, root, next)};
}

}  // namespace

ApiTask<> create(Call& call) {
  const ResourceType& type = call.type();
  if (!call.route.name.empty()) co_return ApiFail(kube::status_method_not_allowed());
  if (type.namespaced && call.route.namespace_.empty()) co_return ApiFail(kube::status_method_not_allowed());
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  CO_TRY_API(const auto validation, parse_validation(call));
  CO_TRY_API(auto decoded, kube::decode_body(type, call.header("Content-Type"), call.request.body, validation));
  call.warnings = std::move(decoded.warnings);
  MutJson root = decoded.object.root();
  CO_TRY_API_OK(place(call, root));
  MutJson metadata = root.object("metadata");
  const std::string prefix = metadata["name"].str().empty() ? std::string(metadata["generateName"].str()) : "";
  for (int attempt = 1;; ++attempt) {
    if (!prefix.empty()) {
      metadata.set("name", prefix.substr(0, kGeneratedNameMax - kSuffix) + make_name_suffix(call.server.random, kSuffix));
    }
    call.route.name = metadata["name"].str();
    kube::apply_defaults(type, root);
    kube::prepare_create(type, root);
    metadata = root.object("metadata");
    metadata.set("uid", make_uuid(call.server.random));
    metadata.set("creationTimestamp", to_rfc3339(call.server.clock.now()));
    auto made = co_await write(call.server, type, call.route.namespace_, call.route.name, dry,
                               [&call, &decoded](const ObjectPtr& newest, Revision next) -> ApiResult<store::Outcome> {
                                 if (newest) {
                                   return ApiFail(kube::status_already_exists(call.route.group, call.route.resource, call.route.name));
                                 }
                                 return finish(call, JsonEdit::copy(decoded.object.root()), next);
                               });
    if (!made && made.error().reason == "AlreadyExists" && !prefix.empty() && attempt < kNameAttempts) continue;
    if (!made) co_return ApiFail(std::move(made).error());
    co_return respond_written(call, 201, *made, dry);
  }
}

}  // namespace skerry::apiserver
