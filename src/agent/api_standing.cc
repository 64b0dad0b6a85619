// SPDX-License-Identifier: Apache-2.0
#include "agent/api_standing.h"

#include "base/log.h"

namespace skerry::agent {
namespace {

struct Word {
  Standing standing;
  std::string_view label;
};
// As the API server's causes say it (apiserver/auth.h), and the metric.
constexpr std::array kWords = {Word{Standing::Ended, "CertificateEnded"}, Word{Standing::Unknowing, "Unauthenticated"}, Word{Standing::Replaced, "CertificateReplaced"},
                               Word{Standing::OtherMachine, "MachineConflict"}};

bool has_cause(const Error& error, std::string_view word) { return error.what.ends_with("[" + std::string(word) + "]"); }

}  // namespace

Standing standing_of(const Result<>& answer) {
  if (answer) return Standing::Known;
  const Error& error = answer.error();
  switch (error.code) {
    case Errc::Unavailable:
    case Errc::Timeout:
    case Errc::Cancelled:
    case Errc::Corrupt: return Standing::Away;
    case Errc::Unauthenticated: return has_cause(error, "CertificateEnded") ? Standing::Ended : has_cause(error, "CertificateReplaced") ? Standing::Replaced : Standing::Unknowing;
    case Errc::Denied: return has_cause(error, "MachineConflict") ? Standing::OtherMachine : Standing::Known;
    default: return Standing::Known;
  }
}

void ApiStanding::on_answer(const Result<>& answer) {
  const Standing now = standing_of(answer);
  if (now == last_) return;
  last_ = now;
  // A line that comes and goes while the node is refused is no news, and not the end of the refusal.
  if (now != said_ && !(now == Standing::Away && refused())) {
    const bool was_refused = refused();
    said_ = now;
    if (refused()) say(&answer.error());
    else if (was_refused) say(nullptr);
  }
  if (changed_) changed_(now);
}

void ApiStanding::say(const Error* error) const {
  if (error == nullptr) {
    LOG_INFO("the API server takes this node's word again");
    return;
  }
  switch (said_) {
    case Standing::Ended: LOG_WARN("the node's client certificate has ended: it is renewed now", {"reason", *error}); return;
    case Standing::Replaced:
      LOG_ERROR("the API server refuses this machine: another one uses a newer certificate of this node; the node goes on by itself. If this is the right machine, "
                "`kubectl delete node` it and give it new credentials (--kubeconfig); if not, take it down", {"reason", *error});
      return;
    case Standing::OtherMachine:
      LOG_ERROR("the API server refuses this machine: the node is live on another one; this one goes on by itself. Give it a name and credentials of its own, or stop the other",
                {"reason", *error});
      return;
    default:
      LOG_ERROR("the API server does not know this node's credentials; the node goes on by itself. Give it new ones (--kubeconfig), which are taken up within ten minutes", {"reason", *error});
  }
}

void ApiStanding::write_metrics(metrics::Exposition& out) const {
  out.family("skerry_agent_api_refused", metrics::Type::Gauge, "1: the API server refuses this node for that reason");
  for (const Word& word : kWords) out.sample({{"reason", std::string(word.label)}}, std::uint64_t{said_ == word.standing ? 1u : 0u});
}

}  // namespace skerry::agent
