// SPDX-License-Identifier: Apache-2.0
// How the node stands with the API server, by the answers to what it says of itself: away, known, or refused, and why. A refusal
// that somebody must act on is logged once as an error, with the server's words and what to do, however often it is repeated; the
// node goes on by itself meanwhile. One loop.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "metrics/registry.h"

namespace skerry::agent {

enum class Standing : std::uint8_t {
  Unknown,       // nothing was said yet
  Away,          // no answer
  Known,
  Ended,         // 401: the certificate has ended and may be renewed (identity.h does)
  Unknowing,     // 401: the server does not know who this is
  Replaced,      // 401: a newer certificate of this node was used
  OtherMachine,  // 403: the node is live on another machine
};

class ApiStanding {
 public:
  // Of an exchange in the node's name: its registration, its status, its lease.
  void on_answer(const Result<>&);
  bool refused() const { return said_ >= Standing::Ended; }  // the last that was heard of the server, while it is away
  // Called with each answer that differs from the one before. One listener.
  void on_change(std::function<void(Standing)> f) { changed_ = std::move(f); }
  void write_metrics(metrics::Exposition&) const;

 private:
  void say(const Error*) const;
  Standing last_ = Standing::Unknown, said_ = Standing::Unknown;
  std::function<void(Standing)> changed_;
};

// What an answer means. Any answer that is no refusal of the node itself (404, 409, 422, another 403) is one of a server that knows it.
Standing standing_of(const Result<>&);

}  // namespace skerry::agent
