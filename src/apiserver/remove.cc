// SPDX-License-Identifier: Apache-2.0
// DELETE. A pod on a node is only marked: its node ends it and deletes it again with grace 0. Finalizers hold an object;
// Foreground and Orphan are finalizers that the garbage collector takes away.
#include <algorithm>
#include <format>

#include "apiserver/auth.h"
#include "apiserver/selection.h"
#include "base/text.h"
#include "kube/protobuf.h"

namespace skerry::apiserver {
namespace {

constexpr std::string_view kForeground = "foregroundDeletion", kOrphan = "orphan";

bool immortal(const Call& call, std::string_view name) {
  return call.route.group.empty() && call.route.resource == "namespaces" && (name == "default" || name == "kube-system" || name == "kube-public");
}

void set_finalizer(MutJson metadata, std::string_view finalizer, bool wanted) {
  MutJson all = metadata["finalizers"];
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].str() != finalizer) continue;
    if (!wanted) all.erase(i);
    if (all.size() == 0) metadata.remove("finalizers");
    return;
  }
  if (wanted) metadata.array("finalizers").push(finalizer);
}

// Seconds that this object may take to end; 0: it goes at once.
std::int64_t grace_of(const Call& call, const DeleteRequest& request, Json old, const kube::Object& object) {
  if (call.type().kind != "Pod") return 0;
  if (object.node_name().empty() || object.phase() == "Succeeded" || object.phase() == "Failed") return 0;
  const std::int64_t seconds = request.grace_seconds.value_or(old["spec"]["terminationGracePeriodSeconds"].i64(30));
  return seconds < 0 ? 1 : seconds;  // as in Kubernetes: less than nothing is the shortest time, not a kill
}

// DeleteOptions come under any apiVersion: v1, meta.k8s.io/v1, or that of the object's group.
ApiResult<JsonEdit> decode_options(const Call& call) {
  const kube::Message message = kube::kDeleteOptions.message();
  const std::string_view body = call.request.body;
  const auto format = kube::body_format(call.header("Content-Type"));
  const auto refuse = [](std::string_view why) { return ApiFail(kube::status_bad_request(std::format("the body must be DeleteOptions: {}", why))); };
  if (format == kube::BodyFormat::Protobuf) {
    const auto envelope = kube::open_envelope(body);
    if (!envelope) return refuse(envelope.error().what);
    auto json = kube::protobuf_to_json(message, envelope->raw);
    if (!json) return refuse(json.error().what);
    return std::move(*json);
  }
  if (format != kube::BodyFormat::Json) return ApiFail(kube::status_unsupported_media_type("application/json, application/vnd.kubernetes.protobuf"));
  const auto doc = kube::JsonDoc::parse(body);
  if (!doc) return refuse(doc.error().what);
  if (const auto kind = doc->root()["kind"].str("DeleteOptions"); kind != "DeleteOptions") return refuse(std::format("not {}", kind));
  kube::DecodeReport report;
  auto pruned = kube::prune(message, doc->root(), report);
  if (report.error) return refuse(*report.error);
  return pruned;
}

ApiFail refuse_option(kube::FieldError error) { return ApiFail(kube::status_invalid("meta.k8s.io", "DeleteOptions", "", {std::move(error)})); }

// orphanDependents is the older way to say what propagationPolicy says.
ApiResult<> set_orphan(DeleteRequest& request, bool orphan) {
  if (!request.propagation.empty()) {
    return refuse_option(kube::field_invalid_string("propagationPolicy", request.propagation, "orphanDependents and deletionPropagation cannot be both set"));
  }
  request.propagation = orphan ? "Orphan" : "Background";
  return {};
}
ApiResult<> check_propagation(const DeleteRequest& request) {
  const std::string_view how = request.propagation;
  if (how.empty() || how == "Background" || how == "Foreground" || how == "Orphan") return {};
  return refuse_option(kube::field_not_supported("propagationPolicy", how, {"Foreground", "Background", "Orphan", "nil"}));
}

// What a decoded DeleteOptions says; its dryRun joins that of the query.
ApiResult<DeleteRequest> read_options(Call& call, MutJson options) {
  DeleteRequest out;
  if (options["gracePeriodSeconds"]) out.grace_seconds = options["gracePeriodSeconds"].i64();
  out.propagation = options["propagationPolicy"].str();
  if (options["orphanDependents"]) TRY_API_OK(set_orphan(out, options["orphanDependents"].boolean()));
  out.uid = options["preconditions"]["uid"].str();
  out.resource_version = options["preconditions"]["resourceVersion"].str();
  for (const MutJson value : options["dryRun"].items()) {
    if (!call.target.has_param("dryRun")) call.target.query.emplace_back("dryRun", value.str());
  }
  return out;
}

}  // namespace

ApiResult<DeleteRequest> parse_delete_options(Call& call) {
  DeleteRequest out;
  if (!call.request.body.empty()) {
    TRY_API(const JsonEdit options, decode_options(call));
    TRY_API(out, read_options(call, options.root()));
  } else {
    if (const auto seconds = call.param("gracePeriodSeconds"); !seconds.empty()) {
      out.grace_seconds = parse_int<std::int64_t>(seconds);
      if (!out.grace_seconds) return ApiFail(kube::status_bad_request(std::format("gracePeriodSeconds: \"{}\" is not a number of seconds", seconds)));
    }
    out.propagation = call.param("propagationPolicy");
    if (call.target.has_param("orphanDependents")) TRY_API_OK(set_orphan(out, is_set(call.target, "orphanDependents")));
  }
  TRY_API_OK(check_propagation(out));
  return out;
}

ApiResult<store::Outcome> delete_object(Call& call, const DeleteRequest& request, const ObjectPtr& old, Revision next) {
  const ResourceType& type = call.type();
  if (immortal(call, old->name())) return ApiFail(kube::status_forbidden("", "namespaces", old->name(), "this namespace may not be deleted"));
  TRY_API_OK(admit_node_delete(call, old));
  if (!request.uid.empty() && request.uid != old->uid()) {
    return ApiFail(kube::status_conflict(type.group, type.kind, old->name(),
                                         std::format("the UID in the precondition ({}) does not match the UID in record ({}). The object might have been deleted and "
                                                     "then recreated", request.uid, old->uid())));
  }
  if (!request.resource_version.empty() && request.resource_version != std::to_string(old->revision().value())) {
    return ApiFail(kube::status_conflict(type.group, type.kind, old->name(),
                                         std::format("the ResourceVersion in the precondition ({}) does not match the ResourceVersion in record ({}). The object "
                                                     "might have been modified", request.resource_version, old->revision().value())));
  }
  const auto before = old->parse();
  auto object = JsonEdit::copy(before.root());
  MutJson metadata = object.root().object("metadata");
  const std::int64_t grace = grace_of(call, request, before.root(), *old);
  const bool is_namespace = type.kind == "Namespace";
  if (!is_namespace && !request.propagation.empty()) {
    set_finalizer(metadata, kForeground, request.propagation == "Foreground");
    set_finalizer(metadata, kOrphan, request.propagation == "Orphan");
  }
  const bool held = metadata["finalizers"].size() > 0 || (is_namespace && object.root()["spec"]["finalizers"].size() > 0);
  if (grace == 0 && !held) return store::Remove{seal(type, object.root(), next)};
  // Marked now; marked already: only the time can get shorter.
  if (!old->deleting()) {
    metadata.set("deletionTimestamp", to_rfc3339(call.server.clock.now() + std::chrono::seconds(grace)));
    metadata.set("deletionGracePeriodSeconds", grace);
    if (metadata["generation"].i64() > 0) metadata.set("generation", metadata["generation"].i64() + 1);
    if (is_namespace) object.root().object("status").set("phase", "Terminating");
  } else if (grace < metadata["deletionGracePeriodSeconds"].i64(0)) {
    const auto marked = from_rfc3339(metadata["deletionTimestamp"].str()).value_or(call.server.clock.now());
    const auto began = marked - std::chrono::seconds(metadata["deletionGracePeriodSeconds"].i64(0));
    metadata.set("deletionTimestamp", to_rfc3339(began + std::chrono::seconds(grace)));
    metadata.set("deletionGracePeriodSeconds", grace);
  }
  if (seal(type, object.root(), old->revision()) == *old->json()) return store::Keep{};
  return store::Put{seal(type, object.root(), next)};
}

namespace {

struct Deleted {
  ObjectPtr object;
  bool gone = false;
};
ApiTask<Deleted> delete_one(Call& call, DeleteRequest request, std::string namespace_, std::string name, DryRun dry) {
  Deleted out;
  auto written = co_await write(call.server, call.type(), namespace_, name, dry,
                                [&](const ObjectPtr& newest, Revision next) -> ApiResult<store::Outcome> {
                                  if (!newest) return ApiFail(kube::status_not_found(call.route.group, call.route.resource, name));
                                  TRY_API(auto outcome, delete_object(call, request, newest, next));
                                  out.gone = std::holds_alternative<store::Remove>(outcome);
                                  return outcome;
                                });
  if (!written) co_return ApiFail(std::move(written).error());
  out.object = std::move(*written);
  co_return out;
}

}  // namespace

ApiTask<> remove(Call& call) {
  CO_TRY_API(const DeleteRequest request, parse_delete_options(call));
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  CO_TRY_API(const Deleted deleted, co_await delete_one(call, request, call.route.namespace_, call.route.name, dry));
  // As kube-apiserver does: pods are shown, other things only if they are still there.
  if (!deleted.gone || call.type().kind == "Pod") co_return respond_object(call, 200, deleted.object);
  co_return respond(kube::status_success(call.route.group, call.route.resource, call.route.name, deleted.object->uid()));
}

ApiTask<> remove_collection(Call& call) {
  CO_TRY_API_OK(check_list_options(call));
  // Ignoring these would delete more than was asked for.
  for (const char* name : {"limit", "continue", "resourceVersion"}) {
    if (const auto value = call.param(name); value.empty() || value == "0") continue;
    co_return ApiFail(kube::status_bad_request(std::format("{} is not served for deletions: choose what goes by labelSelector and fieldSelector", name)));
  }
  CO_TRY_API(const Selection selection, parse_selection(call));
  CO_TRY_API(const DeleteRequest request, parse_delete_options(call));
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  if (call.type().namespaced && call.route.namespace_.empty()) co_return ApiFail(kube::status_method_not_allowed());
  auto found = call.server.store.list(call.id(), {.namespace_ = selection.namespace_, .filter = selection.filter()});
  if (!found) co_return ApiFail(kube::status_of(found.error()));
  std::string body = std::format(R"({{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{}"}},"items":[)", call.type().list_kind,
                                 call.type().api_version, found->revision.value());
  bool first = true;
  for (const ObjectPtr& object : found->items) {
    auto deleted = co_await delete_one(call, request, object->namespace_(), object->name(), dry);
    if (!deleted && deleted.error().code == 404) continue;  // gone meanwhile
    if (!deleted) co_return ApiFail(std::move(deleted).error());
    if (!first) body += ',';
    first = false;
    body += *deleted->object->json();
  }
  co_return respond_json(200, body + "]}\n");
}

ApiTask<> evict(Call& call) {
  // kubectl sends policy/v1 or policy/v1beta1, whichever the server is old enough for; only its deleteOptions matter.
  const auto body = kube::JsonDoc::parse(call.request.body.empty() ? "{}" : std::string_view(call.request.body));
  if (!body) co_return ApiFail(kube::status_bad_request(std::format("the body must be an Eviction in JSON: {}", body.error().what)));
  if (const auto kind = body->root()["kind"].str("Eviction"); kind != "Eviction") {
    co_return ApiFail(kube::status_bad_request(std::format("the body must be an Eviction, not {}", kind)));
  }
  if (const auto name = body->root()["metadata"]["name"].str(); !name.empty() && name != call.route.name) {
    co_return ApiFail(kube::status_bad_request("name in URL does not match name in Eviction object"));
  }
  kube::DecodeReport report;
  const Json stated = body->root()["deleteOptions"];
  const JsonEdit options = stated.exists() && !stated.is_null() ? kube::prune(kube::kDeleteOptions.message(), stated, report) : JsonEdit();
  if (report.error) co_return ApiFail(kube::status_bad_request(std::format("deleteOptions: {}", *report.error)));
  CO_TRY_API(const DeleteRequest request, read_options(call, options.root()));
  CO_TRY_API_OK(check_propagation(request));
  CO_TRY_API(const DryRun dry, parse_write_options(call));
  CO_TRY_API_OK(co_await delete_one(call, request, call.route.namespace_, call.route.name, dry));
  Status done;
  done.code = 201;
  done.status = "Success";
  co_return respond(done);
}

}  // namespace skerry::apiserver
