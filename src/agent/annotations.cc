// SPDX-License-Identifier: Apache-2.0
#include "agent/annotations.h"

#include <format>

namespace skerry::agent {
namespace {

constexpr std::string_view kPrefix = "skerry.dev/";

Result<Duration> duration_between(std::string_view name, std::string_view text, Duration least, Duration most) {
  const auto value = parse_duration(text);
  if (!value || *value < least || *value > most)
    return Fail({Errc::Invalid, std::format("annotation {}: \"{}\" is not a duration between {} and {} (for example 30s)", name,
                                            text.substr(0, 64), to_human(least), to_human(most))});
  return *value;
}

}  // namespace

Result<PodAnnotations> parse_annotations(kube::Json annotations, const PodAnnotations& defaults) {
  PodAnnotations out = defaults;
  for (auto [name, value] : annotations.members()) {
    if (!name.starts_with(kPrefix)) continue;
    const std::string_view key = name.substr(kPrefix.size());
    const std::string_view text = value.str();
    if (key == "idle-after") {
      if (text == "0" || text == "0s" || text == "never") {
        out.idle_after = Duration{0};
      } else {
        TRY(out.idle_after, duration_between(name, text, kIdleAfterMin, kIdleAfterMax));
      }
    } else if (key == "stand-in") {  // written by the node itself (ADR 0036); says nothing about how the pod runs
    } else if (key == "request-deadline") {
      TRY(out.request_deadline, duration_between(name, text, kRequestDeadlineMin, kRequestDeadlineMax));
    } else if (key == "isolation") {
      if (text == "request") out.isolation = sandbox::Isolation::PerRequest;
      else if (text == "reuse") out.isolation = sandbox::Isolation::Reused;
      else
        return Fail({Errc::Invalid, std::format("annotation {}: \"{}\" is neither \"reuse\" (one instance serves many requests) nor "
                                                "\"request\" (a fresh instance for each)", name, text.substr(0, 64))});
    } else if (key == "handler") {
      if (text == "wagi") out.wagi = true;
      else if (text == "http-wasm") out.wagi = false;
      else
        return Fail({Errc::Invalid, std::format("annotation {}: \"{}\" is neither \"http-wasm\" nor \"wagi\"", name,
                                                text.substr(0, 64))});
    } else if (key == "config") {
      if (text.size() > kConfigBytesMax)
        return Fail({Errc::Invalid, std::format("annotation {}: {} bytes, at most {} are allowed", name, text.size(), kConfigBytesMax)});
      out.config = text;
    } else {
      return Fail({Errc::Unsupported, std::format("annotation {} is not known to this version; known are skerry.dev/idle-after, "
                                                  "request-deadline, isolation, handler and config", name.substr(0, 128))});
    }
  }
  return out;
}

}  // namespace skerry::agent
