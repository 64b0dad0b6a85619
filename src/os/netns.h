// SPDX-License-Identifier: Apache-2.0
// Network namespaces that live on as a file (a bind mount of nsfs), so that they survive the process that made them.
// Only the calling thread changes namespace, and it is back when a call returns.
#pragma once
#include <filesystem>

#include "base/error.h"
#include "os/fd.h"

namespace skerry::os {

// The thread's own namespace.
Result<UniqueFd> current_netns();
// Opens the namespace at `path`. NotFound: there is no file, or a plain file (a mount that a reboot took away).
Result<UniqueFd> open_netns(const std::filesystem::path& path);
// A new namespace, with lo up, kept at `path` (its folder must exist). AlreadyExists if one is there.
// Denied without CAP_SYS_ADMIN.
Result<UniqueFd> create_netns(const std::filesystem::path& path);
// The same without a name: it ends with its last descriptor, process and mount.
Result<UniqueFd> create_anonymous_netns();
// Takes the name away; the namespace ends with its last user. Success if there is none.
Result<> remove_netns(const std::filesystem::path& path);

// While it lives the calling thread is in another network namespace. Aborts the process if the way back fails: a thread
// lost in a foreign namespace must do nothing more. Never live across a co_await.
class [[nodiscard]] NetnsScope {
 public:
  static Result<NetnsScope> enter(int netns);
  NetnsScope(NetnsScope&&) noexcept = default;
  NetnsScope& operator=(NetnsScope&&) = delete;
  ~NetnsScope();

 private:
  explicit NetnsScope(UniqueFd home) : home_(std::move(home)) {}
  UniqueFd home_;
};

}  // namespace skerry::os
