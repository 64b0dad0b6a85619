// SPDX-License-Identifier: Apache-2.0
// Where things lie: the sibling programs beside this executable, and the data folder's parts.
#pragma once
#include <filesystem>
#include <string>

#include "base/error.h"

namespace skerry::cli {

struct Programs {
  std::filesystem::path sandbox, compiler;
};
// From the folder of the running executable. NotFound: names the missing file and the remedy.
Result<Programs> find_programs();

// The kernel's host name as Kubernetes names a node: lower case. Invalid: it is no such name, with the remedy.
Result<std::string> host_name();

struct DataLayout {
  std::filesystem::path root;
  std::filesystem::path images() const { return root / "images"; }
  std::filesystem::path native() const { return root / "node" / "native"; }
  std::filesystem::path node() const { return root / "node"; }
  std::filesystem::path node_pki() const { return root / "node" / "pki"; }
  std::filesystem::path server() const { return root / "server"; }
  std::filesystem::path pki() const { return root / "pki"; }
  std::filesystem::path admin_kubeconfig() const { return root / "admin.kubeconfig"; }
  std::filesystem::path node_kubeconfig() const { return root / "node.kubeconfig"; }
};

// Makes a part of the data folder, or fails with what to do about it.
Result<> make_data_folder(const std::filesystem::path&, unsigned mode = 0700);

}  // namespace skerry::cli
