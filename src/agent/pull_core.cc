// SPDX-License-Identifier: Apache-2.0
#include "agent/pull_core.h"

#include <algorithm>
#include <format>

namespace skerry::agent {

bool PullCore::away(const Error& error) { return error.code == Errc::Unavailable || error.code == Errc::Timeout; }

PullCore::Decision PullCore::decide(const std::string& image, PullPolicy policy, const oci::Image* stored, Instant now) const {
  if (stored != nullptr && (stored->sideloaded() || policy != PullPolicy::Always)) return {};
  // Asked for by digest, it cannot have become another.
  if (stored != nullptr && image.contains('@')) return {};
  if (stored == nullptr && policy == PullPolicy::Never)
    return {Act::Refuse, "ErrImageNeverPull", std::format("Container image \"{}\" is not present with pull policy of Never", image.substr(0, image.find(' ')))};
  const auto known = known_.find(image);
  if (known == known_.end() || now >= known->second.until) return {.act = Act::Ask};
  const Known& last = known->second;
  if (last.failures == 0) return stored != nullptr ? Decision{} : Decision{.act = Act::Ask};
  if (stored != nullptr && last.away) return {.act = Act::Use, .text = last.failure};
  return {Act::Refuse, "ImagePullBackOff", std::format("Back-off pulling image \"{}\": {}", image.substr(0, image.find(' ')), last.failure)};
}

PullCore::Known& PullCore::remember(const std::string& image) {
  if (known_.size() >= options_.images_max && !known_.contains(image))
    known_.erase(std::ranges::min_element(known_, {}, [](const auto& one) { return one.second.at; }));
  return known_[image];
}

void PullCore::on_answer(const std::string& image, Instant now) { remember(image) = {.at = now, .until = now + options_.fresh_for}; }

void PullCore::on_failure(const std::string& image, const Error& error, Instant now) {
  Known& known = remember(image);
  const int doublings = std::min(known.failures, 16);
  const Duration base = std::min<Duration>(options_.backoff_min * (1 << doublings), options_.backoff_max);
  const Duration jitter(static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(base.count() / 4 + 1))));
  known = {.at = now, .until = now + base - jitter, .failures = known.failures + 1, .failure = error.what, .away = away(error)};
}

}  // namespace skerry::agent
