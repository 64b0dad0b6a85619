// SPDX-License-Identifier: Apache-2.0
#include <format>

#include "kube/validation.h"

namespace skerry::kube {

std::string_view FieldError::cause_reason() const {
  switch (type) {
    case FieldErrorType::Required: return "FieldValueRequired";
    case FieldErrorType::Invalid: return "FieldValueInvalid";
    case FieldErrorType::NotSupported: return "FieldValueNotSupported";
    case FieldErrorType::Duplicate: return "FieldValueDuplicate";
    case FieldErrorType::Forbidden: return "FieldValueForbidden";
    case FieldErrorType::TooLong: return "FieldValueTooLong";
    case FieldErrorType::TooMany: return "FieldValueTooMany";
    case FieldErrorType::NotFound: return "FieldValueNotFound";
    case FieldErrorType::TypeInvalid: return "FieldValueTypeInvalid";
    case FieldErrorType::Internal: return "InternalError";
  }
  return "InternalError";
}

namespace {
std::string with_detail(std::string text, std::string_view detail) {
  if (!detail.empty()) {
    text += ": ";
    text += detail;
  }
  return text;
}
}  // namespace

FieldError field_required(std::string field, std::string_view detail) {
  return {FieldErrorType::Required, std::move(field), with_detail("Required value", detail)};
}
FieldError field_invalid(std::string field, std::string_view value_as_go, std::string_view detail) {
  return {FieldErrorType::Invalid, std::move(field), with_detail(std::format("Invalid value: {}", value_as_go), detail)};
}
FieldError field_invalid_string(std::string field, std::string_view value, std::string_view detail) {
  return field_invalid(std::move(field), json_quote(value), detail);
}
FieldError field_not_supported(std::string field, std::string_view value, std::vector<std::string> supported) {
  std::string list;
  for (const std::string& s : supported) list += (list.empty() ? "" : ", ") + json_quote(s);
  return {FieldErrorType::NotSupported, std::move(field),
          std::format("Unsupported value: {}: supported values: {}", json_quote(value), list)};
}
FieldError field_duplicate(std::string field, std::string_view value) {
  return {FieldErrorType::Duplicate, std::move(field), std::format("Duplicate value: {}", json_quote(value))};
}
FieldError field_forbidden(std::string field, std::string_view detail) {
  return {FieldErrorType::Forbidden, std::move(field), with_detail("Forbidden", detail)};
}
FieldError field_too_long(std::string field, std::size_t bytes_max) {
  return {FieldErrorType::TooLong, std::move(field), std::format("Too long: may not be more than {} bytes", bytes_max)};
}

}  // namespace skerry::kube
