// SPDX-License-Identifier: Apache-2.0
// skerry-compile as its callers see it: exit codes, sentences, files.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <format>
#include <fstream>

#include "wasm/native_cache.h"

namespace skerry::wasm {
namespace {
using testing::HasSubstr;

class Compile : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-compile-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  // Exit code; what it said is in said_.
  int run(const std::string& arguments) {
    const auto command = std::format("ASAN_OPTIONS=detect_leaks=0 {} {} 2>&1", SKERRY_COMPILE, arguments);
    FILE* pipe = popen(command.c_str(), "r");
    said_.clear();
    char buffer[4096];
    for (std::size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) said_.append(buffer, n);
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string file(const std::string& name, std::string_view bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
    return folder_ + "/" + name;
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator()));
  }
  std::string folder_, said_;
};

// (module (memory (export "memory") 1) (func (export "_start")))
constexpr char kModuleBytes[] =
    "\0asm\1\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
constexpr std::string_view kModule{kModuleBytes, sizeof kModuleBytes - 1};

TEST_F(Compile, WritesNativeCodeThatVerifies) {
  const auto in = file("m.wasm", kModule), out = folder_ + "/k.so";
  ASSERT_EQ(run(std::format("--in {} --out {} --generic-binary", in, out)), 0) << said_;
  const auto native = verify_native(out);
  ASSERT_TRUE(native) << native.error().what;
  close(native->fd);
  struct stat st{};
  ASSERT_EQ(stat(out.c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, geteuid());
  EXPECT_EQ(st.st_mode & 0777u, 0644u);
  EXPECT_EQ(files(), 3u);  // the module, the code, its hash: no working folder is left
  EXPECT_EQ(said_, "");
}

TEST_F(Compile, RefusesWithASentenceAndLeavesNothing) {
  const auto out = folder_ + "/k.so";
  EXPECT_EQ(run(std::format("--in {} --out {}", file("m.wasm", std::string_view("\0asm\x0d\0\1\0", 8)), out)), kCompileExitRefused);
  EXPECT_THAT(said_, HasSubstr("component"));
  EXPECT_EQ(run(std::format("--in {} --out {}", file("m.wasm", "garbage"), out)), kCompileExitRefused);
  EXPECT_THAT(said_, HasSubstr("does not begin"));
  // Passes our own look, not the engine's validation: the body has no end.
  auto broken = std::string(kModule);
  broken[broken.size() - 1] = '\x01';
  EXPECT_EQ(run(std::format("--in {} --out {}", file("m.wasm", broken), out)), kCompileExitRefused);
  EXPECT_THAT(said_, HasSubstr("the engine rejects the module"));
  EXPECT_EQ(files(), 1u);
}

TEST_F(Compile, UsageAndFiles) {
  EXPECT_EQ(run(""), kCompileExitUsage);
  EXPECT_THAT(said_, HasSubstr("usage:"));
  EXPECT_EQ(run("--optimise O9 --in x --out y"), kCompileExitUsage);
  EXPECT_EQ(run(std::format("--in {}/none --out {}/k.so", folder_, folder_)), kCompileExitUsage);
  EXPECT_THAT(said_, HasSubstr("none"));
  EXPECT_EQ(run(std::format("--in {} --out {}/none/k.so", file("m.wasm", kModule), folder_)), kCompileExitUsage);
  EXPECT_EQ(run("--help"), 0);
}

TEST_F(Compile, MemoryIsCapped) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's own memory counts as data";
#endif
  EXPECT_EQ(run(std::format("--in {} --out {}/k.so --memory-max 12000000", file("m.wasm", kModule), folder_)), kCompileExitLimit);
  EXPECT_THAT(said_, HasSubstr("--memory-max"));
  EXPECT_EQ(files(), 1u);
}

}  // namespace
}  // namespace skerry::wasm
