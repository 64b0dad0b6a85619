// SPDX-License-Identifier: Apache-2.0
#include "apiserver/request_metrics.h"

#include <algorithm>
#include <string>
#include <utility>

namespace skerry::apiserver {
namespace {

constexpr std::pair<std::string_view, std::string_view> kVerbs[] = {
    {"get", "GET"},     {"list", "LIST"},   {"watch", "WATCH"},   {"create", "POST"},
    {"update", "PUT"},  {"patch", "PATCH"}, {"delete", "DELETE"}, {"deletecollection", "DELETECOLLECTION"}};

metrics::Labels labels_of(const RequestMetrics::Kind& kind) {
  metrics::Labels labels{{"component", "apiserver"},
                         {"dry_run", std::string(kind.dry_run)},
                         {"scope", std::string(kind.scope)},
                         {"subresource", std::string(kind.subresource)},
                         {"verb", std::string(kind.verb)}};
  labels.emplace_back("group", kind.type ? std::string(kind.type->group) : "");
  labels.emplace_back("resource", kind.type ? std::string(kind.type->resource) : "");
  labels.emplace_back("version", kind.type ? std::string(kind.type->version) : "");
  return labels;
}

metrics::Gauge& in_flight(metrics::Registry& registry, const char* kind) {
  return registry.gauge("apiserver_current_inflight_requests", "Requests being answered now, watches and followed logs left out",
                        {{"request_kind", kind}});
}

}  // namespace

RequestMetrics::RequestMetrics(metrics::Registry& registry)
    : registry_(registry), reading_(in_flight(registry, "readOnly")), mutating_(in_flight(registry, "mutating")) {}

std::string_view RequestMetrics::metric_verb(std::string_view api_verb) {
  const auto at = std::ranges::find(kVerbs, api_verb, &std::pair<std::string_view, std::string_view>::first);
  return at == std::end(kVerbs) ? "OTHER" : at->second;
}

RequestMetrics::InFlight::InFlight(RequestMetrics& all, std::string_view method)
    : gauge_(method == "GET" || method == "HEAD" ? all.reading_ : all.mutating_) {
  gauge_.add(1);
}

void RequestMetrics::finished(const Kind& kind, int code, Duration took) {
  const Key key = kind.key();
  auto& count = counts_[{key, code}];
  if (!count) {
    auto labels = labels_of(kind);
    labels.emplace_back("code", std::to_string(code));
    count = &registry_.counter("apiserver_request_total", "Requests answered, by what they were and the answer's code", std::move(labels));
  }
  count->add();
  if (kind.verb == "WATCH") return;
  auto& durations = durations_[key];
  if (!durations) {
    durations = &registry_.histogram("apiserver_request_duration_seconds", "From a request's arrival to its answer",
                                     metrics::latency_bounds(), labels_of(kind));
  }
  durations->observe(took);
}

}  // namespace skerry::apiserver
