// SPDX-License-Identifier: Apache-2.0
#include "oci/image_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <format>

#include "base/log.h"
#include "base/text.h"
#include "kube/json.h"
#include "oci/digest.h"
#include "os/file.h"

namespace skerry::oci {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kIndexBytesMax = 16 * 1024 * 1024;
constexpr std::size_t kKindBytesMax = 64;

fs::path blob_folder(const fs::path& folder) { return folder / "blobs" / "sha256"; }
fs::path partial_folder(const fs::path& folder) { return folder / "partial"; }
fs::path blob_path(const fs::path& folder, std::string_view digest) { return blob_folder(folder) / digest.substr(digest.find(':') + 1); }

std::string to_text(const std::vector<Image>& images) {
  kube::JsonEdit edit;
  edit.root().set("version", 1);
  kube::MutJson list = edit.root().array("images");
  for (const auto& image : images) {
    kube::MutJson one = list.push_object();
    one.set("ref", image.reference.text());
    one.set("digest", image.digest);
    one.set("size", static_cast<std::int64_t>(image.size));
    one.set("kind", image.kind);
    one.set("source", image.source);
    one.set("added", to_rfc3339_nano(image.added));
    if (!image.manifest.empty()) one.set("manifest", image.manifest);
    for (const auto& [name, words] : {std::pair{"arguments", &image.arguments}, {"env", &image.env}}) {
      if (words->empty()) continue;
      kube::MutJson to = one.array(name);
      for (const auto& word : *words) to.push(word);
    }
    if (image.used != Time{}) one.set("used", to_rfc3339(image.used));
    if (image.pinned) one.set("pinned", true);
  }
  return edit.dump() + "\n";
}

Result<std::vector<Image>> parse_index(const fs::path& folder, std::string_view text) {
  TRY(const auto doc, kube::JsonDoc::parse(text));
  const auto bad = [](std::string_view why) { return Fail({Errc::Corrupt, std::string(why)}); };
  if (doc.root()["version"].i64() != 1 || !doc.root()["images"].is_array()) return bad("it is not an image index of version 1");
  std::vector<Image> out;
  for (const kube::Json item : doc.root()["images"].items()) {
    Image image;
    auto reference = Reference::parse(item["ref"].str());
    if (!reference) return bad(reference.error().what);
    image.reference = std::move(*reference);
    image.digest = item["digest"].str();
    if (!is_digest(image.digest)) return bad("an image has no digest");
    image.path = blob_path(folder, image.digest);
    const auto size = item["size"].i64(-1);
    const auto added = from_rfc3339(item["added"].str());
    if (size < 0 || !added) return bad("an image has no size or no date");
    image.size = static_cast<std::uint64_t>(size);
    image.kind = item["kind"].str();
    image.source = item["source"].str();
    image.added = *added;
    image.manifest = item["manifest"].str();
    if (!image.manifest.empty() && !is_digest(image.manifest)) return bad("an image's manifest has no digest");
    for (const kube::Json word : item["arguments"].items()) image.arguments.emplace_back(word.str());
    for (const kube::Json word : item["env"].items()) image.env.emplace_back(word.str());
    image.used = from_rfc3339(item["used"].str()).value_or(Time{});
    image.pinned = item["pinned"].boolean();
    out.push_back(std::move(image));
    if (out.size() > ImageStore::kImagesMax) return bad("it names too many images");
  }
  return out;
}

// The index, or the one before it when it is broken. An absent index is an empty one, unless an old one is there.
Result<std::vector<Image>> read_index(const fs::path& folder) {
  std::string reason;
  for (const std::string_view name : {"index.json", "index.json.old"}) {
    const auto text = os::read_small_file(folder / name, kIndexBytesMax);
    if (!text && text.error().code == Errc::NotFound) continue;
    if (!text && text.error().code != Errc::Exhausted) return Fail(text.error());
    auto images = text ? parse_index(folder, *text) : Result<std::vector<Image>>(Fail(text.error()));
    if (images) {
      if (!reason.empty()) LOG_WARN("image index broken, the former one is used", {"folder", folder.string()}, {"error", reason});
      return images;
    }
    reason += std::format("{}{}: {}", reason.empty() ? "" : "; ", name, images.error().what);
  }
  if (reason.empty()) return std::vector<Image>();
  return Fail({Errc::Corrupt, std::format("the image index in {} is broken ({}); delete index.json and index.json.old there and add the images again",
                                          folder.string(), reason)});
}

Result<> unlink_if_there(const fs::path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return Fail(errno_error(errno, std::format("delete {}", path.string())));
}

Result<> write_index(const fs::path& folder, std::vector<Image> images) {
  std::ranges::sort(images, {}, [](const Image& image) { return image.reference.text(); });
  const fs::path index = folder / "index.json", former = folder / "index.json.old", second_name = folder / "index.json.old.tmp";
  // The last good one is kept, and index.json is there at every moment. A second name takes no room, and what it replaces gives
  // some: a full disk mostly has enough for an index that names less.
  const auto current = os::read_small_file(index, kIndexBytesMax);
  if (current && parse_index(folder, *current)) {
    TRY_OK(unlink_if_there(second_name));
    const bool named = ::link(index.c_str(), second_name.c_str()) == 0 && ::rename(second_name.c_str(), former.c_str()) == 0;
    ::unlink(second_name.c_str());  // rename leaves it when index.json.old is this file already, after a crash
    if (!named) TRY_OK(os::write_file_atomically(former, *current, 0644));  // a file system without second names
  }
  return os::write_file_atomically(index, to_text(images), 0644);
}

Result<> wait_for_lock(const os::UniqueFd& fd, const fs::path& path) {
  while (::flock(fd.get(), LOCK_EX) != 0)
    if (errno != EINTR) return Fail(errno_error(errno, std::format("lock {}", path.string())));
  return {};
}

// Waits for other writers: they hold it for the time of one copy.
Result<os::UniqueFd> lock(const fs::path& folder) {
  TRY(auto fd, os::open_file(folder / "lock", O_RDWR | O_CREAT, 0644));
  TRY_OK(wait_for_lock(fd, folder / "lock"));
  return fd;
}

// The image of that very name; else, for a digest, one of another name.
const Image* find(const std::vector<Image>& images, const Reference& wanted) {
  auto at = std::ranges::find(images, wanted, &Image::reference);
  if (at == images.end()) at = std::ranges::find_if(images, [&](const Image& image) { return image.answers(wanted); });
  return at == images.end() ? nullptr : &*at;
}

Result<> room_for_one(const std::vector<Image>& images) {
  if (images.size() < ImageStore::kImagesMax) return {};
  return Fail({Errc::Exhausted, std::format("{} images are stored, which is the limit; remove some (skerry image rm REF)", images.size())});
}

Result<std::string> read_module(const fs::path& file) {
  std::error_code ignored;
  const auto size = fs::file_size(file, ignored);  // asked first: what is too large is not read
  auto bytes = ignored || size <= ImageStore::kModuleBytesMax ? os::read_small_file(file, ImageStore::kModuleBytesMax)
                                                              : Result<std::string>(Fail({Errc::Exhausted, ""}));
  if (!bytes && bytes.error().code == Errc::Exhausted)
    return Fail({Errc::Exhausted, std::format("{}: a module may have at most {} MiB", file.string(), ImageStore::kModuleBytesMax >> 20)});
  return bytes;
}

}  // namespace

bool Image::answers(const Reference& wanted) const {
  if (wanted.digest.empty()) return reference == wanted;
  return reference.registry == wanted.registry && reference.repository == wanted.repository && (identity() == wanted.digest || digest == wanted.digest);
}

Result<ImageStore> ImageStore::open(fs::path folder) {
  TRY_OK(os::make_folders(blob_folder(folder), 0755));
  return ImageStore(std::move(folder));
}

// What `add` and `add_pulled` have in common; `image` says all but what follows from the bytes.
Result<Image> ImageStore::store(const std::string& bytes, Image image, const Inspect& inspect, std::string_view what) {
  constexpr std::string_view kMagic("\0asm", 4);
  if (!bytes.starts_with(kMagic))
    return Fail({Errc::Invalid, std::format("{} is not a WebAssembly module (it does not begin with \\0asm); build it for wasm32-wasi", what)});
  auto kind = inspect(bytes);
  if (!kind) return Fail(kind.error().with(what));
  if (kind->empty() || kind->size() > kKindBytesMax) return Fail({Errc::Internal, "the inspection gave no kind"});
  image.kind = std::move(*kind);
  image.path = blob_path(folder_, image.digest);
  image.size = bytes.size();
  TRY(const auto held, lock(folder_));
  TRY(auto images, read_index(folder_));
  const auto former = std::ranges::find(images, image.reference, &Image::reference);
  if (former != images.end() && former->sideloaded() && !image.sideloaded())
    return Fail({Errc::Conflict, std::format("{} was side-loaded, and no registry replaces it; remove it first: skerry image rm {}", image.reference.text(), image.reference.text())});
  if (former != images.end()) {
    image.pinned = image.pinned || former->pinned;
    if (!image.sideloaded()) image.used = former->used;
  }
  // A blob of that size is not taken on trust: bytes that rotted are replaced.
  const auto present = os::read_small_file(image.path, kModuleBytesMax);
  if (!present || *present != bytes) TRY_OK(os::write_file_atomically(image.path, bytes, 0644));
  std::erase_if(images, [&](const Image& other) { return other.reference == image.reference; });
  TRY_OK(room_for_one(images));
  images.push_back(image);
  TRY_OK(write_index(folder_, std::move(images)));
  return image;
}

Result<Image> ImageStore::add(const fs::path& file, std::string_view reference_text, const Inspect& inspect, Time now) {
  TRY(auto reference, Reference::parse(reference_text));
  TRY(const std::string bytes, read_module(file));
  const std::string digest = digest_of(bytes);
  if (!reference.digest.empty() && reference.digest != digest)
    return Fail({Errc::Invalid, std::format("{} has the digest {}, and the reference asks for {}", file.string(), digest, reference.digest)});
  return store(bytes, {.reference = std::move(reference), .digest = digest, .source = "sideload", .added = now}, inspect, file.string());
}

Result<Image> ImageStore::add_pulled(const fs::path& path, const Reference& reference, const Provenance& from, const Inspect& inspect, Time now) {
  // A plain file, and no link that its writer left to somewhere else.
  const os::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0) return Fail(errno_error(errno, std::format("open {}", path.string())));
  if (!S_ISREG(info.st_mode)) return Fail({Errc::Corrupt, std::format("{} is no plain file", path.string())});
  const auto bytes = read_module(std::format("/proc/self/fd/{}", fd.get()));
  TRY_OK(unlink_if_there(path));
  if (!bytes) return Fail(bytes.error());
  if (digest_of(*bytes) != from.module)
    return Fail({Errc::Corrupt, std::format("what was pulled for {} is not {}: its bytes have another digest", reference.text(), from.module)});
  return store(*bytes,
               {.reference = reference, .digest = from.module, .source = "registry", .added = now, .manifest = from.manifest, .arguments = from.arguments, .env = from.env, .used = now, .pinned = from.pinned},
               inspect, reference.text());
}

Result<PullFolder> ImageStore::pull_folder(std::string_view what) const {
  const fs::path parent = partial_folder(folder_), path = parent / std::string_view(digest_of(what)).substr(7);
  TRY_OK(os::make_folders(parent, 0700));
  // Nobody but us makes folders there; before it had folders, it was given away as a whole.
  if (::geteuid() == 0 && ::lchown(parent.c_str(), 0, 0) != 0) return Fail(errno_error(errno, std::format("take back {}", parent.string())));
  for (;;) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return Fail(errno_error(errno, std::format("mkdir {}", path.string())));
    auto held = os::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!held && held.error().code == Errc::NotFound) continue;  // remove_partial() was quicker
    if (!held) return Fail(std::move(held).error());
    TRY_OK(wait_for_lock(*held, path));
    struct stat ours {}, named {};
    if (::fstat(held->get(), &ours) != 0) return Fail(errno_error(errno, std::format("stat {}", path.string())));
    if (::lstat(path.c_str(), &named) == 0 && named.st_ino == ours.st_ino) return PullFolder{path, std::move(*held)};
  }
}

Result<std::vector<Image>> ImageStore::list() const { return read_index(folder_); }

Result<Image> ImageStore::resolve(std::string_view reference_text) const {
  TRY(const auto wanted, Reference::parse(reference_text));
  TRY(const auto images, read_index(folder_));
  if (const Image* image = find(images, wanted)) return *image;
  return Fail({Errc::NotFound, std::format("the image {} is not on this node; add it with: skerry image add FILE {}, or skerry image pull {}", wanted.text(), wanted.text(), wanted.text())});
}

Result<Image> ImageStore::hold(std::string_view reference_text) {
  TRY(auto image, resolve(reference_text));
  TRY(auto wanted, Reference::parse(reference_text));
  if (image.reference == wanted) return image;
  TRY(const auto held, lock(folder_));
  TRY(auto images, read_index(folder_));
  const Image* const now = find(images, wanted);  // others change things too
  if (now == nullptr || now->reference == wanted) return resolve(reference_text);
  TRY_OK(room_for_one(images));
  image = *now;
  image.reference = std::move(wanted);
  image.pinned = false;
  images.push_back(image);
  TRY_OK(write_index(folder_, std::move(images)));
  return image;
}

Result<std::optional<Image>> ImageStore::named(const Reference& reference) const {
  TRY(const auto images, read_index(folder_));
  const auto at = std::ranges::find(images, reference, &Image::reference);
  return at == images.end() ? std::nullopt : std::optional(*at);
}

Result<> ImageStore::put_back(const Reference& reference, const std::optional<Image>& former) {
  TRY(const auto held, lock(folder_));
  TRY(auto images, read_index(folder_));
  std::erase_if(images, [&](const Image& image) { return image.reference == reference; });
  const bool there = former && ::access(former->path.c_str(), F_OK) == 0;
  if (there) images.push_back(*former);
  TRY_OK(write_index(folder_, std::move(images)));
  if (former && !there) return Fail({Errc::NotFound, std::format("the module that {} named was removed meanwhile", reference.text())});
  return {};
}

Result<> ImageStore::remove(std::string_view reference_text) {
  TRY(const auto reference, Reference::parse(reference_text));
  TRY(const auto held, lock(folder_));
  TRY(auto images, read_index(folder_));
  const auto at = std::ranges::find_if(images, [&](const Image& image) { return image.reference == reference; });
  if (at == images.end()) return Fail({Errc::NotFound, std::format("the image {} is not stored; skerry image ls shows what is", reference.text())});
  images.erase(at);
  return write_index(folder_, std::move(images));
}

Result<> ImageStore::pin(std::string_view reference_text, bool pinned) {
  TRY(const auto image, pinned ? hold(reference_text) : resolve(reference_text));
  TRY(const auto held, lock(folder_));
  TRY(auto images, read_index(folder_));
  const auto at = std::ranges::find(images, image.reference, &Image::reference);
  if (at == images.end()) return Fail({Errc::NotFound, std::format("the image {} is not stored; skerry image ls shows what is", image.reference.text())});
  if (std::exchange(at->pinned, pinned) == pinned) return {};
  return write_index(folder_, std::move(images));
}

Result<std::vector<std::string>> ImageStore::collect(const std::function<bool(const std::string&)>& in_use) {
  TRY(const auto held, lock(folder_));
  TRY(const auto images, read_index(folder_));  // a broken index deletes nothing
  std::vector<std::string> deleted;
  std::error_code error;
  for (fs::directory_iterator at(blob_folder(folder_), error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string(), digest = "sha256:" + name;
    if (std::ranges::any_of(images, [&](const Image& image) { return image.digest == digest; }) || (is_digest(digest) && in_use(digest))) continue;
    TRY_OK(unlink_if_there(at->path()));
    if (is_digest(digest)) deleted.push_back(digest);
  }
  if (error) return Fail({Errc::Unavailable, std::format("cannot read {}: {}", blob_folder(folder_).string(), error.message())});
  return deleted;
}

Result<std::vector<Reference>> ImageStore::evict(const std::function<bool(const std::string&)>& in_use, Time now,
                                                 const std::function<bool(std::uint64_t freed)>& too_full, const std::function<void(const std::string&)>& make_room) {
  constexpr Duration kDay = std::chrono::hours(24);
  TRY(const auto held, lock(folder_));
  TRY(auto images, read_index(folder_));
  std::vector<Reference> gone;
  std::vector<std::string> nameless;  // digests
  bool noted = false;
  for (Image& image : images)
    if (in_use(image.digest) && (now - image.used >= kDay || image.used > now)) {
      image.used = now;
      noted = true;
    }
  for (std::uint64_t freed = 0; too_full(freed);) {
    auto oldest = images.end();
    for (auto at = images.begin(); at != images.end(); ++at)
      if (!at->sideloaded() && !at->pinned && !in_use(at->digest) && (oldest == images.end() || at->used < oldest->used)) oldest = at;
    if (oldest == images.end()) break;
    const Image out = *oldest;
    images.erase(oldest);
    gone.push_back(out.reference);
    if (std::ranges::any_of(images, [&](const Image& other) { return other.digest == out.digest; })) continue;
    freed += out.size;
    nameless.push_back(out.digest);
  }
  if (gone.empty() && !noted) return gone;
  auto written = write_index(folder_, images);
  if (!written && !nameless.empty()) {
    for (const auto& digest : nameless) make_room(digest);
    written = write_index(folder_, std::move(images));
  }
  if (!written && !gone.empty()) return Fail(std::move(written).error());
  if (!written) LOG_WARN("which images are used is not noted", {"reason", written.error()});  // another time, then
  return gone;
}

void ImageStore::remove_partial(Duration older_than, Time now) const {
  const auto each = [](const fs::path& folder, const auto& handle) {
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) handle(at->path());
  };
  const auto remove_old = [&](const fs::path& path) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return;
    const Time written{std::chrono::seconds(info.st_mtim.tv_sec)};
    if (std::max(now - written, Duration::zero()) >= older_than) ::unlink(path.c_str());
  };
  each(partial_folder(folder_), [&](const fs::path& path) {
    const os::UniqueFd folder(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW));
    if (!folder) return remove_old(path);  // no pull's
    if (::flock(folder.get(), LOCK_EX | LOCK_NB) != 0) return;
    each(path, remove_old);
    ::rmdir(path.c_str());  // if nothing is left in it
  });
}

Result<> ImageStore::verify(const Image& image) {
  const auto bytes = read_module(image.path);
  if (bytes && digest_of(*bytes) == image.digest) return {};
  return Fail({Errc::Corrupt, std::format("the stored module of {} is {}; add it again (skerry image add FILE {})", image.reference.text(),
                                          bytes ? "not what was added: its bytes changed on the disk" : "unreadable: " + bytes.error().what,
                                          image.reference.text())});
}

}  // namespace skerry::oci
