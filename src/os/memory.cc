// SPDX-License-Identifier: Apache-2.0
#include "os/memory.h"

#include <malloc.h>

namespace skerry::os {

bool FreedMemory::due(std::size_t used) {
  const auto near = [used](std::size_t other) { return (used > other ? used - other : other - used) < kQuietBytes; };
  const bool quiet = near(before_);
  before_ = used;
  if (!quiet || near(given_back_at_)) return false;
  given_back_at_ = used;
  return true;
}

bool FreedMemory::give_back() {
  const struct mallinfo2 info = mallinfo2();
  if (!due(info.uordblks + info.hblkhd)) return false;
  malloc_trim(0);
  return true;
}

}  // namespace skerry::os
