// SPDX-License-Identifier: Apache-2.0
// Freed memory back to the kernel. The allocator keeps what a burst of work has freed, page for page between what is still in
// use; a daemon that then idles for days gives it back (malloc_trim(3)).
#pragma once
#include <cstddef>

namespace skerry::os {

// One for a process; call give_back() about once a second, on any one thread.
class FreedMemory {
 public:
  // Gives back what is free, if the process has grown since the last time: when things are quiet, or else at every third call.
  // True: it did. A look at /proc takes some microseconds; giving back about a millisecond for 10 MB.
  bool give_back();
  // Its decision, with so many bytes resident now; and what is left of them after giving back.
  bool due(std::size_t resident);
  void given_back(std::size_t resident) { left_ = before_ = resident; }

 private:
  static constexpr std::size_t kWorthIt = 512 << 10;  // the kernel's own count is off by less
  static constexpr std::size_t kQuiet = 128 << 10;
  static constexpr int kBusyCallsMax = 2;
  std::size_t left_ = 0, before_ = 0;
  int busy_calls_ = 0;
};

}  // namespace skerry::os
