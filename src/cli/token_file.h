// SPDX-License-Identifier: Apache-2.0
// Bearer tokens of `skerry server`, in the format of kube-apiserver's --token-auth-file: a line of comma-separated values
// each, TOKEN,USER,UID[,"GROUP,GROUP…"]; a value may be quoted. https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file
#pragma once
#include <filesystem>
#include <string_view>
#include <vector>

#include "apiserver/apiserver.h"
#include "base/error.h"

namespace skerry::cli {

// Invalid: names the line, never what is in it.
Result<std::vector<apiserver::BearerToken>> parse_token_file(std::string_view text);
// Denied: others can read the file. NotFound, Invalid.
Result<std::vector<apiserver::BearerToken>> read_token_file(const std::filesystem::path&);

}  // namespace skerry::cli
