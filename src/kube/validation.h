// SPDX-License-Identifier: Apache-2.0
// The rules that an object must keep beyond its schema, worded as kube-apiserver words them (clients print and compare the
// texts). Pure; the object must have been decoded and defaulted. An empty answer means valid.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kube/json.h"
#include "kube/resources.h"

namespace skerry::kube {

enum class FieldErrorType { Required, Invalid, NotSupported, Duplicate, Forbidden, TooLong, TooMany, NotFound, TypeInvalid, Internal };

struct FieldError {
  FieldErrorType type;
  std::string field;    // "spec.containers[0].name"
  std::string message;  // `Invalid value: "x": must be …`, without the field
  std::string text() const { return field + ": " + message; }
  std::string_view cause_reason() const;  // "FieldValueInvalid"
};
using FieldErrors = std::vector<FieldError>;

FieldErrors validate_create(const ResourceType&, Json object);
FieldErrors validate_update(const ResourceType&, Json object, Json old);
FieldErrors validate_status_update(const ResourceType&, Json object, Json old);
// The body of the scale subresource.
FieldErrors validate_scale(Json scale);

// Builders, for rules that live with their subresource.
FieldError field_required(std::string field, std::string_view detail = {});
FieldError field_invalid(std::string field, std::string_view value_as_go, std::string_view detail);  // value: quoted already
FieldError field_invalid_string(std::string field, std::string_view value, std::string_view detail);
FieldError field_not_supported(std::string field, std::string_view value, std::vector<std::string> supported);
FieldError field_duplicate(std::string field, std::string_view value);
FieldError field_forbidden(std::string field, std::string_view detail);

// Names. Nothing if good, else the sentence that Kubernetes answers.
std::optional<std::string> check_dns1123_label(std::string_view);
std::optional<std::string> check_dns1123_subdomain(std::string_view);
std::optional<std::string> check_dns1035_label(std::string_view);
std::optional<std::string> check_qualified_name(std::string_view);
std::optional<std::string> check_label_value(std::string_view);

}  // namespace skerry::kube
