// SPDX-License-Identifier: Apache-2.0
// Which slot runs which pod, in a mapped file of the state folder: a store in memory, no system call at a wake-up, and
// still there for the next keeper after kill -9. What the file says is believed only when the slot's cgroup (or, without
// cgroups, the process itself) confirms it: it may be stale, or of before a reboot.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/error.h"
#include "os/memfd.h"

namespace skerry::sandbox {

class SlotTable {
 public:
  struct Row {
    std::uint64_t pod = 0;
    std::int32_t pid = 0;  // 0: unused
    std::uint16_t worker = 0;
    std::uint16_t reserved = 0;
  };
  // Created, or taken over with its rows; one of another version or size starts empty.
  static Result<SlotTable> open(const std::filesystem::path&, std::uint32_t slots);
  Row& operator[](std::uint32_t slot) { return rows_[slot]; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(rows_.size()); }

 private:
  os::Mapping mapping_;
  std::span<Row> rows_;
};

}  // namespace skerry::sandbox
