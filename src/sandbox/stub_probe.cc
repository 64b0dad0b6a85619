// SPDX-License-Identifier: Apache-2.0
// Prints whether a program linked as skerry-sandbox is loads the stand-in for libLLVM; fails if not.
#include <cstdio>

#include "wasm/engine.h"

int main() {
  skerry::wasm::initialise_engine();
  const bool stand_in = skerry::wasm::compiler_is_stand_in();
  std::puts(stand_in ? "stand-in" : "real");
  return stand_in ? 0 : 1;
}
