// SPDX-License-Identifier: Apache-2.0
// Bytes of a request body → an object that has the shape of its schema, and an object → canonical bytes.
//
// Decoding does what Go's typed decoder does for kube-apiserver: unknown and duplicate fields are dropped and reported as
// FieldValidation says, a value of the wrong type is an error, and what a Go struct would not keep (an empty list of an
// omitempty field, a false non-pointer bool, null) is dropped. Canonical bytes are what Go would write: fields in the order
// of the struct, map keys sorted, required-by-type members present (`"resources":{}`, `"status":{}`).
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kube/json.h"
#include "kube/resources.h"
#include "kube/status.h"

namespace skerry::kube {

enum class FieldValidation { Ignore, Warn, Strict };
// "" is Warn, as kube-apiserver has it since 1.27. Fails with 400 for an unknown word.
ApiResult<FieldValidation> parse_field_validation(std::string_view query_value);

enum class BodyFormat { Json, Protobuf };
inline constexpr std::string_view kJsonType = "application/json";
inline constexpr std::string_view kProtobufType = "application/vnd.kubernetes.protobuf";
// Of a Content-Type header; parameters are ignored, "" is JSON. Nothing: unsupported (answer 415).
std::optional<BodyFormat> body_format(std::string_view content_type);

struct Decoded {
  JsonEdit object;                    // has kind and apiVersion of the type
  std::vector<std::string> warnings;  // FieldValidation::Warn: for Warning headers
};

// Body of create and update. 400: not of this kind, wrong type, or (Strict) unknown field; 415: format. An empty kind or
// apiVersion is filled in; another one is 400.
ApiResult<Decoded> decode_body(const BodyType&, std::string_view content_type, std::string_view bytes, FieldValidation);
inline ApiResult<Decoded> decode_body(const ResourceType& type, std::string_view content_type, std::string_view bytes,
                                      FieldValidation validation) {
  return decode_body(type.body(), content_type, bytes, validation);
}

// The same for an object that is parsed already, such as the outcome of a patch: failures are 422, on the field `patch`.
ApiResult<Decoded> decode_patched(const BodyType&, MutJson patched, FieldValidation);

// What decoding found, for callers that word the answer themselves.
struct DecodeReport {
  std::optional<std::string> error;        // the first value of a wrong type
  std::vector<std::string> strict_errors;  // unknown field "…", duplicate field "…"; at most 100
};
// The object cut to its schema, in canonical order.
JsonEdit prune(Message, Json value, DecodeReport&);

// Canonical bytes. Unknown members are not written.
std::string canonical(Message, MutJson);
std::string canonical(Message, Json);
inline std::string canonical(const ResourceType& type, MutJson object) { return canonical(type.message(), object); }

}  // namespace skerry::kube
