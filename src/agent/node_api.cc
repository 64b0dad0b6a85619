// SPDX-License-Identifier: Apache-2.0
#include "agent/node_api.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <array>
#include <format>

#include "base/text.h"
#include "kube/json.h"
#include "metrics/page.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

// Also while they are 0, so that a rule on their increase sees the first one.
constexpr std::array kAlwaysShown = {metrics::Counter::RequestsStarted, metrics::Counter::RequestsLost, metrics::Counter::ConnectionsLost, metrics::Counter::SandboxStarts};

using kube::JsonEdit;
using kube::MutJson;
using http::make_response;

http::Response text(int status, std::string body) { return make_response(status, "text/plain; charset=utf-8", std::move(body)); }

ProcessUse use_of(const ContainerView& c) {
  ProcessUse out;
  for (const std::int32_t pid : c.pids) {
    const ProcessUse one = process_use(pid);
    out.cpu_seconds += one.cpu_seconds;
    out.memory_bytes += one.memory_bytes;
  }
  return out;
}
// All processors together, from /proc/stat, in seconds.
double node_cpu_seconds() {
  auto stat = os::read_small_file("/proc/stat", 1 << 20);
  if (!stat) return 0;
  const auto fields = split(std::string_view(*stat).substr(0, stat->find('\n')), ' ');  // cpu, "", user, nice, system, idle, …
  double busy = 0;
  for (std::size_t i = 2; i < fields.size() && i < 10; ++i)
    if (i != 5 && i != 6) busy += static_cast<double>(parse_int<std::uint64_t>(fields[i]).value_or(0));
  return busy / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

metrics::Labels labels_of(const ContainerView& c) {
  return {{"namespace", c.place.namespace_}, {"pod", c.place.pod}, {"container", c.place.container}};
}

class CountedStream final : public http::Stream {
 public:
  CountedStream(std::unique_ptr<http::Stream> inner, std::shared_ptr<std::size_t> count) : inner_(std::move(inner)), count_(std::move(count)) { ++*count_; }
  ~CountedStream() override { --*count_; }
  rt::Task<std::optional<http::Chunk>> next() override { return inner_->next(); }

 private:
  std::unique_ptr<http::Stream> inner_;
  std::shared_ptr<std::size_t> count_;
};

}  // namespace

ProcessUse process_use(std::int32_t pid) {
  ProcessUse out;
  if (auto stat = os::read_small_file(std::format("/proc/{}/stat", pid), 4096)) {
    const auto at = stat->rfind(')');
    if (at != std::string::npos) {
      const auto fields = split(std::string_view(*stat).substr(at + 2), ' ');
      const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
      if (fields.size() > 21) {
        out.cpu_seconds = static_cast<double>(parse_int<std::uint64_t>(fields[11]).value_or(0) + parse_int<std::uint64_t>(fields[12]).value_or(0)) / ticks;
        out.memory_bytes = parse_int<std::uint64_t>(fields[21]).value_or(0) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
      }
    }
  }
  return out;
}

bool NodeApi::may(const http::Peer& peer) const {
  if (peer.in_process) return true;
  if (peer.certificate_common_name.empty()) return false;
  if (std::ranges::find(options_.users, peer.certificate_common_name) != options_.users.end()) return true;
  return std::ranges::any_of(peer.certificate_organizations, [&](const std::string& o) { return std::ranges::find(options_.organizations, o) != options_.organizations.end(); });
}

rt::Task<http::Response> NodeApi::handle(http::Request request) {
  auto target = http::Target::parse(request.target);
  if (!target) co_return text(400, target.error().what + "\n");
  const std::string_view path = target->path;
  if (path == "/healthz" || path == "/livez" || path == "/readyz") {
    const std::string wrong = view_.health();
    co_return wrong.empty() ? text(200, "ok") : text(503, wrong + "\n");
  }
  if (request.peer.certificate_common_name.empty() && !request.peer.in_process)
    co_return text(401, "this node answers the API server only: use kubectl, or a client certificate that the cluster's CA signed\n");
  if (clock_.now() >= request.peer.certificate_not_after) co_return text(401, "the client certificate of this connection has ended since it was opened: connect with a newer one\n");
  if (!may(request.peer))
    co_return text(403, std::format("{} may not ask this node: certificates of {} may\n", request.peer.certificate_common_name,
                                    options_.organizations.empty() ? "the API server" : options_.organizations.front()));
  for (std::string_view not_yet : {"/exec/", "/attach/", "/portForward/", "/run/", "/cri/"})
    if (path.starts_with(not_yet))
      co_return text(501, std::format("{} is not served: a Wasm handler has no shell and no terminal; use kubectl logs, or call its Service\n",
                                      not_yet.substr(1, not_yet.size() - 2)));
  if (request.method != "GET" && request.method != "HEAD") co_return text(405, "only GET is served here\n");
  if (path.starts_with("/containerLogs/")) co_return container_logs(*target);
  if (path == "/metrics") co_return metrics();
  if (path == "/metrics/resource") co_return resource_metrics();
  if (path == "/pods" || path == "/runningpods/") co_return pods();
  if (path == "/stats/summary") co_return summary();
  co_return text(404, std::format("{} is not served by this node\n", path));
}

http::Response NodeApi::container_logs(const http::Target& target) {
  const auto parts = split(std::string_view(target.path).substr(1), '/');  // containerLogs, namespace, pod, container
  if (parts.size() != 4) return text(400, "expected /containerLogs/NAMESPACE/POD/CONTAINER\n");
  auto query = LogQuery::parse(target, clock_.now());
  if (!query) return text(400, query.error().what + "\n");
  const auto all = view_.containers();
  const auto found = std::ranges::find_if(all, [&](const ContainerView& c) {
    return c.place.namespace_ == parts[1] && c.place.pod == parts[2] && c.place.container == parts[3];
  });
  if (found == all.end()) return text(404, std::format("container {} of pod {}/{} is not on this node\n", parts[3], parts[1], parts[2]));
  if (!found->waiting.empty()) return text(400, std::format("container \"{}\" in pod \"{}\" is waiting to start: {}\n", parts[3], parts[2], found->waiting));
  std::uint32_t attempt = found->attempt;
  if (query->previous) {
    if (attempt == 0)
      return text(400, std::format("previous terminated container \"{}\" in pod \"{}\" not found\n", parts[3], parts[2]));
    --attempt;
    query->follow = false;
  }
  if (query->follow && *followers_ >= options_.followers_max)
    return text(503, std::format("{} logs are followed on this node already: end one\n", *followers_));
  // Follows as long as this attempt of this very pod is there.
  auto alive = [this, uid = found->place.uid, container = found->place.container, attempt] { return view_.attempt(uid, container) == attempt; };
  http::Response response = text(200, "");
  response.body = nullptr;
  auto stream = open_log_stream([this, place = found->place, attempt] { return logs_.files(place, attempt); }, *query, std::move(alive));
  if (query->follow) response.stream = std::make_unique<CountedStream>(std::move(stream), followers_);
  else response.stream = std::move(stream);
  return response;
}

http::Response NodeApi::metrics() const {
  std::string out = registry_.expose();
  struct Row {
    metrics::Labels labels;
    metrics::PageSnapshot page;
  };
  std::vector<Row> rows;
  std::uint64_t unreadable = 0;
  metrics::Exposition text_out;
  const auto all = view_.containers();
  text_out.family("skerry_container_awake", metrics::Type::Gauge, "Processes of the container now; 0: idle");
  for (const ContainerView& c : all) text_out.sample(labels_of(c), static_cast<std::uint64_t>(c.awake));
  text_out.family("skerry_container_ready", metrics::Type::Gauge, "1: its listener is open and its template is loaded");
  for (const ContainerView& c : all) text_out.sample(labels_of(c), static_cast<std::uint64_t>(c.serving));
  text_out.family("skerry_container_restarts_total", metrics::Type::Counter, "Times the container was started again");
  for (const ContainerView& c : all) text_out.sample(labels_of(c), static_cast<std::uint64_t>(c.attempt));
  for (const ContainerView& c : all) {
    if (c.metrics_fd < 0) continue;
    auto page = metrics::Page::map(c.metrics_fd);
    if (!page) {
      ++unreadable;
      continue;
    }
    rows.push_back({labels_of(c), metrics::read_snapshot(*page)});
  }
  text_out.family("skerry_metrics_pages_unreadable", metrics::Type::Gauge, "Pages of containers that are damaged or of another version");
  text_out.sample({}, unreadable);
  for (std::size_t i = 0; i < metrics::kCounterCount; ++i) {
    const auto counter = static_cast<metrics::Counter>(i);
    const bool gauge = counter == metrics::Counter::ConnectionsOpen;
    const bool always = std::ranges::contains(kAlwaysShown, counter);
    if (!always && std::ranges::none_of(rows, [&](const Row& r) { return r.page[counter] != 0; })) continue;
    text_out.family(std::format("skerry_container_{}{}", metrics::counter_name(counter), gauge ? "" : "_total"),
                    gauge ? metrics::Type::Gauge : metrics::Type::Counter, "From the container's metrics page");
    for (const Row& r : rows)
      if (always || r.page[counter] != 0) text_out.sample(r.labels, r.page[counter]);
  }
  std::vector<double> bounds;
  for (const std::uint64_t ns : metrics::kLatencyBoundsNs) bounds.push_back(static_cast<double>(ns) / 1e9);
  text_out.family("skerry_container_request_seconds", metrics::Type::Histogram, "From the whole request read to its response written");
  for (const Row& r : rows) {
    std::vector<std::uint64_t> buckets(r.page.latency.begin(), r.page.latency.end());
    if (std::ranges::all_of(buckets, [](std::uint64_t n) { return n == 0; })) continue;
    text_out.sample(r.labels, metrics::Histogram(bounds, std::move(buckets), static_cast<double>(r.page.latency_sum_ns) / 1e9));
  }
  out += std::move(text_out).finish();
  return make_response(200, metrics::kContentType, std::move(out));
}

http::Response NodeApi::resource_metrics() const {
  metrics::Exposition out;
  const MachineFacts& m = view_.machine();
  out.family("node_cpu_usage_seconds_total", metrics::Type::Counter, "Cumulative cpu time consumed by the node in core-seconds");
  out.sample({}, node_cpu_seconds());
  out.family("node_memory_working_set_bytes", metrics::Type::Gauge, "Current working set of the node in bytes");
  out.sample({}, static_cast<std::uint64_t>(std::max<std::int64_t>(m.memory_bytes - m.memory_available_bytes, 0)));
  const auto all = view_.containers();
  std::vector<ProcessUse> uses;
  for (const ContainerView& c : all) uses.push_back(use_of(c));
  out.family("container_cpu_usage_seconds_total", metrics::Type::Counter, "Cumulative cpu time consumed by the container in core-seconds");
  for (std::size_t i = 0; i < all.size(); ++i) out.sample(labels_of(all[i]), uses[i].cpu_seconds);
  out.family("container_memory_working_set_bytes", metrics::Type::Gauge, "Current working set of the container in bytes");
  for (std::size_t i = 0; i < all.size(); ++i) out.sample(labels_of(all[i]), uses[i].memory_bytes);
  out.family("resource_scrape_error", metrics::Type::Gauge, "1 if there was an error while getting container metrics, 0 otherwise");
  out.sample({}, std::uint64_t{0});
  return make_response(200, metrics::kContentType, std::move(out).finish());
}

http::Response NodeApi::pods() const {
  std::string out = R"({"kind":"PodList","apiVersion":"v1","metadata":{},"items":[)";
  bool first = true;
  for (const kube::ObjectPtr& pod : view_.pods()) {
    if (!first) out += ',';
    first = false;
    out += *pod->json();
  }
  out += "]}";
  return make_response(200, "application/json", std::move(out));
}

http::Response NodeApi::summary() const {
  JsonEdit edit;
  const std::string now = to_rfc3339(clock_.now());
  const MachineFacts& m = view_.machine();
  MutJson node = edit.root().object("node");
  node.set("nodeName", view_.node_name());
  MutJson cpu = node.object("cpu");
  cpu.set("time", now);
  cpu.set("usageCoreNanoSeconds", static_cast<std::int64_t>(node_cpu_seconds() * 1e9));
  MutJson memory = node.object("memory");
  memory.set("time", now);
  memory.set("availableBytes", m.memory_available_bytes);
  memory.set("workingSetBytes", m.memory_bytes - m.memory_available_bytes);
  MutJson pods = edit.root().array("pods");
  MutJson pod, containers;
  std::string last;
  for (const ContainerView& c : view_.containers()) {
    if (c.place.uid != last) {
      last = c.place.uid;
      pod = pods.push_object();
      MutJson ref = pod.object("podRef");
      ref.set("name", c.place.pod);
      ref.set("namespace", c.place.namespace_);
      ref.set("uid", c.place.uid);
      if (c.started) pod.set("startTime", to_rfc3339(*c.started));
      containers = pod.array("containers");
    }
    const ProcessUse use = use_of(c);
    MutJson out = containers.push_object();
    out.set("name", c.place.container);
    MutJson used_cpu = out.object("cpu");
    used_cpu.set("time", now);
    used_cpu.set("usageCoreNanoSeconds", static_cast<std::int64_t>(use.cpu_seconds * 1e9));
    MutJson used_memory = out.object("memory");
    used_memory.set("time", now);
    used_memory.set("workingSetBytes", static_cast<std::int64_t>(use.memory_bytes));
  }
  return make_response(200, "application/json", edit.dump());
}

}  // namespace skerry::agent
