// SPDX-License-Identifier: Apache-2.0
// skerry-compile as its callers see it: exit codes, sentences, files.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
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

std::string leb(std::uint32_t v) {
  std::string out;
  do {
    out += static_cast<char>((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
    v >>= 7;
  } while (v != 0);
  return out;
}
std::string section(char id, const std::string& body) { return id + leb(static_cast<std::uint32_t>(body.size())) + body; }

// A small module that takes its compiler long: one function whose many locals all live across a call.
std::string slow_module(std::uint32_t locals) {
  std::string code = leb(1) + leb(locals) + "\x7f";
  for (std::uint32_t i = 0; i < locals; ++i) code += std::string("\x41\0\x28\2", 4) + leb(4 * i) + "\x21" + leb(i);  // local i = memory[4 i]
  code += std::string("\x10\0\x41\0", 4);                                                                          // call itself; 0
  for (std::uint32_t i = 0; i < locals; ++i) code += "\x20" + leb(i) + "\x6a";                                       // + local i
  code += "\x1a\x0b";                                                                                               // drop, end
  return std::string("\0asm\1\0\0\0", 8) + section(1, std::string("\1\x60\0\0", 4)) + section(3, std::string("\1\0", 2)) +
         section(5, std::string("\1\0\1", 3)) + section(7, std::string("\2\6memory\2\0\6_start\0\0", 19)) +
         section(10, leb(1) + leb(static_cast<std::uint32_t>(code.size())) + code);
}

TEST_F(Compile, MemoryIsCapped) {
  const auto in = file("m.wasm", slow_module(1000));
  // It runs out in the module's own work, in LLVM's, and where its linker starts threads.
  for (const int megabytes : {1, 4, 8, 12, 16}) {
    EXPECT_EQ(run(std::format("--in {} --out {}/k.so --memory-max {}000000", in, folder_, megabytes)), kCompileExitLimit) << said_;
    EXPECT_THAT(said_, HasSubstr("the memory for compiling ran out; raise --memory-max"));
    EXPECT_EQ(files(), 1u);
  }
  EXPECT_EQ(run(std::format("--in {} --out {}/k.so", in, folder_)), 0) << said_;
}

TEST_F(Compile, TimeIsCapped) {
  EXPECT_EQ(run(std::format("--in {} --out {}/k.so --cpu-seconds 1", file("m.wasm", slow_module(20'000)), folder_)), kCompileExitLimit);
  EXPECT_THAT(said_, HasSubstr("the CPU time for compiling ran out; raise --cpu-seconds"));
  EXPECT_EQ(files(), 1u);
}

TEST_F(Compile, TheWorkEndsWithItsParentAndItsFolderWithTheNextOne) {
  const auto in = file("m.wasm", slow_module(20'000)), out = folder_ + "/k.so";
  const pid_t parent = fork();
  if (parent == 0) {
    execl(SKERRY_COMPILE, SKERRY_COMPILE, "--in", in.c_str(), "--out", out.c_str(), nullptr);
    _exit(127);
  }
  pid_t worker = 0;
  for (int i = 0; i < 1000 && worker == 0; ++i) {
    usleep(10'000);
    std::ifstream(std::format("/proc/{0}/task/{0}/children", parent)) >> worker;
  }
  ASSERT_GT(worker, 0);
  EXPECT_EQ(kill(parent, SIGKILL), 0);
  waitpid(parent, nullptr, 0);
  // An orphan is reaped by whoever adopts it; dead is what counts.
  const auto lives = [&] {
    std::ifstream in_stat(std::format("/proc/{}/stat", worker));
    std::string line;
    return std::getline(in_stat, line) && line.substr(line.rfind(')') + 2, 1) != "Z";
  };
  for (int i = 0; i < 1000 && lives(); ++i) usleep(10'000);
  EXPECT_FALSE(lives());
  EXPECT_EQ(files(), 2u);
  ASSERT_EQ(run(std::format("--in {} --out {}", file("m.wasm", kModule), out)), 0) << said_;
  EXPECT_EQ(files(), 3u);
}

}  // namespace
}  // namespace skerry::wasm
