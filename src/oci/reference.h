// SPDX-License-Identifier: Apache-2.0
// Image references as containerd and docker read them: "nginx" is "docker.io/library/nginx:latest". Pure; fuzzed.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace skerry::oci {

struct Reference {
  std::string registry{};    // "docker.io", "registry.example.com:5000"
  std::string repository{};  // "library/nginx"
  std::string tag{};         // "latest"; may be empty if there is a digest
  std::string digest{};      // "sha256:…", or empty

  // Normalised. Invalid: the text says which part and why.
  static Result<Reference> parse(std::string_view text);
  std::string text() const;  // registry/repository[:tag][@digest]
  friend bool operator==(const Reference&, const Reference&) = default;
};

// "sha256:" and 64 lower-case hexadecimal digits.
bool is_digest(std::string_view text);

}  // namespace skerry::oci
