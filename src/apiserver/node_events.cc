// SPDX-License-Identifier: Apache-2.0
#include "apiserver/node_events.h"

#include <format>

#include "base/log.h"
#include "kube/defaults.h"

namespace skerry::apiserver {
namespace {

constexpr Duration kQuiet = std::chrono::minutes(1);
constexpr std::size_t kRememberedMax = 10'000;

}  // namespace

rt::asio::awaitable<void> warn_about_node(Server& server, std::string node, std::string reason, std::string message) {
  const ObjectPtr about = server.store.get(server.id("nodes"), "", node);
  if (!about) co_return;
  const std::string name = std::format("{}.{:016x}", node.substr(0, 230), std::hash<std::string>{}(reason + "\n" + message));
  const Instant instant = server.clock.instant();
  if (server.warned.size() > kRememberedMax) server.warned.clear();
  const auto [at, fresh] = server.warned.try_emplace(name, instant);
  if (!fresh && instant - at->second < kQuiet) co_return;
  at->second = instant;
  LOG_WARN("node refused", {"node", node}, {"reason", reason}, {"message", message});
  const std::string now = to_rfc3339(server.clock.now());
  const ResourceType& type = *kube::find_resource("", "v1", "events");
  const auto made = co_await write(server, type, "default", name, DryRun::No, [&](const ObjectPtr& newest, Revision next) -> ApiResult<store::Outcome> {
    JsonEdit edit = newest ? JsonEdit::copy(newest->parse().root()) : JsonEdit();
    MutJson event = edit.root();
    if (!newest) {
      event.set("kind", "Event");
      event.set("apiVersion", "v1");
      MutJson metadata = event.object("metadata");
      metadata.set("name", name);
      metadata.set("namespace", "default");
      metadata.set("uid", make_uuid(server.random));
      metadata.set("creationTimestamp", now);
      MutJson object = event.object("involvedObject");
      object.set("kind", "Node");
      object.set("apiVersion", "v1");
      object.set("name", node);
      object.set("uid", about->uid());
      event.set("reason", reason);
      event.set("message", message);
      event.set("type", "Warning");
      event.object("source").set("component", "apiserver");
      event.set("firstTimestamp", now);
      kube::apply_defaults(type, event);
    }
    event.set("lastTimestamp", now);
    event.set("count", event["count"].i64(0) + 1);
    return store::Put{seal(type, event, next)};
  });
  if (!made) LOG_WARN("event not written", {"node", node}, {"message", made.error().message});
}

}  // namespace skerry::apiserver
