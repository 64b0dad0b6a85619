// SPDX-License-Identifier: Apache-2.0
// The layers of an image, read by libarchive: tar, as it is or packed with gzip or zstd. Only skerry-registry links it.
// Nothing is unpacked but the one file that is asked for. Blocking.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "oci/layer_tree.h"

namespace skerry::oci {

// Reads the names of the layers, bottom first. Invalid, Corrupt: names the layer; Exhausted: unpacked they have more bytes
// than `unpacked_bytes_max`.
Result<LayerTree> read_layers(const std::vector<std::filesystem::path>& layers, std::uint64_t unpacked_bytes_max);

// Writes one file of a layer to `to`. Exhausted: larger than bytes_max, or the disk is full.
Result<> extract(const std::filesystem::path& layer, const LayerTree::Place&, const std::filesystem::path& to, std::uint64_t bytes_max);

}  // namespace skerry::oci
