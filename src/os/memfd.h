// SPDX-License-Identifier: Apache-2.0
// Anonymous shared memory (memfd): what one process hands another without a file.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "os/fd.h"

namespace skerry::os {

enum class Seal {
  Contents,  // nothing about it can change any more: for what is handed out (environment, secrets)
  Size,      // the size cannot change, contents may: for pages that both sides map
};

// `name` is only for /proc. The descriptor is close-on-exec and, after the seals, cannot be unsealed.
Result<UniqueFd> make_memfd(std::string_view name, std::string_view contents, Seal);
Result<UniqueFd> make_memfd_zeroed(std::string_view name, std::size_t bytes);  // Seal::Size

// True if `fd` is a memfd with at least these seals and this many bytes: ask before mapping what another process sent.
bool memfd_is_sealed(int fd, Seal, std::size_t bytes_min);
// The whole of a memfd sealed with Seal::Contents; Exhausted above bytes_max; Invalid when it is not so sealed.
Result<std::string> read_sealed_memfd(int fd, std::size_t bytes_max);

// One shared mapping, unmapped by the destructor.
class [[nodiscard]] Mapping {
 public:
  enum class Access { Read, ReadWrite };
  Mapping() = default;
  Mapping(Mapping&&) noexcept;
  Mapping& operator=(Mapping&&) noexcept;
  ~Mapping();
  static Result<Mapping> map(int fd, std::size_t bytes, Access);
  std::span<std::byte> bytes() const { return {static_cast<std::byte*>(address_), size_}; }
  explicit operator bool() const { return address_ != nullptr; }

 private:
  void* address_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace skerry::os
