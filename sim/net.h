// SPDX-License-Identifier: Apache-2.0
// The line between the node and the API server. Never a socket: requests are calls that take time, are lost, or are never answered.
//
//   Up        requests are answered after a round trip; some are lost and run into their timeout
//   Cut       new requests fail after a moment (no route); connections that were open say nothing, for ever
//   HalfOpen  everything says nothing, for ever; requests run into their timeout
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "base/error.h"
#include "sim/world.h"

namespace skerry::sim {

class SimNet {
 public:
  enum class Line : std::uint8_t { Up, Cut, HalfOpen };
  struct Options {
    Range delay = {1ms, 40ms};  // one way
    double loss = 0;            // of exchanges
    Duration timeout = 30s;     // of an exchange, as the client has it
  };
  struct Counters {
    std::uint64_t requests = 0, answered = 0;
    Instant last_answer{};
  };
  // What carries a watch. `dead`: the line was cut since; nobody is told.
  struct Connection {
    bool dead = false, closed = false;
    Instant last_delivery{};  // bytes keep their order
  };
  using ConnectionPtr = std::shared_ptr<Connection>;

  explicit SimNet(World& world) : world_(world) {}

  Options options;
  Line line() const { return line_; }
  void set_line(Line);
  const Counters& counters() const { return counters_; }

  // Runs `serve` at the server, and `done` at the client with what it gave, or with Unavailable or Timeout. An answer that is lost was
  // served all the same.
  template <class T>
  void call(const LifeOf& client, std::function<Result<T>()> serve, std::function<void(Result<T>)> done) {
    ++counters_.requests;
    if (line_ == Line::Cut) {
      world_.after(world_.between({1ms, 3s}), client, [done] { done(Fail({Errc::Unavailable, "no route to the server"})); });
      return;
    }
    const bool lost = line_ == Line::HalfOpen || world_.chance(options.loss);
    const auto flight = std::make_shared<Connection>();
    open_.push_back(flight);
    // Either the answer or the timeout comes first, and only once.
    const auto settled = std::make_shared<bool>(false);
    world_.after(options.timeout, client, [settled, done] {
      if (!std::exchange(*settled, true)) done(Fail({Errc::Timeout, "the server did not answer in time"}));
    });
    if (lost && world_.chance(0.5)) return;  // the request
    world_.after(world_.between(options.delay), [this, client, serve, done, flight, settled, lost] {
      if (flight->dead) return;
      auto answer = std::make_shared<Result<T>>(serve());
      if (lost) return;  // the answer
      world_.after(world_.between(options.delay), client, [this, answer, done, flight, settled] {
        if (flight->dead || std::exchange(*settled, true)) return;
        ++counters_.answered;
        counters_.last_answer = world_.now();
        done(std::move(*answer));
      });
    });
  }

  // The server sends on an open connection.
  ConnectionPtr connect();
  void deliver(const ConnectionPtr&, const LifeOf& client, std::function<void()> at_client);

 private:
  void sweep();
  World& world_;
  Line line_ = Line::Up;
  std::vector<std::weak_ptr<Connection>> open_;
  Counters counters_;
};

}  // namespace skerry::sim
