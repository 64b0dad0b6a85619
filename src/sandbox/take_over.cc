// SPDX-License-Identifier: Apache-2.0
#include "sandbox/take_over.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <format>

#include "metrics/page.h"
#include "os/memfd.h"
#include "sandbox/assignment.h"
#include "sandbox/process.h"

namespace skerry::sandbox {
namespace {

Result<os::UniqueFd> take(int pidfd, int number) {
  os::UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0)));
  if (fd) return fd;
  const int error = errno;
  const auto what = std::format("take descriptor {} of a sandbox (pidfd_getfd)", number);
  if (error == EBADF || error == ESRCH) return Fail({Errc::NotFound, what});
  if (error == ENOSYS) return Fail({Errc::Unsupported, what + ": this kernel has no such call"});
  return Fail(errno_error(error, what));
}

bool has_option(int fd, int option, int wanted) {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

Error another_kind(std::string_view what) {
  return {Errc::Corrupt, std::format("a sandbox holds something else where its {} belongs", what)};
}

}  // namespace

Result<SandboxDescriptors> take_descriptors(int pidfd) {
  SandboxDescriptors out;
  TRY(out.listener, take(pidfd, kSlotListener));
  TRY(out.assignment, take(pidfd, kSlotAssignment));
  TRY(out.metrics, take(pidfd, kSlotMetrics));
  const int listener = out.listener.get();
  if (!has_option(listener, SO_DOMAIN, AF_INET) || !has_option(listener, SO_TYPE, SOCK_STREAM) ||
      !has_option(listener, SO_PROTOCOL, IPPROTO_TCP) || !has_option(listener, SO_ACCEPTCONN, 1))
    return Fail(another_kind("listening socket"));
  struct stat status{};
  if (!os::memfd_is_sealed(out.assignment.get(), os::Seal::Contents, 1) ||
      ::fstat(out.assignment.get(), &status) != 0 ||
      static_cast<std::uint64_t>(status.st_size) > Assignment::kEncodedMax)
    return Fail(another_kind("assignment"));
  if (!metrics::Page::map(out.metrics.get())) return Fail(another_kind("metrics page"));
  return out;
}

bool same_file(int a, int b) {
  struct stat left{}, right{};
  return ::fstat(a, &left) == 0 && ::fstat(b, &right) == 0 && left.st_dev == right.st_dev &&
         left.st_ino == right.st_ino;
}

}  // namespace skerry::sandbox
