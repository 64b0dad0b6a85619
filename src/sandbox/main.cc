// SPDX-License-Identifier: Apache-2.0
// skerry-sandbox: keeper, templates and sandboxes, one program (DESIGN §2).
#include <string_view>

#include "base/log.h"
#include "sandbox/guest.h"
#include "sandbox/keeper.h"
#include "wasm/engine.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "keeper" && !skerry::wasm::compiler_is_stand_in())
    LOG_WARN("the real libLLVM is loaded, not the stand-in beside this program: sandboxes take more memory and start later");
  return skerry::sandbox::sandbox_main(argc, argv, {.load = skerry::sandbox::load_image, .serve = skerry::sandbox::serve});
}
