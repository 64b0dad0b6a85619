// SPDX-License-Identifier: Apache-2.0
#include "os/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <format>
#include <optional>

namespace skerry::os {

Result<UniqueFd> open_file(const std::filesystem::path& path, int flags, unsigned mode) {
  for (;;) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return UniqueFd(fd);
    if (errno != EINTR) return Fail(errno_error(errno, std::format("open {}", path.native())));
  }
}

Result<std::string> read_small_file(const std::filesystem::path& path, std::size_t bytes_max) {
  TRY(auto fd, open_file(path, O_RDONLY));
  // What the file says of its size is only where to begin: files of /proc say 0, and others grow.
  constexpr std::size_t kChunk = 16384;
  struct stat info {};
  const std::size_t stated = ::fstat(fd.get(), &info) == 0 && info.st_size > 0 ? static_cast<std::size_t>(info.st_size) : 0;
  std::string bytes;
  // One byte more than is allowed or expected shows that there is more, or the end.
  std::size_t have = 0, room = std::min(bytes_max, stated > 0 ? stated : kChunk) + 1;
  for (bool stop = false;;) {
    std::optional<Error> failed;
    if (have == room) room = std::min(bytes_max, have + kChunk) + 1;
    bytes.resize_and_overwrite(room, [&](char* data, std::size_t size) {
      ssize_t n = 0;
      while ((n = ::read(fd.get(), data + have, size - have)) < 0 && errno == EINTR) {}
      if (n < 0) failed = errno_error(errno, std::format("read {}", path.native()));
      else if (n == 0) stop = true;
      else have += static_cast<std::size_t>(n);
      return have;
    });
    if (failed) return Fail(std::move(*failed));
    if (have > bytes_max) return Fail({Errc::Exhausted, std::format("read {}: longer than the {} bytes allowed here", path.native(), bytes_max)});
    if (!stop) continue;
    if (bytes.capacity() > 2 * have) bytes.shrink_to_fit();
    return bytes;
  }
}

Result<> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return Fail(errno_error(errno, "write"));
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<> write_control_file(const std::filesystem::path& path, std::string_view value) {
  TRY(auto fd, open_file(path, O_WRONLY));
  const ssize_t n = ::write(fd.get(), value.data(), value.size());
  if (n != static_cast<ssize_t>(value.size()))
    return Fail(errno_error(n < 0 ? errno : EIO, std::format("write '{}' to {}", value, path.native())));
  return {};
}

Result<> sync_folder(const std::filesystem::path& path) {
  TRY(auto fd, open_file(path.empty() ? std::filesystem::path(".") : path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return Fail(errno_error(errno, std::format("fsync {}", path.native())));
  return {};
}

Result<> write_file_atomically(const std::filesystem::path& path, std::string_view bytes, unsigned mode) {
  const std::filesystem::path temporary = std::format("{}.tmp.{}", path.native(), ::getpid());
  const auto write_temporary = [&]() -> Result<> {
    TRY(auto fd, open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode));
    if (auto written = write_all(fd.get(), bytes); !written) return Fail(written.error().with(temporary.native()));
    if (::fchmod(fd.get(), mode) != 0 || ::fsync(fd.get()) != 0)
      return Fail(errno_error(errno, std::format("fsync {}", temporary.native())));
    if (::rename(temporary.c_str(), path.c_str()) != 0)
      return Fail(errno_error(errno, std::format("rename {} to {}", temporary.native(), path.native())));
    return sync_folder(path.parent_path());
  };
  auto done = write_temporary();
  if (!done) ::unlink(temporary.c_str());
  return done;
}

Result<> make_folders(const std::filesystem::path& path, unsigned mode) {
  if (path.empty()) return {};
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == ENOENT) {
    TRY_OK(make_folders(path.parent_path(), mode));
    if (::mkdir(path.c_str(), mode) == 0) return {};
  }
  const int error = errno;
  struct stat status{};
  if (error == EEXIST && ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return {};
  if (error == EEXIST) return Fail({Errc::AlreadyExists, std::format("mkdir {}: it exists and is not a folder", path.native())});
  return Fail(errno_error(error, std::format("mkdir {}", path.native())));
}

Result<UniqueFd> lock_file(const std::filesystem::path& path) {
  TRY(auto fd, open_file(path, O_RDWR | O_CREAT, 0600));
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK)
      return Fail({Errc::AlreadyExists, std::format("lock {}: another process holds it; stop that one first", path.native())});
    return Fail(errno_error(errno, std::format("lock {}", path.native())));
  }
  return fd;
}

Result<std::filesystem::path> program_folder() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Fail({Errc::Internal, std::format("readlink /proc/self/exe: {}", error.message())});
  return program.parent_path();
}

}  // namespace skerry::os
