// SPDX-License-Identifier: Apache-2.0
#include "sql/vfs_files.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <vector>

namespace skerry::sql {
namespace {

Result<> sync(const std::string& name, int flags) {
  const int fd = ::open(name.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return Fail(errno_error(errno, "open " + name));
  const int failed = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (failed != 0) return Fail(errno_error(failed, "fsync " + name));
  return {};
}

constexpr int kRename = 0x5f4b5201;  // FaultyVfs::kRename: the one VFS beside the system's

// A file of a VFS, closed once.
class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (open_) get()->pMethods->xClose(get());
  }
  bool open(sqlite3_vfs& vfs, const std::string& path, int flags) {
    memory_.resize((static_cast<std::size_t>(vfs.szOsFile) + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t));
    open_ = vfs.xOpen(&vfs, path.c_str(), get(), flags | SQLITE_OPEN_MAIN_DB, nullptr) == SQLITE_OK;
    return open_;
  }
  sqlite3_file* get() { return reinterpret_cast<sqlite3_file*>(memory_.data()); }

 private:
  std::vector<std::max_align_t> memory_;
  bool open_ = false;
};

}  // namespace

bool VfsFiles::exists(const std::string& path) const {
  if (vfs_.empty()) {
    struct stat there {};
    return ::stat(path.c_str(), &there) == 0 && there.st_size > 0;
  }
  sqlite3_vfs* vfs = sqlite3_vfs_find(vfs_.c_str());
  int there = 0;
  if (vfs->xAccess(vfs, path.c_str(), SQLITE_ACCESS_EXISTS, &there) != SQLITE_OK || there == 0) return false;
  File file;
  sqlite3_int64 size = 0;
  return file.open(*vfs, path, SQLITE_OPEN_READWRITE) && file.get()->pMethods->xFileSize(file.get(), &size) == SQLITE_OK && size > 0;
}

void VfsFiles::remove(const std::string& path) const {
  if (vfs_.empty()) {
    ::unlink(path.c_str());
    return;
  }
  sqlite3_vfs* vfs = sqlite3_vfs_find(vfs_.c_str());
  vfs->xDelete(vfs, path.c_str(), 1);
}

Result<> VfsFiles::move(const std::string& from, const std::string& to) const {
  if (vfs_.empty()) {
    TRY_OK(sync(from, O_RDONLY));
    if (::rename(from.c_str(), to.c_str()) != 0) return Fail(errno_error(errno, "rename " + from + " to " + to));
    const auto slash = to.rfind('/');
    return sync(slash == std::string::npos ? "." : slash == 0 ? "/" : to.substr(0, slash), O_RDONLY | O_DIRECTORY);
  }
  sqlite3_vfs& vfs = *sqlite3_vfs_find(vfs_.c_str());
  File file;
  if (!file.open(vfs, from, SQLITE_OPEN_READWRITE) || file.get()->pMethods->xSync(file.get(), SQLITE_SYNC_FULL) != SQLITE_OK ||
      file.get()->pMethods->xFileControl(file.get(), kRename, const_cast<char*>(to.c_str())) != SQLITE_OK)
    return Fail({Errc::Unavailable, "move " + from + " to " + to + " failed"});
  return {};
}

}  // namespace skerry::sql
