// SPDX-License-Identifier: Apache-2.0
// How long to wait before the next try: doubling from `min` to `max`, each wait between half and the whole of it, so that thousands of
// nodes that lost one server do not come back in step. A value; no clock: who waits adds it to its own.
#pragma once
#include <algorithm>
#include <cstdint>

#include "base/random.h"
#include "base/time.h"

namespace skerry {

class Backoff {
 public:
  Backoff(Duration min, Duration max) : min_(min), max_(max) {}
  // After a failure.
  Duration next(Random& random) {
    span_ = span_ == Duration::zero() ? min_ : std::min(span_ * 2, max_);
    const auto half = static_cast<std::uint64_t>(std::max<Duration::rep>(span_.count() / 2, 1));
    return span_ / 2 + Duration(static_cast<Duration::rep>(random.below(half + 1)));
  }
  void reset() { span_ = Duration::zero(); }
  bool failing() const { return span_ != Duration::zero(); }

 private:
  Duration min_, max_, span_ = Duration::zero();
};

}  // namespace skerry
