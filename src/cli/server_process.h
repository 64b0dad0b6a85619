// SPDX-License-Identifier: Apache-2.0
// The real world of `skerry server`: who is built from what, and the order in which it starts and stops. Everything on
// one loop. Whoever reads server_process.cc has met every part of the server.
#pragma once
#include <memory>

#include "base/error.h"
#include "cli/options.h"
#include "rt/loop.h"

namespace skerry::cli {

class ServerProcess {
 public:
  // Opens the data folder: keys, kubeconfigs, the store. AlreadyExists: another server has it. Blocking.
  static Result<std::unique_ptr<ServerProcess>> open(rt::Loop&, const ServerOptions&);
  ~ServerProcess();
  rt::Task<> start();
  // No new requests; watches end; controllers stop; what is acknowledged is on disk already; leases reach it now.
  rt::Task<> stop();

 private:
  struct Parts;
  explicit ServerProcess(std::unique_ptr<Parts>);
  std::unique_ptr<Parts> parts_;
};

}  // namespace skerry::cli
