// SPDX-License-Identifier: Apache-2.0
// OpenAPI v3, made from the schema table: what kubectl apply, diff and explain read. Texts of some hundred kilobytes: the
// caller keeps them (they never change while the program runs).
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace skerry::kube {

std::string openapi_index();  // GET /openapi/v3
std::optional<std::string> openapi_document(std::string_view group, std::string_view version);  // nothing: 404

}  // namespace skerry::kube
