// SPDX-License-Identifier: Apache-2.0
// Whether an image is taken from the disk or asked for at its registry: a pure core. The rules are Kubernetes' pull policies,
// but that a registry which cannot be reached never stops what is on the disk, and that one image is asked for once, not once
// a pod: what an attempt gave holds for all that ask within a while.
// https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy
#pragma once
#include <map>
#include <optional>
#include <string>

#include "agent/pod_plan.h"
#include "base/error.h"
#include "base/random.h"
#include "base/time.h"
#include "oci/image_store.h"

namespace skerry::agent {

class PullCore {
 public:
  struct Options {
    Duration fresh_for = 10s;                         // an answer of the registry
    Duration backoff_min = 10s, backoff_max = 5min;   // after a failure; doubled, with jitter
    std::size_t images_max = 10'000;                  // remembered; beyond, the oldest is forgotten
  };
  enum class Act : std::uint8_t { Use, Ask, Refuse };
  struct Decision {
    Act act = Act::Use;
    std::string reason{}, text{};  // of Refuse: kubelet's words; of Use: why the registry was not asked, if that is a trouble
  };

  PullCore(Options options, Random& random) : options_(options), random_(random) {}  // random must outlive this

  // `image`: reference and who asks (other credentials may open what these do not). `stored`: null, if it is not on the disk.
  Decision decide(const std::string& image, PullPolicy, const oci::Image* stored, Instant now) const;
  // What asking gave.
  void on_answer(const std::string& image, Instant now);
  void on_failure(const std::string& image, const Error&, Instant now);
  // Failures are forgotten: the line is back, or somebody changed something.
  void try_again() { std::erase_if(known_, [](const auto& one) { return one.second.failures > 0; }); }

  // Whether this failure leaves what is on the disk in force: the registry could not be asked, and said nothing against it.
  static bool away(const Error&);

 private:
  struct Known {
    Instant at{};     // of the last attempt
    Instant until{};  // it holds
    int failures = 0;
    std::string failure{};
    bool away = false;
  };
  Known& remember(const std::string& image);
  Options options_;
  Random& random_;
  std::map<std::string, Known> known_;
};

}  // namespace skerry::agent
