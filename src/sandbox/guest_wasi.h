// SPDX-License-Identifier: Apache-2.0
// WASI preview 1 for guests without files and sockets: arguments, environment, clocks, random, stdin, stdout, stderr,
// sleeping, exit. There are no preopened folders, so every path is refused (EBADF) and every other descriptor is unknown.
// Our own instead of the engine's: output goes to the log or the response, sleeping obeys the deadline, nothing is kept
// between instances, and no system call is made that the hardened slot does not allow.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sandbox/guest_log.h"
#include "sandbox/http_message.h"
#include "wasm/engine.h"

namespace skerry::sandbox {

// The process' one WASI world; set before guest code runs, adjusted between requests.
struct WasiWorld {
  std::vector<std::string> args;  // with argv[0]
  std::vector<std::string> env;   // NAME=value
  std::string_view input;         // stdin
  std::size_t input_at = 0;
  Buffer* output = nullptr;       // stdout goes here; null: to the log
  std::size_t output_max = 0;
  bool output_overflowed = false;
  GuestLog* log = nullptr;
  int exit_code = 0;              // of the last proc_exit
};
extern WasiWorld wasi_world;

std::span<const wasm::HostFunction> wasi_functions();

}  // namespace skerry::sandbox
