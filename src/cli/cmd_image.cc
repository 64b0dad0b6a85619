// SPDX-License-Identifier: Apache-2.0
// `skerry image add|ls|rm`: works on the image store on disk, which the agent shares; needs no running node.
#include <cstdio>
#include <format>

#include "base/log.h"
#include "base/text.h"
#include "cli/cmd.h"
#include "cli/layout.h"
#include "kube/json.h"
#include "oci/image_store.h"
#include "os/file.h"
#include "wasm/inspect.h"
#include "wasm/native_build.h"

namespace skerry::cli {
namespace {

// A command may be a WAGI guest, which only a pod's annotation tells; a socket server or a library is served by nothing yet.
Result<std::string> inspect_image(std::string_view bytes) {
  TRY(const auto inspection, wasm::inspect(bytes));
  TRY_OK(wasm::refuse_kind(inspection.kind, wasm::Handler::Any));
  return std::string(wasm::to_string(inspection.kind));
}

Result<> add(const ImageAddOptions& o) {
  const DataLayout layout{o.data_dir};
  TRY(const auto programs, find_programs());
  TRY_OK(os::make_folders(o.data_dir, 0700));
  TRY(auto store, oci::ImageStore::open(layout.images()));
  TRY(const auto image, store.add(o.file, o.reference, inspect_image, SystemClock().now()));
  // Native code is made now, so that no pod waits for it.
  TRY(const auto bytes, os::read_small_file(image.path, oci::ImageStore::kModuleBytesMax));
  const auto before = SystemClock().instant();
  auto native = wasm::ensure_native({.compiler = programs.compiler, .folder = layout.native()}, image.path, wasm::sha256(bytes));
  if (!native) {
    // An image that cannot run is not left behind under its name.
    if (auto removed = store.remove(o.reference); !removed) LOG_WARN("image not removed", {"reference", o.reference}, {"error", removed.error()});
    return Fail(native.error());
  }
  const os::UniqueFd opened(native->fd);
  std::printf("%s  %s  %s  %llu bytes, native code ready after %s\n", o.reference.c_str(), image.digest.c_str(), image.kind.c_str(),
              static_cast<unsigned long long>(image.size), to_human(SystemClock().instant() - before).c_str());
  return {};
}

Result<> list(const ImageListOptions& o) {
  TRY(const auto store, oci::ImageStore::open(DataLayout{o.data_dir}.images()));
  TRY(const auto images, store.list());
  if (!o.json) std::printf("%-56s %-14s %10s  %-12s %s\n", "REFERENCE", "DIGEST", "SIZE", "KIND", "ADDED");
  for (const auto& image : images) {
    const auto reference = image.reference.text();
    if (o.json) {
      kube::JsonEdit line;
      auto root = line.root();
      root.set("reference", reference);
      root.set("digest", image.digest);
      root.set("size", static_cast<std::int64_t>(image.size));
      root.set("kind", image.kind);
      root.set("source", image.source);
      root.set("added", to_rfc3339(image.added));
      std::printf("%s\n", line.dump().c_str());
      continue;
    }
    const auto hash = image.digest.substr(image.digest.find(':') + 1, 12);
    std::printf("%-56s %-14s %10llu  %-12s %s\n", reference.c_str(), hash.c_str(), static_cast<unsigned long long>(image.size), image.kind.c_str(),
                to_rfc3339(image.added).c_str());
  }
  return {};
}

Result<> remove(const ImageRemoveOptions& o) {
  TRY(auto store, oci::ImageStore::open(DataLayout{o.data_dir}.images()));
  TRY_OK(store.remove(o.reference));
  std::printf("removed %s\n", o.reference.c_str());
  return {};
}

int finish(const Result<>& result) { return result ? kExitOk : fail(result.error()); }

}  // namespace

int cmd_image_add(const ImageAddOptions& o) { return finish(add(o)); }
int cmd_image_list(const ImageListOptions& o) { return finish(list(o)); }
int cmd_image_remove(const ImageRemoveOptions& o) { return finish(remove(o)); }

}  // namespace skerry::cli
