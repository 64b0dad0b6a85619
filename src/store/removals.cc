// SPDX-License-Identifier: Apache-2.0
#include "store/removals.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace skerry::store {

void Removals::add(std::string_view scope, kube::Revision revision) {
  newest_ = std::max(newest_, revision);
  if (const auto at = newest_of_.find(scope); at != newest_of_.end()) {
    at->second = std::max(at->second, revision);
    return;
  }
  newest_of_.emplace(scope, revision);
  if (newest_of_.size() > scopes_max_) forget_half();
}

bool Removals::none_since(kube::Revision since, std::string_view scope) const {
  if (since < floor_) return false;
  if (scope.empty()) return newest_ <= since;
  const auto at = newest_of_.find(scope);
  return at == newest_of_.end() || at->second <= since;
}

void Removals::forget_half() {
  std::vector<kube::Revision> all;
  all.reserve(newest_of_.size());
  for (const auto& [scope, revision] : newest_of_) all.push_back(revision);
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>((all.size() - 1) / 2);
  std::ranges::nth_element(all, middle);
  floor_ = std::max(floor_, *middle);
  raised_ = true;
  std::erase_if(newest_of_, [this](const auto& one) { return one.second <= floor_; });
}

std::optional<kube::Revision> Removals::take_raised_floor() {
  if (!std::exchange(raised_, false)) return std::nullopt;
  return floor_;
}

}  // namespace skerry::store
