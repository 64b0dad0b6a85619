// SPDX-License-Identifier: Apache-2.0
// IPv4 ranges as the allocation of Service addresses needs them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace skerry::apiserver {

struct Range {
  std::uint32_t base, mask;
};
Result<Range> parse_range(std::string_view cidr);
std::optional<std::uint32_t> parse_ipv4(std::string_view text);
std::string format_ipv4(std::uint32_t address);

}  // namespace skerry::apiserver
