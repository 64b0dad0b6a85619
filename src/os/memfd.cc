// SPDX-License-Identifier: Apache-2.0
#include "os/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <format>
#include <utility>

#include "os/file.h"

namespace skerry::os {
namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;
constexpr int kContentSeals = kSizeSeals | F_SEAL_WRITE;

int seals_of(Seal seal) { return seal == Seal::Contents ? kContentSeals : kSizeSeals; }

Result<UniqueFd> make_open(std::string_view name) {
  UniqueFd fd(::memfd_create(std::string(name).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Fail(errno_error(errno, std::format("memfd_create {}", name)));
  return fd;
}

Result<> add_seals(int fd, Seal seal, std::string_view name) {
  if (::fcntl(fd, F_ADD_SEALS, seals_of(seal) | F_SEAL_SEAL) != 0)
    return Fail(errno_error(errno, std::format("seal memfd {}", name)));
  return {};
}

}  // namespace

Result<UniqueFd> make_memfd(std::string_view name, std::string_view contents, Seal seal) {
  TRY(auto fd, make_open(name));
  TRY_OK(write_all(fd.get(), contents));
  TRY_OK(add_seals(fd.get(), seal, name));
  return fd;
}

Result<UniqueFd> make_memfd_zeroed(std::string_view name, std::size_t bytes) {
  TRY(auto fd, make_open(name));
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
    return Fail(errno_error(errno, std::format("size memfd {} to {} bytes", name, bytes)));
  TRY_OK(add_seals(fd.get(), Seal::Size, name));
  return fd;
}

bool memfd_is_sealed(int fd, Seal seal, std::size_t bytes_min) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  struct stat status{};
  return seals >= 0 && (seals & seals_of(seal)) == seals_of(seal) && ::fstat(fd, &status) == 0 && status.st_size >= 0 &&
         static_cast<std::size_t>(status.st_size) >= bytes_min;
}

Result<std::string> read_sealed_memfd(int fd, std::size_t bytes_max) {
  if (!memfd_is_sealed(fd, Seal::Contents, 0))
    return Fail({Errc::Invalid, "read memfd: the descriptor is not a memfd sealed against writing and resizing"});
  struct stat status{};
  if (::fstat(fd, &status) != 0) return Fail(errno_error(errno, "fstat memfd"));
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > bytes_max) return Fail({Errc::Exhausted, std::format("read memfd: {} bytes, {} are allowed", size, bytes_max)});
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = ::pread(fd, bytes.data() + done, size - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Fail(errno_error(n < 0 ? errno : EIO, "read memfd"));
    done += static_cast<std::size_t>(n);
  }
  return bytes;
}

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (address_ != nullptr) ::munmap(address_, size_);
    address_ = std::exchange(other.address_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}
Mapping::~Mapping() {
  if (address_ != nullptr) ::munmap(address_, size_);
}
Result<Mapping> Mapping::map(int fd, std::size_t bytes, Access access) {
  const int protection = access == Access::Read ? PROT_READ : PROT_READ | PROT_WRITE;
  void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return Fail(errno_error(errno, std::format("map {} bytes", bytes)));
  Mapping mapping;
  mapping.address_ = address;
  mapping.size_ = bytes;
  return mapping;
}

}  // namespace skerry::os
