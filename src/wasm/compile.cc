// SPDX-License-Identifier: Apache-2.0
#include "wasm/compile.h"

#include <wasmedge/wasmedge.h>

#include <format>

namespace skerry::wasm {

Result<> compile(std::string_view wasm, const std::string& path, const CompileOptions& options) {
  auto* configure = WasmEdge_ConfigureCreate();
  constexpr WasmEdge_CompilerOptimizationLevel kLevels[] = {
      WasmEdge_CompilerOptimizationLevel_O0, WasmEdge_CompilerOptimizationLevel_O1, WasmEdge_CompilerOptimizationLevel_O2,
      WasmEdge_CompilerOptimizationLevel_O3, WasmEdge_CompilerOptimizationLevel_Os, WasmEdge_CompilerOptimizationLevel_Oz};
  WasmEdge_ConfigureCompilerSetOptimizationLevel(configure, kLevels[static_cast<std::size_t>(options.optimisation)]);
  WasmEdge_ConfigureCompilerSetOutputFormat(configure, WasmEdge_CompilerOutputFormat_Native);
  WasmEdge_ConfigureCompilerSetGenericBinary(configure, options.generic_cpu);
  WasmEdge_ConfigureCompilerSetInterruptible(configure, options.interruptible);
  auto* compiler = WasmEdge_CompilerCreate(configure);
  WasmEdge_ConfigureDelete(configure);
  if (compiler == nullptr) return Fail(Error{Errc::Internal, "this libwasmedge has no compiler; install the package libwasmedge0"});
  const auto result = WasmEdge_CompilerCompileFromBytes(
      compiler, WasmEdge_BytesWrap(reinterpret_cast<const std::uint8_t*>(wasm.data()), static_cast<std::uint32_t>(wasm.size())), path.c_str());
  WasmEdge_CompilerDelete(compiler);
  if (!WasmEdge_ResultOK(result)) {
    return Fail(Error{Errc::Invalid, std::format("the engine rejects the module: {}", WasmEdge_ResultGetMessage(result))});
  }
  return {};
}

}  // namespace skerry::wasm
