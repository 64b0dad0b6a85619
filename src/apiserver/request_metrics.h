// SPDX-License-Identifier: Apache-2.0
// What /metrics says of requests, in kube-apiserver's names. A series is looked up once; from then on a request costs two
// look-ups in small maps and no allocation. Labels are taken only from what is served, so a client cannot make series.
#pragma once
#include <map>
#include <string_view>
#include <tuple>

#include "base/time.h"
#include "http/message.h"
#include "kube/resources.h"
#include "metrics/registry.h"

namespace skerry::apiserver {

class RequestMetrics {
 public:
  using Key = std::tuple<std::string_view, const kube::ResourceType*, std::string_view, std::string_view, std::string_view>;
  // The registry must outlive this.
  explicit RequestMetrics(metrics::Registry&);

  // What a request was, as far as it was understood. Views point into static tables.
  struct Kind {
    std::string_view verb = "OTHER";                 // as Kubernetes' metrics write it: LIST, POST …
    const kube::ResourceType* type = nullptr;        // null: a path that is no resource, or none that is served
    std::string_view subresource = {}, scope = {};   // for other paths the subresource is the path, if it is a known one
    std::string_view dry_run = {};
    Key key() const { return {verb, type, subresource, scope, dry_run}; }
  };
  static std::string_view metric_verb(std::string_view api_verb);

  // A request between its arrival and its answer (for a watch or a followed log: the head of its answer).
  class InFlight {
   public:
    InFlight(RequestMetrics& all, std::string_view method);
    ~InFlight() { gauge_.add(-1); }
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;

   private:
    metrics::Gauge& gauge_;
  };
  // Watches are counted when they begin and have no duration.
  void finished(const Kind&, int code, Duration took);

 private:
  metrics::Registry& registry_;
  metrics::Gauge &reading_, &mutating_;
  std::map<std::pair<Key, int>, metrics::CounterValue*> counts_;
  std::map<Key, metrics::Histogram*> durations_;
};

}  // namespace skerry::apiserver
