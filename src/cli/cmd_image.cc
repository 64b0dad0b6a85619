// SPDX-License-Identifier: Apache-2.0
// `skerry image add|ls|pin|unpin|rm`: works on the image store on disk, which the agent shares; needs no running node.
#include <algorithm>
#include <cstdio>
#include <format>

#include "base/log.h"
#include "base/text.h"
#include "cli/cmd.h"
#include "cli/image_users.h"
#include "cli/layout.h"
#include "kube/json.h"
#include "oci/image_store.h"
#include "os/file.h"
#include "wasm/inspect.h"
#include "wasm/native_build.h"

namespace skerry::cli {
namespace {

// Modules that no reference names and no pod uses, with their native code.
Result<> collect(const DataLayout& layout, oci::ImageStore& store) {
  TRY(const auto deleted, store.collect([&](const std::string& digest) { return is_loaded(layout, digest); }));
  for (const auto& digest : deleted) remove_native_code(layout, digest);
  return {};
}

Result<> add(const ImageAddOptions& o) {
  const DataLayout layout{o.data_dir};
  TRY(const auto programs, find_programs());
  TRY_OK(make_data_folder(o.data_dir));
  TRY(auto store, oci::ImageStore::open(layout.images()));
  TRY(const auto reference, oci::Reference::parse(o.reference));
  TRY(const auto former, store.named(reference));
  TRY(const auto image, store.add(o.file, o.reference, wasm::inspect_image, SystemClock().now()));
  // Native code is made now, so that no pod waits for it.
  TRY(const auto bytes, os::read_small_file(image.path, oci::ImageStore::kModuleBytesMax));
  const auto before = SystemClock().instant();
  auto native = wasm::ensure_native({.compiler = programs.compiler, .folder = layout.native()}, image.path, wasm::sha256(bytes));
  if (!native) {
    // Its name means what it meant before.
    if (auto back = store.put_back(reference, former); !back) LOG_WARN("image not put back", {"reference", o.reference}, {"error", back.error()});
    if (auto collected = collect(layout, store); !collected) LOG_WARN("unused images not removed", {"error", collected.error()});
    return Fail(native.error());
  }
  const os::UniqueFd opened(native->fd);
  std::printf("%s  %s  %s  %llu bytes, native code ready after %s\n", o.reference.c_str(), image.digest.c_str(), image.kind.c_str(),
              static_cast<unsigned long long>(image.size), to_human(SystemClock().instant() - before).c_str());
  return collect(layout, store);
}

Result<> list(const ImageListOptions& o) {
  const auto folder = DataLayout{o.data_dir}.images();
  std::vector<oci::Image> images;
  // Whoever looks makes nothing: no folder is no image.
  if (std::filesystem::exists(folder)) {
    TRY(const auto store, oci::ImageStore::open(folder));
    TRY(images, store.list());
  }
  if (images.empty()) std::fprintf(stderr, "no images in %s; add one with: skerry image add FILE REFERENCE\n", folder.c_str());
  if (!o.json) std::printf("%-56s %-14s %10s  %-17s %-6s  %s\n", "REFERENCE", "DIGEST", "SIZE", "KIND", "KEPT", "ADDED");
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
      root.set("pinned", image.pinned);
      root.set("added", to_rfc3339(image.added));
      std::printf("%s\n", line.dump().c_str());
      continue;
    }
    const auto hash = image.digest.substr(image.digest.find(':') + 1, 12);
    // Why it stays when no pod uses it and the disk is full.
    const char* const kept = image.sideloaded() ? "added" : image.pinned ? "pinned" : "-";
    std::printf("%-56s %-14s %10llu  %-17s %-6s  %s\n", reference.c_str(), hash.c_str(), static_cast<unsigned long long>(image.size), image.kind.c_str(), kept,
                to_rfc3339(image.added).c_str());
  }
  return {};
}

// Of a data folder that has one: whoever changes it makes none.
Result<oci::ImageStore> present_store(const DataLayout& layout) {
  if (!std::filesystem::exists(layout.images())) return Fail({Errc::NotFound, std::format("there are no images in {}; is --data-dir right?", layout.images().string())});
  return oci::ImageStore::open(layout.images());
}

Result<> pin(const ImagePinOptions& o) {
  TRY(auto store, present_store(DataLayout{o.data_dir}));
  TRY_OK(store.pin(o.reference, o.pinned));
  std::printf("%s %s\n", o.pinned ? "pinned" : "unpinned", o.reference.c_str());
  return {};
}

Result<> remove(const ImageRemoveOptions& o) {
  const DataLayout layout{o.data_dir};
  TRY(auto store, present_store(layout));
  TRY(const auto reference, oci::Reference::parse(o.reference));
  TRY(const auto images, store.list());
  const auto at = std::ranges::find(images, reference, &oci::Image::reference);
  if (at != images.end() && !o.force) TRY_OK(refuse_if_used(layout, *at));
  TRY_OK(store.remove(o.reference));
  TRY_OK(collect(layout, store));
  std::printf("removed %s\n", o.reference.c_str());
  return {};
}

int finish(const Result<>& result) { return result ? kExitOk : fail(result.error()); }

}  // namespace

int cmd_image_add(const ImageAddOptions& o) { return finish(add(o)); }
int cmd_image_list(const ImageListOptions& o) { return finish(list(o)); }
int cmd_image_remove(const ImageRemoveOptions& o) { return finish(remove(o)); }
int cmd_image_pin(const ImagePinOptions& o) { return finish(pin(o)); }

}  // namespace skerry::cli
