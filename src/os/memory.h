// SPDX-License-Identifier: Apache-2.0
// Freed memory back to the kernel. The allocator keeps what a burst of work has freed, page for page between what is still in
// use; a daemon that then idles for days gives it back (malloc_trim(3)).
#pragma once
#include <cstddef>

namespace skerry::os {

// One for a process; call give_back() about once a second, on any one thread.
class FreedMemory {
 public:
  // Gives back what is free, once things are quiet: if something was allocated or freed since the last time, but little since
  // the call before. True: it did. Takes some microseconds, or, if it gives back, about a millisecond for 10 MB.
  bool give_back();
  // Its decision, for `used` bytes in use now.
  bool due(std::size_t used);

 private:
  static constexpr std::size_t kQuietBytes = 64 << 10;  // a change of what is in use below it is none
  std::size_t before_ = 0, given_back_at_ = 0;
};

}  // namespace skerry::os
