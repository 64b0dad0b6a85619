// SPDX-License-Identifier: Apache-2.0
// A WebAssembly module from an image: looked at without an engine, and cleaned of foreign native code.
#include "fuzz/fuzz.h"
#include "wasm/inspect.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  const auto inspection = wasm::inspect(input);
  const std::string stripped = wasm::strip_foreign_native_code(input);
  REQUIRE(stripped.size() <= input.size());
  REQUIRE(wasm::strip_foreign_native_code(stripped) == stripped);
  if (!inspection) return;
  const auto again = wasm::inspect(stripped);
  REQUIRE(again.has_value());
  REQUIRE(!again->has_foreign_native_code);
  REQUIRE(again->kind == inspection->kind);
  (void)wasm::refuse_kind(inspection->kind, wasm::Handler::Any);
}
}  // namespace skerry::fuzz
