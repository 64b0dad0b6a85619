// SPDX-License-Identifier: Apache-2.0
// A module's native code from the cache, made by skerry-compile if it is not there. Blocks for as long as compilation
// takes: call it on a pool. The child runs niced, capped in memory and CPU time, and without privileges.
#pragma once
#include <filesystem>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "wasm/native_cache.h"

namespace skerry::wasm {

struct NativeBuild {
  std::filesystem::path compiler;   // skerry-compile
  std::filesystem::path folder;     // of native files; made if absent
  CompileOptions options{};
  std::uint64_t memory_bytes_max = 1ull << 30;
  std::chrono::seconds cpu_time_max{120};
};

// The hash that a digest's hexadecimal part names; nothing: it is none.
std::optional<Sha256> parse_sha256(std::string_view hex);

// Whether pods of this machine use the module's native code: who runs it holds a lock on it.
bool is_native_used(const NativeBuild&, const Sha256& module_sha256);
// Deletes it unless pods use it. What cannot be deleted stays, and costs disk and nothing else.
void remove_native(const NativeBuild&, const Sha256& module_sha256);

// Where the native code of the module with this hash is, or will be.
std::filesystem::path native_path(const NativeBuild&, const Sha256& module_sha256);

// Opens the cached file if its hash is right; else (absent or damaged) compiles `wasm_path` and opens the result. The
// module's bytes must have the hash `module_sha256` (the caller verified its image).
// Unsupported, Invalid: the module is refused, in the compiler's words; Exhausted: memory or time ran out; NotFound: no compiler.
Result<NativeFile> ensure_native(const NativeBuild&, const std::filesystem::path& wasm_path, const Sha256& module_sha256);

}  // namespace skerry::wasm
