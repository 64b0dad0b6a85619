// SPDX-License-Identifier: Apache-2.0
#include "kube/openapi.h"

#include <format>
#include <set>
#include <vector>

#include "base/text.h"
#include "kube/json.h"
#include "kube/resources.h"

namespace skerry::kube {
namespace {

constexpr std::string_view kMeta = "k8s.io.apimachinery.pkg.apis.meta.v1.";

// "k8s.io.api.core.v1.Pod" -> "io.k8s.api.core.v1.Pod", as every OpenAPI of Kubernetes names it.
std::string schema_name(std::string_view message) { return "io.k8s." + std::string(message.substr(std::string_view("k8s.io.").size())); }
std::string reference(std::string_view message) { return "#/components/schemas/" + schema_name(message); }

std::string group_path(const GroupVersion& gv) {
  return gv.group.empty() ? std::format("api/{}", gv.version) : std::format("apis/{}/{}", gv.group, gv.version);
}

void put_special(MutJson schema, FieldType type) {
  switch (type) {
    case FieldType::String: case FieldType::StringList: schema.set("type", "string"); break;
    case FieldType::Bytes:
      schema.set("type", "string");
      schema.set("format", "byte");
      break;
    case FieldType::Bool: schema.set("type", "boolean"); break;
    case FieldType::Int32: case FieldType::UInt32:
      schema.set("type", "integer");
      schema.set("format", "int32");
      break;
    case FieldType::Int64: case FieldType::UInt64:
      schema.set("type", "integer");
      schema.set("format", "int64");
      break;
    case FieldType::Float: case FieldType::Double:
      schema.set("type", "number");
      schema.set("format", "double");
      break;
    case FieldType::Time: case FieldType::MicroTime:
      schema.set("type", "string");
      schema.set("format", "date-time");
      break;
    case FieldType::Duration: schema.set("type", "string"); break;
    case FieldType::Quantity: case FieldType::IntOrString: {
      if (type == FieldType::IntOrString) schema.set("format", "int-or-string");
      MutJson either = schema.array("oneOf");
      either.push_object().set("type", type == FieldType::Quantity ? "number" : "integer");
      either.push_object().set("type", "string");
      break;
    }
    case FieldType::RawExtension: case FieldType::FieldsV1: schema.set("type", "object"); break;
    case FieldType::Message: break;
  }
}
// Types that are no messages to us, but have a name of their own in OpenAPI.
struct NamedType {
  FieldType type;
  std::string_view message, description;
};
constexpr NamedType kNamedTypes[] = {
    {FieldType::Quantity, "k8s.io.apimachinery.pkg.api.resource.Quantity",
     "Quantity is a fixed-point number: a decimal with an optional suffix (100m, 128Mi, 1.5, 12e6)."},
    {FieldType::IntOrString, "k8s.io.apimachinery.pkg.util.intstr.IntOrString", "IntOrString is an int32 or a string, such as a port or its name."},
    {FieldType::Time, "k8s.io.apimachinery.pkg.apis.meta.v1.Time", "Time in RFC 3339, to the second."},
    {FieldType::MicroTime, "k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime", "MicroTime is Time with microseconds."},
    {FieldType::FieldsV1, "k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1", "FieldsV1 is a set of fields, as a trie in JSON."},
    {FieldType::RawExtension, "k8s.io.apimachinery.pkg.runtime.RawExtension", "RawExtension is any object."}};
const NamedType* named_type(FieldType type) {
  for (const NamedType& n : kNamedTypes)
    if (n.type == type) return &n;
  return nullptr;
}

void put_reference(MutJson schema, Message m) { schema.array("allOf").push_object().set("$ref", reference(m.name())); }

void put_element(MutJson schema, Field f) {
  if (f.type() == FieldType::Message) {
    schema.object("default");
    put_reference(schema, f.message());
  } else if (f.type() == FieldType::StringList) {
    schema.set("type", "array");
    schema.object("items").set("type", "string");
  } else if (const NamedType* named = named_type(f.type())) {
    schema.array("allOf").push_object().set("$ref", reference(named->message));
  } else {
    put_special(schema, f.type());
  }
}

void put_extensions(MutJson schema, Field f) {
  if (!f.list_keys().empty()) {
    MutJson keys = schema.array("x-kubernetes-list-map-keys");
    for (const std::string_view key : split(f.list_keys(), ',')) keys.push(key);
  }
  if (f.list_type() != ListType::Unset)
    schema.set("x-kubernetes-list-type", f.list_type() == ListType::Atomic ? "atomic" : f.list_type() == ListType::Set ? "set" : "map");
  if (f.map_type() != MapType::Unset) schema.set("x-kubernetes-map-type", f.map_type() == MapType::Atomic ? "atomic" : "granular");
  if (!f.merge_key().empty()) schema.set("x-kubernetes-patch-merge-key", f.merge_key());
  std::string strategy;
  if (f.has(table::kPatchMerge)) strategy = "merge";
  if (f.has(table::kPatchReplace)) strategy = "replace";
  if (f.has(table::kPatchRetainKeys)) strategy += strategy.empty() ? "retainKeys" : ",retainKeys";
  if (!strategy.empty()) schema.set("x-kubernetes-patch-strategy", strategy);
}

void put_field(MutJson schema, Field f) {
  if (!f.description().empty()) schema.set("description", f.description());
  if (f.shape() == Shape::List) {
    schema.set("type", "array");
    put_element(schema.object("items"), f);
  } else if (f.shape() == Shape::Map) {
    schema.set("type", "object");
    put_element(schema.object("additionalProperties"), f);
  } else if (f.type() == FieldType::Message) {
    if (!f.has(table::kPointer)) schema.object("default");
    put_reference(schema, f.message());
  } else {
    put_element(schema, f);
    if (auto parsed = f.default_json().empty() ? Result<JsonDoc>(Fail({Errc::NotFound, ""})) : JsonDoc::parse(f.default_json()))
      schema.set("default", parsed->root());
  }
  put_extensions(schema, f);
}

void put_schema(MutJson schemas, Message m) {
  MutJson schema = schemas.append_object(schema_name(m.name()));
  if (!m.description().empty()) schema.set("description", m.description());
  schema.set("type", "object");
  MutJson properties;
  std::vector<std::string_view> required;
  for (std::size_t i = 0; i < m.field_count(); ++i) {
    const Field f = m.field(i);
    if (!properties) properties = schema.object("properties");
    put_field(properties.append_object(f.name()), f);
    if (!f.has(table::kOptional)) required.push_back(f.name());
  }
  if (!required.empty()) {
    MutJson list = schema.array("required");
    for (const std::string_view name : required) list.push(name);
  }
}

void add_closure(std::set<std::string_view>& all, Message m) {
  if (!m || !all.insert(m.name()).second) return;
  for (std::size_t i = 0; i < m.field_count(); ++i)
    if (m.field(i).type() == FieldType::Message) add_closure(all, m.field(i).message());
}

// ---- paths

void put_gvk(MutJson object, std::string_view group, std::string_view version, std::string_view kind) {
  object.set("group", group);
  object.set("kind", kind);
  object.set("version", version);
}
void put_parameter(MutJson list, std::string_view name, std::string_view in, std::string_view type, std::string_view description) {
  MutJson p = list.push_object();
  p.set("name", name);
  p.set("in", in);
  if (!description.empty()) p.set("description", description);
  if (in == "path") p.set("required", true);
  MutJson schema = p.object("schema");
  schema.set("type", type);
  schema.set("uniqueItems", true);
}

struct Operation {
  std::string_view method, action;
  std::string_view body;    // message; "": none
  std::string_view answer;  // message
  std::string_view group, version, kind;
};

void put_operation(MutJson path, const Operation& op, std::string_view tag) {
  MutJson o = path.object(op.method);
  o.array("tags").push(tag);
  const bool writes = op.method == "post" || op.method == "put" || op.method == "patch";
  MutJson parameters = o.array("parameters");
  if (writes || op.method == "delete")
    put_parameter(parameters, "dryRun", "query", "string", "All: nothing is stored.");
  if (writes) {
    put_parameter(parameters, "fieldManager", "query", "string", "The name of the actor that makes this change.");
    put_parameter(parameters, "fieldValidation", "query", "string",
                  "What happens to unknown or duplicate fields: Ignore, Warn (the default) or Strict.");
  }
  if (op.action == "list" || op.action == "deletecollection") {
    put_parameter(parameters, "labelSelector", "query", "string", "");
    put_parameter(parameters, "fieldSelector", "query", "string", "");
    put_parameter(parameters, "limit", "query", "integer", "");
    put_parameter(parameters, "continue", "query", "string", "");
    put_parameter(parameters, "resourceVersion", "query", "string", "");
    put_parameter(parameters, "watch", "query", "boolean", "");
  }
  if (!op.body.empty()) {
    MutJson content = o.object("requestBody").object("content");
    if (op.method == "patch") {
      for (const char* type : {"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"})
        content.object(type).object("schema").set("$ref", reference(op.body));
    } else {
      content.object("*/*").object("schema").set("$ref", reference(op.body));
    }
  }
  MutJson answer = o.object("responses").object(op.method == "post" ? "201" : "200");
  answer.set("description", op.method == "post" ? "Created" : "OK");
  answer.object("content").object("application/json").object("schema").set("$ref", reference(op.answer));
  o.set("x-kubernetes-action", op.action);
  put_gvk(o.object("x-kubernetes-group-version-kind"), op.group, op.version, op.kind);
}

void put_path_parameters(MutJson path, bool namespaced, bool named) {
  MutJson list = path.array("parameters");
  if (named) put_parameter(list, "name", "path", "string", "name of the object");
  if (namespaced) put_parameter(list, "namespace", "path", "string", "object name and auth scope, such as for teams and projects");
  put_parameter(list, "pretty", "query", "string", "");
}

void put_resource(MutJson paths, const ResourceType& r, std::string_view base, std::string_view tag) {
  const std::string status = std::string(kMeta) + "Status";
  const std::string delete_options = std::string(kMeta) + "DeleteOptions";
  const auto op = [&](std::string_view method, std::string_view action, std::string_view body, std::string_view answer) {
    return Operation{method, action, body, answer, r.group, r.version, r.kind};
  };
  if (r.namespaced) {
    MutJson everywhere = paths.object(std::format("/{}/{}", base, r.resource));
    put_path_parameters(everywhere, false, false);
    put_operation(everywhere, op("get", "list", "", r.list_message_name), tag);
  }
  const std::string collection = std::format("/{}/{}{}", base, r.namespaced ? "namespaces/{namespace}/" : "", r.resource);
  MutJson list = paths.object(collection);
  put_path_parameters(list, r.namespaced, false);
  put_operation(list, op("get", "list", "", r.list_message_name), tag);
  put_operation(list, op("post", "post", r.message_name, r.message_name), tag);
  if (r.has_verb("deletecollection")) put_operation(list, op("delete", "deletecollection", delete_options, status), tag);
  MutJson item = paths.object(collection + "/{name}");
  put_path_parameters(item, r.namespaced, true);
  put_operation(item, op("get", "get", "", r.message_name), tag);
  put_operation(item, op("put", "put", r.message_name, r.message_name), tag);
  put_operation(item, op("patch", "patch", std::string(kMeta) + "Patch", r.message_name), tag);
  put_operation(item, op("delete", "delete", delete_options, status), tag);
  for (const Subresource& s : r.subresources) {
    const ResourceType* same = find_kind(s.group, s.version, s.kind);
    std::string_view message = same != nullptr ? same->message_name : kScale.message_name;
    if (s.kind == kBinding.kind) message = kBinding.message_name;
    if (s.kind == kEviction.kind) message = kEviction.message_name;
    MutJson sub = paths.object(std::format("{}/{{name}}/{}", collection, s.name));
    put_path_parameters(sub, r.namespaced, true);
    for (const std::string_view verb : s.verbs) {
      const std::string_view method = verb == "create" ? "post" : verb == "update" ? "put" : verb;
      const std::string_view body = verb == "get" ? std::string_view() : message;
      const std::string patch = std::string(kMeta) + "Patch";
      put_operation(sub, Operation{method, method, verb == "patch" ? std::string_view(patch) : body, message, s.group, s.version, s.kind}, tag);
    }
  }
}

void put_schemas(MutJson schemas, const GroupVersion& gv) {
  std::set<std::string_view> all;
  const auto add = [&](std::string_view name) { add_closure(all, find_message(name)); };
  const std::string status = std::string(kMeta) + "Status", options = std::string(kMeta) + "DeleteOptions";
  add(status);
  add(options);
  for (const ResourceType& r : resources()) {
    if (r.group != gv.group || r.version != gv.version) continue;
    add(r.message_name);
    add(r.list_message_name);
    for (const Subresource& s : r.subresources) {
      if (s.kind == kScale.kind) add(kScale.message_name);
      if (s.kind == kBinding.kind) add(kBinding.message_name);
      if (s.kind == kEviction.kind) add(kEviction.message_name);
    }
  }
  for (const std::string_view name : all) put_schema(schemas, find_message(name));
  for (const NamedType& n : kNamedTypes) {
    MutJson schema = schemas.append_object(schema_name(n.message));
    schema.set("description", n.description);
    put_special(schema, n.type);
  }
  MutJson patch = schemas.append_object(schema_name(std::string(kMeta) + "Patch"));
  patch.set("description", "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.");
  patch.set("type", "object");
  const auto mark = [&](std::string_view message, std::string_view group, std::string_view version, std::string_view kind) {
    if (MutJson schema = schemas[schema_name(message)]; schema)
      put_gvk(schema.array("x-kubernetes-group-version-kind").push_object(), group, version, kind);
  };
  for (const ResourceType& r : resources()) {
    mark(r.message_name, r.group, r.version, r.kind);
    mark(r.list_message_name, r.group, r.version, r.list_kind);
  }
  for (const BodyType& b : {kBinding, kEviction, kScale}) mark(b.message_name, b.group, b.version, b.kind);
  mark(status, "", "v1", "Status");
  for (const GroupVersion& each : group_versions()) mark(options, each.group, each.version, "DeleteOptions");
}

// What the document depends on: the schema and the resources that this program was built with.
std::uint64_t fingerprint(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}

}  // namespace

std::optional<std::string> openapi_document(std::string_view group, std::string_view version) {
  for (const GroupVersion& gv : group_versions()) {
    if (gv.group != group || gv.version != version) continue;
    JsonEdit edit;
    MutJson root = edit.root();
    root.set("openapi", "3.0.0");
    MutJson info = root.object("info");
    info.set("title", "Kubernetes");
    info.set("version", "v1.32.0");
    MutJson paths = root.object("paths");
    const std::string base = group_path(gv);
    const std::string tag = std::format("{}_{}", gv.group.empty() ? "core" : gv.group.substr(0, gv.group.find('.')), gv.version);
    for (const ResourceType& r : resources())
      if (r.group == gv.group && r.version == gv.version) put_resource(paths, r, base, tag);
    put_schemas(root.object("components").object("schemas"), gv);
    return edit.dump();
  }
  return std::nullopt;
}

std::string openapi_index() {
  JsonEdit edit;
  MutJson paths = edit.root().object("paths");
  for (const GroupVersion& gv : group_versions()) {
    const std::string path = group_path(gv);
    const std::uint64_t hash = fingerprint(*openapi_document(gv.group, gv.version));
    paths.object(path).set("serverRelativeURL", std::format("/openapi/v3/{}?hash={:016X}", path, hash));
  }
  return edit.dump();
}

}  // namespace skerry::kube
