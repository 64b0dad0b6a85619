// SPDX-License-Identifier: Apache-2.0
// The images on this node's disk, shared by the agent and `skerry image`:
//   DIR/blobs/sha256/<hex>   the bytes, named by their hash, never changed once there
//   DIR/index.json           {"version":1,"images":[{"ref","digest","size","kind","source","added",…}]}, replaced atomically
//   DIR/index.json.old       the index before the last change, or a second name of index.json: read when index.json is broken
//   DIR/partial/<hex>/       what skerry-registry downloads, a folder for each pull; its own, and not to be trusted
//   DIR/lock                 held by whoever changes something (flock; waits)
// A blob is on disk and synced before an index names it, and is deleted after no index names it: a crash at any point
// leaves a good index, and at worst an unnamed blob, which collect() removes: after each change that `skerry image` makes.
// Blocking: the agent calls it on a BlockingPool. Thread-safe: every call opens what it needs.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "oci/reference.h"
#include "os/fd.h"

namespace skerry::oci {

struct Image {
  Reference reference{};
  std::string digest{};  // "sha256:…" of the module's bytes
  std::filesystem::path path{};
  std::uint64_t size = 0;
  std::string kind{};    // what the inspection said: "http-wasm", "wagi", …
  std::string source{};  // "sideload": authoritative for its reference; no registry replaces it. "registry"
  Time added{};
  std::string manifest{};  // of a registry's image: the digest that its reference named; else ""
  std::vector<std::string> arguments{}, env{};  // of the image's configuration
  Time used{};             // when a pod was last known to use it, to the day
  bool pinned = false;     // stays when the disk is full, although no pod uses it
  bool sideloaded() const { return source == "sideload"; }
  // What a digest in a reference, and a pod's imageID, name.
  const std::string& identity() const { return manifest.empty() ? digest : manifest; }
  // Whether it is what a pod names so: by tag, if it was stored under that tag alone; a digest decides alone, as in every registry.
  bool answers(const Reference& wanted) const;
};

// What came from a registry with a module.
struct Provenance {
  std::string module{}, manifest{};  // digests: of the bytes, which must have it, and of what the reference named
  std::vector<std::string> arguments{}, env{};
  bool pinned = false;  // somebody wants it here, whether or not a pod uses it
};

// Where one pull downloads to. While this lives, nobody else pulls the same there, and nothing in it is removed.
struct PullFolder {
  std::filesystem::path path{};
  os::UniqueFd held{};
};

// What the bytes are (a kind), or why they are refused. Called with the whole module.
using Inspect = std::function<Result<std::string>(std::string_view bytes)>;

class ImageStore {
 public:
  static constexpr std::uint64_t kModuleBytesMax = 64ULL * 1024 * 1024;
  static constexpr std::size_t kImagesMax = 10'000;

  // Makes the folders. Unavailable, Denied: from the disk.
  static Result<ImageStore> open(std::filesystem::path folder);

  // Copies the file in under the reference, replacing what the reference named. Invalid: no Wasm module, or refused by
  // `inspect`; Exhausted: too large, or too many images; NotFound: no such file.
  Result<Image> add(const std::filesystem::path& file, std::string_view reference, const Inspect& inspect, Time now);
  // The same with what a registry client left in its PullFolder: nothing of it is trusted, and it is copied, since whoever wrote
  // it may still hold it open; then it goes. Corrupt: it has another digest; Conflict: the reference was side-loaded.
  Result<Image> add_pulled(const std::filesystem::path& file, const Reference&, const Provenance&, const Inspect& inspect, Time now);
  // The folder of those who pull this (the reference, and who asks): the next one goes on with what the former left. Waits for
  // one who has it.
  Result<PullFolder> pull_folder(std::string_view what) const;
  Result<std::vector<Image>> list() const;                 // by reference; Corrupt: neither index can be read
  Result<Image> resolve(std::string_view reference) const;  // by tag, or by digest; NotFound: with the remedy
  // The same; an image of another name that a digest leads to gets this name too, since that one may move or go. Not pinned.
  Result<Image> hold(std::string_view reference);
  Result<> remove(std::string_view reference);              // NotFound; the blob stays for collect()
  Result<> pin(std::string_view reference, bool pinned);    // NotFound. It outlives a newer image of that name; as hold()
  // The image that has this very name, and the name as it was before a change: no image, if it was none. NotFound: it was
  // collected meanwhile, and the name is none's.
  Result<std::optional<Image>> named(const Reference&) const;
  Result<> put_back(const Reference&, const std::optional<Image>& former);
  // Deletes blobs that no reference names (and temporary files of dead writers), but for those that `in_use` knows: an image
  // that was replaced under its name may have pods still. The digests of what went.
  Result<std::vector<std::string>> collect(const std::function<bool(const std::string& digest)>& in_use);
  // Notes that these modules are used, once a day. Then, while `too_full` says so, forgets registries' images that are not in
  // use, those first that were not used for longest: pinned ones stay, and side-loaded ones, which nobody could bring back. The
  // references that went; collect() frees their bytes, so `too_full` is asked with the bytes that went so far. A disk without
  // room for the index: `make_room` deletes what can be made again of each module that is to go, and it is tried once more.
  Result<std::vector<Reference>> evict(const std::function<bool(const std::string& digest)>& in_use, Time now,
                                       const std::function<bool(std::uint64_t freed)>& too_full,
                                       const std::function<void(const std::string& digest)>& make_room);
  // Downloads that nobody has in hand now, and nobody went on with for that long.
  void remove_partial(Duration older_than, Time now) const;
  // Reads the blob and compares its hash. Corrupt: names the image and the remedy.
  static Result<> verify(const Image&);

 private:
  explicit ImageStore(std::filesystem::path folder) : folder_(std::move(folder)) {}
  Result<Image> store(const std::string& bytes, Image image, const Inspect& inspect, std::string_view what);
  std::filesystem::path folder_;
};

}  // namespace skerry::oci
