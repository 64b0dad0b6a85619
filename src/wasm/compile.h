// SPDX-License-Identifier: Apache-2.0
// WebAssembly to native code with WasmEdge's compiler. Only in skerry-compile: it is what needs the real libLLVM.
#pragma once
#include <string>
#include <string_view>

#include "base/error.h"
#include "wasm/native_cache.h"

namespace skerry::wasm {
// Writes a native library to `path`. Invalid: the engine's words. Takes what time and memory the module asks for: the
// caller's process carries the limits.
Result<> compile(std::string_view wasm, const std::string& path, const CompileOptions&);
}  // namespace skerry::wasm
