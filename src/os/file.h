// SPDX-License-Identifier: Apache-2.0
// Files: small reads, durable atomic writes, folders, locks, whole writes on descriptors. EINTR is retried here.
#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "os/fd.h"

namespace skerry::os {

// open(2) with O_CLOEXEC added; the error names the path.
Result<UniqueFd> open_file(const std::filesystem::path&, int flags, unsigned mode = 0644);

// The whole file. Exhausted if it is longer than bytes_max; works on /proc and /sys, whose files state no size.
Result<std::string> read_small_file(const std::filesystem::path&, std::size_t bytes_max = 1 << 20);

// All bytes, or an error.
Result<> write_all(int fd, std::string_view bytes);

// One write(2) of a control file (/proc, /sys/fs/cgroup): not created, not truncated, not synced.
Result<> write_control_file(const std::filesystem::path&, std::string_view value);

// Replaces `path` as a whole: a temporary file beside it, fsync, rename, fsync of the folder. After an error or a power cut
// there is either the old file or the new one.
Result<> write_file_atomically(const std::filesystem::path&, std::string_view bytes, unsigned mode = 0644);
Result<> sync_folder(const std::filesystem::path&);

// mkdir -p; what exists is left as it is. Only folders created here get `mode`.
Result<> make_folders(const std::filesystem::path&, unsigned mode = 0755);

// An exclusive advisory lock on `path` (created if absent), held until the descriptor closes. AlreadyExists if another
// process holds it.
Result<UniqueFd> lock_file(const std::filesystem::path&);

// The folder of the running program, from /proc/self/exe.
Result<std::filesystem::path> program_folder();

}  // namespace skerry::os
