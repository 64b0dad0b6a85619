// SPDX-License-Identifier: Apache-2.0
// A kubeconfig file.
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "cli/kubeconfig.h"
#include "fuzz/fuzz.h"

namespace skerry::fuzz {
void fuzz_one(std::string_view input) {
  const int fd = memfd_create("kubeconfig", MFD_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(write(fd, input.data(), input.size()) == static_cast<ssize_t>(input.size()));
  const auto config = cli::read_kubeconfig("/proc/self/fd/" + std::to_string(fd));
  if (config) REQUIRE(config->port != 0 && !config->host.empty());
  close(fd);
}
}  // namespace skerry::fuzz
