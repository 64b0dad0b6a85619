// SPDX-License-Identifier: Apache-2.0
// The bytes of an image's layer, as libarchive reads them: the first line names the entrypoint, the rest is the layer. What is
// extracted is as large as the layer said, and no larger than it may be.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <format>

#include "fuzz/fuzz.h"
#include "oci/archive.h"
#include "os/file.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  constexpr std::uint64_t kUnpackedBytesMax = 1 << 20, kModuleBytesMax = 64 * 1024;
  const auto path = take_until(input, '\n');
  const os::UniqueFd layer(::memfd_create("layer", MFD_CLOEXEC));
  REQUIRE(layer && os::write_all(layer.get(), input));
  const std::filesystem::path file = std::format("/proc/self/fd/{}", layer.get()), module = std::format("/dev/shm/skerry-archive-fuzz-{}", ::getpid());
  const auto tree = oci::read_layers({file}, kUnpackedBytesMax);
  if (!tree) return;
  const auto place = tree->find(path);
  if (!place) return;
  REQUIRE(place->size <= kUnpackedBytesMax);
  const auto done = oci::extract(file, *place, module, kModuleBytesMax);
  std::error_code error;
  const auto size = std::filesystem::file_size(module, error);
  ::unlink(module.c_str());
  if (done) REQUIRE(!error && size == place->size && size <= kModuleBytesMax);
  if (!error) REQUIRE(size <= kModuleBytesMax);
}
}  // namespace skerry::fuzz
