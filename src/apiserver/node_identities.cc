// SPDX-License-Identifier: Apache-2.0
#include "apiserver/node_identities.h"

#include <algorithm>

#include "pki/certificate.h"

namespace skerry::apiserver {

auto NodeIdentities::judge(std::string_view node, std::string_view serial, Time not_before, Time now) const -> Judgement {
  const Certificate* known = newest(node);
  if (!known) return Judgement::Newer;
  if (known->serial == serial) return Judgement::Known;
  if (known->not_before > now + pki::kBackdate) return Judgement::Newer;
  // Two of one second were both given out by us and neither replaced the other.
  if (not_before == known->not_before) return Judgement::Known;
  return not_before > known->not_before ? Judgement::Newer : Judgement::Older;
}

void NodeIdentities::remember(std::string_view node, Certificate certificate, Time now) {
  if (judge(node, certificate.serial, certificate.not_before, now) == Judgement::Newer) replace(node, std::move(certificate));
}

void NodeIdentities::replace(std::string_view node, Certificate certificate) {
  if (const auto at = newest_.find(node); at != newest_.end()) at->second = std::move(certificate);
  else newest_.emplace(node, std::move(certificate));
}

const NodeIdentities::Certificate* NodeIdentities::newest(std::string_view node) const {
  const auto at = newest_.find(node);
  return at == newest_.end() ? nullptr : &at->second;
}

bool NodeIdentities::asks(std::string_view node, Instant now) {
  auto at = asked_.find(node);
  if (at == asked_.end()) at = asked_.emplace(node, std::vector<Instant>()).first;
  std::erase_if(at->second, [&](Instant one) { return now - one >= kRequestsWithin; });
  if (at->second.size() >= kRequestsMax) return false;
  at->second.push_back(now);
  return true;
}

void NodeIdentities::heard(std::string_view node, Instant now, Duration lasts) {
  const Instant until = now + std::clamp<Duration>(lasts, std::chrono::seconds(10), std::chrono::minutes(5));
  if (const auto at = live_until_.find(node); at != live_until_.end()) at->second = until;
  else live_until_.emplace(node, until);
}

bool NodeIdentities::live(std::string_view node, Instant now) const {
  const auto at = live_until_.find(node);
  return now <= (at == live_until_.end() ? started_ + kLeaseLasts : at->second);
}

}  // namespace skerry::apiserver
