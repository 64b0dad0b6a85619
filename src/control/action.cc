// SPDX-License-Identifier: Apache-2.0
#include "control/action.h"

#include <format>

namespace skerry::control {

std::string Action::trace() const {
  constexpr std::string_view kVerbs[] = {"create", "patch", "patch status", "patch approval", "delete"};
  std::string text = std::format("{} {} {}{}{}", kVerbs[static_cast<std::size_t>(verb)], resource.resource, namespace_,
                                 namespace_.empty() ? "" : "/", name);
  if (!propagation.empty()) text += " " + propagation;
  if (grace_seconds) text += std::format(" grace={}", *grace_seconds);
  if (!body.empty()) text += " " + body;
  return text;
}

}  // namespace skerry::control
