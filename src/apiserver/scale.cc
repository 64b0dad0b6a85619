// SPDX-License-Identifier: Apache-2.0
// The scale subresource of Deployments and ReplicaSets: a small view of one object, read, replaced and patched.
#include <format>

#include "apiserver/call.h"
#include "kube/patch.h"
#include "kube/selector.h"
#include "kube/strategy.h"

namespace skerry::apiserver {
namespace {

JsonEdit scale_of(const kube::Object& object) {
  const auto doc = object.parse();
  const Json from = doc.root();
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("kind", "Scale");
  root.set("apiVersion", "autoscaling/v1");
  MutJson metadata = root.object("metadata");
  for (const char* key : {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}) {
    if (const Json value = from["metadata"][key]; value) metadata.set(key, value);
  }
  root.object("spec").set("replicas", from["spec"]["replicas"].i64(1));
  MutJson status = root.object("status");
  status.set("replicas", from["status"]["replicas"].i64(0));
  if (const auto selector = kube::LabelSelector::from_object(from["spec"]["selector"])) status.set("selector", selector->to_string());
  return edit;
}

http::Response respond_scale(const kube::Object& object) {
  return respond_json(200, kube::canonical(kube::kScale.message(), scale_of(object).root()));
}

ApiResult<store::Outcome> apply_scale(Call& call, const JsonEdit& scale, const ObjectPtr& old, Revision next) {
  const auto frozen = scale.freeze();
  const Json root = frozen.root();
  const std::string_view stated = root["metadata"]["resourceVersion"].str(), name = root["metadata"]["name"].str();
  if (!name.empty() && name != call.route.name) {
    return ApiFail(kube::status_bad_request(std::format("the name of the object ({}) does not match the name on the URL ({})", name, call.route.name)));
  }
  if (!stated.empty() && stated != std::to_string(old->revision().value())) return ApiFail(conflict(call.route, kube::kModified));
  if (const auto errors = kube::validate_scale(root); !errors.empty()) {
    return ApiFail(kube::status_invalid("autoscaling", "Scale", call.route.name, errors));
  }
  const auto before = old->parse();
  auto object = JsonEdit::copy(before.root());
  object.root().object("spec").set("replicas", root["spec"]["replicas"].i64(0));
  kube::prepare_update(call.type(), object.root(), before.root());
  if (seal(call.type(), object.root(), old->revision()) == *old->json()) return store::Keep{};
  return store::Put{seal(call.type(), object.root(), next)};
}

}  // namespace

ApiTask<> scale(Call& call) {
  const std::string_view verb = call.route.verb;
  if (verb == "get") {
    const ObjectPtr object = call.server.store.get(call.id(), call.route.namespace_, call.route.name);
    if (!object) co_return ApiFail(not_found(call.route));
    co_return respond_scale(*object);
  }
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  CO_TRY_API(const auto validation, parse_validation(call));
  std::optional<kube::PatchType> how;
  std::optional<kube::Decoded> body;
  if (verb == "patch") {
    how = kube::patch_type(call.header("Content-Type"));
    if (!how || *how == kube::PatchType::Apply) {
      co_return ApiFail(kube::status_unsupported_media_type("application/json-patch+json, application/merge-patch+json"));
    }
  } else {
    CO_TRY_API(body, kube::decode_body(kube::kScale, call.header("Content-Type"), call.request.body, validation));
  }
  auto made = co_await write(call.server, call.type(), call.route.namespace_, call.route.name, dry,
                             [&](const ObjectPtr& newest, Revision next) -> ApiResult<store::Outcome> {
                               if (!newest) return ApiFail(not_found(call.route));
                               if (body) return apply_scale(call, body->object, newest, next);
                               const auto current = scale_of(*newest).freeze();
                               TRY_API(const JsonEdit patched, kube::apply_patch(*how, kube::kScale.message(), current.root(), call.request.body));
                               TRY_API(const auto decoded, kube::decode_patched(kube::kScale, patched.root(), validation));
                               return apply_scale(call, decoded.object, newest, next);
                             });
  if (!made) co_return ApiFail(std::move(made).error());
  co_return respond_scale(**made);
}

}  // namespace skerry::apiserver
