// SPDX-License-Identifier: Apache-2.0
// Native modules on disk: their names, their hashes, and the command that makes one. No engine: linked into the main
// program, which never compiles or loads anything itself.
//
//   DIR/KEY.so          native code; KEY = SHA-256 of the module's hash, the engine's version, the CPU and the options
//   DIR/KEY.so.sha256   hexadecimal SHA-256 of KEY.so and a newline; written before KEY.so gets its name
//
// A file whose hash does not match is never loaded: corrupt native code would run, a truncated one kills the loader.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"

namespace skerry::wasm {

using Sha256 = std::array<std::uint8_t, 32>;
Sha256 sha256(std::string_view bytes);
// Of a whole regular file by its descriptor; its offset is not moved.
Result<Sha256> sha256_of_file(int fd);
std::string to_hex(const Sha256&);

enum class Optimisation : std::uint8_t { O0, O1, O2, O3, Os, Oz };
std::string_view to_string(Optimisation);

struct CompileOptions {
  Optimisation optimisation = Optimisation::O3;
  bool generic_cpu = true;     // runs on every CPU of this architecture; costs nothing measurable
  bool interruptible = true;   // calls can be cancelled at a deadline
};

// The key of a module under these options on this machine. `module_sha256` is of the wasm bytes as pulled.
std::string cache_key(const Sha256& module_sha256, const CompileOptions&);

struct CompileRequest {
  std::string compiler;     // path of skerry-compile
  std::string wasm_path{};
  std::string native_path{};  // DIR/KEY.so; its folder must exist
  CompileOptions options{};
  std::uint64_t memory_bytes_max = 1ull << 30;
  std::chrono::seconds cpu_time_max{120};
  std::uint32_t user = 0;  // uid and gid to run as when started as root; 0: nobody (65534)
};
// For spawning; the process writes one sentence on standard error when it fails. Exit codes below.
std::vector<std::string> compile_command(const CompileRequest&);
inline constexpr int kCompileExitUsage = 2;    // bad arguments, unreadable or unwritable files
inline constexpr int kCompileExitRefused = 3;  // the module is not accepted (inspect.h) or the engine rejects it
inline constexpr int kCompileExitLimit = 4;    // memory or CPU time ran out

struct NativeFile {
  int fd = -1;  // open for reading; owned by the caller
  Sha256 hash{};
};
// Opens and verifies. NotFound: no such file or no hash beside it (compile again); Corrupt: the hash differs.
Result<NativeFile> verify_native(const std::string& path);
// Writes PATH.sha256 (synced), then renames `temporary` to `path` and syncs the folder. For the compiler.
Result<> publish_native(const std::string& temporary, const std::string& path);

}  // namespace skerry::wasm
