// SPDX-License-Identifier: Apache-2.0
#include "kube/status.h"

#include <format>

#include "kube/json.h"
#include "kube/validation.h"

namespace skerry::kube {
namespace {

std::string qualified(std::string_view group, std::string_view name) {
  return group.empty() ? std::string(name) : std::format("{}.{}", name, group);
}
// Go's %q for names: the escapes of JSON are those of Go for all that can be in a valid request.
std::string quoted(std::string_view text) { return json_quote(text); }

Status named(int code, std::string_view reason, std::string_view group, std::string_view resource, std::string_view name,
             std::string message) {
  Status s;
  s.code = code;
  s.reason = reason;
  s.message = std::move(message);
  s.details.name = name;
  s.details.group = group;
  s.details.kind = resource;
  s.details.present = true;
  return s;
}
Status plain(int code, std::string_view reason, std::string_view message) {
  Status s;
  s.code = code;
  s.reason = reason;
  s.message = message;
  return s;
}
// What client-go and kube-apiserver's generic handlers answer: details exist, but say nothing.
Status generic(int code, std::string_view reason, std::string_view message) {
  Status s = plain(code, reason, message);
  s.details.present = true;
  return s;
}

}  // namespace

std::string Status::json() const {
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("kind", "Status");
  root.set("apiVersion", "v1");
  root.object("metadata");
  root.set("status", status);
  if (!message.empty()) root.set("message", message);
  if (!reason.empty()) root.set("reason", reason);
  if (details.present) {
    MutJson d = root.object("details");
    if (!details.name.empty()) d.set("name", details.name);
    if (!details.group.empty()) d.set("group", details.group);
    if (!details.kind.empty()) d.set("kind", details.kind);
    if (!details.uid.empty()) d.set("uid", details.uid);
    if (!details.causes.empty()) {
      MutJson causes = d.array("causes");
      for (const StatusCause& cause : details.causes) {
        MutJson c = causes.push_object();
        if (!cause.reason.empty()) c.set("reason", cause.reason);
        if (!cause.message.empty()) c.set("message", cause.message);
        if (!cause.field.empty()) c.set("field", cause.field);
      }
    }
    if (details.retry_after_seconds > 0) d.set("retryAfterSeconds", details.retry_after_seconds);
  }
  if (status != "Success") root.set("code", code);
  return edit.dump();
}

Status status_not_found(std::string_view group, std::string_view resource, std::string_view name) {
  return named(404, "NotFound", group, resource, name, std::format("{} {} not found", qualified(group, resource), quoted(name)));
}
Status status_unknown_path() { return generic(404, "NotFound", "the server could not find the requested resource"); }
Status status_already_exists(std::string_view group, std::string_view resource, std::string_view name) {
  return named(409, "AlreadyExists", group, resource, name,
               std::format("{} {} already exists", qualified(group, resource), quoted(name)));
}
Status status_conflict(std::string_view group, std::string_view resource, std::string_view name, std::string_view text) {
  return named(409, "Conflict", group, resource, name,
               std::format("Operation cannot be fulfilled on {} {}: {}", qualified(group, resource), quoted(name), text));
}
Status status_bad_request(std::string_view message) { return plain(400, "BadRequest", message); }
Status status_unauthorized() { return plain(401, "Unauthorized", "Unauthorized"); }
Status status_forbidden(std::string_view group, std::string_view resource, std::string_view name, std::string_view text) {
  std::string message;
  if (resource.empty()) message = std::format("forbidden: {}", text);
  else if (name.empty()) message = std::format("{} is forbidden: {}", qualified(group, resource), text);
  else message = std::format("{} {} is forbidden: {}", qualified(group, resource), quoted(name), text);
  return named(403, "Forbidden", group, resource, name, std::move(message));
}
Status status_method_not_allowed() {
  return generic(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
}
Status status_not_acceptable(std::string_view accepted) {
  return plain(406, "NotAcceptable",
               std::format("only the following media types are accepted: {}", accepted));
}
Status status_unsupported_media_type(std::string_view accepted) {
  return plain(415, "UnsupportedMediaType",
               std::format("the body of the request was in an unknown format - accepted media types include: {}", accepted));
}
Status status_gone(std::string_view message) { return plain(410, "Expired", message); }
Status status_too_large(std::string_view message) { return plain(413, "RequestEntityTooLarge", message); }

Status status_invalid(std::string_view group, std::string_view kind, std::string_view name, const std::vector<FieldError>& errors) {
  std::string list;
  std::vector<StatusCause> causes;
  std::vector<std::string> seen;  // the aggregate text names each error once
  for (const FieldError& e : errors) {
    causes.push_back({std::string(e.cause_reason()), e.message, e.field});
    std::string text = e.text();
    bool repeated = false;
    for (const std::string& s : seen) repeated = repeated || s == text;
    if (repeated) continue;
    if (!list.empty()) list += ", ";
    list += text;
    seen.push_back(std::move(text));
  }
  if (seen.size() > 1) list = "[" + list + "]";
  Status s = named(422, "Invalid", group, kind, name, std::format("{} {} is invalid: {}", qualified(group, kind), quoted(name), list));
  s.details.causes = std::move(causes);
  return s;
}

Status status_too_many_requests(std::string_view message, int retry_after_seconds) {
  Status s = generic(429, "TooManyRequests", message);
  s.details.retry_after_seconds = retry_after_seconds;
  return s;
}
Status status_internal(std::string_view message) {
  Status s = generic(500, "InternalError", std::format("Internal error occurred: {}", message));
  s.details.causes.push_back({"", std::string(message), ""});
  return s;
}
Status status_not_implemented(std::string_view message) { return plain(501, "NotImplemented", message); }
Status status_unavailable(std::string_view message) { return plain(503, "ServiceUnavailable", message); }
Status status_timeout(std::string_view message) { return generic(504, "Timeout", std::format("Timeout: {}", message)); }

Status status_success(std::string_view group, std::string_view resource, std::string_view name, std::string_view uid) {
  Status s = named(200, "", group, resource, name, "");
  s.status = "Success";
  s.details.uid = uid;
  return s;
}

Status status_of(const Error& error) {
  switch (error.code) {
    case Errc::NotFound: return plain(404, "NotFound", error.what);
    case Errc::AlreadyExists: return plain(409, "AlreadyExists", error.what);
    case Errc::Conflict: return plain(409, "Conflict", error.what);
    case Errc::Gone: return status_gone(error.what);
    case Errc::Invalid: return status_bad_request(error.what);
    case Errc::Unsupported: return status_not_implemented(error.what);
    case Errc::Denied: return plain(403, "Forbidden", error.what);
    case Errc::Unauthenticated: return plain(401, "Unauthorized", error.what);
    case Errc::Exhausted: return status_too_many_requests(error.what, 1);
    case Errc::Unavailable: return status_unavailable(error.what);
    case Errc::Timeout: return status_timeout(error.what);
    case Errc::Cancelled: return status_unavailable(error.what);
    case Errc::Corrupt:
    case Errc::Internal: return status_internal(error.what);
  }
  return status_internal(error.what);
}

}  // namespace skerry::kube
