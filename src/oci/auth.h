// SPDX-License-Identifier: Apache-2.0
// Who may pull and push: what a registry asks for in WWW-Authenticate, and the credentials that a Docker configuration (a pull
// secret) has for an image. Pure; fuzzed.
// https://distribution.github.io/distribution/spec/auth/token/
// https://kubernetes.io/docs/concepts/containers/images/#config-json
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/reference.h"

namespace skerry::oci {

struct Challenge {
  std::string scheme{};                     // lower case: "bearer", "basic"
  std::string realm{}, service{}, scope{};  // of bearer
  friend bool operator==(const Challenge&, const Challenge&) = default;
};
// Invalid: malformed. A header may hold several.
Result<std::vector<Challenge>> parse_challenges(std::string_view header);

struct Credential {
  std::string username{}, password{};
  std::string identity_token{};  // an OAuth 2 refresh token, in place of a password
  friend bool operator==(const Credential&, const Credential&) = default;
};

// Of a `kubernetes.io/dockerconfigjson` ({"auths":{…}}) or `kubernetes.io/dockercfg` ({…}): those whose key is the image's
// registry, with or without a path before its repository, most specific first. A key's host may hold `*` in a part between
// dots. Invalid: no such document; never what is in it.
Result<std::vector<Credential>> credentials_for(std::string_view docker_config, const Reference&);

}  // namespace skerry::oci
