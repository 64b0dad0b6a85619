// SPDX-License-Identifier: Apache-2.0
// CHECK(condition): a bug if false; on in release; prints the place and aborts.
#pragma once
#include <source_location>

namespace skerry {
[[noreturn]] void check_failed(const char* expression, std::source_location at = std::source_location::current());
}
#define CHECK(...) ((__VA_ARGS__) ? (void)0 : ::skerry::check_failed(#__VA_ARGS__))
