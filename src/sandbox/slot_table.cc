// SPDX-License-Identifier: Apache-2.0
#include "sandbox/slot_table.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <format>

#include "os/file.h"

namespace skerry::sandbox {
namespace {
struct Header {
  char magic[8];
  std::uint32_t version, slots;
};
constexpr Header header_for(std::uint32_t slots) { return {{'s', 'k', 's', 'l', 'o', 't', 's', '\n'}, 1, slots}; }
}  // namespace

Result<SlotTable> SlotTable::open(const std::filesystem::path& path, std::uint32_t slots) {
  TRY(auto file, os::open_file(path, O_RDWR | O_CREAT, 0600));
  const std::size_t bytes = sizeof(Header) + slots * sizeof(Row);
  const Header wanted = header_for(slots);
  Header there{};
  struct stat status{};
  const bool known = ::fstat(file.get(), &status) == 0 && static_cast<std::size_t>(status.st_size) == bytes &&
                     ::pread(file.get(), &there, sizeof there, 0) == sizeof there && std::memcmp(&there, &wanted, sizeof there) == 0;
  if (!known && (::ftruncate(file.get(), 0) != 0 || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0 ||
                 ::pwrite(file.get(), &wanted, sizeof wanted, 0) != sizeof wanted))
    return Fail(errno_error(errno, std::format("prepare the slot table {}", path.native())));
  // Its blocks are taken now: on a disk that fills up later, writing to a hole of a mapped file would kill the keeper.
  if (const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes)); error != 0)
    return Fail(errno_error(error, std::format("reserve room for the slot table {}", path.native())));
  SlotTable table;
  TRY(table.mapping_, os::Mapping::map(file.get(), bytes, os::Mapping::Access::ReadWrite));
  table.rows_ = {reinterpret_cast<Row*>(table.mapping_.bytes().data() + sizeof(Header)), slots};
  return table;
}

}  // namespace skerry::sandbox
