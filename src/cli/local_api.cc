// SPDX-License-Identifier: Apache-2.0
#include "cli/local_api.h"

#include <algorithm>
#include <format>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "apiserver/apiserver.h"
#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "http/in_process.h"
#include "kube/codec.h"
#include "kube/defaults.h"
#include "kube/json.h"
#include "kube/resources.h"
#include "kube/status.h"
#include "os/file.h"
#include "pki/folder.h"
#include "pki/kubeconfig.h"
#include "store/store.h"

namespace skerry::cli {
namespace {

using kube::JsonEdit;
using kube::MutJson;

constexpr const char* kRestartedAt = "kubectl.kubernetes.io/restartedAt";
constexpr Duration kPatience = 10s;  // for the mirror

http::Response respond(const kube::Status& status) { return http::make_response(status.code, kube::kJsonType, status.json()); }
http::Response refuse(int code, std::string_view reason, std::string message) {
  kube::Status status;
  status.code = code;
  status.reason = reason;
  status.message = std::move(message);
  return respond(status);
}

// The parts of a path of one resource: [group] resource [namespace] [name] [subresource].
struct Place {
  std::string group, resource, namespace_, name, subresource;
};
Place place_of(std::string_view path) {
  auto parts = split(path.substr(1), '/');
  Place out;
  std::size_t at = 0;
  if (parts.size() >= 3 && parts[0] == "api") at = 2;
  else if (parts.size() >= 4 && parts[0] == "apis") {
    out.group = parts[1];
    at = 3;
  } else {
    return out;
  }
  if (parts[at] == "namespaces" && parts.size() > at + 2) {
    out.namespace_ = parts[at + 1];
    at += 2;
  }
  out.resource = parts[at];
  if (parts.size() > at + 1) out.name = parts[at + 1];
  if (parts.size() > at + 2) out.subresource = parts[at + 2];
  return out;
}

std::string json_of_namespace(const std::string& name) {
  JsonEdit edit;
  edit.root().set("apiVersion", "v1");
  edit.root().set("kind", "Namespace");
  edit.root().object("metadata").set("name", name);
  edit.root().object("status").set("phase", "Active");
  return edit.dump();
}

// What a write would change of a Deployment.
struct Difference {
  std::optional<std::int64_t> replicas;
  std::optional<std::string> restarted_at;
  bool other = false;
};
Difference compare(kube::Json before, kube::Json after) {
  Difference out;
  if (const auto n = after["spec"]["replicas"].i64(1); n != before["spec"]["replicas"].i64(1)) out.replicas = n;
  const auto annotation = [](kube::Json object) { return object["spec"]["template"]["metadata"]["annotations"][kRestartedAt].str(); };
  if (annotation(before) != annotation(after)) out.restarted_at = annotation(after);
  const kube::ResourceType& type = *kube::find_kind("apps/v1", "Deployment");
  const auto rest = [&](kube::Json object) {
    JsonEdit edit = JsonEdit::copy(object);
    kube::apply_defaults(type, edit.root());  // of a server that has others, or other fields
    MutJson metadata = edit.root().object("metadata"), spec = edit.root().object("spec"), inner = spec.object("template").object("metadata");
    for (const char* name : {"resourceVersion", "generation", "managedFields"}) metadata.remove(name);
    spec.remove("replicas");
    if (MutJson annotations = inner["annotations"]) {
      annotations.remove(kRestartedAt);
      if (annotations.size() == 0) inner.remove("annotations");
    }
    return kube::canonical(type, edit.root());
  };
  out.other = rest(before) != rest(after);
  return out;
}

}  // namespace

struct LocalApi::Mirror {
  explicit Mirror(http::Handler& node_api) : logs(node_api) {}
  http::InProcessTransport logs;
  std::unique_ptr<store::Store> store;
  std::optional<apiserver::ApiServer> api;
  struct Key {
    std::uint16_t resource;
    std::string namespace_, name;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  std::map<Key, std::size_t> held;  // hash of the bytes that came
  std::size_t refused = 0;          // in the last round
};

LocalApi::LocalApi(rt::Loop& loop, agent::LocalView& view, http::Handler& node_api, const Clock& clock, Random& random, Options options)
    : loop_(loop), view_(view), node_api_(node_api), clock_(clock), random_(random), options_(std::move(options)), work_(loop), round_done_(loop), tasks_(loop) {}
LocalApi::~LocalApi() { CHECK(!started_); }

void LocalApi::start() {
  started_ = true;
  tasks_.spawn("local api", run());
}

rt::Task<> LocalApi::stop() {
  if (!started_) co_return Result<>{};
  started_ = false;
  CO_TRY_OK(co_await tasks_.stop());
  co_return co_await drop();
}

bool LocalApi::busy() const { return under_way_ > 0 || (mirror_ && mirror_->api->watches() > 0); }

// The only one that makes, fills and drops the mirror.
rt::Task<> LocalApi::run() {
  for (;;) {
    if (!mirror_) {
      CO_TRY_OK(co_await work_.wait());
    } else {
      CO_TRY_OK(co_await work_.wait_for(mirror_->api->watches() > 0 ? options_.watch_period : options_.idle_max / 4));
    }
    work_.reset();
    const std::uint64_t round = asked_;
    const Instant now = clock_.instant();
    if (busy()) used_at_ = now;
    if (round > done_ || (mirror_ && mirror_->api->watches() > 0)) {
      outcome_ = Result<>{};
      if (!mirror_) outcome_ = co_await build();
      if (outcome_) outcome_ = co_await refresh();
      if (!outcome_) LOG_WARN("what this node shows on its loopback is not up to date", {"reason", outcome_.error()});
      fresh_at_ = clock_.instant();
      done_ = round;
      round_done_.set();
      round_done_.reset();
    } else if (mirror_ && !busy() && now - used_at_ >= options_.idle_max) {
      CO_TRY_OK(co_await drop());
    }
  }
}

rt::Task<> LocalApi::build() {
  auto mirror = std::make_unique<Mirror>(node_api_);
  CO_TRY(auto database, sql::Database::open(":memory:", {.integrity_check = sql::IntegrityCheck::None}, store::Store::migrations()));
  auto resources = apiserver::ApiServer::store_resources();
  for (auto& resource : resources) resource.objects_max = std::min(resource.objects_max, options_.objects_max);
  CO_TRY(mirror->store, store::Store::open(loop_, clock_, std::move(database), {.resources = std::move(resources)}));
  mirror->api.emplace(*mirror->store, clock_, random_,
                      apiserver::Options{.node_transport = [logs = &mirror->logs](std::string_view) { return logs; }, .watches_max = options_.watches_max});
  mirror_ = std::move(mirror);
  co_return Result<>{};
}

rt::Task<> LocalApi::drop() {
  if (mirror_) leaving_ = std::move(mirror_);
  if (!leaving_) co_return Result<>{};
  auto stopped = co_await leaving_->store->stop();
  leaving_->api.reset();
  leaving_.reset();
  co_return stopped;
}

// What the agent holds now, into the mirror: only what differs is written, so that watches tell what has changed. What it does not
// take is left out, or stays as it was, and the rest is shown.
rt::Task<> LocalApi::refresh() {
  Mirror& m = *mirror_;
  auto objects = view_.objects();
  std::set<std::string> namespaces{"default"};
  for (const auto& object : objects)
    if (!object->namespace_().empty()) namespaces.insert(object->namespace_());
  for (const std::string& name : namespaces)
    if (auto made = kube::Object::from_json(json_of_namespace(name))) objects.push_back(std::move(*made));
  std::set<Mirror::Key> present;
  std::size_t refused = 0;
  Result<> first;
  for (const auto& object : objects) {
    const kube::Text text = object->json();
    const auto doc = kube::JsonDoc::parse(*text);
    const kube::ResourceType* type = doc ? kube::find_kind(doc->root()["apiVersion"].str(), object->kind()) : nullptr;
    const auto id = type ? m.store->find_resource(type->qualified()) : std::nullopt;
    if (!id) continue;  // a kind that this version does not know
    Mirror::Key key{id->value(), object->namespace_(), object->name()};
    const std::size_t hash = std::hash<std::string>{}(*text);
    const auto known = m.held.find(key);
    const bool same = known != m.held.end() && known->second == hash;
    if (!same) {
      auto written = co_await m.store->write(*id, key.namespace_, key.name, [&](const kube::ObjectPtr&, kube::Revision next) -> Result<store::Outcome> {
        JsonEdit edit = JsonEdit::copy(doc->root());
        edit.root().object("metadata").set("resourceVersion", std::to_string(next.value()));
        return store::Put{kube::canonical(*type, edit.root())};
      });
      if (written) m.held[key] = hash;
      else if (++refused == 1) first = Fail({written.error().code, std::format("{} {}/{}: {}", object->kind(), key.namespace_, key.name, written.error().what)});
    }
    present.insert(std::move(key));
  }
  for (auto it = m.held.begin(); it != m.held.end();) {
    if (present.contains(it->first)) {
      ++it;
      continue;
    }
    CO_TRY_OK(co_await m.store->write(store::ResourceId(it->first.resource), it->first.namespace_, it->first.name,
                                      [&](const kube::ObjectPtr& old, kube::Revision next) -> Result<store::Outcome> {
                                        if (!old) return store::Keep{};
                                        JsonEdit edit = JsonEdit::copy(old->parse().root());
                                        edit.root().object("metadata").set("resourceVersion", std::to_string(next.value()));
                                        return store::Remove{edit.dump()};
                                      }));
    it = m.held.erase(it);
  }
  if (m.held.empty() && refused > 0) co_return first;
  if (refused > 0 && refused != m.refused) LOG_WARN("not everything is shown on this node's loopback", {"objects left out", refused}, {"first", first.error()});
  m.refused = refused;
  co_return Result<>{};
}

// Returns when the mirror is there and shows what the agent holds now, or nearly.
rt::Task<> LocalApi::freshen() {
  used_at_ = clock_.instant();
  if (mirror_ && outcome_ && !stale_ && asked_ == done_ && used_at_ - fresh_at_ < options_.fresh_for) co_return Result<>{};
  stale_ = false;
  const std::uint64_t mine = ++asked_;
  work_.set();
  const Instant end = used_at_ + kPatience;
  while (done_ < mine) {
    const Instant now = clock_.instant();
    if (now >= end) co_return Fail({Errc::Timeout, "the node is too busy to show what it holds: try again"});
    CO_TRY_OK(co_await round_done_.wait_for(end - now));
  }
  if (!outcome_) co_return Fail(outcome_.error());
  co_return Result<>{};
}

std::optional<http::Response> LocalApi::refuse_body(const http::Request& head) {
  if (!head.peer.certificate_common_name.empty()) return std::nullopt;
  auto status = kube::status_unauthorized();
  status.message = std::format("Unauthorized: this is node {} itself, on its loopback: it knows only the client certificate of its own local.kubeconfig", options_.node);
  return respond(status);
}

rt::Task<http::Response> LocalApi::handle(http::Request request) {
  if (auto refused = refuse_body(request)) co_return std::move(*refused);
  auto target = http::Target::parse(request.target);
  if (!target) co_return respond(kube::status_bad_request(target.error().what));
  struct UnderWay {
    explicit UnderWay(std::size_t& n) : count(n) { ++count; }
    ~UnderWay() { --count; }
    UnderWay(const UnderWay&) = delete;
    UnderWay& operator=(const UnderWay&) = delete;
    std::size_t& count;
  } const counted(under_way_);
  const bool reading = request.method == "GET" || request.method == "HEAD";
  Place place = place_of(target->path);
  if (place.group.empty() && place.resource == "secrets")
    co_return refuse(403, "Forbidden",
                     std::format("Secrets are not shown here: this is node {} itself, which keeps those of its pods sealed on its disk. Ask the control plane", options_.node));
  const bool deployment = place.group == "apps" && place.resource == "deployments" && !place.name.empty() && (place.subresource.empty() || place.subresource == "scale");
  if (!reading && !(deployment && (request.method == "PATCH" || request.method == "PUT"))) {
    const bool pod = place.group.empty() && place.resource == "pods" && request.method == "DELETE";
    co_return refuse(405, "MethodNotAllowed",
                     std::format("this is node {} itself, on its loopback: it shows what it runs, and takes `kubectl scale deployment` and `kubectl rollout restart deployment`. {}", options_.node,
                                 pod ? "A pod is deleted at the control plane; to start it anew, restart its Deployment" : "All else is done at the control plane"));
  }
  if (auto fresh = co_await freshen(); !fresh) co_return respond(kube::status_unavailable(fresh.error().what));
  if (!reading) co_return co_await write(std::move(request), std::move(*target), std::move(place.namespace_), std::move(place.name), place.subresource == "scale");
  co_return co_await mirror_->api->handle(std::move(request));
}

// The mirror judges it as the server would, and shows what would come of it; the agent then does it.
rt::Task<http::Response> LocalApi::write(http::Request request, http::Target target, std::string namespace_, std::string name, bool scale) {
  const bool dry = target.has_param("dryRun");
  if (!dry) request.target += (request.target.contains('?') ? "&" : "?") + std::string("dryRun=All");
  request.headers.set("Accept", kube::kJsonType);
  const auto id = mirror_->store->find_resource("deployments.apps");
  const kube::ObjectPtr before = id ? mirror_->store->get(*id, namespace_, name) : nullptr;
  CO_TRY(auto tried, co_await mirror_->api->handle(std::move(request)));
  if (tried.status != 200 || dry || !before) co_return std::move(tried);
  const auto after = kube::JsonDoc::parse(tried.text());
  const kube::JsonDoc old = before->parse();
  if (!after) co_return respond(kube::status_internal(after.error().what));
  Difference difference;
  if (!scale) difference = compare(old.root(), after->root());
  else difference.replicas = after->root()["spec"]["replicas"].i64();  // also if it is the number shown: the server may have another one by now
  if (difference.other || (difference.replicas && difference.restarted_at))
    co_return refuse(403, "Forbidden",
                     std::format("this is node {} itself: of a Deployment it changes spec.replicas (kubectl scale) and the restart annotation (kubectl rollout restart), one at a time. "
                                 "Change the rest at the control plane", options_.node));
  if (!difference.replicas && !difference.restarted_at) co_return std::move(tried);
  agent::LocalChange change{.namespace_ = std::move(namespace_), .name = std::move(name), .uid = before->uid(), .field = {}, .value = {}};
  change.field = difference.replicas ? agent::LocalChange::Field::Replicas : agent::LocalChange::Field::RestartedAt;
  change.value = difference.replicas ? std::to_string(*difference.replicas) : *difference.restarted_at;
  auto changed = co_await view_.change(std::move(change));
  stale_ = true;
  if (!changed) co_return respond(kube::status_of(changed.error()));
  if (*changed == agent::LocalView::Changed::Here)
    tried.headers.add("Warning", "299 - \"the control plane has not taken it yet: this node does it by itself, and tells the control plane as soon as it answers; if the Deployment was changed there meanwhile, that holds instead\"");
  co_return std::move(tried);
}

Result<LocalCredentials> make_local_credentials(const std::filesystem::path& folder, const std::string& node, std::uint16_t port, Time now) {
  TRY(const auto pki_folder, pki::Folder::open(folder / "local-pki"));
  TRY(const auto authority, pki_folder.authority("skerry local " + node));
  LocalCredentials out{.ca_pem = authority.pair().certificate_pem, .serving = {}};
  TRY(out.serving, pki_folder.leaf("serving", {.common_name = "skerry-local", .organizations = {}, .dns_names = {"localhost"}, .addresses = {"127.0.0.1"}, .usage = pki::Usage::Server},
                                   authority, now));
  TRY(const auto client, pki_folder.leaf("admin", {.common_name = "skerry-local-admin", .organizations = {"system:masters"}, .dns_names = {}, .addresses = {}, .usage = pki::Usage::Client},
                                         authority, now));
  const std::string text = pki::to_yaml({.cluster = "local", .user = "local-admin", .server = std::format("https://127.0.0.1:{}", port), .ca_pem = out.ca_pem, .client = client});
  const auto path = folder / "local.kubeconfig";
  const auto there = os::read_small_file(path);
  if (!there || *there != text) TRY_OK(os::write_file_atomically(path, text, 0600));
  return out;
}

}  // namespace skerry::cli
