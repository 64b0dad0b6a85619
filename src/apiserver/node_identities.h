// SPDX-License-Identifier: Apache-2.0
// Which certificate of a node is its newest, and whether the node is alive: what tells a copied credential from the node's own
// (ADR 0035). A certificate is older than another of the same node if it begins earlier; once a newer one was used, older ones
// are refused for ever. But for one that begins in the future, farther than certificates are backdated: a clock was wrong when it was
// made and used. It refuses nobody, and the next that is used takes its place. Also how many certificates a node asks for.
// Pure; what must survive a restart is written by apiserver.cc (docs/wire/store.md).
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace skerry::apiserver {

class NodeIdentities {
 public:
  struct Certificate {
    std::string serial;
    Time not_before{};
  };
  enum class Judgement : std::uint8_t { Known, Newer, Older };

  explicit NodeIdentities(Instant started) : started_(started) {}

  Judgement judge(std::string_view node, std::string_view serial, Time not_before, Time now) const;
  void remember(std::string_view node, Certificate, Time now);  // if it is Newer
  void replace(std::string_view node, Certificate);             // whichever is newer
  const Certificate* newest(std::string_view node) const;       // null: none was used yet

  // The node wrote its lease. It is live for `lasts` from then on; by this machine's clock, whatever the node's says.
  // After a start every node is: its lease may have come just before.
  void heard(std::string_view node, Instant now, Duration lasts);
  bool live(std::string_view node, Instant now) const;

  // The node asks for a certificate now: is it one of the kRequestsMax that a node may ask for within the time that a decided request
  // stays (control/signing_core.h)? A renewal takes two. Since the start of this process.
  bool asks(std::string_view node, Instant now);
  static constexpr std::size_t kRequestsMax = 10;
  static constexpr Duration kRequestsWithin = std::chrono::hours(1);

 private:
  static constexpr Duration kLeaseLasts = std::chrono::seconds(40);  // of a node not heard since the start
  Instant started_;
  std::map<std::string, Certificate, std::less<>> newest_;
  std::map<std::string, Instant, std::less<>> live_until_;
  std::map<std::string, std::vector<Instant>, std::less<>> asked_;  // at most kRequestsMax each
};

}  // namespace skerry::apiserver
