// SPDX-License-Identifier: Apache-2.0
#include "wasm/inspect.h"

#include <algorithm>
#include <array>
#include <format>
#include <string>

namespace skerry::wasm {
namespace {

constexpr std::string_view kHeader{"\0asm\1\0\0\0", 8};
constexpr std::uint32_t kItemsMax = 1'000'000;  // entries of one section

// Reads forward over the module; the first failure sticks, with its offset and reason.
class Cursor {
 public:
  Cursor(std::string_view in, std::size_t base) : in_(in), base_(base) {}
  bool ok() const { return reason_.empty(); }
  bool at_end() const { return pos_ == in_.size(); }
  std::size_t offset() const { return base_ + pos_; }
  Error error() const { return {Errc::Invalid, std::format("wasm module: {} at byte {}", reason_, fail_at_)}; }
  void fail(std::string_view reason) {
    if (!ok()) return;
    reason_ = reason;
    fail_at_ = base_ + pos_;
    pos_ = in_.size();
  }
  std::uint8_t byte() {
    if (pos_ >= in_.size()) {
      fail("ends too early");
      return 0;
    }
    return static_cast<std::uint8_t>(in_[pos_++]);
  }
  std::uint64_t leb(int bits) {
    std::uint64_t value = 0;
    for (int shift = 0; shift < bits; shift += 7) {
      const auto b = byte();
      if (!ok()) return 0;
      const auto part = static_cast<std::uint64_t>(b & 0x7f);
      if (shift + 7 > bits && (part >> (bits - shift)) != 0) break;
      value |= part << shift;
      if ((b & 0x80) == 0) return value;
    }
    fail("number too long");
    return 0;
  }
  std::uint32_t u32() { return static_cast<std::uint32_t>(leb(32)); }
  void signed_leb(int bytes_max) {  // value unused
    for (int i = 0; i < bytes_max; ++i) {
      if ((byte() & 0x80) == 0) return;
    }
    fail("number too long");
  }
  std::string_view take(std::size_t n) {
    if (n > in_.size() - pos_) {
      fail("ends too early");
      return {};
    }
    const auto out = in_.substr(pos_, n);
    pos_ += n;
    return out;
  }
  std::string_view name() { return take(u32()); }
  std::uint32_t count() {
    const auto n = u32();
    // Every entry takes at least one byte, so a count beyond the rest is a lie; it never sizes an allocation.
    if (n > kItemsMax || n > in_.size() - pos_) {
      fail("a count is larger than the section");
      return 0;
    }
    return n;
  }
  Cursor sub(std::size_t n) {
    const auto at = offset();
    return Cursor(take(n), at);
  }

 private:
  std::string_view in_;
  std::size_t base_, pos_ = 0, fail_at_ = 0;
  std::string reason_;
};

char value_letter(Cursor& c) {
  switch (c.byte()) {
    case 0x7f: return 'i';
    case 0x7e: return 'I';
    case 0x7d: return 'f';
    case 0x7c: return 'F';
    case 0x7b: return 'v';
    case 0x70:
    case 0x6f: return 'r';
    case 0x63:
    case 0x64:
      c.signed_leb(5);
      return 'r';
    default: c.fail("unknown value type"); return '?';
  }
}

struct Limits {
  MemoryLimits pages;
  bool shared = false, wide = false;
};
Limits read_limits(Cursor& c) {
  const auto flags = c.byte();
  if (flags > 7) c.fail("unknown limits");
  Limits out;
  out.shared = (flags & 2) != 0;
  out.wide = (flags & 4) != 0;
  const int bits = out.wide ? 64 : 32;
  out.pages.pages_min = c.leb(bits);
  if ((flags & 1) != 0) out.pages.pages_max = c.leb(bits);
  return out;
}

Error unsupported(std::string text) { return {Errc::Unsupported, std::move(text)}; }

struct Parser {
  Inspection out;
  std::vector<FunctionType> types;
  std::vector<std::uint32_t> function_types;  // imported, then defined
  std::uint32_t imported_functions = 0;
  bool shared_memory = false, wide_memory = false;

  const FunctionType* type_of(std::uint32_t function) const {
    if (function >= function_types.size() || function_types[function] >= types.size()) return nullptr;
    return &types[function_types[function]];
  }

  void read_types(Cursor& c) {
    for (auto n = c.count(); n > 0 && c.ok(); --n) {
      if (c.byte() != 0x60) {
        c.fail("a type that is no function type (the GC proposal is not supported)");
        return;
      }
      FunctionType type;
      for (auto k = c.count(); k > 0 && c.ok(); --k) type.params.push_back(value_letter(c));
      for (auto k = c.count(); k > 0 && c.ok(); --k) type.results.push_back(value_letter(c));
      types.push_back(std::move(type));
    }
  }
  void add_memory(const Limits& limits) {
    out.memories.push_back(limits.pages);
    shared_memory |= limits.shared;
    wide_memory |= limits.wide;
  }
  void read_imports(Cursor& c) {
    for (auto n = c.count(); n > 0 && c.ok(); --n) {
      Import import;
      import.module = c.name();
      import.name = c.name();
      switch (c.byte()) {
        case 0: {
          const auto type = c.u32();
          if (type >= types.size()) {
            c.fail("an import has an unknown type");
            return;
          }
          import.type = types[type];
          function_types.push_back(type);
          ++imported_functions;
          break;
        }
        case 1:
          import.external = External::Table;
          value_letter(c);
          read_limits(c);
          break;
        case 2:
          import.external = External::Memory;
          add_memory(read_limits(c));
          break;
        case 3:
          import.external = External::Global;
          value_letter(c);
          c.byte();
          break;
        case 4:
          import.external = External::Tag;
          c.byte();
          c.u32();
          break;
        default: c.fail("unknown kind of import"); return;
      }
      if (c.ok()) out.imports.push_back(std::move(import));
    }
  }
  void read_functions(Cursor& c) {
    for (auto n = c.count(); n > 0 && c.ok(); --n) {
      const auto type = c.u32();
      if (type >= types.size()) {
        c.fail("a function has an unknown type");
        return;
      }
      function_types.push_back(type);
      ++out.functions;
    }
  }
  void read_exports(Cursor& c) {
    for (auto n = c.count(); n > 0 && c.ok(); --n) {
      Export e;
      e.name = c.name();
      const auto kind = c.byte();
      const auto index = c.u32();
      if (!c.ok()) return;
      if (kind > 4) {
        c.fail("unknown kind of export");
        return;
      }
      e.external = static_cast<External>(kind);
      if (kind == 0) {
        const auto* type = type_of(index);
        if (type == nullptr) {
          c.fail("an export names an unknown function");
          return;
        }
        e.type = *type;
      }
      out.exports.push_back(std::move(e));
    }
  }
  void read_code(Cursor& c) {
    const auto count = c.count();
    if (c.ok() && count != out.functions) {
      c.fail("code and function sections differ in length");
      return;
    }
    for (auto n = count; n > 0 && c.ok(); --n) {
      const auto size = c.u32();
      auto body = c.sub(size);
      std::uint64_t locals = 0;
      for (auto groups = body.count(); groups > 0 && body.ok(); --groups) {
        locals += body.u32();
        value_letter(body);
      }
      if (!body.ok()) {
        c.fail("a function's locals are malformed");
        return;
      }
      out.locals_max = static_cast<std::uint32_t>(std::max<std::uint64_t>(out.locals_max, std::min<std::uint64_t>(locals, 0xffffffff)));
    }
  }
  Result<> read(std::string_view wasm) {
    Cursor c(wasm.substr(kHeader.size()), kHeader.size());
    int last = 0;
    while (!c.at_end() && c.ok()) {
      const auto id = c.byte();
      const auto size = c.u32();
      auto section = c.sub(size);
      if (!c.ok()) break;
      if (id == 0) {
        const auto name = section.name();
        if (!section.ok()) return Fail(section.error());
        if (name == "wasmedge") out.has_foreign_native_code = true;
        continue;
      }
      // The tag section (13) stands between memory and global, data count (12) between element and code.
      constexpr std::array<int, 14> kOrder = {0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 11, 6};
      if (id >= kOrder.size()) {
        c.fail(std::format("unknown section {}", id));
        break;
      }
      if (kOrder[id] <= last) {
        c.fail("sections are out of order or doubled");
        break;
      }
      last = kOrder[id];
      switch (id) {
        case 1: read_types(section); break;
        case 2: read_imports(section); break;
        case 3: read_functions(section); break;
        case 5:
          for (auto n = section.count(); n > 0 && section.ok(); --n) add_memory(read_limits(section));
          break;
        case 7: read_exports(section); break;
        case 8: out.has_start_section = true; continue;
        case 10: read_code(section); break;
        default: continue;
      }
      if (section.ok() && !section.at_end()) section.fail("a section has bytes after its end");
      if (!section.ok()) return Fail(section.error());
    }
    if (!c.ok()) return Fail(c.error());
    return {};
  }
};

struct Known {
  std::string_view name, params, results;
};
// http-wasm's handler ABI.
constexpr Known kHttpHandler[] = {
    {"enable_features", "i", "i"},      {"get_config", "ii", "i"},        {"log", "iii", ""},
    {"log_enabled", "i", "i"},          {"get_header_names", "iii", "I"}, {"get_header_values", "iiiii", "I"},
    {"set_header_value", "iiiii", ""},  {"add_header_value", "iiiii", ""}, {"remove_header", "iii", ""},
    {"read_body", "iii", "I"},          {"write_body", "iii", ""},        {"get_method", "ii", "i"},
    {"set_method", "ii", ""},           {"get_uri", "ii", "i"},           {"set_uri", "ii", ""},
    {"get_protocol_version", "ii", "i"}, {"get_source_addr", "ii", "i"},  {"get_status_code", "", "i"},
    {"set_status_code", "i", ""},
};
// WASI preview 1 (wasi_snapshot_preview1), whole.
constexpr Known kWasi[] = {
    {"args_get", "ii", "i"},
    {"args_sizes_get", "ii", "i"},
    {"environ_get", "ii", "i"},
    {"environ_sizes_get", "ii", "i"},
    {"clock_res_get", "ii", "i"},
    {"clock_time_get", "iIi", "i"},
    {"fd_advise", "iIIi", "i"},
    {"fd_allocate", "iII", "i"},
    {"fd_close", "i", "i"},
    {"fd_datasync", "i", "i"},
    {"fd_fdstat_get", "ii", "i"},
    {"fd_fdstat_set_flags", "ii", "i"},
    {"fd_fdstat_set_rights", "iII", "i"},
    {"fd_filestat_get", "ii", "i"},
    {"fd_filestat_set_size", "iI", "i"},
    {"fd_filestat_set_times", "iIIi", "i"},
    {"fd_pread", "iiiIi", "i"},
    {"fd_prestat_get", "ii", "i"},
    {"fd_prestat_dir_name", "iii", "i"},
    {"fd_pwrite", "iiiIi", "i"},
    {"fd_read", "iiii", "i"},
    {"fd_readdir", "iiiIi", "i"},
    {"fd_renumber", "ii", "i"},
    {"fd_seek", "iIii", "i"},
    {"fd_sync", "i", "i"},
    {"fd_tell", "ii", "i"},
    {"fd_write", "iiii", "i"},
    {"path_create_directory", "iii", "i"},
    {"path_filestat_get", "iiiii", "i"},
    {"path_filestat_set_times", "iiiiIIi", "i"},
    {"path_link", "iiiiiii", "i"},
    {"path_open", "iiiiiIIii", "i"},
    {"path_readlink", "iiiiii", "i"},
    {"path_remove_directory", "iii", "i"},
    {"path_rename", "iiiiii", "i"},
    {"path_symlink", "iiiii", "i"},
    {"path_unlink_file", "iii", "i"},
    {"poll_oneoff", "iiii", "i"},
    {"proc_exit", "i", ""},
    {"proc_raise", "i", "i"},
    {"sched_yield", "", "i"},
    {"random_get", "ii", "i"},
    {"sock_accept", "iii", "i"},
    {"sock_recv", "iiiiii", "i"},
    {"sock_send", "iiiii", "i"},
    {"sock_shutdown", "ii", "i"},
};

template <std::size_t N>
const Known* find_known(const Known (&table)[N], std::string_view name) {
  const auto* it = std::ranges::find(table, name, &Known::name);
  return it == std::end(table) ? nullptr : it;
}
template <std::size_t N>
bool is_offered(const Known (&table)[N], const Import& import) {
  const auto* known = find_known(table, import.name);
  return known != nullptr && known->params == import.type.params && known->results == import.type.results;
}
bool is_wasi(std::string_view module) { return module == "wasi_snapshot_preview1"; }
bool is_socket_name(std::string_view name) { return name == "sock_open" || name == "sock_bind" || name == "sock_listen"; }

std::optional<Error> refuse_import(const Import& import) {
  const auto full = std::format("{}.{}", import.module, import.name);
  if (import.module.starts_with("wasix")) {
    return unsupported(std::format("the module imports {}: WASIX is not supported. Build it for WASI preview 1 (target wasm32-wasip1)", full));
  }
  if (import.module == "env" || import.module == "a" || import.module.starts_with("emscripten")) {
    if (import.name.starts_with("emscripten_") || import.name.starts_with("_emscripten") || import.name.starts_with("invoke_") ||
        import.name.starts_with("__syscall_") || import.module != "env") {
      return unsupported(std::format(
          "the module imports {}: it was made by emscripten for a browser. Build it with wasi-sdk or clang --target=wasm32-wasi", full));
    }
  }
  if (import.module == "wasi_unstable") {
    return unsupported(std::format("the module imports {}: a WASI older than preview 1. Build it with a current toolchain", full));
  }
  if (import.module.find(':') != std::string::npos) {
    return unsupported(std::format("the module imports {}: an interface of the component model. Build a core module for WASI preview 1", full));
  }
  if (import.module == "wasi_nn" || import.module.starts_with("wasi_ephemeral")) {
    return unsupported(std::format("the module imports {}: this WASI proposal is not served. Build the module without it", full));
  }
  return unsupported(std::format("the module imports {}{}, which nothing here provides. A module may import http_handler's functions and WASI "
                                 "preview 1; link the missing function into the module",
                                 full, import.external == External::Function ? std::format(" ({})->({})", import.type.params, import.type.results) : ""));
}

// What the exports make of it; refused where one of them has the wrong form.
Result<Kind> kind_of(const Inspection& module, bool socket) {
  const auto* handle_request = module.find_export("handle_request");
  const auto* start = module.find_export("_start");
  if (handle_request != nullptr && handle_request->external == External::Function) {
    if (handle_request->type != FunctionType{"", "I"}) {
      return Fail(unsupported(std::format("handle_request has the type ({})->({}); the http-wasm ABI asks for ()->(i64). Build it with a current http-wasm library",
                                          handle_request->type.params, handle_request->type.results)));
    }
    const auto* handle_response = module.find_export("handle_response");
    if (handle_response != nullptr && handle_response->type != FunctionType{"ii", ""}) {
      return Fail(unsupported("handle_response has the wrong type; the http-wasm ABI asks for (i32, i32)->()"));
    }
    const auto* memory = module.find_export("memory");
    if (memory == nullptr || memory->external != External::Memory) {
      return Fail(unsupported("the handler exports no memory named \"memory\", which the http-wasm ABI asks for. Add --export-memory to the linker's options"));
    }
    return Kind::HttpHandler;
  }
  if (socket) return Kind::SocketServer;
  if (start != nullptr && start->external == External::Function) {
    if (start->type != FunctionType{}) return Fail(unsupported("_start takes parameters or returns a value; WASI asks for ()->()"));
    return Kind::Command;
  }
  return Kind::Library;
}

}  // namespace

Result<> refuse_kind(Kind kind, Handler handler) {
  switch (kind) {
    case Kind::HttpHandler:
      if (handler != Handler::Wagi) return {};
      return Fail({Errc::Unsupported, "the module is an http-wasm handler (it exports handle_request), not a WAGI command; remove skerry.dev/handler: wagi"});
    case Kind::Command:
      if (handler == Handler::Any || handler == Handler::Wagi) return {};
      if (handler == Handler::HttpWasm)
        return Fail({Errc::Unsupported, "the module exports no handle_request, so it is no http-wasm handler; build it as one, or serve it as a CGI program with skerry.dev/handler: wagi"});
      return Fail({Errc::Unsupported, "the module is a WASI command (it exports _start and no handle_request); if it is a CGI program, say so with skerry.dev/handler: wagi; "
                                      "commands that run to their end (Jobs) are not served yet"});
    case Kind::SocketServer:
      return Fail({Errc::Unsupported, "the module opens sockets of its own (WasmEdge sockets), which is not served yet; build it as an http-wasm handler or a WAGI command"});
    case Kind::Library:
      return Fail({Errc::Unsupported, "the module exports neither handle_request nor _start, so there is nothing to run; export one of them"});
  }
  return Fail({Errc::Unsupported, "the module is of an unknown kind"});
}

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::HttpHandler: return "http-wasm handler";
    case Kind::Command: return "WASI command";
    case Kind::SocketServer: return "WASI socket server";
    case Kind::Library: return "library";
  }
  return "unknown";
}

const Export* Inspection::find_export(std::string_view name) const {
  const auto it = std::ranges::find(exports, name, &Export::name);
  return it == exports.end() ? nullptr : &*it;
}

bool is_known_import(const Import& import) {
  if (import.external != External::Function) return false;
  if (import.module == "http_handler") return is_offered(kHttpHandler, import);
  if (is_wasi(import.module)) {
    // WasmEdge's own sock_accept has two parameters; sockets of either kind are sorted out by the module's kind.
    return import.name.starts_with("sock_") || is_offered(kWasi, import);
  }
  return false;
}

Result<Inspection> inspect(std::string_view wasm) {
  if (wasm.size() > kModuleBytesMax) {
    return Fail(Error{Errc::Exhausted, std::format("the module has {} bytes; at most {} are accepted. Build it without debug information "
                                                   "(strip, -s, wasm-opt -Oz)", wasm.size(), kModuleBytesMax)});
  }
  if (wasm.size() < kHeader.size() || !wasm.starts_with(kHeader.substr(0, 4))) {
    if (wasm.starts_with("\x7f" "ELF")) {
      return Fail(Error{Errc::Invalid, "this is a native ELF file, not a WebAssembly module. Native programs run as containers; for Wasm, build for wasm32-wasi"});
    }
    if (wasm.starts_with("(module")) {
      return Fail(Error{Errc::Invalid, "this is WebAssembly text, not a binary module. Translate it first (wat2wasm FILE.wat)"});
    }
    return Fail(Error{Errc::Invalid, "not a WebAssembly module: it does not begin with \\0asm"});
  }
  const auto version = static_cast<unsigned char>(wasm[4]) | static_cast<unsigned char>(wasm[5]) << 8;
  const auto layer = static_cast<unsigned char>(wasm[6]) | static_cast<unsigned char>(wasm[7]) << 8;
  if (layer == 1) {
    return Fail(unsupported("this is a component (component model), which the engine cannot run. Build a core module for WASI preview 1: "
                            "Rust --target wasm32-wasip1, or TinyGo -target=wasip1"));
  }
  if (version != 1 || layer != 0) {
    return Fail(unsupported(std::format("binary format version {} layer {} is unknown; version 1 is supported", version, layer)));
  }
  Parser parser;
  TRY_OK(parser.read(wasm));
  auto& out = parser.out;

  bool socket = false;
  const Import* wasmedge_socket = nullptr;  // what preview 1 does not have, or has in another form
  for (const auto& import : out.imports) {
    if (!is_known_import(import)) return Fail(*refuse_import(import));
    if (is_wasi(import.module) && !is_offered(kWasi, import)) wasmedge_socket = &import;
    if (is_wasi(import.module) && is_socket_name(import.name)) socket = true;
    if (is_wasi(import.module) && import.name == "sock_accept") socket = true;
  }
  if (parser.shared_memory) {
    return Fail(unsupported("the module uses shared memory (threads), which is not supported. Build it single-threaded (without -pthread)"));
  }
  if (parser.wide_memory) return Fail(unsupported("the module uses 64-bit memory, which is not supported. Build it for wasm32"));
  if (out.memories.size() > 1) {
    return Fail(unsupported(std::format("the module has {} memories; one is supported", out.memories.size())));
  }
  if (out.locals_max > kLocalsMax) {
    return Fail(unsupported(std::format("a function of the module declares {} locals; at most {} are accepted, because its native stack frame would "
                                        "outgrow the guard. Split the function", out.locals_max, kLocalsMax)));
  }

  TRY(out.kind, kind_of(out, socket));
  if (wasmedge_socket != nullptr && out.kind != Kind::SocketServer) {
    return Fail(unsupported(std::format("the module imports {}.{} ({})->({}): a socket of its own, which handlers and commands do not have. Build it without",
                                        wasmedge_socket->module, wasmedge_socket->name, wasmedge_socket->type.params, wasmedge_socket->type.results)));
  }
  return std::move(out);
}

// A command may be a WAGI guest, which only a pod's annotation tells; a socket server or a library is served by nothing yet.
Result<std::string> inspect_image(std::string_view wasm) {
  TRY(const auto inspection, inspect(wasm));
  TRY_OK(refuse_kind(inspection.kind, Handler::Any));
  return std::string(to_string(inspection.kind));
}

std::string strip_foreign_native_code(std::string_view wasm) {
  if (!wasm.starts_with(kHeader)) return std::string(wasm);
  std::string out(kHeader);
  Cursor c(wasm.substr(kHeader.size()), kHeader.size());
  while (!c.at_end()) {
    const auto begin = c.offset();
    const auto id = c.byte();
    const auto size = c.u32();
    auto section = c.sub(size);
    if (!c.ok()) return std::string(wasm);
    if (id == 0 && section.name() == "wasmedge" && section.ok()) continue;
    out.append(wasm.substr(begin, c.offset() - begin));
  }
  return out;
}

}  // namespace skerry::wasm
