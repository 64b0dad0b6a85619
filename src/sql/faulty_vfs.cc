// SPDX-License-Identifier: Apache-2.0
#include "sql/faulty_vfs.h"

#include <sqlite3.h>

#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "base/check.h"

namespace skerry::sql {
namespace {

// A change since the last sync: bytes at an offset, or a new length.
struct Change {
  std::uint64_t offset = 0;
  std::string bytes;
  bool truncation = false;
};
struct File {
  std::string now, synced;
  std::vector<Change> unsynced;
  std::set<std::uint64_t> unreadable;
  bool exists = true;
};

void put(std::string& to, std::uint64_t offset, std::string_view bytes) {
  if (to.size() < offset + bytes.size()) to.resize(offset + bytes.size());
  std::memcpy(to.data() + offset, bytes.data(), bytes.size());
}

}  // namespace

struct FaultyVfs::State {
  std::string name;
  sqlite3_vfs vfs{};
  mutable std::mutex mutex;
  std::map<std::string, std::shared_ptr<File>> files;
  std::uint64_t operations = 0, fail_at = 0;
  Fault fault = Fault::Once;
  Reason reason = Reason::IoError;
  bool failed = false, failing = false, crashed = false;
  std::uint64_t epoch = 0, temporary = 0;

  // SQLITE_OK, or what this operation fails with.
  int judge(int io_error) {
    if (crashed) return io_error;
    ++operations;
    if (fail_at != 0 && operations == fail_at) {
      failed = true;
      failing = fault == Fault::Sticky;
      fail_at = 0;
      return reason == Reason::DiskFull ? SQLITE_FULL : io_error;
    }
    return failing ? (reason == Reason::DiskFull ? SQLITE_FULL : io_error) : SQLITE_OK;
  }
};

namespace {

struct Handle {
  sqlite3_file base;
  FaultyVfs::State* state;
  std::shared_ptr<File>* file;
  std::string* path;
  std::uint64_t epoch;
  bool delete_on_close;
};
Handle& of(sqlite3_file* f) { return *reinterpret_cast<Handle*>(f); }
bool dead(const Handle& h) { return h.state->crashed || h.epoch != h.state->epoch; }

int io_close(sqlite3_file* f) {
  Handle& h = of(f);
  {
    const std::scoped_lock lock(h.state->mutex);
    if (h.delete_on_close && !dead(h)) h.state->files.erase(*h.path);
  }
  delete h.file;
  delete h.path;
  return SQLITE_OK;
}
int io_read(sqlite3_file* f, void* to, int amount, sqlite3_int64 offset) {
  Handle& h = of(f);
  const std::scoped_lock lock(h.state->mutex);
  if (dead(h)) return SQLITE_IOERR;  // no bad block
  const std::string& bytes = (*h.file)->now;
  const auto bad = (*h.file)->unreadable.lower_bound(static_cast<std::uint64_t>(offset));
  if (bad != (*h.file)->unreadable.end() && *bad < static_cast<std::uint64_t>(offset) + static_cast<std::uint64_t>(amount)) return SQLITE_IOERR_READ;
  const auto at = static_cast<std::uint64_t>(offset), wanted = static_cast<std::uint64_t>(amount);
  const std::uint64_t there = at < bytes.size() ? std::min<std::uint64_t>(wanted, bytes.size() - at) : 0;
  if (there > 0) std::memcpy(to, bytes.data() + at, there);
  if (there == wanted) return SQLITE_OK;
  std::memset(static_cast<char*>(to) + there, 0, wanted - there);
  return SQLITE_IOERR_SHORT_READ;
}
int io_write(sqlite3_file* f, const void* from, int amount, sqlite3_int64 offset) {
  Handle& h = of(f);
  const std::scoped_lock lock(h.state->mutex);
  if (dead(h)) return SQLITE_IOERR_WRITE;
  if (const int code = h.state->judge(SQLITE_IOERR_WRITE); code != SQLITE_OK) return code;
  const std::string_view bytes(static_cast<const char*>(from), static_cast<std::size_t>(amount));
  put((*h.file)->now, static_cast<std::uint64_t>(offset), bytes);
  auto& unreadable = (*h.file)->unreadable;
  unreadable.erase(unreadable.lower_bound(static_cast<std::uint64_t>(offset)), unreadable.lower_bound(static_cast<std::uint64_t>(offset) + bytes.size()));
  (*h.file)->unsynced.push_back({static_cast<std::uint64_t>(offset), std::string(bytes), false});
  return SQLITE_OK;
}
int io_truncate(sqlite3_file* f, sqlite3_int64 size) {
  Handle& h = of(f);
  const std::scoped_lock lock(h.state->mutex);
  if (dead(h)) return SQLITE_IOERR_TRUNCATE;
  if (const int code = h.state->judge(SQLITE_IOERR_TRUNCATE); code != SQLITE_OK) return code;
  (*h.file)->now.resize(static_cast<std::size_t>(size));
  (*h.file)->unsynced.push_back({static_cast<std::uint64_t>(size), {}, true});
  return SQLITE_OK;
}
int io_sync(sqlite3_file* f, int) {
  Handle& h = of(f);
  const std::scoped_lock lock(h.state->mutex);
  if (dead(h)) return SQLITE_IOERR_FSYNC;
  if (const int code = h.state->judge(SQLITE_IOERR_FSYNC); code != SQLITE_OK) return code;
  (*h.file)->synced = (*h.file)->now;
  (*h.file)->unsynced.clear();
  return SQLITE_OK;
}
int io_size(sqlite3_file* f, sqlite3_int64* size) {
  Handle& h = of(f);
  const std::scoped_lock lock(h.state->mutex);
  if (dead(h)) return SQLITE_IOERR_FSTAT;
  *size = static_cast<sqlite3_int64>((*h.file)->now.size());
  return SQLITE_OK;
}
int io_lock(sqlite3_file*, int) { return SQLITE_OK; }
int io_check_lock(sqlite3_file*, int* out) {
  *out = 0;
  return SQLITE_OK;
}
int io_control(sqlite3_file* f, int operation, void* argument) {
  if (operation != FaultyVfs::kRename) return SQLITE_NOTFOUND;
  Handle& h = of(f);
  const std::scoped_lock lock(h.state->mutex);
  if (dead(h)) return SQLITE_IOERR;
  if (const int code = h.state->judge(SQLITE_IOERR); code != SQLITE_OK) return code;
  const std::string to(static_cast<const char*>(argument));
  h.state->files[to] = *h.file;
  h.state->files.erase(*h.path);
  *h.path = to;
  return SQLITE_OK;
}
int io_sector(sqlite3_file*) { return 4096; }
int io_device(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

// Version 1: no shared memory, so WAL works only in exclusive locking mode, which is what Database uses.
const sqlite3_io_methods kMethods = {1,          io_close,      io_read,    io_write,  io_truncate, io_sync, io_size, io_lock, io_lock,
                                     io_check_lock, io_control, io_sector, io_device, nullptr,     nullptr, nullptr, nullptr, nullptr, nullptr};

FaultyVfs::State& of(sqlite3_vfs* vfs) { return *static_cast<FaultyVfs::State*>(vfs->pAppData); }

int vfs_open(sqlite3_vfs* vfs, const char* name, sqlite3_file* f, int flags, int* out_flags) {
  FaultyVfs::State& state = of(vfs);
  const std::scoped_lock lock(state.mutex);
  Handle& h = of(f);
  h.base.pMethods = nullptr;
  if (state.crashed) return SQLITE_CANTOPEN;
  const std::string path = name ? name : "temporary-" + std::to_string(++state.temporary);
  auto& file = state.files[path];
  if (!file) {
    if ((flags & SQLITE_OPEN_CREATE) == 0) {
      state.files.erase(path);
      return SQLITE_CANTOPEN;
    }
    file = std::make_shared<File>();
  }
  h.state = &state;
  h.file = new std::shared_ptr<File>(file);
  h.path = new std::string(path);
  h.epoch = state.epoch;
  h.delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
  h.base.pMethods = &kMethods;
  if (out_flags) *out_flags = flags;
  return SQLITE_OK;
}
int vfs_delete(sqlite3_vfs* vfs, const char* name, int) {
  FaultyVfs::State& state = of(vfs);
  const std::scoped_lock lock(state.mutex);
  if (const int code = state.judge(SQLITE_IOERR_DELETE); code != SQLITE_OK) return code;
  return state.files.erase(name) == 0 ? SQLITE_IOERR_DELETE_NOENT : SQLITE_OK;
}
int vfs_access(sqlite3_vfs* vfs, const char* name, int, int* out) {
  FaultyVfs::State& state = of(vfs);
  const std::scoped_lock lock(state.mutex);
  *out = state.files.contains(name) ? 1 : 0;
  return SQLITE_OK;
}
int vfs_full_path(sqlite3_vfs*, const char* name, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", name);
  return SQLITE_OK;
}
int vfs_random(sqlite3_vfs*, int size, char* out) {
  std::memset(out, 42, static_cast<std::size_t>(size));  // the same in every run
  return size;
}
int vfs_sleep(sqlite3_vfs*, int micros) { return micros; }
int vfs_time(sqlite3_vfs*, double* out) {
  *out = 2460000.5;
  return SQLITE_OK;
}
int vfs_last_error(sqlite3_vfs*, int, char*) { return 0; }

}  // namespace

FaultyVfs::FaultyVfs(const std::string& name) : state_(std::make_unique<State>()) {
  state_->name = name;
  state_->vfs = {};
  state_->vfs.iVersion = 1;
  state_->vfs.szOsFile = sizeof(Handle);
  state_->vfs.mxPathname = 512;
  state_->vfs.zName = state_->name.c_str();
  state_->vfs.pAppData = state_.get();
  state_->vfs.xOpen = vfs_open;
  state_->vfs.xDelete = vfs_delete;
  state_->vfs.xAccess = vfs_access;
  state_->vfs.xFullPathname = vfs_full_path;
  state_->vfs.xRandomness = vfs_random;
  state_->vfs.xSleep = vfs_sleep;
  state_->vfs.xCurrentTime = vfs_time;
  state_->vfs.xGetLastError = vfs_last_error;
  CHECK(sqlite3_vfs_find(name.c_str()) == nullptr);
  CHECK(sqlite3_vfs_register(&state_->vfs, 0) == SQLITE_OK);
}
FaultyVfs::~FaultyVfs() { sqlite3_vfs_unregister(&state_->vfs); }
const std::string& FaultyVfs::name() const { return state_->name; }

void FaultyVfs::fail_at(std::uint64_t n, Fault fault, Reason reason) {
  const std::scoped_lock lock(state_->mutex);
  state_->fail_at = state_->operations + n;
  state_->fault = fault;
  state_->reason = reason;
  state_->failed = state_->failing = false;
}
void FaultyVfs::heal() {
  const std::scoped_lock lock(state_->mutex);
  state_->fail_at = 0;
  state_->failing = false;
}
bool FaultyVfs::has_failed() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->failed;
}
std::uint64_t FaultyVfs::operations() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->operations;
}

void FaultyVfs::crash(Random* keep) {
  const std::scoped_lock lock(state_->mutex);
  state_->crashed = true;
  for (auto& [path, file] : state_->files) {
    std::string after = file->synced;
    if (keep) {
      for (const Change& change : file->unsynced) {
        if (keep->below(2) == 0) continue;
        if (change.truncation) {
          after.resize(change.offset);
        } else {
          put(after, change.offset, change.bytes);
        }
      }
    }
    file->now = file->synced = std::move(after);
    file->unsynced.clear();
  }
}
void FaultyVfs::restart() {
  const std::scoped_lock lock(state_->mutex);
  state_->crashed = state_->failing = false;
  state_->fail_at = 0;
  ++state_->epoch;
}
void FaultyVfs::damage(const std::string& path, std::uint64_t offset) {
  const std::scoped_lock lock(state_->mutex);
  auto& file = state_->files.at(path);
  CHECK(offset < file->now.size());
  file->now[offset] = static_cast<char>(file->now[offset] ^ 0x5a);
  file->synced = file->now;
}
void FaultyVfs::make_unreadable(const std::string& path, std::uint64_t offset) {
  const std::scoped_lock lock(state_->mutex);
  state_->files.at(path)->unreadable.insert(offset);
}
std::uint64_t FaultyVfs::file_bytes(const std::string& path) const {
  const std::scoped_lock lock(state_->mutex);
  const auto at = state_->files.find(path);
  return at == state_->files.end() ? 0 : at->second->now.size();
}

}  // namespace skerry::sql
