// SPDX-License-Identifier: Apache-2.0
// Internal to pki: the alternative names of certificates and requests.
#pragma once
#include <openssl/x509v3.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "http/openssl.h"

namespace skerry::pki {

struct AlternativeNames {
  std::vector<std::string> dns_names{}, addresses{};
  bool others = false;  // mail, URI, …; or one that cannot be read
};
AlternativeNames read_alternative_names(const GENERAL_NAMES*);  // null: none
// Built as values, not as configuration text: a name cannot smuggle in another field. Invalid: says which name is bad.
Result<http::NamesPtr> make_alternative_names(const std::vector<std::string>& dns_names, const std::vector<std::string>& addresses);

}  // namespace skerry::pki
