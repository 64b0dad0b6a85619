// SPDX-License-Identifier: Apache-2.0
#include "wasm/native_cache.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace skerry::wasm {
namespace {

class NativeCache : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-native-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, std::string_view bytes) { std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes; }
  std::string folder_;
};

TEST_F(NativeCache, Sha256IsThatOfTheStandard) {
  EXPECT_EQ(to_hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(NativeCache, KeyDependsOnModuleAndEveryOption) {
  const auto module = sha256("m");
  const auto key = cache_key(module, {});
  EXPECT_EQ(key.size(), 64u);
  EXPECT_EQ(key, cache_key(module, {}));
  EXPECT_NE(key, cache_key(sha256("n"), {}));
  EXPECT_NE(key, cache_key(module, {.optimisation = Optimisation::O0}));
  EXPECT_NE(key, cache_key(module, {.generic_cpu = false}));
  EXPECT_NE(key, cache_key(module, {.interruptible = false}));
}

TEST_F(NativeCache, PublishedFileVerifies) {
  write("tmp", "native code");
  ASSERT_TRUE(publish_native(folder_ + "/tmp", folder_ + "/k.so"));
  const auto file = verify_native(folder_ + "/k.so");
  ASSERT_TRUE(file) << file.error().what;
  EXPECT_EQ(file->hash, sha256("native code"));
  close(file->fd);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/tmp"));
}

TEST_F(NativeCache, DamagedTruncatedOrMissingIsToldApart) {
  write("tmp", "native code");
  ASSERT_TRUE(publish_native(folder_ + "/tmp", folder_ + "/k.so"));
  write("k.so", "native c0de");
  EXPECT_EQ(verify_native(folder_ + "/k.so").error().code, Errc::Corrupt);
  write("k.so", "native");
  EXPECT_EQ(verify_native(folder_ + "/k.so").error().code, Errc::Corrupt);
  std::filesystem::remove(folder_ + "/k.so.sha256");
  EXPECT_EQ(verify_native(folder_ + "/k.so").error().code, Errc::NotFound);
  EXPECT_EQ(verify_native(folder_ + "/none.so").error().code, Errc::NotFound);
}

TEST_F(NativeCache, CommandCarriesEveryOption) {
  const auto command = compile_command({.compiler = "/c", .wasm_path = "a.wasm", .native_path = "k.so", .user = 7});
  EXPECT_THAT(command, testing::ElementsAre("/c", "--in", "a.wasm", "--out", "k.so", "--optimise", "O3", "--memory-max", "1073741824", "--cpu-seconds",
                                            "120", "--generic-binary", "--user", "7"));
}

}  // namespace
}  // namespace skerry::wasm
