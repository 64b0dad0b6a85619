// SPDX-License-Identifier: Apache-2.0
// PUT, and the rules that every change of an existing object keeps (replace_object, which PATCH uses too).
#include <format>

#include "apiserver/admission.h"
#include "apiserver/auth.h"
#include "apiserver/call.h"
#include "apiserver/signing_request.h"
#include "kube/defaults.h"
#include "kube/strategy.h"

namespace skerry::apiserver {
namespace {

// Must an update of this kind say which version it changes?
bool demands_revision(const ResourceType& type) { return type.kind == "Lease" || type.kind == "EndpointSlice" || type.kind == "RuntimeClass"; }

// Names and versions that the body states against the path and the stored object.
ApiResult<> check_identity(const Call& call, MutJson object, const ObjectPtr& old) {
  MutJson metadata = object.object("metadata");
  const std::string_view name = metadata["name"].str(), stated = metadata["resourceVersion"].str();
  if (name != call.route.name) {
    if (!name.empty()) {
      return ApiFail(kube::status_bad_request(std::format("the name of the object ({}) does not match the name on the URL ({})", name, call.route.name)));
    }
    metadata.set("name", call.route.name);
  }
  const std::string_view namespace_ = metadata["namespace"].str();
  if (!call.type().namespaced) {
    metadata.remove("namespace");
  } else if (!namespace_.empty() && namespace_ != call.route.namespace_) {
    return ApiFail(kube::status_bad_request("the namespace of the provided object does not match the namespace sent on the request"));
  } else {
    metadata.set("namespace", call.route.namespace_);
  }
  if (!old) return {};
  if (call.route.verb == "update" && stated.empty() && demands_revision(call.type())) {
    return ApiFail(invalid(call.type(), call.route.name, {kube::field_invalid("metadata.resourceVersion", "0x0", "must be specified for an update")}));
  }
  const std::string_view uid = metadata["uid"].str();
  if (call.route.verb == "update" && !uid.empty() && uid != old->uid()) {
    return ApiFail(conflict(call.route, std::format("Precondition failed: UID in precondition: {}, UID in object meta: {}", uid, old->uid())));
  }
  if (!stated.empty() && stated != "0" && stated != std::to_string(old->revision().value())) return ApiFail(conflict(call.route, kube::kModified));
  return {};
}

// An object that is being deleted goes when nothing holds it any more.
bool may_go(const ObjectPtr& old, MutJson object) {
  if (!old->deleting() || object["metadata"]["finalizers"].size() > 0) return false;
  if (object["kind"].str() == "Namespace") return object["spec"]["finalizers"].size() == 0;
  return object["metadata"]["deletionGracePeriodSeconds"].i64(0) == 0;
}

}  // namespace

ApiResult<store::Outcome> replace_object(Call& call, JsonEdit object, const ObjectPtr& old, Revision next) {
  const ResourceType& type = call.type();
  const bool status = call.route.subresource == "status", approval = call.route.subresource == "approval";
  MutJson root = object.root();
  TRY_API_OK(check_identity(call, root, old));
  const auto before = old->parse();
  kube::apply_defaults(type, root);
  if (status) {
    kube::prepare_status_update(type, root, before.root());
  } else if (approval) {
    kube::prepare_approval_update(type, root, before.root());
  } else {
    kube::prepare_update(type, root, before.root());
  }
  if (status || approval) {
    if (type.kind == "CertificateSigningRequest") complete_conditions(root, call.server.clock.now());
  }
  root.object("metadata").set("resourceVersion", std::to_string(old->revision().value()));
  if (type.kind == "Service" && !status) TRY_API_OK(admit_service(call, root, old));
  {
    const auto frozen = object.freeze();
    TRY_API_OK(admit_node_write(call, frozen.root(), old));
    const auto errors = status     ? kube::validate_status_update(type, frozen.root(), before.root())
                        : approval ? kube::validate_approval_update(type, frozen.root(), before.root())
                                   : kube::validate_update(type, frozen.root(), before.root());
    if (!errors.empty()) return ApiFail(invalid(type, call.route.name, errors));
  }
  if (seal(type, root, old->revision()) == *old->json()) return store::Keep{};
  if (may_go(old, root)) return store::Remove{seal(type, root, next)};
  return store::Put{seal(type, root, next)};
}

ApiTask<> update(Call& call) {
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  CO_TRY_API(const auto validation, parse_validation(call));
  CO_TRY_API(auto decoded, kube::decode_body(call.type(), call.header("Content-Type"), call.request.body, validation));
  call.warnings = std::move(decoded.warnings);
  CO_TRY_API_OK(check_identity(call, decoded.object.root(), nullptr));
  auto made = co_await write(call.server, call.type(), call.route.namespace_, call.route.name, dry,
                             [&](const ObjectPtr& newest, Revision next) -> ApiResult<store::Outcome> {
                               if (!newest) return ApiFail(not_found(call.route));
                               return replace_object(call, std::move(decoded.object), newest, next);
                             });
  if (!made) co_return ApiFail(std::move(made).error());
  co_return respond_written(call, 200, *made, dry);
}

// The namespace controller takes its finalizer away when the namespace is empty.
ApiTask<> finalize(Call& call) {
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  CO_TRY_API(auto decoded, kube::decode_body(call.type(), call.header("Content-Type"), call.request.body, kube::FieldValidation::Ignore));
  auto made = co_await write(call.server, call.type(), "", call.route.name, dry,
                             [&](const ObjectPtr& newest, Revision next) -> ApiResult<store::Outcome> {
                               if (!newest) return ApiFail(not_found(call.route));
                               TRY_API_OK(check_identity(call, decoded.object.root(), newest));
                               auto object = JsonEdit::copy(newest->parse().root());
                               MutJson spec = object.root().object("spec");
                               spec.remove("finalizers");
                               if (const MutJson left = decoded.object.root()["spec"]["finalizers"]; left.size() > 0) spec.set("finalizers", left);
                               if (seal(call.type(), object.root(), newest->revision()) == *newest->json()) return store::Keep{};
                               if (may_go(newest, object.root())) return store::Remove{seal(call.type(), object.root(), next)};
                               return store::Put{seal(call.type(), object.root(), next)};
                             });
  if (!made) co_return ApiFail(std::move(made).error());
  co_return respond_object(call, 200, *made);
}

}  // namespace skerry::apiserver
