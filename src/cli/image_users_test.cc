// SPDX-License-Identifier: Apache-2.0
#include "cli/image_users.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>

#include "agent/checkpoint.h"
#include "base/random.h"
#include "os/file.h"
#include "wasm/native_build.h"

namespace skerry::cli {
namespace {

using ::testing::HasSubstr;

struct ImageUsers : ::testing::Test {
  ImageUsers() { std::filesystem::create_directories(layout.native()); }
  ~ImageUsers() override { std::filesystem::remove_all(layout.root); }
  DataLayout layout{[] {
    char name[] = "/tmp/skerry-users-XXXXXX";
    return std::filesystem::path(::mkdtemp(name));
  }()};
  wasm::Sha256 hash = wasm::sha256("a module");
  oci::Image image{.reference = oci::Reference::parse("registry.example.com/app:1").value(), .digest = "sha256:" + wasm::to_hex(hash)};
  std::filesystem::path native = wasm::native_path({.compiler = {}, .folder = layout.native()}, hash);

  void make_native() {
    std::ofstream(native) << "code";
    std::ofstream(native.string() + ".sha256") << "hash";
  }
  void bind_pod(const std::string& named = "registry.example.com/app:1") {
    SystemRandom random;
    auto checkpoint = agent::Checkpoint::open(layout.node(), random).value();
    auto pod = kube::Object::from_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"n","uid":"u"},)"
                                       R"("spec":{"containers":[{"name":"main","image":")" + named + R"("}]}})")
                   .value();
    ASSERT_TRUE(checkpoint.write({agent::change::PutPod{.object = std::move(pod), .state = "{}"}}).has_value());
  }
};

TEST_F(ImageUsers, NobodyUsesAnImageOfANodeThatNeverRan) {
  EXPECT_FALSE(is_loaded(layout, image.digest));
  EXPECT_TRUE(refuse_if_used(layout, image).has_value());
  EXPECT_FALSE(std::filesystem::exists(layout.node() / "agent.db"));  // who asks makes nothing
}

// The agent's lock is on the open file, which the keeper shares: closing one of two descriptors keeps it.
TEST_F(ImageUsers, ALoadedImageIsInUseWhileAnyDescriptorOfItIsOpen) {
  make_native();
  auto agent = os::open_file(native, O_RDONLY).value();
  ASSERT_EQ(::flock(agent.get(), LOCK_SH | LOCK_NB), 0);
  os::UniqueFd keeper(::dup(agent.get()));
  agent.reset();
  EXPECT_TRUE(is_loaded(layout, image.digest));
  const auto refused = refuse_if_used(layout, image);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::Conflict);
  EXPECT_THAT(refused.error().what, HasSubstr("registry.example.com/app:1 is used by pods of this node"));
  remove_native_code(layout, image.digest);
  EXPECT_TRUE(std::filesystem::exists(native));
  keeper.reset();
  EXPECT_TRUE(refuse_if_used(layout, image).has_value());
  remove_native_code(layout, image.digest);
  EXPECT_FALSE(std::filesystem::exists(native));
  EXPECT_FALSE(std::filesystem::exists(native.string() + ".sha256"));
}

TEST_F(ImageUsers, ThePodsOfAStoppedNodeCount) {
  bind_pod();
  const auto refused = refuse_if_used(layout, image);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().what, HasSubstr("the pod n/p of this node"));
  oci::Image other = image;
  other.reference = oci::Reference::parse("registry.example.com/app:2").value();
  EXPECT_TRUE(refuse_if_used(layout, other).has_value());
}

TEST_F(ImageUsers, APodThatNamesTheDigestUsesTheImageOfTheTag) {
  image.manifest = "sha256:" + std::string(64, '1');
  bind_pod("registry.example.com/app@" + image.manifest);
  const auto refused = refuse_if_used(layout, image);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().what, HasSubstr("the pod n/p of this node"));
  image.manifest = "sha256:" + std::string(64, '2');
  EXPECT_TRUE(refuse_if_used(layout, image).has_value()) << "the tag has moved on";
}

TEST_F(ImageUsers, WhatIsNoDigestIsNotLoaded) {
  EXPECT_FALSE(is_loaded(layout, "sha256:../../etc/passwd"));
  EXPECT_FALSE(is_loaded(layout, ""));
}

}  // namespace
}  // namespace skerry::cli
