// SPDX-License-Identifier: Apache-2.0
// When agent and keeper died together, only the sandboxes still hold their pods' sockets. The next keeper takes a
// duplicate of them out of a living sandbox (pidfd_getfd(2), Linux 5.6; needs the right to trace it), so that the pod
// can be given to the next agent as it is.
#pragma once
#include "base/error.h"
#include "os/fd.h"

namespace skerry::sandbox {

struct SandboxDescriptors {
  os::UniqueFd listener, assignment, metrics;
};

// Of the sandbox behind `pidfd`, from the numbers that slot.cc gives them. A sandbox is hostile: only a listening TCP
// socket, a memfd sealed as an assignment and a metrics page are taken; what they say is for their user to check.
// Nothing is read or waited for. Denied, Unsupported: the kernel does not allow it. NotFound: the sandbox is gone, or
// has not got them yet. Corrupt: another kind.
Result<SandboxDescriptors> take_descriptors(int pidfd);

// True if both name the same socket or memfd.
bool same_file(int a, int b);

}  // namespace skerry::sandbox
