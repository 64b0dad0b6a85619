// SPDX-License-Identifier: Apache-2.0
#include <format>

#include "apiserver/call.h"

namespace skerry::apiserver {
namespace {

void set_scheduled(MutJson pod, Time now) {
  MutJson conditions = pod.object("status").array("conditions");
  for (MutJson condition : conditions.items()) {
    if (condition["type"].str() != "PodScheduled") continue;
    condition.set("status", "True");
    condition.set("lastTransitionTime", to_rfc3339(now));
    condition.remove("reason");
    condition.remove("message");
    return;
  }
  MutJson added = conditions.push_object();
  added.set("type", "PodScheduled");
  added.set("status", "True");
  added.set_null("lastProbeTime");
  added.set("lastTransitionTime", to_rfc3339(now));
}

}  // namespace

ApiTask<> bind(Call& call) {
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  CO_TRY_API(const auto validation, parse_validation(call));
  CO_TRY_API(const auto decoded, kube::decode_body(kube::kBinding, call.header("Content-Type"), call.request.body, validation));
  const MutJson binding = decoded.object.root();
  const std::string node(binding["target"]["name"].str());
  kube::FieldErrors errors;
  if (const auto kind = binding["target"]["kind"].str(); !kind.empty() && kind != "Node") {
    errors.push_back(kube::field_not_supported("target.kind", kind, {"Node", "<empty>"}));
  }
  if (node.empty()) errors.push_back(kube::field_required("target.name"));
  if (!errors.empty()) co_return ApiFail(kube::status_invalid("", "Binding", call.route.name, errors));
  auto made = co_await write(call.server, call.type(), call.route.namespace_, call.route.name, dry,
                             [&](const ObjectPtr& newest, Revision next) -> ApiResult<store::Outcome> {
                               if (!newest) return ApiFail(not_found(call.route));
                               const auto refuse = [&](std::string_view text) {
                                 return ApiFail(kube::status_conflict("", "pods/binding", call.route.name, text));
                               };
                               const std::string_view uid = binding["metadata"]["uid"].str();
                               if (!uid.empty() && uid != newest->uid()) {
                                 return refuse(std::format("Precondition failed: UID in precondition: {}, UID in object meta: {}", uid, newest->uid()));
                               }
                               if (newest->deleting()) return refuse(std::format("pod {} is being deleted, cannot be assigned to a host", newest->name()));
                               if (!newest->node_name().empty()) {
                                 return refuse(std::format("pod {} is already assigned to node \"{}\"", newest->name(), newest->node_name()));
                               }
                               auto pod = JsonEdit::copy(newest->parse().root());
                               pod.root().object("spec").set("nodeName", node);
                               for (const auto [key, value] : binding["metadata"]["annotations"].members()) {
                                 pod.root().object("metadata").object("annotations").set(key, value.str());
                               }
                               set_scheduled(pod.root(), call.server.clock.now());
                               return store::Put{seal(call.type(), pod.root(), next)};
                             });
  if (!made) co_return ApiFail(std::move(made).error());
  Status done;
  done.code = 201;
  done.status = "Success";
  co_return respond(done);
}

}  // namespace skerry::apiserver
