// SPDX-License-Identifier: Apache-2.0
#include "wasm/engine.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <wasmedge/wasmedge.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <format>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"

namespace skerry::wasm {
namespace {

constexpr std::uint32_t kHostRefusalCode = 0x5e;
constexpr std::uint64_t kPageBytes = 65536;

WasmEdge_String wrap(std::string_view text) { return WasmEdge_StringWrap(text.data(), static_cast<std::uint32_t>(text.size())); }

Error engine_error(Errc code, std::string_view what, std::string_view object, WasmEdge_Result result) {
  return {code, std::format("{} {}: the engine says: {}", what, object, WasmEdge_ResultGetMessage(result))};
}

struct Configure {
  WasmEdge_ConfigureContext* context = WasmEdge_ConfigureCreate();
  ~Configure() { WasmEdge_ConfigureDelete(context); }
};

WasmEdge_ValType val_type(char letter) { return letter == 'I' ? WasmEdge_ValTypeGenI64() : WasmEdge_ValTypeGenI32(); }

constexpr std::size_t kParamsMax = 9;  // path_open

std::uintptr_t host_stack_floor = 0;
bool host_stack_refused = false;

WasmEdge_Result call_host(void* data, const WasmEdge_CallingFrameContext* frame, const WasmEdge_Value* in, WasmEdge_Value* out) {
  const auto& function = *static_cast<const HostFunction*>(data);
  if (reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) < host_stack_floor) [[unlikely]] {
    host_stack_refused = true;
    return WasmEdge_ResultGen(WasmEdge_ErrCategory_UserLevelError, kHostRefusalCode);
  }
  std::uint64_t params[kParamsMax];
  std::size_t n = 0;
  for (const char* p = function.params; *p != '\0'; ++p, ++n) {
    params[n] = *p == 'I' ? static_cast<std::uint64_t>(WasmEdge_ValueGetI64(in[n]))
                          : static_cast<std::uint64_t>(static_cast<std::uint32_t>(WasmEdge_ValueGetI32(in[n])));
  }
  Frame guest(frame);
  std::uint64_t result = 0;
  const auto status = function.call(guest, params, &result);
  if (*function.results == 'i') *out = WasmEdge_ValueGenI32(static_cast<std::int32_t>(result));
  if (*function.results == 'I') *out = WasmEdge_ValueGenI64(static_cast<std::int64_t>(result));
  switch (status) {
    case HostStatus::Ok: return WasmEdge_Result_Success;
    case HostStatus::Exit: return WasmEdge_Result_Terminate;
    case HostStatus::Refuse: break;
  }
  return WasmEdge_ResultGen(WasmEdge_ErrCategory_UserLevelError, kHostRefusalCode);
}

Outcome outcome_of(WasmEdge_Result result) {
  if (WasmEdge_ResultGetCategory(result) == WasmEdge_ErrCategory_UserLevelError) {
    return WasmEdge_ResultGetCode(result) == kHostRefusalCode ? Outcome::HostRefusal : Outcome::Other;
  }
  switch (WasmEdge_ResultGetCode(result)) {
    case WasmEdge_ErrCode_Success: return Outcome::Done;
    case WasmEdge_ErrCode_Terminated: return Outcome::Exited;
    case WasmEdge_ErrCode_Interrupted: return Outcome::Interrupted;
    case WasmEdge_ErrCode_Unreachable: return Outcome::Unreachable;
    case WasmEdge_ErrCode_MemoryOutOfBounds: return Outcome::MemoryBounds;
    case WasmEdge_ErrCode_TableOutOfBounds: return Outcome::TableBounds;
    case WasmEdge_ErrCode_DivideByZero:
    case WasmEdge_ErrCode_IntegerOverflow:
    case WasmEdge_ErrCode_InvalidConvToInt: return Outcome::Arithmetic;
    case WasmEdge_ErrCode_IndirectCallTypeMismatch:
    case WasmEdge_ErrCode_UndefinedElement:
    case WasmEdge_ErrCode_UninitializedElement: return Outcome::IndirectCall;
    default: return Outcome::Other;
  }
}

// The executable segment of a loaded library.
std::pair<std::uintptr_t, std::uintptr_t> find_code(void* library) {
  struct Search {
    link_map* map = nullptr;
    std::pair<std::uintptr_t, std::uintptr_t> found{};
  } search;
  if (dlinfo(library, RTLD_DI_LINKMAP, &search.map) != 0) return {};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& s = *static_cast<Search*>(data);
        if (info->dlpi_addr != s.map->l_addr) return 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0) continue;
          s.found = {info->dlpi_addr + segment.p_vaddr, info->dlpi_addr + segment.p_vaddr + segment.p_memsz};
        }
        return 1;
      },
      &search);
  return search.found;
}

// The native library carries the module that it was made from. True also where that cannot be found out.
bool find_start_section(void* library) {
  const auto* code = static_cast<const std::uint8_t*>(dlsym(library, "wasm.code"));
  const auto* size = static_cast<const std::uint32_t*>(dlsym(library, "wasm.size"));
  bool found = code == nullptr || size == nullptr || *size < 8;
  for (std::uint64_t at = 8; !found && at < *size;) {
    const auto id = code[at++];
    std::uint64_t length = 0;
    for (int shift = 0; at < *size && shift < 35; shift += 7) {
      const auto byte = code[at++];
      length |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) break;
    }
    constexpr std::uint8_t kStartSection = 8;
    found = id == kStartSection;
    at += length;
  }
  return found;
}

}  // namespace

std::string_view engine_version() { return WasmEdge_VersionGet(); }

void initialise_engine() { WasmEdge_LogOff(); }

bool compiler_is_stand_in() { return dlsym(RTLD_DEFAULT, "skerry_llvm_stand_in") != nullptr; }

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::Done: return "done";
    case Outcome::Exited: return "exited";
    case Outcome::Interrupted: return "interrupted";
    case Outcome::Unreachable: return "unreachable executed";
    case Outcome::MemoryBounds: return "memory access out of bounds";
    case Outcome::TableBounds: return "table access out of bounds";
    case Outcome::Arithmetic: return "division by zero or number out of range";
    case Outcome::IndirectCall: return "bad indirect call";
    case Outcome::HostRefusal: return "host function refused its arguments";
    case Outcome::Other: return "trap";
  }
  return "trap";
}

std::uint8_t* Frame::bytes(std::uint32_t offset, std::uint32_t length) {
  if (base_ == nullptr) {
    auto* memory = WasmEdge_CallingFrameGetMemoryInstance(static_cast<const WasmEdge_CallingFrameContext*>(frame_), 0);
    if (memory == nullptr) return nullptr;
    size_ = WasmEdge_MemoryInstanceGetPageSize(memory) * kPageBytes;
    if (size_ == 0) return nullptr;
    base_ = WasmEdge_MemoryInstanceGetPointer(memory, 0, 1);
    if (base_ == nullptr) return nullptr;
  }
  if (static_cast<std::uint64_t>(offset) + length > size_) return nullptr;
  return base_ + offset;
}

Result<Module> Module::load(const std::string& path, std::string_view name) {
  const Configure configure;
  auto* loader = WasmEdge_LoaderCreate(configure.context);
  WasmEdge_ASTModuleContext* ast = nullptr;
  auto result = WasmEdge_LoaderParseFromFile(loader, &ast, path.c_str());
  WasmEdge_LoaderDelete(loader);
  if (!WasmEdge_ResultOK(result)) return Fail(engine_error(Errc::Invalid, "load", name, result));
  auto* validator = WasmEdge_ValidatorCreate(configure.context);
  result = WasmEdge_ValidatorValidate(validator, ast);
  WasmEdge_ValidatorDelete(validator);
  Module module(ast);
  if (!WasmEdge_ResultOK(result)) return Fail(engine_error(Errc::Invalid, "validate", name, result));
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) {
    // The loader takes plain modules too, for its interpreter, in which endless recursion eats memory instead of trapping.
    return Fail(Error{Errc::Invalid, std::format("load {}: it is no native code, and nothing is interpreted here; compile it with skerry-compile", name)});
  }
  module.has_start_section_ = find_start_section(library);
  module.code_ = find_code(library);
  dlclose(library);
  return module;
}
Module::Module(Module&& other) noexcept : ast_(other.ast_), has_start_section_(other.has_start_section_), code_(other.code_) { other.ast_ = nullptr; }
Module::~Module() {
  if (ast_ != nullptr) WasmEdge_ASTModuleDelete(static_cast<WasmEdge_ASTModuleContext*>(ast_));
}

std::uint32_t Module::memory_pages_min(std::string_view name) const {
  const auto* ast = static_cast<const WasmEdge_ASTModuleContext*>(ast_);
  constexpr std::uint32_t kExportsMax = 4096;
  const auto count = std::min(WasmEdge_ASTModuleListExportsLength(ast), kExportsMax);
  std::vector<const WasmEdge_ExportTypeContext*> exports(count);
  WasmEdge_ASTModuleListExports(ast, exports.data(), count);
  for (const auto* e : exports) {
    if (WasmEdge_ExportTypeGetExternalType(e) != WasmEdge_ExternalType_Memory) continue;
    const auto found = WasmEdge_ExportTypeGetExternalName(e);
    if (std::string_view(found.Buf, found.Length) != name) continue;
    const auto* type = WasmEdge_ExportTypeGetMemoryType(ast, e);
    return type == nullptr ? 0 : WasmEdge_MemoryTypeGetLimit(type).Min;
  }
  return 0;
}

void set_host_stack_floor(std::uintptr_t lowest) { host_stack_floor = lowest; }
bool take_host_stack_refusal() { return std::exchange(host_stack_refused, false); }

HostModule::HostModule(std::string_view name, std::span<const HostFunction> functions) {
  auto* module = WasmEdge_ModuleInstanceCreate(wrap(name));
  CHECK(module != nullptr);
  for (const auto& function : functions) {
    WasmEdge_ValType params[kParamsMax], results[1];
    std::uint32_t n = 0, m = 0;
    CHECK(std::strlen(function.params) <= kParamsMax && std::strlen(function.results) <= 1);
    for (const char* p = function.params; *p != '\0'; ++p) params[n++] = val_type(*p);
    for (const char* p = function.results; *p != '\0'; ++p) results[m++] = val_type(*p);
    auto* type = WasmEdge_FunctionTypeCreate(params, n, results, m);
    auto* instance = WasmEdge_FunctionInstanceCreate(type, call_host, const_cast<HostFunction*>(&function), 0);
    WasmEdge_FunctionTypeDelete(type);
    CHECK(instance != nullptr);
    WasmEdge_ModuleInstanceAddFunction(module, wrap(function.name), instance);
  }
  module_ = module;
}
HostModule::HostModule(HostModule&& other) noexcept : module_(other.module_) { other.module_ = nullptr; }
HostModule::~HostModule() {
  if (module_ != nullptr) WasmEdge_ModuleInstanceDelete(static_cast<WasmEdge_ModuleInstanceContext*>(module_));
}

Instance& Instance::operator=(Instance&& other) noexcept {
  std::swap(module_, other.module_);
  return *this;
}
Instance::~Instance() {
  if (module_ != nullptr) WasmEdge_ModuleInstanceDelete(static_cast<WasmEdge_ModuleInstanceContext*>(module_));
}
Function Instance::find(std::string_view name) const {
  Function out;
  out.function_ = WasmEdge_ModuleInstanceFindFunction(static_cast<const WasmEdge_ModuleInstanceContext*>(module_), wrap(name));
  return out;
}
std::uint32_t Instance::memory_pages(std::string_view name) const {
  const auto* memory = WasmEdge_ModuleInstanceFindMemory(static_cast<const WasmEdge_ModuleInstanceContext*>(module_), wrap(name));
  return memory == nullptr ? 0 : WasmEdge_MemoryInstanceGetPageSize(memory);
}

Instantiator::Instantiator(std::uint32_t pages_max, std::span<const HostModule* const> imports) {
  const Configure configure;
  WasmEdge_ConfigureSetMaxMemoryPage(configure.context, pages_max);
  auto* executor = WasmEdge_ExecutorCreate(configure.context, nullptr);
  auto* store = WasmEdge_StoreCreate();
  CHECK(executor != nullptr && store != nullptr);
  for (const auto* import : imports) {
    const auto result = WasmEdge_ExecutorRegisterImport(executor, store, static_cast<const WasmEdge_ModuleInstanceContext*>(import->module_));
    CHECK(WasmEdge_ResultOK(result));
  }
  executor_ = executor;
  store_ = store;
}
Instantiator::~Instantiator() {
  WasmEdge_StoreDelete(static_cast<WasmEdge_StoreContext*>(store_));
  WasmEdge_ExecutorDelete(static_cast<WasmEdge_ExecutorContext*>(executor_));
}
Result<Instance> Instantiator::instantiate(const Module& module) {
  WasmEdge_ModuleInstanceContext* instance = nullptr;
  const auto result = WasmEdge_ExecutorInstantiate(static_cast<WasmEdge_ExecutorContext*>(executor_), &instance,
                                                   static_cast<WasmEdge_StoreContext*>(store_),
                                                   static_cast<const WasmEdge_ASTModuleContext*>(module.ast_));
  if (!WasmEdge_ResultOK(result)) return Fail(engine_error(Errc::Invalid, "instantiate", "the module", result));
  return Instance(instance);
}

CallExecutor::CallExecutor(const Function& drain) : drain_(drain) {
  const Configure configure;
  auto* executor = WasmEdge_ExecutorCreate(configure.context, nullptr);
  CHECK(executor != nullptr);
  executor_ = executor;
}
Result<std::unique_ptr<CallExecutor>> CallExecutor::create(const Function& drain) {
  std::unique_ptr<CallExecutor> out(new CallExecutor(drain));
  auto* async = WasmEdge_ExecutorAsyncInvoke(static_cast<WasmEdge_ExecutorContext*>(out->executor_),
                                             static_cast<const WasmEdge_FunctionInstanceContext*>(drain.function_), nullptr, 0);
  if (async == nullptr) return Fail(Error{Errc::Internal, "the engine gave no handle for cancelling calls"});
  out->async_ = async;
  WasmEdge_AsyncWait(async);
  // The call has ended; its thread may still be on its way out, and a process with two threads must not fork.
  for (int i = 0; i < 2000; ++i) {
    std::error_code error;
    std::size_t threads = 0;
    for (auto it = std::filesystem::directory_iterator("/proc/self/task", error); !error && it != std::filesystem::directory_iterator();
         it.increment(error)) {
      ++threads;
    }
    if (error) return Fail(Error{Errc::Unavailable, std::format("read /proc/self/task: {}; mount /proc before an image is loaded", error.message())});
    if (threads == 1) return out;
    std::this_thread::sleep_for(std::chrono::microseconds(50 * (i + 1)));
  }
  return Fail(Error{Errc::Internal, "the engine's helper thread did not end"});
}
CallExecutor::~CallExecutor() {
  if (async_ != nullptr) WasmEdge_AsyncDelete(static_cast<WasmEdge_Async*>(async_));
  WasmEdge_ExecutorDelete(static_cast<WasmEdge_ExecutorContext*>(executor_));
}
Outcome CallExecutor::call(const Function& function) {
  return outcome_of(WasmEdge_ExecutorInvoke(static_cast<WasmEdge_ExecutorContext*>(executor_),
                                            static_cast<const WasmEdge_FunctionInstanceContext*>(function.function_), nullptr, 0, nullptr, 0));
}
Outcome CallExecutor::call_i64(const Function& function, std::uint64_t& result) {
  WasmEdge_Value out[1];
  const auto outcome = outcome_of(WasmEdge_ExecutorInvoke(static_cast<WasmEdge_ExecutorContext*>(executor_),
                                                          static_cast<const WasmEdge_FunctionInstanceContext*>(function.function_), nullptr, 0,
                                                          out, 1));
  if (outcome == Outcome::Done) result = static_cast<std::uint64_t>(WasmEdge_ValueGetI64(out[0]));
  return outcome;
}
Outcome CallExecutor::call_ii(const Function& function, std::uint32_t a, std::uint32_t b) {
  const WasmEdge_Value in[2] = {WasmEdge_ValueGenI32(static_cast<std::int32_t>(a)), WasmEdge_ValueGenI32(static_cast<std::int32_t>(b))};
  return outcome_of(WasmEdge_ExecutorInvoke(static_cast<WasmEdge_ExecutorContext*>(executor_),
                                            static_cast<const WasmEdge_FunctionInstanceContext*>(function.function_), in, 2, nullptr, 0));
}
void CallExecutor::cancel() { WasmEdge_AsyncCancel(static_cast<WasmEdge_Async*>(async_)); }
void CallExecutor::drain_stale_cancel() {
  for (int i = 0; i < 1000; ++i) {
    if (call(drain_) == Outcome::Interrupted) return;
  }
  CHECK(false);  // a token that was set and cannot be taken back would answer the next request with 504
}

}  // namespace skerry::wasm
