// SPDX-License-Identifier: Apache-2.0
#include "os/nft.h"

#include <poll.h>
#include <sys/mman.h>

#include <cerrno>
#include <csignal>
#include <format>

#include "base/text.h"
#include "os/file.h"
#include "os/spawn.h"

namespace skerry::os {
namespace {

constexpr std::size_t kErrorBytesMax = 2000;
constexpr std::size_t kOutputBytesMax = 64 << 20;

Result<UniqueFd> scratch(const char* name) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) return Fail(errno_error(errno, std::format("create the memory file {}", name)));
  return fd;
}

Result<std::string> read_scratch(int fd, std::size_t bytes_max) {
  std::string text;
  char buffer[16384];
  while (text.size() < bytes_max) {
    const ssize_t got = ::pread(fd, buffer, sizeof buffer, static_cast<off_t>(text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Fail(errno_error(errno, "read what nft wrote"));
    if (got == 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace

Result<std::string> apply_nft(std::string_view json, const NftOptions& options) {
  TRY(const UniqueFd input, scratch("nft-input"));
  TRY(const UniqueFd output, scratch("nft-output"));
  TRY(const UniqueFd errors, scratch("nft-errors"));
  TRY_OK(write_all(input.get(), json));
  if (::lseek(input.get(), 0, SEEK_SET) != 0) return Fail(errno_error(errno, "rewind nft's input"));
  auto started = spawn({.program = options.program,
                        .arguments = {"-j", "-f", "-"},
                        .environment = {},
                        .fds = {{input.get(), 0}, {output.get(), 1}, {errors.get(), 2}},
                        .cgroup = std::nullopt});
  if (!started && started.error().code == Errc::NotFound) {
    return Fail(
        {Errc::NotFound, std::format("{} is not there: install nftables; Services need it", options.program.string())});
  }
  TRY(const Child child, std::move(started));
  const SystemClock clock;
  const Instant end = clock.instant() + options.deadline;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - clock.instant()).count();
    if (left <= 0) {
      TRY_OK(child.signal(SIGKILL));
      TRY_OK(child.wait());
      return Fail({Errc::Timeout, std::format("nft did not end within {}", to_human(options.deadline))});
    }
    pollfd waiting{.fd = child.pidfd(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(left));
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR) return Fail(errno_error(errno, "wait for nft"));
  }
  TRY(const ExitStatus status, child.wait());
  if (!status.ok()) {
    TRY(const std::string words, read_scratch(errors.get(), kErrorBytesMax));
    return Fail({Errc::Invalid, std::format("nft refused a batch ({}): {}", status.text(), trim(words))});
  }
  return read_scratch(output.get(), kOutputBytesMax);
}

}  // namespace skerry::os
