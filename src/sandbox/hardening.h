// SPDX-License-Identifier: Apache-2.0
// What keeps a guest in: steps of the template (once an image) and of each slot. Every step fails closed.
//
//   template: isolate_template()  empty network, mount, ipc, uts namespace; an empty read-only root; no new privileges;
//                                 no bounding capabilities; resource limits. Needs root.
//             SeccompProgram      the allow-list, compiled once
//   slot:     harden_slot()       uid and gid of its own, no capabilities, the allow-list
//
// Without root (skerry run by a user) the template only limits resources, and the slot installs the allow-list.
#pragma once
#include <linux/filter.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "sandbox/protocol.h"

namespace skerry::sandbox {

// Full with root, else Reduced.
Hardening possible_hardening();

struct ProcessLimits {
  std::uint64_t files_max = 8192;         // open descriptors: connections_max of an assignment, and some
  std::uint64_t file_bytes_max = 256u << 20;  // of the log it writes
};

// The calling process must be single-threaded and need no file any more.
Result<> isolate_template(Hardening, const ProcessLimits&);

class SeccompProgram {
 public:
  // Kills the process on every system call that serve() does not need (guest.h), and on executable mappings.
  static Result<SeccompProgram> compile();
  // Needs no_new_privs. No allocation.
  Result<> install() const;
  std::size_t instructions() const { return filter_.size(); }

 private:
  std::vector<sock_filter> filter_;
};

// In the slot, after its last privileged act.
Result<> harden_slot(Hardening, uid_t uid, const SeccompProgram&);

}  // namespace skerry::sandbox
