// SPDX-License-Identifier: Apache-2.0
#include "kube/codec.h"

#include <format>

#include "base/text.h"
#include "kube/protobuf.h"
#include "kube/validation.h"

namespace skerry::kube {
namespace {

std::string api_version_of(const BodyType& type) {
  return type.group.empty() ? std::string(type.version) : std::format("{}/{}", type.group, type.version);
}
std::string cannot_handle(const BodyType& type, std::string_view text) {
  return std::format("{} in version {} cannot be handled as a {}: {}", type.kind, json_quote(type.version), type.kind, text);
}
std::string strict_text(const std::vector<std::string>& errors) {
  std::string out = "strict decoding error: ";
  for (const std::string& e : errors) out += (&e == &errors.front() ? "" : ", ") + e;
  return out;
}

// The kind that a body names must be the kind that its URL serves.
ApiResult<> check_kind(const BodyType& type, std::string_view api_version, std::string_view kind) {
  const std::string expected = api_version_of(type);
  // Clients send DeleteOptions under v1 or under the group of the object that goes.
  if (type.kind == kDeleteOptions.kind && (kind.empty() || kind == type.kind)) return {};
  if ((api_version.empty() || api_version == expected) && (kind.empty() || kind == type.kind)) return {};
  const std::string_view version = api_version.empty() ? std::string_view(expected) : api_version;
  const std::string_view named = kind.empty() ? type.kind : kind;
  const auto slash = version.find('/');
  const std::string_view short_version = slash == std::string_view::npos ? version : version.substr(slash + 1);
  if (find_kind(version, named) == nullptr && named != type.kind)
    return ApiFail(status_bad_request(std::format("no kind {} is registered for version {}", json_quote(named), json_quote(version))));
  if (named != type.kind) {
    const std::string group = type.group.empty() ? "core" : std::string(type.group.substr(0, type.group.find('.')));
    return ApiFail(status_bad_request(std::format(
        "{} in version {} cannot be handled as a {}: converting ({}.{}) to ({}.{}): unknown conversion", named,
        json_quote(short_version), type.kind, short_version, named, group, type.kind)));
  }
  return ApiFail(status_bad_request(
      std::format("the API version in the data ({}) does not match the expected API version ({})", version, expected)));
}

void set_kind(const BodyType& type, MutJson root) {
  root.set("kind", type.kind);
  root.set("apiVersion", api_version_of(type));
}

ApiResult<Decoded> decode_json(const BodyType& type, std::string_view bytes, FieldValidation validation) {
  auto doc = JsonDoc::parse(bytes);
  if (!doc) return ApiFail(status_bad_request(std::format("couldn't get version/kind; json parse error: {}", doc.error().what)));
  const Json root = doc->root();
  if (!root.is_object())
    return ApiFail(status_bad_request(std::format("couldn't get version/kind; json parse error: the body is not a JSON object but {}",
                                                  root.dump().substr(0, 40))));
  for (const std::string_view key : {"kind", "apiVersion"})
    if (root[key] && !root[key].is_string() && !root[key].is_null())
      return ApiFail(status_bad_request(std::format("couldn't get version/kind; json parse error: {} is not a string", key)));
  TRY_API_OK(check_kind(type, root["apiVersion"].str(), root["kind"].str()));
  DecodeReport report;
  Decoded out{prune(type.message(), root, report), {}};
  if (report.error) return ApiFail(status_bad_request(cannot_handle(type, *report.error)));
  if (!report.strict_errors.empty() && validation == FieldValidation::Strict)
    return ApiFail(status_bad_request(cannot_handle(type, strict_text(report.strict_errors))));
  if (validation == FieldValidation::Warn) out.warnings = std::move(report.strict_errors);
  set_kind(type, out.object.root());
  return out;
}

ApiResult<Decoded> decode_protobuf(const BodyType& type, std::string_view bytes) {
  auto envelope = open_envelope(bytes);
  if (!envelope) return ApiFail(status_bad_request(envelope.error().what));
  TRY_API_OK(check_kind(type, envelope->api_version, envelope->kind));
  auto object = protobuf_to_json(type.message(), envelope->raw);
  if (!object) return ApiFail(status_bad_request(cannot_handle(type, object.error().what)));
  set_kind(type, object->root());
  return Decoded{std::move(*object), {}};
}

}  // namespace

ApiResult<FieldValidation> parse_field_validation(std::string_view value) {
  if (value.empty() || value == "Warn") return FieldValidation::Warn;
  if (value == "Strict") return FieldValidation::Strict;
  if (value == "Ignore") return FieldValidation::Ignore;
  return ApiFail(status_invalid("meta.k8s.io", "CreateOptions", "",
                                {field_not_supported("fieldValidation", value, {"", "Ignore", "Strict", "Warn"})}));
}

std::optional<BodyFormat> body_format(std::string_view content_type) {
  const std::string_view type = trim(content_type.substr(0, content_type.find(';')));
  if (type.empty() || type == kJsonType || type == "*/*") return BodyFormat::Json;
  if (type == kProtobufType) return BodyFormat::Protobuf;
  return std::nullopt;
}

ApiResult<Decoded> decode_body(const BodyType& type, std::string_view content_type, std::string_view bytes, FieldValidation validation) {
  const auto format = body_format(content_type);
  if (!format) return ApiFail(status_unsupported_media_type(std::format("{}, {}", kJsonType, kProtobufType)));
  return *format == BodyFormat::Json ? decode_json(type, bytes, validation) : decode_protobuf(type, bytes);
}

ApiResult<Decoded> decode_patched(const BodyType& type, MutJson patched, FieldValidation validation) {
  const std::string text = patched.dump();
  const auto refused = [&](std::string_view why) {
    return ApiFail(status_invalid("", "", "", {field_invalid_string("patch", text, why)}));
  };
  auto doc = JsonDoc::parse(text);
  if (!doc) return refused(doc.error().what);
  const Json root = doc->root();
  if (root["kind"].str(type.kind) != type.kind || root["apiVersion"].str(api_version_of(type)) != api_version_of(type))
    return refused(std::format("the patch changes apiVersion or kind, which must stay {} {}", api_version_of(type), type.kind));
  DecodeReport report;
  Decoded out{prune(type.message(), root, report), {}};
  if (report.error) return refused(*report.error);
  if (!report.strict_errors.empty() && validation == FieldValidation::Strict) return refused(strict_text(report.strict_errors));
  if (validation == FieldValidation::Warn) out.warnings = std::move(report.strict_errors);
  set_kind(type, out.object.root());
  return out;
}

}  // namespace skerry::kube
