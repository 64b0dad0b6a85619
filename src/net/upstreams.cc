// SPDX-License-Identifier: Apache-2.0
#include "net/upstreams.h"

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace skerry::net {
namespace {
constexpr std::size_t kServersMax = 3;
}

std::vector<std::string> Upstreams::parse(std::string_view resolv_conf, const std::vector<std::string>& ours) {
  constexpr std::string_view kKeyword = "nameserver";
  std::vector<std::string> out;
  for (std::string_view line : split(resolv_conf, '\n')) {
    if (!line.starts_with(kKeyword)) continue;
    line.remove_prefix(kKeyword.size());
    if (line.empty() || (line[0] != ' ' && line[0] != '\t')) continue;
    std::string_view address = trim(line);
    address = address.substr(0, address.find_first_of(" \t#;"));
    if (address.empty() || out.size() == kServersMax) continue;
    if (std::ranges::find(ours, address) == ours.end() && std::ranges::find(out, address) == out.end())
      out.emplace_back(address);
  }
  return out;
}

void Upstreams::set(const std::vector<std::string>& addresses) {
  std::vector<Upstream> next;
  for (const std::string& address : addresses) {
    const Upstream* known = find(address);
    next.push_back(known != nullptr ? *known : Upstream{.address = address});
  }
  all_ = std::move(next);
}

std::vector<std::string> Upstreams::usable() const {
  std::vector<std::string> out;
  for (const Upstream& one : all_)
    if (!dead(one)) out.push_back(one.address);
  return out;
}
std::vector<std::string> Upstreams::due(Instant now) const {
  std::vector<std::string> out;
  for (const Upstream& one : all_)
    if (one.suspect && one.probe_at <= now) out.push_back(one.address);
  return out;
}
bool Upstreams::all_alive() const { return std::ranges::none_of(all_, &Upstream::suspect); }

Upstreams::Upstream* Upstreams::find(std::string_view address) {
  const auto at = std::ranges::find(all_, address, &Upstream::address);
  return at == all_.end() ? nullptr : &*at;
}

bool Upstreams::answered(std::string_view address) {
  Upstream* one = find(address);
  if (one == nullptr) return false;
  const bool was_dead = dead(*one);
  *one = Upstream{.address = std::move(one->address)};
  return was_dead;
}

void Upstreams::query_failed(std::string_view address, Instant now) {
  Upstream* one = find(address);
  if (one == nullptr || one->suspect) return;
  one->suspect = true;
  one->probe_at = now;
}

bool Upstreams::probe_failed(std::string_view address, Instant now) {
  Upstream* one = find(address);
  if (one == nullptr || !one->suspect) return false;
  const bool was_dead = dead(*one);
  ++one->probes_failed;
  if (!dead(*one)) {
    one->probe_at = now;
    return false;
  }
  one->backoff = one->backoff == Duration{} ? options_.backoff_min : std::min(one->backoff * 2, options_.backoff_max);
  one->probe_at = now + one->backoff;
  return !was_dead;
}

}  // namespace skerry::net
