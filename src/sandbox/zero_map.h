// SPDX-License-Identifier: Apache-2.0
// Fresh instances without mmap: the engine reserves 12 GiB for each memory and gives it back with it, which costs 38 µs of
// system time a request. This file defines mmap and munmap for the whole program: once enabled, a reservation that the engine gives
// back is kept with its used part, and the next one gets it zeroed. Everything else goes straight to the kernel.
// Single-threaded programs only; one reservation is kept (a sandbox has one instance at a time, and one old one for a
// moment). Off until enable(): the template, and programs that only link this, behave as without it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace skerry::sandbox::zero_map {

void enable();
struct Stats {
  std::uint64_t reservations_made, reservations_reused, bytes_zeroed;
};
Stats stats();

}  // namespace skerry::sandbox::zero_map
