// SPDX-License-Identifier: Apache-2.0
#include "apiserver/server_metrics.h"

namespace skerry::apiserver {
namespace {

metrics::Labels resource_labels(const ResourceType& type) {
  return {{"group", std::string(type.group)}, {"resource", std::string(type.resource)}, {"version", std::string(type.version)}};
}

void write_store(const store::Store::Stats& stats, metrics::Exposition& out) {
  const auto one = [&](std::string_view name, metrics::Type type, std::string_view help, std::uint64_t value) {
    out.family(name, type, help);
    out.sample({}, value);
  };
  using enum metrics::Type;
  one("skerry_store_writes_total", Counter, "Writes of objects that were asked for", stats.writes);
  one("skerry_store_commits_total", Counter, "Transactions committed; each holds many writes under load", stats.commits);
  one("skerry_store_commit_failures_total", Counter, "Transactions that failed: nothing of them is visible", stats.commit_failures);
  one("skerry_store_rows_written_total", Counter, "Rows written to the database", stats.rows_written);
  one("skerry_store_queued_writes", Gauge, "Writes that wait for their transaction", stats.queued);
  one("skerry_store_events_total", Counter, "Events handed to watches", stats.events);
  one("skerry_store_watches_resumed_total", Counter, "Watches answered from before the history, because nothing that they select had changed", stats.watches_resumed);
  one("skerry_store_watches_dropped_total", Counter, "Watches ended because their reader was too slow", stats.watches_dropped);
  one("skerry_store_watches", Gauge, "Watches of the store, those of the controllers included", stats.watches);
  one("skerry_store_history_bytes", Gauge, "Memory of past versions kept for watches that resume", stats.history_bytes);
  out.family("apiserver_storage_size_bytes", Gauge, "Size of the database on disk");
  out.sample({{"storage_cluster_id", "skerry"}}, static_cast<double>(stats.database_bytes));
}

}  // namespace

void write_server_metrics(const Server& server, metrics::Exposition& out) {
  out.family("kubernetes_build_info", metrics::Type::Gauge, "Always 1; the labels say what runs");
  out.sample({{"git_version", server.options.git_version}}, std::uint64_t{1});
  out.family("apiserver_longrunning_requests", metrics::Type::Gauge, "Open watches");
  for (const auto& [type, count] : server.watches_of) {
    auto labels = resource_labels(*type);
    labels.emplace_back("verb", "WATCH");
    labels.emplace_back("component", "apiserver");
    out.sample(labels, std::uint64_t{count});
  }
  out.family("apiserver_storage_objects", metrics::Type::Gauge, "Stored objects, by resource");
  for (const ResourceType& type : kube::resources()) {
    out.sample({{"resource", type.qualified()}}, std::uint64_t{server.store.count(server.id(type))});
  }
  out.family("apiserver_storage_revision", metrics::Type::Gauge, "The newest revision that everybody can see");
  out.sample({}, server.store.revision().value());
  out.family("skerry_node_certificates_refused_total", metrics::Type::Counter, "Requests with a node's certificate that a newer one has replaced");
  out.sample({}, server.certificates_refused);
  out.family("skerry_node_machines_refused_total", metrics::Type::Counter, "Writes of a second machine under the name of a live node");
  out.sample({}, server.machines_refused);
  write_store(server.store.stats(), out);
}

}  // namespace skerry::apiserver
