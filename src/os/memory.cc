// SPDX-License-Identifier: Apache-2.0
#include "os/memory.h"

#include <malloc.h>
#include <unistd.h>

#include "base/text.h"
#include "os/file.h"

namespace skerry::os {
namespace {

// 0 if /proc does not say: then nothing is ever due.
std::size_t resident_bytes() {
  const auto text = read_small_file("/proc/self/statm");
  if (!text) return 0;
  const auto from = text->find(' ') + 1, to = text->find(' ', from);  // in pages: size resident shared …
  const auto pages = parse_int<std::size_t>(std::string_view(*text).substr(from, to - from));
  return pages.value_or(0) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

bool FreedMemory::due(std::size_t resident) {
  const bool quiet = (resident > before_ ? resident - before_ : before_ - resident) < kQuiet;
  before_ = resident;
  if (resident < left_ + kWorthIt || (!quiet && busy_calls_ < kBusyCallsMax)) {
    if (resident >= left_ + kWorthIt) ++busy_calls_;
    return false;
  }
  busy_calls_ = 0;
  return true;
}

bool FreedMemory::give_back() {
  if (!due(resident_bytes())) return false;
  malloc_trim(0);
  given_back(resident_bytes());
  return true;
}

}  // namespace skerry::os
