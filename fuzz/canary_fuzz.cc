// SPDX-License-Identifier: Apache-2.0
// Must fail: a broken property that its corpus has the input for. If this passes, the machinery proves nothing.
#include "fuzz/fuzz.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) { REQUIRE(!input.starts_with("tweet")); }
}  // namespace skerry::fuzz
