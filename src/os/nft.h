// SPDX-License-Identifier: Apache-2.0
// nftables by the program `nft` (libnftables is GPL-2 and not linked): one JSON batch is one atomic transaction.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/time.h"

namespace skerry::os {

struct NftOptions {
  std::filesystem::path program = "/usr/sbin/nft";
  Duration deadline = std::chrono::seconds(10);  // then it is killed: Timeout
};

// Applies a batch {"nftables": [...]} in the calling thread's network namespace; all of it or nothing. Blocks.
// NotFound: `nft` is not installed. Invalid: nft's own words. Returns what nft printed (for list commands).
Result<std::string> apply_nft(std::string_view json, const NftOptions& = {});

}  // namespace skerry::os
