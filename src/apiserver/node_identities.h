// SPDX-License-Identifier: Apache-2.0
// Which certificate of a node is its newest, and whether the node is alive: what tells a copied credential from the node's own
// (ADR 0035). A certificate is older than another of the same node if it begins earlier; once a newer one was used, older ones
// are refused for ever. Pure; what must survive a restart is written by apiserver.cc (docs/wire/store.md).
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

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

  Judgement judge(std::string_view node, std::string_view serial, Time not_before) const;
  void remember(std::string_view node, Certificate);          // keeps the newer
  void replace(std::string_view node, Certificate);           // whichever is newer
  const Certificate* newest(std::string_view node) const;     // null: none was used yet

  // The node wrote its lease. It is live for `lasts` from then on; by this machine's clock, whatever the node's says.
  // After a start every node is: its lease may have come just before.
  void heard(std::string_view node, Instant now, Duration lasts);
  bool live(std::string_view node, Instant now) const;

 private:
  static constexpr Duration kLeaseLasts = std::chrono::seconds(40);  // of a node not heard since the start
  Instant started_;
  std::map<std::string, Certificate, std::less<>> newest_;
  std::map<std::string, Instant, std::less<>> live_until_;
};

}  // namespace skerry::apiserver
