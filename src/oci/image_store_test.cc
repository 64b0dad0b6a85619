// SPDX-License-Identifier: Apache-2.0
#include "oci/image_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/testing_needs.h"
#include "oci/digest.h"
#include "os/file.h"

namespace skerry::oci {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Time kNow = Time{} + std::chrono::hours(24 * 365 * 56);
Result<std::string> takes(std::string_view) { return std::string("http-wasm"); }
bool nobody(const std::string&) { return false; }  // uses any image
void nothing(const std::string&) {}                // is there to be deleted
Result<std::string> refuses(std::string_view) { return Fail({Errc::Unsupported, "a component; build a core module"}); }

struct Store : ::testing::Test {
  fs::path root = [] {
    char name[] = "/tmp/skerry-oci-XXXXXX";
    return fs::path(::mkdtemp(name));
  }();
  ~Store() override { fs::remove_all(root); }
  fs::path folder = root / "images";
  ImageStore store = ImageStore::open(folder).value();

  fs::path module(const std::string& name, const std::string& body = "body") {
    std::ofstream(root / name, std::ios::binary) << std::string("\0asm\1\0\0\0", 8) << body;
    return root / name;
  }
  std::size_t blobs() const { return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder / "blobs/sha256"), fs::directory_iterator())); }
  Image pulled(const std::string& name, Duration used) {
    const std::string bytes = std::string("\0asm\1\0\0\0", 8) + name;
    const PullFolder into = store.pull_folder(name).value();
    std::ofstream(into.path / "module", std::ios::binary) << bytes;
    return store.add_pulled(into.path / "module", Reference::parse("r.example/" + name).value(), {.module = digest_of(bytes), .manifest = digest_of(name), .arguments = {"-v"}, .env = {"A=1"}}, takes, kNow + used).value();
  }
  void spoil(const fs::path& path) { std::ofstream(path, std::ios::trunc) << "{\"version\":1,\"images\":[{"; }
};

TEST_F(Store, AddsAndResolvesByTagAndDigest) {
  const auto added = store.add(module("a.wasm"), "registry.example.com/edge:latest", takes, kNow).value();
  const auto reopened = ImageStore::open(folder).value();
  const auto found = reopened.resolve("registry.example.com/edge").value();
  EXPECT_EQ(found.digest, added.digest);
  EXPECT_EQ(found.kind, "http-wasm");
  EXPECT_EQ(found.source, "sideload");
  EXPECT_EQ(found.size, 12U);
  EXPECT_EQ(found.added, kNow);
  EXPECT_EQ(os::read_small_file(found.path).value().substr(8), "body");
  EXPECT_TRUE(ImageStore::verify(found).has_value());
  EXPECT_EQ(reopened.resolve("registry.example.com/edge:whatever@" + added.digest).value().path, found.path);
  const auto missing = reopened.resolve("edge:2");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Errc::NotFound);
  EXPECT_THAT(missing.error().what, HasSubstr("skerry image add FILE docker.io/library/edge:2"));
}

TEST_F(Store, ATagIsAnsweredByWhatWasStoredUnderItAlone) {
  const auto digest = store.add(module("a.wasm"), "r.example/a", takes, kNow)->digest;
  const auto fixed = store.add(module("a.wasm"), "r.example/app:1@" + digest, takes, kNow);
  ASSERT_TRUE(fixed) << fixed.error().what;
  EXPECT_EQ(store.resolve("r.example/app:1").error().code, Errc::NotFound) << "the tag may name another one at the registry";
  EXPECT_TRUE(store.resolve("r.example/app:1@" + digest));
  EXPECT_TRUE(store.resolve("r.example/app@" + digest));
}

// Goal: what is used or pinned by its digest stays when its tag moves on: a node that starts without a network needs it.
TEST_F(Store, AnImageByDigestKeepsItsNameWhenTheTagMoves) {
  const Image first = pulled("app:1", 0h);
  const std::string fixed = "r.example/app@" + first.manifest;
  const Image held = store.hold(fixed).value();
  EXPECT_EQ(held.reference.text(), fixed);
  EXPECT_EQ(held.digest, first.digest);
  EXPECT_THAT(held.arguments, ElementsAre("-v"));
  EXPECT_THAT(held.env, ElementsAre("A=1"));
  EXPECT_EQ(store.hold("r.example/app:1")->reference.text(), "r.example/app:1");
  ASSERT_TRUE(store.hold(fixed));
  EXPECT_EQ(store.list()->size(), 2U) << "once";
  ASSERT_TRUE(store.add(module("b.wasm", "newer"), "r.example/app:1", takes, kNow));
  EXPECT_TRUE(store.collect(nobody)->empty());
  EXPECT_EQ(store.resolve(fixed)->manifest, first.manifest);
  EXPECT_TRUE(ImageStore::verify(store.resolve(fixed).value()));
  EXPECT_EQ(store.hold("r.example/app@" + digest_of("none")).error().code, Errc::NotFound);
}

TEST_F(Store, APinOfADigestPinsThatNameAlone) {
  const std::string fixed = "r.example/app@" + pulled("app:1", 0h).manifest;
  ASSERT_TRUE(store.pin(fixed, true));
  EXPECT_FALSE(store.resolve("r.example/app:1")->pinned);
  EXPECT_TRUE(store.resolve(fixed)->pinned);
  EXPECT_EQ(store.resolve(fixed)->reference.text(), fixed);
}

TEST_F(Store, ANameMeansAgainWhatItMeantBefore) {
  const Image good = pulled("app", 0h);
  ASSERT_TRUE(store.pin("r.example/app", true));
  const auto former = store.named(good.reference).value();
  ASSERT_TRUE(former);
  ASSERT_TRUE(store.add(module("b.wasm", "cannot run"), "r.example/app", takes, kNow));
  ASSERT_TRUE(store.put_back(good.reference, former));
  const Image back = store.resolve("r.example/app").value();
  EXPECT_EQ(back.source, "registry");
  EXPECT_EQ(back.manifest, good.manifest);
  EXPECT_EQ(back.digest, good.digest);
  EXPECT_THAT(back.arguments, ElementsAre("-v"));
  EXPECT_THAT(back.env, ElementsAre("A=1"));
  EXPECT_TRUE(back.pinned);
  const auto fresh = Reference::parse("r.example/fresh").value();
  EXPECT_FALSE(store.named(fresh).value());
  ASSERT_TRUE(store.add(module("b.wasm", "cannot run"), "r.example/fresh", takes, kNow));
  ASSERT_TRUE(store.put_back(fresh, std::nullopt));
  EXPECT_EQ(store.resolve("r.example/fresh").error().code, Errc::NotFound);
  fs::remove(good.path);
  EXPECT_EQ(store.put_back(good.reference, former).error().code, Errc::NotFound);
  EXPECT_FALSE(store.named(good.reference).value());
}

TEST_F(Store, ANewFileReplacesWhatTheReferenceNamed) {
  const auto first = store.add(module("a.wasm", "1"), "app:1", takes, kNow).value();
  const auto second = store.add(module("a.wasm", "2"), "docker.io/library/app:1", takes, kNow).value();
  EXPECT_NE(first.digest, second.digest);
  EXPECT_EQ(store.list().value().size(), 1U);
  EXPECT_EQ(store.resolve("app:1").value().digest, second.digest);
  EXPECT_TRUE(store.collect([&](const std::string& digest) { return digest == first.digest; }).value().empty());
  EXPECT_TRUE(fs::exists(first.path));  // a pod uses it still
  EXPECT_THAT(store.collect(nobody).value(), ElementsAre(first.digest));
  EXPECT_FALSE(fs::exists(first.path));
  EXPECT_TRUE(fs::exists(second.path));
}

TEST_F(Store, ABlobGoesAfterItsLastReference) {
  const auto image = store.add(module("a.wasm"), "a", takes, kNow).value();
  ASSERT_TRUE(store.add(module("a.wasm"), "b", takes, kNow).has_value());
  EXPECT_EQ(blobs(), 1U);
  ASSERT_TRUE(store.remove("a").has_value());
  EXPECT_TRUE(store.collect(nobody).value().empty());
  EXPECT_TRUE(fs::exists(image.path));
  ASSERT_TRUE(store.remove("b").has_value());
  EXPECT_THAT(store.collect(nobody).value(), ElementsAre(image.digest));
  EXPECT_FALSE(fs::exists(image.path));
  const auto again = store.remove("b");
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, Errc::NotFound);
  EXPECT_TRUE(store.list().value().empty());
}

TEST_F(Store, RefusesWhatIsNoModule) {
  std::ofstream(root / "text") << "hello";
  EXPECT_EQ(store.add(root / "text", "a", takes, kNow).error().code, Errc::Invalid);
  const auto refused = store.add(module("a.wasm"), "a", refuses, kNow);
  EXPECT_EQ(refused.error().code, Errc::Unsupported);
  EXPECT_THAT(refused.error().what, HasSubstr("a.wasm: a component"));
  EXPECT_EQ(store.add(root / "none", "a", takes, kNow).error().code, Errc::NotFound);
  EXPECT_EQ(store.add(module("a.wasm"), "A B", takes, kNow).error().code, Errc::Invalid);
  EXPECT_EQ(store.add(module("a.wasm"), "a@sha256:" + std::string(64, '0'), takes, kNow).error().code, Errc::Invalid);
  fs::resize_file(module("big.wasm"), ImageStore::kModuleBytesMax + 1);  // sparse
  EXPECT_EQ(store.add(root / "big.wasm", "a", takes, kNow).error().code, Errc::Exhausted);
  EXPECT_EQ(blobs(), 0U);
  EXPECT_TRUE(store.list().value().empty());
}

// Goal: whatever step a writer died at, the store opens, names only whole images, and collect() cleans up.
// Method: leave on the disk what each step leaves, then use the store.
TEST_F(Store, ACrashAtAnyStepLeavesAGoodIndex) {
  const auto kept = store.add(module("a.wasm", "1"), "a", takes, kNow).value();
  std::ofstream(folder / "blobs/sha256" / (std::string(64, 'b') + ".tmp.123")) << "half a blob";  // died while writing the blob
  std::ofstream(folder / "blobs/sha256" / std::string(64, 'c')) << "whole, but unnamed";          // died before the index
  std::ofstream(folder / "index.json.tmp.123") << "{\"version\":1,\"im";                          // died while writing the index
  fs::create_hard_link(folder / "index.json", folder / "index.json.old.tmp");                     // died before the former one had its name
  fs::create_hard_link(folder / "index.json", folder / "index.json.old");                         // and one died after that
  std::ofstream(folder / "lock") << "";                                                           // its lock died with it
  EXPECT_EQ(store.resolve("a").value().digest, kept.digest);
  EXPECT_THAT(store.collect(nobody).value(), ElementsAre("sha256:" + std::string(64, 'c')));
  EXPECT_EQ(blobs(), 1U);
  ASSERT_TRUE(store.add(module("b.wasm", "2"), "b", takes, kNow).has_value());
  EXPECT_EQ(store.list().value().size(), 2U);
  EXPECT_FALSE(fs::exists(folder / "index.json.old.tmp"));
  spoil(folder / "index.json");
  EXPECT_EQ(store.list().value().size(), 1U);
}

TEST_F(Store, ABrokenIndexFallsBackToTheFormerOne) {
  ASSERT_TRUE(store.add(module("a.wasm", "1"), "a", takes, kNow).has_value());
  ASSERT_TRUE(store.add(module("b.wasm", "2"), "b", takes, kNow).has_value());
  spoil(folder / "index.json");
  EXPECT_EQ(store.list().value().size(), 1U);
  EXPECT_TRUE(store.resolve("a").has_value());
  ASSERT_TRUE(store.add(module("b.wasm", "2"), "b", takes, kNow).has_value());  // and is repaired by the next change
  EXPECT_EQ(store.list().value().size(), 2U);
  spoil(folder / "index.json");
  EXPECT_TRUE(store.resolve("a").has_value());
  spoil(folder / "index.json.old");
  const auto broken = store.list();
  ASSERT_FALSE(broken.has_value());
  EXPECT_EQ(broken.error().code, Errc::Corrupt);
  EXPECT_THAT(broken.error().what, HasSubstr("add the images again"));
  EXPECT_FALSE(store.collect(nobody).has_value());
  EXPECT_EQ(blobs(), 2U);
}

TEST_F(Store, RottenBytesAreFoundAndReplaced) {
  const auto image = store.add(module("a.wasm"), "a", takes, kNow).value();
  std::ofstream(image.path, std::ios::trunc) << "rot";
  const auto verified = ImageStore::verify(image);
  ASSERT_FALSE(verified.has_value());
  EXPECT_EQ(verified.error().code, Errc::Corrupt);
  ASSERT_TRUE(store.add(module("a.wasm"), "a", takes, kNow).has_value());
  EXPECT_TRUE(ImageStore::verify(image).has_value());
}

TEST_F(Store, WritersTakeTurns) {
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w)
    writers.emplace_back([this, file = module(std::format("{}.wasm", w), std::to_string(w)), w] {
      auto own = ImageStore::open(folder).value();
      for (int i = 0; i < 5; ++i) EXPECT_TRUE(own.add(file, std::format("w{}:{}", w, i), takes, kNow).has_value());
    });
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(store.list().value().size(), 20U);
  EXPECT_EQ(blobs(), 4U);
}

// Goal: a full disk takes what can be had again, what was not used for longest first, and nothing that somebody wants here.
TEST_F(Store, AFullDiskTakesOnlyWhatNobodyWantsAndARegistryHas) {
  const Image used = pulled("used", -48h);
  pulled("older", 0h);
  pulled("newer", 48h);
  pulled("wanted", -48h);
  ASSERT_TRUE(store.add(module("a.wasm"), "r.example/added", takes, kNow - 48h));
  ASSERT_TRUE(store.pin("r.example/wanted", true));
  EXPECT_TRUE(store.resolve("r.example/wanted")->pinned);
  EXPECT_EQ(store.pin("r.example/none", true).error().code, Errc::NotFound);
  const auto in_use = [&](const std::string& digest) { return digest == used.digest; };
  const auto evict = [&](std::uint64_t enough) {
    std::vector<std::string> out;
    const auto gone = store.evict(in_use, kNow + 72h, [&](std::uint64_t freed) { return freed < enough; }, nothing).value();
    for (const Reference& one : gone) out.push_back(one.repository);
    return out;
  };
  EXPECT_THAT(evict(0), ElementsAre());
  EXPECT_THAT(evict(1), ElementsAre("older"));
  EXPECT_EQ(store.resolve("r.example/used")->used, kNow + 72h) << "what a pod uses is noted";
  EXPECT_THAT(evict(1'000'000), ElementsAre("newer"));
  EXPECT_EQ(store.collect(in_use)->size(), 2u);
  ASSERT_TRUE(store.pin("r.example/wanted", false));
  pulled("wanted", 0h);
  EXPECT_THAT(evict(1'000'000), ElementsAre("wanted"));
}

// Goal: a disk without a free block lets images go, and what cannot be written costs no index and no image.
// Method: a store on a small file system that is filled to the last block.
struct FullDisk : Store {
  fs::path disk = root / "disk", native = disk / "native";
  void SetUp() override {
    NEEDS(::geteuid() == 0, "mounts a file system, which takes root");
    fs::create_directory(disk);
    ASSERT_EQ(::mount("skerry-test", disk.c_str(), "tmpfs", 0, "size=256k"), 0) << std::strerror(errno);
    folder = disk / "images";
    store = ImageStore::open(folder).value();
  }
  ~FullDisk() override { ::umount2(disk.c_str(), MNT_DETACH); }
  void fill() const {
    const auto filler = os::open_file(disk / "filler", O_WRONLY | O_CREAT | O_APPEND, 0600).value();
    const std::string block(4096, 'x');
    while (::write(filler.get(), block.data(), block.size()) > 0) {
    }
  }
  auto evict(const std::function<bool(const std::string&)>& in_use, const std::function<void(const std::string&)>& make_room) {
    return store.evict(in_use, kNow + 72h, [](std::uint64_t freed) { return freed == 0; }, make_room);
  }
};

TEST_F(FullDisk, LetsImagesGoInTheRoomOfTheFormerIndex) {
  pulled("older", 0h);
  pulled("newer", 48h);
  fill();
  ASSERT_FALSE(store.add(module("a.wasm"), "r.example/added", takes, kNow)) << "there is room";
  const auto gone = evict(nobody, nothing);
  ASSERT_TRUE(gone) << gone.error().what;
  ASSERT_EQ(gone->size(), 1u);
  EXPECT_EQ(gone->front().repository, "older");
  EXPECT_EQ(store.collect(nobody)->size(), 1u);
  spoil(folder / "index.json");
  EXPECT_EQ(store.list()->size(), 2u) << "the former index is kept";
}

TEST_F(FullDisk, TakesTheRoomOfWhatCanBeMadeAgain) {
  const Image image = pulled("only", 0h);
  fs::remove(folder / "index.json.old");
  std::ofstream(native) << std::string(4096, 'n');
  fill();
  std::vector<std::string> asked;
  const auto failed = evict(nobody, [&](const std::string& digest) { asked.push_back(digest); });
  ASSERT_FALSE(failed);
  EXPECT_THAT(asked, ElementsAre(image.digest));
  EXPECT_TRUE(ImageStore::verify(store.resolve("r.example/only").value()));
  EXPECT_TRUE(store.collect(nobody)->empty()) << "the index names it still";
  const auto gone = evict(nobody, [&](const std::string&) { fs::remove(native); });
  ASSERT_TRUE(gone) << gone.error().what;
  EXPECT_EQ(gone->size(), 1u);
  EXPECT_EQ(store.collect(nobody)->size(), 1u);
  EXPECT_TRUE(store.list()->empty());
}

TEST_F(FullDisk, WhatIsNotNotedIsNoFailure) {
  ASSERT_TRUE(store.add(module("a.wasm"), "r.example/added", takes, kNow));
  fill();
  const auto in_use = [](const std::string&) { return true; };
  const auto gone = evict(in_use, nothing);
  ASSERT_TRUE(gone) << gone.error().what;
  EXPECT_TRUE(gone->empty());
  EXPECT_EQ(store.resolve("r.example/added")->used, Time{});
  fs::remove(disk / "filler");
  ASSERT_TRUE(evict(in_use, nothing));
  EXPECT_EQ(store.resolve("r.example/added")->used, kNow + 72h) << "another time, then";
}

TEST_F(Store, APinOutlivesANewerImageOfItsName) {
  ASSERT_TRUE(store.add(module("a.wasm"), "r.example/app", takes, kNow));
  ASSERT_TRUE(store.pin("r.example/app", true));
  ASSERT_TRUE(store.add(module("b.wasm", "newer"), "r.example/app", takes, kNow));
  EXPECT_TRUE(ImageStore::open(folder)->resolve("r.example/app")->pinned);
}

TEST_F(Store, DownloadsThatNobodyGoesOnWithGo) {
  const fs::path pull = store.pull_folder("app")->path, stray = pull.parent_path() / "stray";
  for (const auto& file : {pull / "old", pull / "fresh", stray}) std::ofstream(file) << "half";
  const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  for (const auto& file : {pull / "old", stray}) fs::last_write_time(file, fs::file_time_type::clock::now() - 200h);
  store.remove_partial(168h, now);
  EXPECT_FALSE(fs::exists(pull / "old"));
  EXPECT_FALSE(fs::exists(stray));
  EXPECT_TRUE(fs::exists(pull / "fresh"));
  store.remove_partial(0h, now);
  EXPECT_FALSE(fs::exists(pull)) << "the folder goes with its last file";
}

// Goal: no pull takes from another what it needs.
TEST_F(Store, EveryPullHasAFolderOfItsOwn) {
  const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  std::optional<PullFolder> mine = store.pull_folder("node app").value();
  EXPECT_NE(store.pull_folder("command app")->path, mine->path);
  std::ofstream(mine->path / "half") << "half";
  store.remove_partial(0h, now);
  EXPECT_TRUE(fs::exists(mine->path / "half")) << "it is in hand";
  std::atomic<bool> released = false;
  std::thread next([&] {
    const auto same = store.pull_folder("node app").value();
    EXPECT_TRUE(released) << "who pulls the same waits";
    EXPECT_TRUE(fs::exists(same.path / "half")) << "and goes on with it";
  });
  released = true;
  mine.reset();
  next.join();
}

}  // namespace
}  // namespace skerry::oci
