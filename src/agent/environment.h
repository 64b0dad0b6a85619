// SPDX-License-Identifier: Apache-2.0
// A container's environment and arguments, resolved as kubelet does: envFrom, then env in order, $(NAME) expanded from what
// came before, $$ an escaped dollar. Pure: the objects that it refers to come through References.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kube/object.h"

namespace skerry::agent {

// The objects that pods refer to, as far as the node knows them now.
class References {
 public:
  enum class State : std::uint8_t { Unknown, Missing, Present };  // Unknown: asked for, no answer yet
  struct Found {
    State state = State::Unknown;
    kube::ObjectPtr object;  // set if Present
  };
  virtual ~References() = default;
  virtual Found config_map(std::string_view namespace_, std::string_view name) const = 0;
  virtual Found secret(std::string_view namespace_, std::string_view name) const = 0;
  virtual Found runtime_class(std::string_view name) const = 0;
};

struct PodFacts {
  std::string node_name, pod_ip, host_ip;
};

// What the image's configuration brings: variables that the pod's own replace, and arguments after the entrypoint, which the
// pod's `args` replace.
struct ImageDefaults {
  std::vector<std::string> env{}, arguments{};
  bool operator==(const ImageDefaults&) const = default;
};

struct ResolvedEnvironment {
  std::vector<std::pair<std::string, std::string>> env;
  std::vector<std::string> args;
};

// Unavailable: a reference is not known yet (wait). NotFound: an object or key does not exist, with kubelet's words
// (CreateContainerConfigError). Invalid, Unsupported: the pod says something that cannot be resolved.
Result<ResolvedEnvironment> resolve_environment(const kube::Object& pod, std::string_view container, const References&,
                                                const PodFacts&, const ImageDefaults& = {});

}  // namespace skerry::agent
