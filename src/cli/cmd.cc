// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd.h"

#include <cstdio>

namespace skerry::cli {

int fail(const Error& error) {
  std::fprintf(stderr, "skerry: %s\n", error.what.c_str());
  return kExitFailed;
}

}  // namespace skerry::cli
