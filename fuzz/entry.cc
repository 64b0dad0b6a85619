// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"
#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  [[maybe_unused]] static const bool silent = [] {
    skerry::set_log_sink([](skerry::LogLevel, std::string_view) {});
    return true;
  }();
  skerry::fuzz::fuzz_one({reinterpret_cast<const char*>(data), size});
  return 0;
}
