// SPDX-License-Identifier: Apache-2.0
// Running native modules (made by skerry-compile) on WasmEdge, behind types that show nothing of it. For single-threaded
// processes: each class is owned by one thread, and what is made before a fork may be used after it.
//
// Two executors share the work, because of two properties of the engine (facts of 0.14.1, tested in guest_break_test):
//   - the page limit of memories belongs to the executor that instantiates: made in the child, one per pod's limit;
//   - the stop token that cancels a call belongs to the executor that calls, and only a WasmEdge_Async can set it: made
//     in the template, together with its finished Async (CallExecutor).
// So an Instantiator instantiates and a CallExecutor calls.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace skerry::wasm {

std::string_view engine_version();
// Switches the engine's own log off.
void initialise_engine();
// True if libLLVM is the stand-in made at build time; false means that the process carries the whole compiler (+7.5 MB).
bool compiler_is_stand_in();

// Why a call came back.
enum class Outcome : std::uint8_t {
  Done,
  Exited,        // a host function ended it on purpose (proc_exit); no trap
  Interrupted,   // cancelled by the stop token
  Unreachable,
  MemoryBounds,  // also a native stack overflow: the caller knows the faulting address
  TableBounds,
  Arithmetic,    // division by zero, overflow, bad conversion
  IndirectCall,  // null, undefined or of the wrong type
  HostRefusal,   // a host function said Refuse
  Other,
};
std::string_view to_string(Outcome);

enum class HostStatus : std::uint8_t { Ok, Exit, Refuse };

// The calling guest, as a host function sees it. The memory is looked up at each call: it may have grown.
class Frame {
 public:
  explicit Frame(const void* frame) : frame_(frame) {}
  // The guest's bytes [offset, offset + length), or null if any of them lies outside its memory. Not null for length 0
  // inside the memory. Offset and length are checked together.
  std::uint8_t* bytes(std::uint32_t offset, std::uint32_t length);

 private:
  const void* frame_;
  std::uint8_t* base_ = nullptr;
  std::uint64_t size_ = 0;
};

// One host function: its parameters as 64-bit slots (i32 zero-extended), letters i and I as in inspect.h.
struct HostFunction {
  const char* name;
  const char* params;
  const char* results;  // at most one
  HostStatus (*call)(Frame&, const std::uint64_t* params, std::uint64_t* result);
};

// A host function that is called with less stack left than this address says refuses, so that the engine's jump out of a
// stack overflow never leaves a host function in the middle. take_… tells (once) that a refusal had this reason.
void set_host_stack_floor(std::uintptr_t lowest);
bool take_host_stack_refusal();

class Module;
class HostModule;
class Instance;
class CallExecutor;

// A function of an instance; valid as long as the instance.
class Function {
 public:
  Function() = default;
  explicit operator bool() const { return function_ != nullptr; }

 private:
  friend class Instance;
  friend class CallExecutor;
  const void* function_ = nullptr;
};

// A loaded and validated native module. `name` is for messages.
class Module {
 public:
  // `path` may be /proc/self/fd/N; the file must stay unchanged. Invalid: the engine's words.
  static Result<Module> load(const std::string& path, std::string_view name);
  Module(Module&&) noexcept;
  ~Module();
  // Pages that the exported memory `name` asks for; 0 if there is none.
  std::uint32_t memory_pages_min(std::string_view name) const;
  // Instantiating it runs code of the guest.
  bool has_start_section() const { return has_start_section_; }
  // Where its native code lies in memory: [first, second).
  std::pair<std::uintptr_t, std::uintptr_t> code() const { return code_; }

 private:
  friend class Instantiator;
  explicit Module(void* ast) : ast_(ast) {}
  void* ast_;
  bool has_start_section_ = true;
  std::pair<std::uintptr_t, std::uintptr_t> code_{};
};

// A module of host functions; the table must outlive it.
class HostModule {
 public:
  HostModule(std::string_view name, std::span<const HostFunction> functions);
  HostModule(HostModule&&) noexcept;
  ~HostModule();

 private:
  friend class Instantiator;
  void* module_;
};

class Instance {
 public:
  Instance() = default;
  Instance(Instance&& other) noexcept : module_(other.module_) { other.module_ = nullptr; }
  Instance& operator=(Instance&&) noexcept;
  ~Instance();
  explicit operator bool() const { return module_ != nullptr; }
  Function find(std::string_view name) const;  // exported function, or an empty one
  // Pages of the exported memory `name`; 0 if there is none.
  std::uint32_t memory_pages(std::string_view name) const;

 private:
  friend class Instantiator;
  explicit Instance(void* module) : module_(module) {}
  void* module_ = nullptr;
};

class Instantiator {
 public:
  // Memories that it makes never grow beyond pages_max. The host modules must outlive it.
  Instantiator(std::uint32_t pages_max, std::span<const HostModule* const> imports);
  ~Instantiator();
  Instantiator(const Instantiator&) = delete;
  Instantiator& operator=(const Instantiator&) = delete;
  // Runs the module's start section, if any. The engine succeeds even where memory could not be had or the limit is
  // under the module's minimum: the caller checks Instance::memory_pages.
  Result<Instance> instantiate(const Module&);

 private:
  void* executor_;
  void* store_;
};

class CallExecutor {
 public:
  // Starts one thread and waits until it is gone: the engine hands out the stop token's handle only so. Needs an instance
  // of a module whose function `drain` returns at once and is interruptible, and /proc/self/task.
  static Result<std::unique_ptr<CallExecutor>> create(const Function& drain);
  ~CallExecutor();

  Outcome call(const Function&);                                    // ()->()
  Outcome call_i64(const Function&, std::uint64_t& result);         // ()->(i64)
  Outcome call_ii(const Function&, std::uint32_t, std::uint32_t);   // (i32, i32)->()
  // Async-signal-safe: the running (or next) interruptible call of this executor ends as Interrupted.
  void cancel();
  // Takes back a cancel that came after its call had ended otherwise.
  void drain_stale_cancel();

 private:
  explicit CallExecutor(const Function& drain);
  void* executor_;
  void* async_ = nullptr;
  Function drain_;
};

}  // namespace skerry::wasm
