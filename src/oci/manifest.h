// SPDX-License-Identifier: Apache-2.0
// What a registry says about an image: manifests, indexes and configurations of the OCI image specification 1.1, and Docker's
// schema 2, which differs in its media types alone. Pure; the bytes come from outside; fuzzed.
// https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace skerry::oci {

inline constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json", kIndexType = "application/vnd.oci.image.index.v1+json",
                                  kDockerManifestType = "application/vnd.docker.distribution.manifest.v2+json",
                                  kDockerIndexType = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kWasmLayerType = "application/wasm", kWasmConfigType = "application/vnd.wasm.config.v0+json";
inline constexpr std::size_t kManifestBytesMax = 4 * 1024 * 1024;  // what registries accept at most

struct Descriptor {
  std::string media_type{}, digest{};
  std::uint64_t size = 0;
};

struct Manifest {
  Descriptor config{};
  std::vector<Descriptor> layers{};
};
struct IndexEntry {
  Descriptor manifest{};
  std::string os{}, architecture{};
};
struct Index {
  std::vector<IndexEntry> entries{};
};

// `media_type`: of the answer's Content-Type, which decides over what the document says of itself. Invalid: malformed;
// Unsupported: a schema 1, or no manifest at all. The text says which part.
Result<std::variant<Manifest, Index>> parse_manifest(std::string_view media_type, std::string_view bytes);

// The entry for Wasm, else the one for this machine's architecture ("amd64", "arm64"): its entrypoint may be a Wasm module.
// NotFound: names the platforms that are there.
Result<Descriptor> choose(const Index&, std::string_view architecture);

// Unsupported: layers that cannot be read here (encrypted, foreign), by name.
Result<> check_layers(const Manifest&);

struct ImageConfig {
  std::vector<std::string> entrypoint{}, command{}, env{};
  std::string working_folder{};
};
// An artifact's configuration, which has none of this, is an empty one. Invalid.
Result<ImageConfig> parse_config(std::string_view bytes);

}  // namespace skerry::oci
