// SPDX-License-Identifier: Apache-2.0
// The files of an image as its layers make them, without making any: names, links and whiteouts only, to find out which entry
// of which layer the entrypoint is. Nothing of a layer ever becomes a path of this machine. Pure; fuzzed.
// Rules: https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md
//   LayerTree tree;  tree.begin_layer();  tree.add({"app.wasm", Kind::File, "", 4711});  tree.find("/app.wasm")
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"

namespace skerry::oci {

class LayerTree {
 public:
  static constexpr std::size_t kEntriesMax = 200'000, kPathBytesMax = 4096, kLinksMax = 40;
  enum class Kind : std::uint8_t { File, Folder, Symlink, Hardlink, Other };
  struct Entry {
    std::string_view path{};
    Kind kind = Kind::File;
    std::string_view link{};  // of a link: where it leads
    std::uint64_t size = 0;
  };
  struct Place {
    std::size_t layer = 0, entry = 0;  // counted from 0; entries in the order of the archive
    std::uint64_t size = 0;
    friend bool operator==(const Place&, const Place&) = default;
  };

  void begin_layer();
  // The layer's next entry. Invalid: its name leads out of the image, or is malformed; Exhausted: too many, or too long.
  Result<> add(const Entry&);
  // A regular file, links followed within the image. NotFound; Invalid: something else than a file, or links in a circle.
  Result<Place> find(std::string_view path) const;

 private:
  struct Node {
    Kind kind = Kind::Folder;
    std::string link{};
    Place place{};          // of the content, which a hard link has from another entry
    std::size_t layer = 0;  // that made this name
  };
  Result<std::string> resolve(std::string_view path, bool follow_last) const;
  void remove_below(const std::string& folder, std::size_t below_layer);
  std::map<std::string, Node, std::less<>> nodes_;  // by "a/b/c"
  std::size_t layers_ = 0, entries_ = 0, all_entries_ = 0;
};

}  // namespace skerry::oci
