// SPDX-License-Identifier: Apache-2.0
// Runs skerry-registry for one job, and makes an error of whatever it does wrong. On a loop; cancelling the task ends the
// process.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "oci/pull_wire.h"
#include "rt/loop.h"

namespace skerry::oci {

struct RegistryProgram {
  std::filesystem::path path{};           // skerry-registry
  std::vector<std::string> environment{};  // NAME=value: https_proxy and its like
  Duration timeout = std::chrono::hours(1);
};

// Same, Pulled or Pushed; `progress` is called on the loop. Its own errors, and Internal, Timeout: the process.
rt::Task<RegistryAnswer> run_registry(RegistryProgram program, RegistryJob job, std::function<void(const answer::Progress&)> progress);

}  // namespace skerry::oci
