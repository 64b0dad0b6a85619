// SPDX-License-Identifier: Apache-2.0
// What the files of validation share; nobody else includes it.
#pragma once
#include <charconv>
#include <format>
#include <initializer_list>
#include <string>
#include <string_view>

#include "kube/validation.h"

namespace skerry::kube::validation {

using Path = const std::string&;

// Called for every field of every object, nearly always for nothing: plain appends, no formatting.
inline std::string at(Path path, std::string_view member) {
  std::string out;
  out.reserve(path.size() + 1 + member.size());
  out += path;
  if (!path.empty()) out += '.';
  out += member;
  return out;
}
inline std::string key(Path path, std::string_view name) {
  std::string out;
  out.reserve(path.size() + 2 + name.size());
  out += path;
  out += '[';
  out += name;
  out += ']';
  return out;
}
inline std::string at(Path path, std::size_t index) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, index).ptr;
  return key(path, std::string_view(digits, end));
}

inline constexpr std::string_view kImmutable = "field is immutable";
inline constexpr std::string_view kNotNegative = "must be greater than or equal to 0";
inline constexpr std::string_view kPortRange = "must be between 1 and 65535, inclusive";

void add(FieldErrors&, Path field, std::string_view value, const Complaints&);  // one Invalid for each complaint
bool one_of(FieldErrors&, Path field, Json value, std::initializer_list<std::string_view> allowed);  // absent is not checked
void not_negative(FieldErrors&, Path field, Json value);
std::string go_map(Json strings);  // map[string]string{"a":"b"}

void validate_meta(FieldErrors&, const ResourceType&, Json metadata);
void validate_meta_update(FieldErrors&, Json metadata, Json old);
void validate_labels(FieldErrors&, Path, Json labels);
void validate_annotations(FieldErrors&, Path, Json annotations);
void validate_label_selector(FieldErrors&, Path, Json selector);

void validate_pod_spec(FieldErrors&, Path, Json spec);
void validate_pod_update(FieldErrors&, Json pod, Json old);
void validate_workload(FieldErrors&, const ResourceType&, Json object);  // Deployment and ReplicaSet
void validate_service(FieldErrors&, Json service);
void validate_signing_request(FieldErrors&, Json spec);
enum class ChangedBy : std::uint8_t { Update, Approval, Status };  // the object itself, or through a subresource
void validate_signing_request_update(FieldErrors&, Json object, Json old, ChangedBy);
void validate_service_update(FieldErrors&, Json service, Json old);

}  // namespace skerry::kube::validation
