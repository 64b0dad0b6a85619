// SPDX-License-Identifier: Apache-2.0
// What a database needs of files beside SQLite itself, on the VFS that it lives on: the system's, or one of a test. Blocking.
#pragma once
#include <string>

#include "base/error.h"

namespace skerry::sql {

class VfsFiles {
 public:
  explicit VfsFiles(std::string vfs) : vfs_(std::move(vfs)) {}  // empty: the system's
  bool exists(const std::string& path) const;  // and is not empty: a power cut may leave a name alone
  void remove(const std::string& path) const;  // nothing happens if it is not there
  // Takes the place of `to`, in one step; durable when it returns.
  Result<> move(const std::string& from, const std::string& to) const;

 private:
  std::string vfs_;
};

}  // namespace skerry::sql
