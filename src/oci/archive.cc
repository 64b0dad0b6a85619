// SPDX-License-Identifier: Apache-2.0
#include "oci/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>

#include <format>
#include <memory>

#include "os/file.h"

namespace skerry::oci {
namespace {

struct Close {
  void operator()(archive* a) const { archive_read_free(a); }
};
using Archive = std::unique_ptr<archive, Close>;
constexpr std::size_t kBlockBytes = 64 * 1024;

// It does not always say why.
std::string_view why(archive* a) {
  const char* const text = archive_error_string(a);
  return text == nullptr ? "unknown" : text;
}

Result<Archive> open(const std::filesystem::path& layer) {
  Archive a(archive_read_new());
  if (!a) return Fail({Errc::Exhausted, "out of memory"});
  archive_read_support_filter_gzip(a.get());
  archive_read_support_filter_zstd(a.get());
  archive_read_support_format_tar(a.get());
  archive_read_support_format_empty(a.get());
  if (archive_read_open_filename(a.get(), layer.c_str(), kBlockBytes) != ARCHIVE_OK)
    return Fail({Errc::Invalid, std::format("a layer of the image is no tar archive (plain, gzip or zstd): {}", why(a.get()))});
  return a;
}

LayerTree::Entry entry_of(archive_entry* entry) {
  const auto text = [](const char* s) { return s == nullptr ? std::string_view() : std::string_view(s); };
  LayerTree::Entry out{.path = text(archive_entry_pathname(entry)), .kind = LayerTree::Kind::Other, .link = {}, .size = 0};
  if (const char* hard = archive_entry_hardlink(entry)) {
    out.kind = LayerTree::Kind::Hardlink;
    out.link = hard;
  } else if (archive_entry_filetype(entry) == AE_IFLNK) {
    out.kind = LayerTree::Kind::Symlink;
    out.link = text(archive_entry_symlink(entry));
  } else if (archive_entry_filetype(entry) == AE_IFDIR) {
    out.kind = LayerTree::Kind::Folder;
  } else if (archive_entry_filetype(entry) == AE_IFREG) {
    out.kind = LayerTree::Kind::File;
    out.size = static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0));
  }
  return out;
}

// The next entry; null: the end.
Result<archive_entry*> next(archive* a) {
  archive_entry* entry = nullptr;
  for (int tries = 0; tries < 10; ++tries) {
    const int got = archive_read_next_header(a, &entry);
    if (got == ARCHIVE_EOF) return nullptr;
    if (got == ARCHIVE_OK || got == ARCHIVE_WARN) return entry;
    if (got != ARCHIVE_RETRY) break;
  }
  return Fail({Errc::Corrupt, std::format("a layer of the image cannot be read: {}", why(a))});
}

}  // namespace

Result<LayerTree> read_layers(const std::vector<std::filesystem::path>& layers, std::uint64_t unpacked_bytes_max) {
  LayerTree out;
  std::uint64_t unpacked = 0;
  const auto too_large = [&] { return Fail({Errc::Exhausted, std::format("the image has more than {} MiB unpacked", unpacked_bytes_max >> 20)}); };
  for (const auto& layer : layers) {
    TRY(const auto a, open(layer));
    out.begin_layer();
    for (;;) {
      TRY(archive_entry* const entry, next(a.get()));
      if (entry == nullptr) break;
      const auto one = entry_of(entry);
      // Asked of the header, before the bytes are walked over.
      const auto so_far = unpacked + static_cast<std::uint64_t>(archive_filter_bytes(a.get(), 0));
      if (so_far > unpacked_bytes_max || one.size > unpacked_bytes_max - so_far) return too_large();
      if (auto added = out.add(one); !added) return Fail(std::move(added).error());
    }
    unpacked += static_cast<std::uint64_t>(archive_filter_bytes(a.get(), 0));
  }
  return out;
}

Result<> extract(const std::filesystem::path& layer, const LayerTree::Place& place, const std::filesystem::path& to, std::uint64_t bytes_max) {
  const auto too_large = [&] { return Fail({Errc::Exhausted, std::format("the image's module is larger than {} MiB", bytes_max >> 20)}); };
  if (place.size > bytes_max) return too_large();  // a sparse file may have no bytes that tell
  TRY(const auto a, open(layer));
  for (std::size_t i = 0; i <= place.entry; ++i) {
    TRY(archive_entry* const entry, next(a.get()));
    if (entry == nullptr) return Fail({Errc::Corrupt, "a layer of the image changed while it was read"});
  }
  TRY(const auto file, os::open_file(to, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  std::uint64_t written = 0;
  for (;;) {
    const void* bytes = nullptr;
    std::size_t size = 0;
    la_int64_t offset = 0;
    const int got = archive_read_data_block(a.get(), &bytes, &size, &offset);
    if (got == ARCHIVE_EOF) break;
    if (got != ARCHIVE_OK && got != ARCHIVE_WARN) return Fail({Errc::Corrupt, std::format("a file of the image cannot be read: {}", why(a.get()))});
    // A sparse file's holes are zeros here too.
    const auto end = static_cast<std::uint64_t>(offset) + size;
    if (offset < 0 || end > place.size) return too_large();
    if (static_cast<std::uint64_t>(offset) != written && ::lseek(file.get(), offset, SEEK_SET) < 0) return Fail(errno_error(errno, "write the module"));
    TRY_OK(os::write_all(file.get(), {static_cast<const char*>(bytes), size}));
    written = end;
  }
  if (::ftruncate(file.get(), static_cast<off_t>(place.size)) != 0) return Fail(errno_error(errno, "write the module"));
  return {};
}

}  // namespace skerry::oci
