// SPDX-License-Identifier: Apache-2.0
// The files of an image's layers: one line an entry, "KIND PATH[\tLINK]"; an empty line begins a layer; the last line is looked for.
#include "fuzz/fuzz.h"
#include "oci/layer_tree.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  using Kind = oci::LayerTree::Kind;
  constexpr Kind kKinds[] = {Kind::File, Kind::Folder, Kind::Symlink, Kind::Hardlink, Kind::Other};
  oci::LayerTree tree;
  tree.begin_layer();
  std::string_view last;
  while (!input.empty()) {
    std::string_view line = last = take_until(input, '\n');
    if (line.empty()) {
      tree.begin_layer();
      continue;
    }
    const Kind kind = kKinds[take_byte(line) % 5];
    const auto path = take_until(line, '\t');
    static_cast<void>(tree.add({.path = path, .kind = kind, .link = line, .size = 1}).has_value());
  }
  if (const auto found = tree.find(last)) REQUIRE(found->size <= 1);
}
}  // namespace skerry::fuzz
