// SPDX-License-Identifier: Apache-2.0
#include "sandbox/zero_map.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace skerry::sandbox::zero_map {
namespace {

// The engine's pattern (Allocator of 0.14): reserve 12 GiB PROT_NONE; make [4 GiB, 4 GiB + size) of it writable with
// MAP_FIXED, again at its end when the memory grows; munmap the 12 GiB.
constexpr std::size_t kReservation = 12ull << 30;
constexpr std::size_t kMemsetMax = 256u << 10;  // beyond it, dropping the pages is cheaper than writing zeros

struct Reservation {
  char* base = nullptr;       // null: unused slot
  bool in_use = false;
  char* writable = nullptr;   // what was made writable, as one range
  std::size_t writable_size = 0;
  std::size_t dirty_size = 0; // of it, left over from the last user: holds old bytes until zeroed
};
constexpr int kSlots = 2;
// Plain data, usable before any constructor has run.
Reservation slots[kSlots];
bool enabled = false;
Stats counts{};

void* kernel_mmap(void* address, std::size_t size, int protection, int flags, int fd, off_t offset) {
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, size, protection, flags, fd, offset));
}

void* reserve(int protection, int flags) {
  for (auto& slot : slots) {
    if (slot.base == nullptr || slot.in_use) continue;
    slot.in_use = true;
    slot.dirty_size = slot.writable_size;
    ++counts.reservations_reused;
    return slot.base;
  }
  void* made = kernel_mmap(nullptr, kReservation, protection, flags, -1, 0);
  if (made == MAP_FAILED) return made;
  ++counts.reservations_made;
  for (auto& slot : slots) {
    if (slot.base != nullptr) continue;
    slot = {static_cast<char*>(made), true, nullptr, 0, 0};
    break;
  }
  return made;
}

Reservation* owner(const char* address) {
  for (auto& slot : slots) {
    if (slot.base != nullptr && slot.in_use && address >= slot.base && address < slot.base + kReservation) return &slot;
  }
  return nullptr;
}

// Makes [address, address + size) of a kept reservation writable and zero.
void* make_writable(Reservation& slot, char* address, std::size_t size, int flags) {
  const auto fresh = [&](char* at, std::size_t n) { return kernel_mmap(at, n, PROT_READ | PROT_WRITE, flags, -1, 0); };
  if (slot.writable == nullptr) {
    void* made = fresh(address, size);
    if (made != MAP_FAILED) {
      slot.writable = address;
      slot.writable_size = size;
    }
    return made;
  }
  const auto offset = static_cast<std::size_t>(address - slot.writable);
  if (address < slot.writable || offset > slot.writable_size) return fresh(address, size);  // not the pattern: no bookkeeping
  // The part that an earlier user left is zeroed, the part behind it comes from the kernel.
  const auto old = offset < slot.dirty_size ? (size < slot.dirty_size - offset ? size : slot.dirty_size - offset) : 0;
  if (old > 0) {
    if (old <= kMemsetMax) std::memset(address, 0, old);
    else if (madvise(address, old, MADV_DONTNEED) != 0) return MAP_FAILED;
    counts.bytes_zeroed += old;
  }
  if (size > old) {
    if (fresh(address + old, size - old) == MAP_FAILED) return MAP_FAILED;
  }
  const auto end = offset + size;
  if (offset == 0 && slot.dirty_size > end) {
    // The new memory starts smaller than the old one was: what lies behind it must trap again.
    if (kernel_mmap(address + end, slot.dirty_size - end, PROT_NONE, flags, -1, 0) == MAP_FAILED) return MAP_FAILED;
    slot.writable_size = slot.dirty_size = end;
  }
  if (end > slot.writable_size) slot.writable_size = end;
  return address;
}

bool give_back(char* base) {
  for (auto& slot : slots) {
    if (slot.base != base || !slot.in_use) continue;
    for (const auto& other : slots) {
      if (&other != &slot && other.base != nullptr && !other.in_use) {  // one is kept already
        slot = {};
        return false;
      }
    }
    slot.in_use = false;
    return true;
  }
  return false;
}

}  // namespace

void enable() { enabled = true; }
Stats stats() { return counts; }

}  // namespace skerry::sandbox::zero_map

using namespace skerry::sandbox::zero_map;

#if defined(__SANITIZE_ADDRESS__)
#define SKERRY_EARLY __attribute__((no_sanitize("address", "undefined")))
#else
#define SKERRY_EARLY
#endif

// The loader resolves libwasmedge's calls to these, because the executable comes first in the search order.
extern "C" SKERRY_EARLY void* mmap(void* address, std::size_t size, int protection, int flags, int fd, off_t offset) {
  if (enabled && fd == -1) {
    if (address == nullptr && size == kReservation && protection == PROT_NONE) return reserve(protection, flags);
    if ((flags & MAP_FIXED) != 0 && protection == (PROT_READ | PROT_WRITE)) {
      if (auto* slot = owner(static_cast<char*>(address))) return make_writable(*slot, static_cast<char*>(address), size, flags);
    }
  }
  return kernel_mmap(address, size, protection, flags, fd, offset);
}
extern "C" SKERRY_EARLY void* mmap64(void* address, std::size_t size, int protection, int flags, int fd, off_t offset) {
  return mmap(address, size, protection, flags, fd, offset);
}
extern "C" SKERRY_EARLY int munmap(void* address, std::size_t size) {
  if (enabled && size == kReservation && give_back(static_cast<char*>(address))) return 0;
  return static_cast<int>(syscall(SYS_munmap, address, size));
}
