// SPDX-License-Identifier: Apache-2.0
#include "sim/net.h"

#include <algorithm>

namespace skerry::sim {

void SimNet::set_line(Line line) {
  if (line == line_) return;
  world_.trace(line == Line::Up ? "line up" : line == Line::Cut ? "line cut" : "line half open");
  line_ = line;
  if (line == Line::Up) return;
  for (const auto& weak : open_)
    if (const auto connection = weak.lock()) connection->dead = true;
  open_.clear();
}

void SimNet::sweep() {
  if (open_.size() > 4096) std::erase_if(open_, [](const auto& weak) { return weak.expired(); });
}

SimNet::ConnectionPtr SimNet::connect() {
  sweep();
  auto out = std::make_shared<Connection>();
  out->dead = line_ != Line::Up;
  open_.push_back(out);
  return out;
}

void SimNet::deliver(const ConnectionPtr& connection, const LifeOf& client, std::function<void()> at_client) {
  if (connection->dead) return;
  const Instant when = std::max(world_.now() + world_.between(options.delay), connection->last_delivery);
  connection->last_delivery = when;
  world_.after(when - world_.now(), client, [connection, f = std::move(at_client)] {
    if (!connection->dead) f();
  });
}

}  // namespace skerry::sim
