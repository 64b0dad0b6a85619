// SPDX-License-Identifier: Apache-2.0
#include "apiserver/call.h"

#include <algorithm>
#include <format>

#include "base/check.h"
#include "base/text.h"
#include "kube/table.h"

namespace skerry::apiserver {

std::optional<Route> parse_route(std::string_view method, const http::Target& target) {
  auto parts = split(std::string_view(target.path).substr(1), '/');
  if (!parts.empty() && parts.back().empty()) parts.pop_back();
  Route route;
  std::size_t at = 0;
  if (parts.size() >= 3 && parts[0] == "api") {
    route.version = parts[1];
    at = 2;
  } else if (parts.size() >= 4 && parts[0] == "apis") {
    route.group = parts[1];
    route.version = parts[2];
    at = 3;
  } else {
    return std::nullopt;
  }
  // …/namespaces/NS/RESOURCE…; but namespaces/NS, …/status and …/finalize are the namespace itself.
  if (parts[at] == "namespaces" && parts.size() > at + 2 && parts[at + 2] != "status" && parts[at + 2] != "finalize") {
    route.namespace_ = parts[at + 1];
    at += 2;
  }
  route.resource = parts[at];
  if (parts.size() > at + 1) route.name = parts[at + 1];
  if (parts.size() > at + 2) route.subresource = parts[at + 2];
  if (parts.size() > at + 3 && route.subresource != "proxy" && route.resource != "watch") return std::nullopt;
  route.type = kube::find_resource(route.group, route.version, route.resource);
  const bool one = !route.name.empty();
  if (method == "GET" || method == "HEAD") {
    route.verb = one ? "get" : is_set(target, "watch") ? "watch" : "list";
  } else if (method == "POST") {
    route.verb = "create";
  } else if (method == "PUT") {
    route.verb = "update";
  } else if (method == "PATCH") {
    route.verb = "patch";
  } else if (method == "DELETE") {
    route.verb = one ? "delete" : "deletecollection";
  } else {
    route.verb = "unknown";
  }
  return route;
}

store::ResourceId Server::id(const ResourceType& type) const { return id(type.qualified()); }
store::ResourceId Server::id(std::string_view qualified) const {
  const auto found = store.find_resource(qualified);
  CHECK(found.has_value());  // the store was opened with store_resources()
  return *found;
}

http::Response respond_json(int status, std::string body) { return http::make_response(status, kube::kJsonType, std::move(body)); }
http::Response respond(const Status& status) {
  auto response = respond_json(status.code, status.json());
  if (status.details.retry_after_seconds > 0) response.headers.set("Retry-After", std::to_string(status.details.retry_after_seconds));
  return response;
}
http::Response respond_object(int status, const ObjectPtr& object) {
  http::Response response;
  response.status = status;
  response.headers.set("Content-Type", kube::kJsonType);
  response.body = object->json();
  return response;
}
ApiResult<http::Response> respond_object(const Call& call, int status, const ObjectPtr& object) {
  TRY_API(const bool table, wants_table(call));
  if (!table) return respond_object(status, object);
  TRY_API(const auto include, kube::parse_include_object(call.param("includeObject")));
  return respond_json(status, kube::table_json(call.type(), *object, include, call.server.clock.now()));
}
namespace {

// Is `return=minimal` the first that Prefer says about the answer? Parameters after it change nothing.
bool prefers_minimal(const http::Headers& headers) {
  const auto same = [](std::string_view a, std::string_view lower) {
    return std::ranges::equal(a, lower, [](char x, char y) { return (x >= 'A' && x <= 'Z' ? static_cast<char>(x - 'A' + 'a') : x) == y; });
  };
  for (const auto& [name, value] : headers.all()) {
    if (!same(name, "prefer")) continue;
    for (const std::string_view preference : split(value, ',')) {
      const std::string_view word = trim(preference.substr(0, preference.find(';')));
      const auto eq = word.find('=');
      if (eq == word.npos || !same(trim(word.substr(0, eq)), "return")) continue;
      std::string_view how = trim(word.substr(eq + 1));
      if (how.size() >= 2 && how.front() == '"' && how.back() == '"') how = how.substr(1, how.size() - 2);
      return same(how, "minimal");
    }
  }
  return false;
}

}  // namespace

ApiResult<http::Response> respond_written(const Call& call, int status, const ObjectPtr& object, DryRun dry) {
  const std::string_view kind = call.type().kind;
  const bool often = kind == "Lease" || kind == "Event" || call.route.subresource == "status";
  if (!often || dry == DryRun::All || !prefers_minimal(call.request.headers)) return respond_object(call, status, object);
  TRY_API(const bool table, wants_table(call));
  if (table) return respond_object(call, status, object);
  http::Response response;
  response.status = 204;
  response.headers.set("Preference-Applied", "return=minimal");
  return response;
}
void add_warnings(http::Response& response, const std::vector<std::string>& warnings) {
  std::size_t left = 50;
  for (const std::string& text : warnings) {
    if (left-- == 0) break;
    std::string quoted = "299 - \"";
    for (const char c : text) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    response.headers.add("Warning", quoted + "\"");
  }
}

ApiResult<bool> wants_table(const Call& call) {
  const std::string_view accept = call.header("Accept");
  if (accept.empty()) return false;
  for (const std::string_view alternative : split(accept, ',')) {
    const auto parts = split(alternative, ';');
    const std::string_view type = trim(parts[0]);
    std::string_view as, version;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const std::string_view part = trim(parts[i]);
      if (part.starts_with("as=")) as = part.substr(3);
      if (part.starts_with("v=")) version = part.substr(2);
    }
    const bool table = as == "Table", other = (!as.empty() && !table) || (table && version != "v1");
    if (other) continue;  // PartialObjectMetadata, Table of another version: the next alternative
    if (type == "application/json" || type == "*/*" || type == "application/*") return table;
    // Protobuf is answered in JSON, which every client of ours reads.
    if (type == kube::kProtobufType && !table && accept.find("json") == accept.npos) break;
  }
  return ApiFail(kube::status_not_acceptable("application/json"));
}

bool is_set(const http::Target& target, std::string_view name) {
  if (!target.has_param(name)) return false;
  const std::string_view value = target.param(name);
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return value != "0" && !std::ranges::equal(value, std::string_view("false"), {}, lower);
}

namespace {

// The kind that errors about options name.
std::string_view options_kind(const Call& call) {
  const std::string_view verb = call.route.verb;
  if (verb == "update") return "UpdateOptions";
  if (verb == "patch") return "PatchOptions";
  return verb == "delete" || verb == "deletecollection" ? "DeleteOptions" : "CreateOptions";
}
ApiFail refuse_option(const Call& call, kube::FieldError error) {
  return ApiFail(kube::status_invalid("meta.k8s.io", options_kind(call), "", {std::move(error)}));
}

}  // namespace

ApiResult<DryRun> parse_write_options(const Call& call) {
  DryRun out = DryRun::No;
  for (const auto& [name, value] : call.target.query) {
    if (name != "dryRun" || value.empty()) continue;
    if (value != "All") return refuse_option(call, kube::field_not_supported("dryRun", value, {"All"}));
    out = DryRun::All;
  }
  constexpr std::size_t kManagerBytesMax = 128;
  const std::string_view manager = call.param("fieldManager");
  if (manager.size() > kManagerBytesMax) return refuse_option(call, kube::field_too_long("fieldManager", kManagerBytesMax));
  for (std::size_t i = 0; i < manager.size(); ++i) {
    const auto byte = static_cast<unsigned char>(manager[i]);
    if (byte >= 0x20 && byte != 0x7f) continue;
    return refuse_option(call, kube::field_invalid_string("fieldManager", manager,
                                                          std::format("invalid character U+{:04X} (at position {}): it must be printable", byte, i)));
  }
  if (call.target.has_param("force")) return refuse_option(call, kube::field_forbidden("force", "may not be specified for non-apply patch"));
  return out;
}
ApiResult<kube::FieldValidation> parse_validation(const Call& call) {
  const std::string_view word = call.param("fieldValidation");
  if (auto known = kube::parse_field_validation(word)) return known;
  return refuse_option(call, kube::field_not_supported("fieldValidation", word, {"", "Ignore", "Strict", "Warn"}));
}

std::string seal(const ResourceType& type, MutJson object, Revision revision) {
  MutJson metadata = object.object("metadata");
  metadata.remove("managedFields");
  metadata.remove("selfLink");
  if (revision.value() == 0) {
    metadata.remove("resourceVersion");
  } else {
    metadata.set("resourceVersion", std::to_string(revision.value()));
  }
  return kube::canonical(type, object);
}

ApiTask<ObjectPtr> write(Server& server, const ResourceType& type, std::string namespace_, std::string name, DryRun dry, Change change) {
  const store::ResourceId id = server.id(type);
  if (dry == DryRun::All) {
    const ObjectPtr newest = server.store.newest(id, namespace_, name);
    CO_TRY_API(store::Outcome outcome, change(newest, newest ? newest->revision() : Revision()));
    if (std::holds_alternative<store::Keep>(outcome)) co_return newest;
    const auto* put = std::get_if<store::Put>(&outcome);
    auto made = kube::Object::from_json(put ? put->json : std::get<store::Remove>(outcome).json);
    if (!made) co_return ApiFail(kube::status_of(made.error()));
    co_return std::move(*made);
  }
  std::optional<Status> refused;
  auto written = co_await server.store.write(id, std::move(namespace_), std::move(name),
                                             [&](const ObjectPtr& newest, Revision next) -> Result<store::Outcome> {
                                               auto outcome = change(newest, next);
                                               if (outcome) return std::move(*outcome);
                                               refused = std::move(outcome).error();
                                               return Fail({Errc::Invalid, "refused"});
                                             });
  if (refused) co_return ApiFail(std::move(*refused));
  if (!written) co_return ApiFail(kube::status_of(written.error()));
  co_return std::move(*written);
}

Status not_found(const Route& route) { return kube::status_not_found(route.group, route.resource, route.name); }
Status conflict(const Route& route, std::string_view text) { return kube::status_conflict(route.group, route.resource, route.name, text); }
Status invalid(const ResourceType& type, std::string_view name, const kube::FieldErrors& errors) {
  return kube::status_invalid(type.group, type.kind, name, errors);
}

}  // namespace skerry::apiserver
