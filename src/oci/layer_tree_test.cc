// SPDX-License-Identifier: Apache-2.0
#include "oci/layer_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skerry::oci {
namespace {

using ::testing::HasSubstr;
using Kind = LayerTree::Kind;

struct Tree : LayerTree {
  using LayerTree::add;
  Tree& layer(std::initializer_list<Entry> entries) {
    begin_layer();
    for (const Entry& e : entries) EXPECT_TRUE(add(e)) << e.path;
    return *this;
  }
};

TEST(LayerTree, FindsAFileThroughLinksOfTheImage) {
  Tree tree;
  tree.layer({{"usr/", Kind::Folder}, {"./usr/bin/app.wasm", Kind::File, "", 7}, {"bin", Kind::Symlink, "/usr/bin"}, {"app", Kind::Symlink, "bin/../bin/app.wasm"},
              {"hard", Kind::Hardlink, "usr/bin/app.wasm"}, {"up", Kind::Symlink, "../../../../bin/app.wasm"}, {"usr/bin", Kind::Folder}});
  const LayerTree::Place place{.layer = 0, .entry = 1, .size = 7};
  for (const char* path : {"/usr/bin/app.wasm", "usr//bin/./app.wasm", "/bin/app.wasm", "app", "hard", "up", "/bin/../bin/app.wasm"}) EXPECT_EQ(tree.find(path).value(), place) << path;
  EXPECT_EQ(tree.find("/usr/bin").error().code, Errc::Invalid);
  EXPECT_EQ(tree.find("/usr/bin/other").error().code, Errc::NotFound);
}

TEST(LayerTree, LaterLayersReplaceHideAndShow) {
  Tree tree;
  tree.layer({{"a/one.wasm", Kind::File, "", 1}, {"a/two.wasm", Kind::File, "", 2}, {"b/three.wasm", Kind::File, "", 3}, {"link", Kind::Symlink, "a"}})
      .layer({{"a/.wh.one.wasm", Kind::File}, {"a/two.wasm", Kind::File, "", 22}, {"b/.wh..wh..opq", Kind::File}, {"b/four.wasm", Kind::File, "", 4}, {"link/five.wasm", Kind::File, "", 5}});
  EXPECT_EQ(tree.find("a/one.wasm").error().code, Errc::NotFound);
  EXPECT_EQ(tree.find("a/two.wasm").value(), (LayerTree::Place{1, 1, 22}));
  EXPECT_EQ(tree.find("b/three.wasm").error().code, Errc::NotFound);
  EXPECT_EQ(tree.find("b/four.wasm").value().size, 4u);
  EXPECT_EQ(tree.find("a/five.wasm").value().size, 5u) << "the folder that the link leads to";
  tree.layer({{".wh.a", Kind::File}, {"a/six.wasm", Kind::File, "", 6}});
  EXPECT_EQ(tree.find("a/two.wasm").error().code, Errc::NotFound);
  EXPECT_EQ(tree.find("a/six.wasm").value().size, 6u) << "what the hiding layer itself brings stays";
}

TEST(LayerTree, AHardLinkOutlivesItsOtherName) {
  Tree tree;
  tree.layer({{"a.wasm", Kind::File, "", 1}}).layer({{"b.wasm", Kind::Hardlink, "a.wasm"}, {".wh.a.wasm", Kind::File}});
  EXPECT_EQ(tree.find("a.wasm").error().code, Errc::NotFound);
  EXPECT_EQ(tree.find("b.wasm").value(), (LayerTree::Place{0, 0, 1}));
}

TEST(LayerTree, RefusesWhatLeadsOutOfTheImage) {
  Tree tree;
  tree.begin_layer();
  EXPECT_THAT(tree.add({"../etc/passwd", Kind::File}).error().what, HasSubstr("leads out of it"));
  EXPECT_EQ(tree.add({"a/../../b", Kind::File}).error().code, Errc::Invalid);
  EXPECT_EQ(tree.add({std::string_view("a\0b", 3), Kind::File}).error().code, Errc::Invalid);
  EXPECT_EQ(tree.add({"hard", Kind::Hardlink, "../../etc/shadow"}).error().code, Errc::Invalid) << "it is not in the image";
  EXPECT_EQ(tree.add({std::string(5000, 'x'), Kind::File}).error().code, Errc::Exhausted);
  ASSERT_TRUE(tree.add({"a", Kind::Symlink, "b"}));
  ASSERT_TRUE(tree.add({"b", Kind::Symlink, "a"}));
  ASSERT_TRUE(tree.add({"out", Kind::Symlink, "/etc/passwd"}));
  ASSERT_TRUE(tree.add({"pipe", Kind::Other}));
  EXPECT_THAT(tree.find("a").error().what, HasSubstr("circle"));
  EXPECT_EQ(tree.find("out").error().code, Errc::NotFound) << "a link is followed in the image alone";
  EXPECT_EQ(tree.find("pipe").error().code, Errc::Invalid);
}

TEST(LayerTree, IsBounded) {
  LayerTree tree;
  tree.begin_layer();
  for (std::size_t i = 0; i < LayerTree::kEntriesMax; ++i) ASSERT_TRUE(tree.add({"same", Kind::File}));
  EXPECT_EQ(tree.add({"same", Kind::File}).error().code, Errc::Exhausted);
}

}  // namespace
}  // namespace skerry::oci
