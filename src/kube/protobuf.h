// SPDX-License-Identifier: Apache-2.0
// Kubernetes protobuf ↔ JSON by the schema table. Bytes come from clients: every length is checked, nesting is bounded.
#pragma once
#include <string>
#include <string_view>

#include "kube/json.h"
#include "kube/resources.h"
#include "kube/status.h"

namespace skerry::kube {

// The envelope of a body: magic "k8s\0", then runtime.Unknown{typeMeta{apiVersion, kind}, raw, …}.
struct ProtobufEnvelope {
  std::string_view api_version, kind, raw;  // views into the input
};
Result<ProtobufEnvelope> open_envelope(std::string_view bytes);
std::string make_envelope(std::string_view api_version, std::string_view kind, std::string_view raw);

// Members appear in the order of the schema; absent fields are absent. Unknown tags are skipped, as protobuf asks.
Result<JsonEdit> protobuf_to_json(Message, std::string_view raw);
// `value` must have the shape of the schema (see codec.h); members without a field are skipped.
Result<std::string> json_to_protobuf(Message, Json value);

}  // namespace skerry::kube
