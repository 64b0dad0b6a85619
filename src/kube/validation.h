// SPDX-License-Identifier: Apache-2.0
// The rules that an object must keep beyond its schema, worded as kube-apiserver words them (clients print and compare the
// texts). Pure; the object must have been decoded and defaulted. An empty answer means valid.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kube/json.h"
#include "kube/names.h"
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
FieldErrors validate_approval_update(const ResourceType&, Json object, Json old);  // of a CertificateSigningRequest
// The body of the scale subresource.
FieldErrors validate_scale(Json scale);

// Builders, for rules that live with their subresource.
FieldError field_required(std::string field, std::string_view detail = {});
FieldError field_invalid(std::string field, std::string_view value_as_go, std::string_view detail);  // value: quoted already
FieldError field_invalid_string(std::string field, std::string_view value, std::string_view detail);
FieldError field_not_supported(std::string field, std::string_view value, std::vector<std::string> supported);
FieldError field_duplicate(std::string field, std::string_view value);
FieldError field_forbidden(std::string field, std::string_view detail);
FieldError field_too_long(std::string field, std::size_t bytes_max);

}  // namespace skerry::kube
