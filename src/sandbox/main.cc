// SPDX-License-Identifier: Apache-2.0
// skerry-sandbox: keeper, templates and sandboxes, one program (DESIGN §2).
#include "sandbox/guest.h"
#include "sandbox/keeper.h"

int main(int argc, char** argv) {
  return skerry::sandbox::sandbox_main(argc, argv, {.load = skerry::sandbox::load_image, .serve = skerry::sandbox::serve});
}
