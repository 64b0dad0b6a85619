// SPDX-License-Identifier: Apache-2.0
// Goal: a disk without a free block gets room again by itself.
// Method: images, native code and downloads on a small file system that is filled to the last block; then the manager's collection.
#include "agent/image_manager.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <format>
#include <fstream>

#include "base/testing_needs.h"
#include "os/file.h"
#include "tests/run_on.h"

namespace skerry::agent {
namespace {

namespace fs = std::filesystem;

class FullDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    NEEDS(::geteuid() == 0, "mounts a file system, which takes root");
    char name[] = "/tmp/skerry-full-images-XXXXXX";
    disk_ = ::mkdtemp(name);
    ASSERT_EQ(::mount("skerry-test", disk_.c_str(), "tmpfs", 0, "size=256k"), 0) << std::strerror(errno);
    options_.image_folder = disk_ / "images";
    options_.build.folder = disk_ / "native";
    fs::create_directories(options_.image_folder / "partial");
    fs::create_directories(options_.build.folder);
  }
  void TearDown() override {
    if (disk_.empty()) return;
    ::umount2(disk_.c_str(), MNT_DETACH);
    fs::remove(disk_);
  }
  oci::ImageStore store() const { return oci::ImageStore::open(options_.image_folder).value(); }
  oci::Image image(const std::string& name, const std::string& source) {
    const std::string bytes = std::string("\0asm\1\0\0\0", 8) + name, digest = "sha256:" + wasm::to_hex(wasm::sha256(bytes));
    const fs::path file = options_.image_folder / "partial" / name;
    std::ofstream(file, std::ios::binary) << bytes;
    const auto takes = [](std::string_view) -> Result<std::string> { return std::string("http-wasm"); };
    if (source == "sideload") {
      auto added = store().add(file, "r.example/" + name, takes, clock_.now()).value();
      fs::remove(file);
      return added;
    }
    return store().add_pulled(file, oci::Reference::parse("r.example/" + name).value(), {.module = digest, .manifest = digest, .arguments = {}, .env = {}}, takes, clock_.now()).value();
  }
  fs::path native(const oci::Image& image) {
    fs::path file = wasm::native_path(options_.build, wasm::parse_sha256(image.digest.substr(7)).value());
    std::ofstream(file) << std::string(8192, 'n');
    return file;
  }
  void fill() const {
    const auto filler = os::open_file(disk_ / "filler", O_WRONLY | O_CREAT | O_APPEND, 0600).value();
    const std::string block(4096, 'x');
    while (::write(filler.get(), block.data(), block.size()) > 0) {
    }
  }
  // Whether `gone` are, after the manager was told to collect.
  bool collects(std::vector<std::string> references, const std::vector<fs::path>& gone) {
    rt::Loop loop;
    SeededRandom random(1);
    ImageManager manager(loop, clock_, random, options_, [](const sandbox::Command&, std::span<const int>) {});
    manager.collect(std::move(references), {});
    const auto all_gone = [&] { return std::ranges::none_of(gone, [](const fs::path& path) { return fs::exists(path); }); };
    for (int i = 0; i < 1000 && !all_gone(); ++i) loop.context().run_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(run_on(loop, manager.stop()));
    return all_gone();
  }

  SystemClock clock_;
  fs::path disk_;
  ImageManager::Options options_;
};

TEST_F(FullDiskTest, AnImageThatNoPodUsesGoesWithItsNativeCode) {
  const oci::Image unused = image("unused", "registry");
  const fs::path code = native(unused);
  fill();
  EXPECT_TRUE(collects({}, {unused.path, code}));
  EXPECT_TRUE(store().list()->empty());
}

TEST_F(FullDiskTest, WhatTakesNoRoomIsFreedFirst) {
  const oci::Image used = image("used", "sideload");
  const fs::path code = native(used), nameless = options_.image_folder / "blobs/sha256" / std::string(64, 'c'), download = options_.image_folder / "partial/old";
  for (const auto& file : {nameless, download}) std::ofstream(file) << "what nobody wants";
  fs::last_write_time(download, fs::file_time_type::clock::now() - 200h);
  fill();
  EXPECT_TRUE(collects({"r.example/used"}, {nameless, download}));
  EXPECT_TRUE(fs::exists(used.path));
  EXPECT_TRUE(fs::exists(code));
  EXPECT_EQ(store().list()->size(), 1u);
}

TEST_F(FullDiskTest, ADownloadGoesBeforeAnImage) {
  const oci::Image unused = image("unused", "registry");
  const fs::path download = store().pull_folder("app")->path / "half";
  std::ofstream(download) << std::string(100'000, 'x');
  fill();
  EXPECT_TRUE(collects({}, {download}));
  EXPECT_TRUE(fs::exists(unused.path));
  EXPECT_EQ(store().list()->size(), 1u);
}

// What a pod shows as the reason. The registry client is a script that answers one line.
class ImageReasonTest : public ::testing::Test {
 protected:
  ImageReasonTest() {
    char name[] = "/tmp/skerry-image-reason-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~ImageReasonTest() override { fs::remove_all(folder_); }
  std::string reason(const std::string& reference, const std::string& answer) {
    const fs::path script = folder_ / "registry";
    std::ofstream(script) << "#!/bin/sh\necho '" << answer << "'\n";
    fs::permissions(script, fs::perms::owner_all);
    rt::Loop loop;
    SeededRandom random(1);
    ImageManager manager(loop, clock_, random, {.image_folder = folder_ / "images", .build = {}, .registry = {.path = script}}, [](const sandbox::Command&, std::span<const int>) {});
    std::string out;
    manager.prepare({.reference = reference, .docker_configs = {}}, {.pulling = {}, .done = [&](const ImageManager::Outcome& outcome) { out = outcome.image ? "none" : outcome.reason; }});
    for (int i = 0; i < 1000 && out.empty(); ++i) loop.context().run_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(run_on(loop, manager.stop()));
    return out;
  }
  SystemClock clock_;
  fs::path folder_;
};

TEST_F(ImageReasonTest, IsAKubeletsWord) {
  EXPECT_EQ(reason("App 1", ""), "InvalidImageName");
  EXPECT_EQ(reason("r.example/app", R"({"answer":"error","code":"Exhausted","text":"write module: No space left on device"})"), "ErrImagePull") << "nothing was compiled";
  EXPECT_EQ(reason("r.example/app", R"({"answer":"error","code":"Unavailable","text":"r.example cannot be reached"})"), "ErrImagePull");
}

}  // namespace
}  // namespace skerry::agent
