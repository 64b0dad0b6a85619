// SPDX-License-Identifier: Apache-2.0
#include "control/controllers.h"

#include <algorithm>
#include <format>
#include <set>

#include "base/log.h"
#include "control/cluster.h"
#include "control/deployment_core.h"
#include "control/endpointslice_core.h"
#include "control/garbage_core.h"
#include "control/reconciler.h"
#include "control/replicaset_core.h"
#include "kube/resources.h"
#include "kube/selector.h"

namespace skerry::control {

using client::object_key;
using kube::JsonEdit;
using kube::MutJson;

namespace {

constexpr const char* kReplicaSetController = "replicaset-controller";
constexpr Duration kSettle = std::chrono::milliseconds(10);  // many changes of pods make one plan

client::ResourcePath path_of(const kube::ResourceType& type) {
  return {std::string(type.group), std::string(type.version), std::string(type.resource), type.namespaced};
}

}  // namespace

struct Controllers::State {
  State(rt::Loop& loop, client::Client& client, const Clock& clock, Random& random, Controllers::Options chosen)
      : options(std::move(chosen)),
        cluster(loop, client, clock, random, {.component = "skerry-controllers"}, options.share),
        scheduler(cluster, options.scheduler),
        nodes(options.node_lifecycle, random),
        pod_gc(options.pod_gc),
        deployments(
            cluster,
            {.name = "deployment", .component = "deployment-controller", .order = Reconciler::Order::Sequential, .delay = std::chrono::milliseconds(2)},
            from_memory([this](const std::string& key) { return deployment(key); })),
        replica_sets(cluster,
                     {.name = "replicaset",
                      .component = kReplicaSetController,
                      .on_action = [this](const std::string& key, const Action& action, const Error* error) { on_pod_made(key, action, error); },
                      .delay = std::chrono::milliseconds(1)},
                     from_memory([this](const std::string& key) { return replica_set(key); })),
        endpoint_slices(cluster, {.name = "endpointslice", .delay = kSettle},
                        from_memory([this](const std::string& key) { return endpoint_slice(key); })),
        service_accounts(cluster, {.name = "serviceaccount"},
                         from_memory([this](const std::string& key) { return service_account(key); })),
        namespaces(cluster, {.name = "namespace"}, [this](std::string key) { return empty_namespace(std::move(key)); }),
        garbage(cluster, {.name = "garbage", .workers = 64},
                [this](std::string key) { return collect(std::move(key)); }),
        node_pods(cluster, {.name = "node pods", .component = "taint-eviction-controller"},
                  from_memory([this](const std::string& key) { return pods_of_node(key); })),
        certificates(cluster, {.name = "certificates"}, from_memory([this](const std::string& key) { return signing_request(key); })),
        sweeps(cluster, {.name = "sweeps", .component = "node-controller"}, from_memory([this](const std::string& key) { return sweep(key); })),
        tasks(loop) {
    subscribe();
  }

  std::vector<Reconciler*> reconcilers() {
    return {&deployments, &replica_sets, &endpoint_slices, &service_accounts,
            &namespaces,  &garbage,      &node_pods,       &certificates, &sweeps};
  }

  void subscribe();
  rt::Task<> run();

  Plan deployment(const std::string& key);
  Plan replica_set(const std::string& key);
  Plan endpoint_slice(const std::string& key);
  Plan service_account(const std::string& key);
  Plan pods_of_node(const std::string& name);
  Plan signing_request(const std::string& name);
  Plan sweep(const std::string& what);
  rt::Task<Plan> empty_namespace(std::string name);
  rt::Task<Plan> collect(std::string uid);
  void on_pod(const ObjectPtr& before, const ObjectPtr& after);
  void on_pod_made(const std::string& replica_set, const Action&, const Error*);
  void look_for_garbage();

  Controllers::Options options;
  Cluster cluster;
  Scheduler scheduler;
  NodeLifecycleCore nodes;
  PodGcCore pod_gc;
  GarbageCore garbage_core;
  std::map<std::string, std::string> create_failures;  // of ReplicaSets whose last pod could not be made: why
  Reconciler deployments, replica_sets, endpoint_slices, service_accounts, namespaces, garbage, node_pods, certificates, sweeps;
  bool synced = false;
  rt::TaskGroup tasks;
};

void Controllers::State::subscribe() {
  cluster.subscribe(client::kDeployments, [this](const ObjectPtr& before, const ObjectPtr& after) {
    deployments.enqueue(after ? after : before);
  });
  cluster.subscribe(client::kReplicaSets, [this](const ObjectPtr& before, const ObjectPtr& after) {
    const ObjectPtr& set = after ? after : before;
    if (after) replica_sets.enqueue(set);
    const auto doc = set->parse();
    if (const auto owner = controller_of(doc.root()["metadata"]); owner && owner->kind == "Deployment") {
      deployments.enqueue(object_key(set->namespace_(), owner->name));
    } else if (!owner) {
      for (const auto& one : cluster.all(client::kDeployments)) {
        if (one->namespace_() == set->namespace_()) deployments.enqueue(object_key(one->namespace_(), one->name()));  // one of them may adopt it
      }
    }
  });
  cluster.subscribe(client::kPods, [this](const ObjectPtr& before, const ObjectPtr& after) { on_pod(before, after); });
  cluster.subscribe(client::kServices, [this](const ObjectPtr&, const ObjectPtr& after) {
    if (after) endpoint_slices.enqueue(after);
  });
  cluster.subscribe(client::kEndpointSlices, [this](const ObjectPtr& before, const ObjectPtr& after) {
    const ObjectPtr& slice = after ? after : before;
    if (slice->label(kManagedByLabel) == kManagedBy)
      endpoint_slices.enqueue(object_key(slice->namespace_(), slice->label(kServiceNameLabel)));
  });
  cluster.subscribe(client::kNamespaces, [this](const ObjectPtr&, const ObjectPtr& after) {
    if (!after) return;
    service_accounts.enqueue(after->name());
    if (after->deleting()) namespaces.enqueue(after->name());
  });
  cluster.subscribe(client::kServiceAccounts, [this](const ObjectPtr& before, const ObjectPtr& after) {
    if (!after) service_accounts.enqueue(before->namespace_());
  });
  cluster.subscribe(client::kNodes, [this](const ObjectPtr& before, const ObjectPtr& after) {
    if (after) {
      nodes.put_node(after, cluster.clock().instant());
      node_pods.enqueue(after->name());
    } else {
      nodes.remove_node(before->name());
    }
    sweeps.enqueue_after("nodes", kSettle);
  });
  cluster.subscribe(client::kLeases, [this](const ObjectPtr&, const ObjectPtr& after) {
    if (after && after->namespace_() == "kube-node-lease") nodes.put_lease(*after, cluster.clock().instant());
  });
  cluster.subscribe(kSigningRequests, [this](const ObjectPtr&, const ObjectPtr& after) {
    if (after) certificates.enqueue(after->name());
  });
  cluster.subscribe_all([this](const client::ResourcePath& path, const ObjectPtr& before, const ObjectPtr& after) {
    if (before && (!after || after->uid() != before->uid())) garbage_core.remove(*before);
    if (after) garbage_core.put(path, after);
    if (synced) look_for_garbage();  // before, half the owners are not there yet
  });
}

void Controllers::State::on_pod(const ObjectPtr& before, const ObjectPtr& after) {
  for (const ObjectPtr& pod : {before, after}) {
    if (!pod) continue;
    const auto doc = pod->parse();
    if (const auto owner = controller_of(doc.root()["metadata"])) {
      if (owner->kind == "ReplicaSet") replica_sets.enqueue_after(object_key(pod->namespace_(), owner->name), kSettle);
    } else if (pod == after && (!before || before->labels() != after->labels())) {
      for (const auto& set : cluster.replica_sets_of_namespace(pod->namespace_())) replica_sets.enqueue(set->object);
    }
    if (after && pod == before && before->labels() == after->labels()) continue;  // its Services are those of `after`
    const std::string prefix = pod->namespace_() + "/";
    const auto& services = cluster.all(client::kServices);
    for (auto at = services.lower_bound(std::string_view(prefix)); at != services.end() && (*at)->namespace_() == pod->namespace_(); ++at) {
      const auto service = (*at)->parse();
      if (kube::LabelSelector::from_map(service.root()["spec"]["selector"]).matches(pod->labels()))
        endpoint_slices.enqueue(object_key((*at)->namespace_(), (*at)->name()));
    }
  }
  // A taint that it does not tolerate may have been on the node before it came.
  if (after && !after->node_name().empty() && (!before || before->node_name() != after->node_name()))
    node_pods.enqueue_after(after->node_name(), kSettle);
  // Recreate waits for the last old pod.
  if (!after || (before && before->phase() != after->phase())) {
    const ObjectPtr& pod = after ? after : before;
    const auto doc = pod->parse();
    const auto owner = controller_of(doc.root()["metadata"]);
    if (!owner || owner->kind != "ReplicaSet") return;
    const auto set = cluster.get(client::kReplicaSets, pod->namespace_(), owner->name);
    if (!set) return;
    const auto set_doc = set->parse();
    const auto deployment_owner = controller_of(set_doc.root()["metadata"]);
    if (deployment_owner && deployment_owner->kind == "Deployment")
      deployments.enqueue_after(object_key(pod->namespace_(), deployment_owner->name), kSettle);
  }
}

void Controllers::State::on_pod_made(const std::string& key, const Action& action, const Error* error) {
  if (action.verb != Verb::Create) return;
  if (error == nullptr) {
    create_failures.erase(key);
    return;
  }
  const auto [namespace_, name] = split_key(key);
  const ObjectPtr set = cluster.get(client::kReplicaSets, namespace_, name);
  // A server that stops is no fault of the ReplicaSet's; a name taken or a namespace that goes is none either.
  if (!set || error->code == Errc::Cancelled || error->code == Errc::Unavailable || error->code == Errc::AlreadyExists) return;
  create_failures[key] = error->what;
  cluster.events().record({set, NoteType::Warning, "FailedCreate", "Error creating: " + error->what, kReplicaSetController});
}

Plan Controllers::State::deployment(const std::string& key) {
  const auto [namespace_, name] = split_key(key);
  const ObjectPtr object = cluster.get(client::kDeployments, namespace_, name);
  if (!object) return {};
  const auto sets = cluster.replica_sets_of_namespace(namespace_);
  Plan plan = reconcile_deployment({.deployment = object,
                                    .replica_sets = sets,
                                    .running_pods =
                                        [this](std::string_view uid) {
                                          const auto pods = cluster.pods_of_controller(uid);
                                          return static_cast<std::int64_t>(std::ranges::count(
                                              pods, false, [](const PodPtr& pod) { return pod->finished; }));
                                        },
                                    .now = cluster.clock().now()});
  // A ReplicaSet of that name that is not this template's: the hash collided, the next attempt has another.
  for (const auto& action : plan.actions) {
    if (action.verb != Verb::Create) continue;
    const auto existing = cluster.get(client::kReplicaSets, namespace_, action.name);
    if (!existing) continue;
    const auto doc = object->parse();
    Plan collision;
    collision.actions.push_back(
        {.verb = Verb::PatchStatus,
         .resource = client::kDeployments,
         .namespace_ = namespace_,
         .name = name,
         .body = std::format(R"({{"metadata":{{"uid":"{}"}},"status":{{"collisionCount":{}}}}})", object->uid(),
                             doc.root()["status"]["collisionCount"].i64() + 1)});
    return collision;
  }
  return plan;
}

Plan Controllers::State::replica_set(const std::string& key) {
  const auto [namespace_, name] = split_key(key);
  const ObjectPtr object = cluster.get(client::kReplicaSets, namespace_, name);
  if (!object) {
    create_failures.erase(key);
    return {};
  }
  const auto failed = create_failures.find(key);
  auto pods = cluster.pods_of_controller(object->uid());
  const auto orphans = cluster.pods_without_controller(namespace_);
  pods.insert(pods.end(), orphans.begin(), orphans.end());
  return reconcile_replica_set(
      {.replica_set = object,
       .pods = pods,
       .now = cluster.clock().now(),
       .create_failure = failed == create_failures.end() ? std::string_view() : failed->second,
       .burst_max = options.burst_max},
      cluster.random());
}

Plan Controllers::State::endpoint_slice(const std::string& key) {
  const auto [namespace_, name] = split_key(key);
  const ObjectPtr service = cluster.get(client::kServices, namespace_, name);
  if (!service) return {};  // its slices go with it, by their owner reference
  const auto pods = cluster.pods_of_namespace(namespace_);
  std::vector<ObjectPtr> slices;
  const auto& all = cluster.all(client::kEndpointSlices);
  const std::string prefix = namespace_ + "/";
  for (auto at = all.lower_bound(std::string_view(prefix)); at != all.end() && (*at)->namespace_() == namespace_; ++at) {
    if ((*at)->label(kServiceNameLabel) == name && (*at)->label(kManagedByLabel) == kManagedBy) slices.push_back(*at);
  }
  return reconcile_endpoint_slices(
      {.service = service, .pods = pods, .slices = slices, .endpoints_max = options.endpoints_max}, cluster.random());
}

Plan Controllers::State::service_account(const std::string& key) {
  const ObjectPtr in = cluster.get(client::kNamespaces, "", key);
  if (!in || in->deleting() || cluster.get(client::kServiceAccounts, key, "default")) return {};
  Plan plan;
  plan.actions.push_back(
      {.verb = Verb::Create,
       .resource = client::kServiceAccounts,
       .namespace_ = key,
       .name = "default",
       .body = std::format(
           R"({{"apiVersion":"v1","kind":"ServiceAccount","metadata":{{"name":"default","namespace":"{}"}}}})", key)});
  return plan;
}

Plan Controllers::State::pods_of_node(const std::string& name) {
  const ObjectPtr node = cluster.get(client::kNodes, "", name);
  return node ? nodes.pods(*node, cluster.pods_of_node(name), cluster.clock().now()) : Plan{};
}

Plan Controllers::State::signing_request(const std::string& name) {
  const ObjectPtr request = cluster.get(kSigningRequests, "", name);
  return request ? reconcile_signing_request(*request, cluster.all(client::kNodes), cluster.clock().now(), options.signing, options.sign) : Plan{};
}

Plan Controllers::State::sweep(const std::string& what) {
  Plan plan;
  if (what == "nodes") {
    plan = nodes.poll(cluster.clock().now(), cluster.clock().instant());
  } else {
    std::vector<PodPtr> pods;
    for (const auto& pod : cluster.all(client::kPods)) {
      if (auto view = cluster.pod(pod->namespace_(), pod->name())) pods.push_back(std::move(view));
    }
    std::set<std::string> names;
    for (const auto& node : cluster.all(client::kNodes)) names.insert(node->name());
    plan = pod_gc.poll(pods, names, cluster.clock().instant());
  }
  plan.again = options.poll;
  return plan;
}

// Deletes what a namespace that is being deleted contains; once it is empty, lets it go.
rt::Task<Plan> Controllers::State::empty_namespace(std::string name) {
  const ObjectPtr object = cluster.get(client::kNamespaces, "", name);
  if (!object || !object->deleting()) co_return Plan{};
  Plan plan;
  bool left = false;
  for (const kube::ResourceType& type : kube::resources()) {
    if (!type.namespaced || !type.has_verb("delete")) continue;
    CO_TRY(const auto list, co_await cluster.client().list(path_of(type), name));
    for (const ObjectPtr& item : list.items) {
      left = true;
      if (item->deleting()) continue;
      plan.actions.push_back({.verb = Verb::Delete,
                              .resource = path_of(type),
                              .namespace_ = name,
                              .name = item->name(),
                              .uid = item->uid(),
                              .propagation = "Background"});
    }
  }
  if (left) {
    plan.again =
        plan.actions.empty() ? std::chrono::milliseconds(500) : std::chrono::milliseconds(20);  // pods take their grace
    co_return plan;
  }
  const auto doc = object->parse();
  JsonEdit edit = JsonEdit::copy(doc.root());
  MutJson finalizers = edit.root().object("spec").array("finalizers");
  finalizers.clear();
  for (const Json one : doc.root()["spec"]["finalizers"].items()) {
    if (one.str() != "kubernetes") finalizers.push(one);
  }
  const auto done = co_await cluster.client().raw("PUT", std::format("/api/v1/namespaces/{}/finalize", name),
                                                  edit.dump(), "application/json");
  if (!done && done.error().code != Errc::NotFound) co_return Fail(done.error());
  co_return Plan{};
}

void Controllers::State::look_for_garbage() {
  for (const auto& uid : garbage_core.take_candidates()) garbage.enqueue(uid);
}

rt::Task<Plan> Controllers::State::collect(std::string uid) {
  auto verdict = garbage_core.look(uid);
  for (const auto& [owner, namespace_] : verdict.ask) {
    const kube::ResourceType* type = kube::find_kind(owner.api_version, owner.kind);
    if (type == nullptr) continue;  // a kind that we do not serve: its owner may exist elsewhere
    const auto found = co_await cluster.client().get(path_of(*type), type->namespaced ? namespace_ : "", owner.name);
    if (found && (*found)->uid() == owner.uid) continue;  // the informer will show it
    if (!found && found.error().code != Errc::NotFound) co_return Fail(found.error());
    garbage_core.absent(owner.uid);
  }
  if (!verdict.ask.empty()) verdict = garbage_core.look(uid);
  co_return Plan{.actions = std::move(verdict.actions)};
}

rt::Task<> Controllers::State::run() {
  CO_TRY_OK(co_await cluster.synced());
  synced = true;
  scheduler.start();
  for (Reconciler* one : reconcilers()) one->start();
  look_for_garbage();
  sweeps.enqueue("nodes");
  sweeps.enqueue("pods");
  LOG_INFO("controllers started");
  co_return Result<>{};
}

Controllers::Controllers(rt::Loop& loop, client::Client& client, const Clock& clock, Random& random, Options options)
    : state_(std::make_unique<State>(loop, client, clock, random, std::move(options))) {}
Controllers::~Controllers() = default;

void Controllers::start() {
  state_->cluster.start();
  state_->tasks.spawn("start of the controllers", state_->run());
}

rt::Task<> Controllers::stop() {
  CO_TRY_OK(co_await state_->tasks.stop());
  CO_TRY_OK(co_await state_->scheduler.stop());
  for (Reconciler* one : state_->reconcilers()) CO_TRY_OK(co_await one->stop());
  CO_TRY_OK(co_await state_->cluster.stop());
  co_return Result<>{};
}

bool Controllers::synced() const { return state_->synced; }
std::uint64_t Controllers::bound() const { return state_->scheduler.bound(); }
std::size_t Controllers::unscheduled() const { return state_->scheduler.waiting(); }

void Controllers::write_metrics(metrics::Exposition& out) const {
  using Figures = Reconciler::Figures;
  using enum metrics::Type;
  const auto reconcilers = state_->reconcilers();
  const auto each = [&](std::string_view name, metrics::Type type, std::string_view help, const auto& value) {
    out.family(name, type, help);
    for (const Reconciler* one : reconcilers) out.sample({{"name", one->name()}}, value(one->figures()));
  };
  each("workqueue_depth", Gauge, "Keys that wait for a controller", [](const Figures& f) { return std::uint64_t{f.waiting}; });
  each("workqueue_adds_total", Counter, "Keys handed to a controller", [](const Figures& f) { return f.adds; });
  each("workqueue_retries_total", Counter, "Keys handed to a controller again after a failure", [](const Figures& f) { return f.failures; });
  each("skerry_controller_active", Gauge, "Keys that a controller works on now", [](const Figures& f) { return std::uint64_t{f.active}; });
  each("skerry_controller_reconciles_total", Counter, "Plans made", [](const Figures& f) { return f.reconciles; });
  each("skerry_controller_actions_total", Counter, "Requests to the API that the plans demanded", [](const Figures& f) { return f.actions; });
  each("skerry_controller_busy_seconds_total", Counter, "Time in plans and their requests, all keys added up",
       [](const Figures& f) { return std::chrono::duration<double>(f.busy).count(); });
  const Scheduler& scheduler = state_->scheduler;
  out.family("scheduler_schedule_attempts_total", Counter, "Attempts to place a pod, by outcome");
  out.sample({{"result", "scheduled"}}, scheduler.bound());
  out.sample({{"result", "unschedulable"}}, scheduler.unschedulable());
  out.sample({{"result", "error"}}, scheduler.failed());
  out.family("scheduler_pending_pods", Gauge, "Pods that wait for a node");
  out.sample({{"queue", "all"}}, std::uint64_t{scheduler.waiting()});
  out.family("skerry_controllers_synced", Gauge, "1: every controller has seen the whole cluster and works");
  out.sample({}, std::uint64_t{state_->synced ? 1U : 0U});
}

}  // namespace skerry::control
