// SPDX-License-Identifier: Apache-2.0
// What a module's bytes are, found without an engine: its kind, what it imports and exports, and why we would refuse it.
// A pure, bounds-checked parser over hostile bytes; linked into every program. It does not validate code: the engine does.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace skerry::wasm {

enum class Kind : std::uint8_t {
  HttpHandler,   // exports handle_request (wins over _start)
  Command,       // _start, no handle_request: a WASI command, or WAGI if the pod's annotation says so
  SocketServer,  // imports sock_listen / sock_accept with sock_open or sock_listen: needs a network of its own
  Library,       // neither: nothing we could start
};
std::string_view to_string(Kind);

enum class External : std::uint8_t { Function, Table, Memory, Global, Tag };
struct FunctionType {
  std::string params, results;  // one letter a value: i I f F v (i32 i64 f32 f64 v128), r for references
  friend bool operator==(const FunctionType&, const FunctionType&) = default;
};
struct Import {
  std::string module, name;
  External external = External::Function;
  FunctionType type;  // of functions
};
struct Export {
  std::string name;
  External external = External::Function;
  FunctionType type;  // of functions
};
struct MemoryLimits {
  std::uint64_t pages_min = 0;
  std::optional<std::uint64_t> pages_max;
};

struct Inspection {
  Kind kind = Kind::Library;
  std::vector<Import> imports;
  std::vector<Export> exports;
  std::vector<MemoryLimits> memories;  // imported ones first
  std::uint32_t functions = 0;         // defined, not imported
  std::uint32_t locals_max = 0;        // the most locals that one function declares
  bool has_start_section = false;
  bool has_foreign_native_code = false;  // a custom section "wasmedge" from another compiler; stripped, never executed

  const Export* find_export(std::string_view name) const;
};

inline constexpr std::size_t kModuleBytesMax = 64u << 20;
inline constexpr std::uint32_t kLocalsMax = 50'000;

// Errors: Invalid (not WebAssembly, or malformed, with the offset), Unsupported (a component, WASIX, emscripten, an unknown
// import, several or shared memories, too many locals: named, with the remedy), Exhausted (too large).
// Says nothing about whether the caller wants this kind: see refuse_kind.
Result<Inspection> inspect(std::string_view wasm);

// How the pod (annotation skerry.dev/handler) or the command line wants the module served. Any: by one of them.
enum class Handler : std::uint8_t { Any, Detected, HttpWasm, Wagi };
// Unsupported: a module of this kind is not served so; the text says why and what to do.
Result<> refuse_kind(Kind, Handler);

// What an image store keeps of a module: its kind, if any pod could be served by it. Errors as above.
Result<std::string> inspect_image(std::string_view wasm);

// The same bytes without custom sections that hold another compiler's native code. Malformed input comes back unchanged
// (inspect refuses it).
std::string strip_foreign_native_code(std::string_view wasm);

// The imports that the sandbox offers: http_handler's and WASI preview 1's. For the refusal, and for the engine's own check.
bool is_known_import(const Import&);

}  // namespace skerry::wasm
