// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace skerry {
void check_failed(const char* expression, std::source_location at) {
  std::fprintf(stderr, "%s:%u: CHECK(%s) failed in %s\n", at.file_name(), at.line(), expression, at.function_name());
  std::abort();
}
}  // namespace skerry
