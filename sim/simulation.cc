// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation.h"

#include <algorithm>
#include <csignal>
#include <format>

#include "base/check.h"

namespace skerry::sim {
namespace {

constexpr Duration kSupervisor = 1s, kAnswerWithin = 1s, kQuietBeforeEnd = 2min, kServed = 3s;
constexpr char kNamespace[] = "shop";

}  // namespace

Simulation::Simulation(const Scenario& scenario, Options options)
    : scenario_(scenario),
      options_(options),
      world_(options.seed),
      net_(world_),
      server_(world_, net_, {}),
      truth_(world_, server_),
      machine_(world_, {.started = [this](const SimSandbox& s) { truth_.on_started(s); },
                        .ended = [this](const SimSandbox& s, EndReason why) { truth_.on_ended(s, why); },
                        .commanded = [this](const std::string& uid, std::uint64_t id, std::string_view what) { truth_.on_commanded(uid, id, what); }}) {
  world_.print_trace = options.print_trace;
  server_.on_told_backwards = [this](const std::string& uid, const std::string& what) { truth_.on_told_backwards(uid, what); };
}
Simulation::~Simulation() = default;

// --- node and machine -------------------------------------------------------------------------------------------------------

void Simulation::start_agent(Duration later) {
  start_life_ = new_life();
  world_.after(later, start_life_, [this] {
    if (!machine_.powered() || node_) return;
    ++out_.agent_starts;
    world_.trace("agent starts");
    SimNode::Hooks hooks{.restored = [this](const agent::PodTable& t, bool older, bool) { truth_.on_restored(t, older); },
                         .written = [this] { truth_.on_written(); },
                         .drifted = [this](std::string_view resource) { truth_.on_drifted(resource); },
                         .listening = [this](const agent::PodEntry& e) { truth_.on_listening(e); },
                         .placed = [this](const std::string& uid, std::size_t i, std::uint64_t id) { truth_.on_placed(uid, i, id); },
                         .released = [this](const std::string& uid) { truth_.on_released(uid); },
                         .forgotten = [this](const std::string& uid) { truth_.on_forgotten(uid); },
                         .settled = [this](const std::string& uid, bool ready, const std::string& address) { truth_.on_settled(uid, ready, address); },
                         .died_in_write = nullptr,
                         .unable = nullptr};
    hooks.died_in_write = [this] { world_.after(0s, start_life_, [this] { machine_.powered() && disk_.broken() ? kill_agent() : void(); }); };
    hooks.unable = [this](std::string_view why) {
      world_.trace(std::format("agent cannot start: {}", why));
      world_.after(0s, start_life_, [this] { kill_agent(); });
    };
    node_ = std::make_unique<SimNode>(SimNode::Deps{world_, net_, server_, machine_, disk_, images_}, SimNode::Options{.canary = options_.canary}, std::move(hooks));
    node_->start();
  });
}

void Simulation::kill_agent() {
  if (!node_) return;
  world_.trace("agent killed");
  out_.drift += node_->drift();
  out_.lists += node_->lists();
  disk_.process_died();
  node_.reset();
  start_agent(kSupervisor);
}

void Simulation::power_cut() {
  if (!machine_.powered()) return;
  world_.trace("power cut");
  disk_.power_cut(world_.random());
  if (node_) {
    out_.drift += node_->drift();
    out_.lists += node_->lists();
  }
  node_.reset();
  start_life_.reset();
  machine_.power_off();
}

void Simulation::power_on() {
  if (machine_.powered()) return;
  ++out_.boots;
  world_.trace("power on");
  disk_.power_on();
  machine_.power_on();
  const Duration boot = world_.between(scenario_.boot);
  booting_until_ = world_.now() + boot;
  start_agent(boot);
}

// --- workload ---------------------------------------------------------------------------------------------------------------

std::vector<kube::ObjectPtr> Simulation::pods_of(const Deployed& d) const {
  std::vector<kube::ObjectPtr> out;
  for (const auto& [key, pod] : server_.all(Resource::Pods))
    if (pod->label("app") == d.what.name) out.push_back(pod);
  return out;
}

void Simulation::create_pod(Deployed& d) {
  const std::string uid = std::format("uid-{:04}", ++pods_made_);
  const std::string config = d.what.config_map ? std::format(R"(,"envFrom":[{{"configMapRef":{{"name":"{}-config"}}}}])", d.what.name) : "";
  server_.put(Resource::Pods, std::format(
      R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{0}-{1}","namespace":"{2}","uid":"{3}","labels":{{"app":"{0}"}},"annotations":{{"skerry.dev/idle-after":"{4}s"}}}},)"
      R"("spec":{{"nodeName":"edge-1","restartPolicy":"Always","terminationGracePeriodSeconds":5,"containers":[{{"name":"app","image":"r.example/app:{5}","imagePullPolicy":"{6}"{7}}}]}},"status":{{"phase":"Pending"}}}})",
      d.what.name, d.next++, kNamespace, uid, 5 + world_.pick(30), d.image, world_.pick(4) == 0 ? "Always" : "IfNotPresent", config));
}

// As a Deployment's controllers do it, all at once: the wanted number of pods of the present image.
void Simulation::reconcile(Deployed& d) {
  int alive = 0;
  for (const auto& pod : pods_of(d)) {
    if (pod->deleting()) continue;
    const auto doc = pod->parse();
    const bool old = doc.root()["spec"]["containers"][std::size_t{0}]["image"].str() != std::format("r.example/app:{}", d.image);
    if (pod->phase() == "Failed" || pod->phase() == "Succeeded") server_.remove(Resource::Pods, {kNamespace, pod->name()});
    else if (old || alive >= d.replicas) server_.delete_pod({kNamespace, pod->name()}, 5s);
    else ++alive;
  }
  for (; alive < d.replicas; ++alive) create_pod(d);
}

void Simulation::put_service(const Deployed& d) {
  server_.put(Resource::Services, std::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{0}","namespace":"{1}","uid":"svc-{0}"}},"spec":{{"type":"ClusterIP","clusterIP":"{2}","selector":{{"app":"{0}"}},"ports":[{{"port":80,"targetPort":8080,"protocol":"TCP"}}]}}}})",
      d.what.name, kNamespace, d.address));
}
void Simulation::put_config(const Deployed& d, int version) {
  server_.put(Resource::ConfigMaps, std::format(
      R"({{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{}-config","namespace":"{}","uid":"cm-{}"}},"data":{{"VERSION":"{}"}}}})", d.what.name, kNamespace, d.what.name, version));
}

void Simulation::change(const Scenario::Change& what) {
  world_.after(world_.between(what.every), [this, &what] {
    if (!faulty()) return;
    if (server_.up) change_once(what.kind);
    change(what);
  });
}

void Simulation::change_once(ChangeKind kind) {
  Deployed& d = deployed_[world_.pick(deployed_.size())];
  const auto pods = pods_of(d);
  switch (kind) {
    case ChangeKind::Scale:
      d.replicas = static_cast<int>(world_.pick(static_cast<std::size_t>(d.what.replicas) * 2 + 1));
      world_.trace(std::format("workload: {} to {} replicas", d.what.name, d.replicas));
      break;
    case ChangeKind::Roll:
      d.image = d.image % 3 + 1;
      world_.trace(std::format("workload: {} to image {}", d.what.name, d.image));
      break;
    case ChangeKind::Delete:
      if (!pods.empty()) server_.delete_pod({kNamespace, pods[world_.pick(pods.size())]->name()}, world_.pick(2) == 0 ? 0s : 30s);
      break;
    case ChangeKind::ForceDelete:
      if (!pods.empty()) server_.remove(Resource::Pods, {kNamespace, pods[world_.pick(pods.size())]->name()});
      break;
    case ChangeKind::Config:
      if (d.what.config_map) put_config(d, static_cast<int>(world_.pick(1000)));
      break;
    case ChangeKind::Service:
      if (!d.what.service) break;
      if (server_.find(Resource::Services, {kNamespace, d.what.name})) server_.remove(Resource::Services, {kNamespace, d.what.name});
      else put_service(d);
      break;
  }
  reconcile(d);
}

Truth::Tally& Simulation::tally() {
  if (world_.now() < booting_until_ + kServed) return truth_.booting;
  return net_.line() == SimNet::Line::Up && server_.up ? truth_.online : truth_.offline;
}

void Simulation::request() {
  if (scenario_.requests_per_second <= 0 || requests_stopped_) return;
  const auto mean = Duration(static_cast<Duration::rep>(1e9 / scenario_.requests_per_second));
  world_.after(world_.between({mean / 2, mean * 3 / 2}), [this] { request(); });
  if (!machine_.powered()) return;
  truth_.look_at_routes(machine_);
  Truth::Tally& count = tally();
  auto one = std::make_shared<Request>();
  one->sent = world_.now();
  const auto ask = [&](const std::string& whom) {
    ++count.sent;
    one->done = [this, &count, whom](bool answered) {
      count.answered += answered ? 1 : 0;
      if (!answered) world_.trace("a request was not answered: " + whom);
    };
  };
  if (world_.pick(2) == 0) {
    const auto pods = truth_.ready_pods();
    if (pods.empty()) return;
    const Endpoint to = pods[world_.pick(pods.size())];
    ask(to.address.str());
    machine_.send(to, one);
  } else {
    const Deployed& d = deployed_[world_.pick(deployed_.size())];
    if (!d.what.service || !truth_.service_expected(d.what.name) || !server_.find(Resource::Services, {kNamespace, d.what.name})) return;
    ask("service " + d.what.name);
    machine_.send_to_service(std::format("{} tcp 80", d.address), one);
  }
  if (one->over) return;
  world_.after(kAnswerWithin, [one] { one->finish(false); });
}

// --- faults -----------------------------------------------------------------------------------------------------------------

void Simulation::fault(const Scenario::Fault& what, bool first) {
  world_.after(first && what.first ? *what.first : world_.between(what.every), [this, &what] {
    if (!faulty()) return;
    ++out_.faults;
    fault_once(what);
    fault(what, false);
  });
}

void Simulation::for_a_while(const Scenario::Fault& what, std::function<void()> heal) {
  const Duration left = scenario_.duration - world_.elapsed();
  world_.after(std::min(world_.between(what.lasts), left), std::move(heal));
}

void Simulation::fault_once(const Scenario::Fault& what) {
  const auto line = [&](SimNet::Line state) {
    if (line_faults_++ == 0) net_.set_line(state);
    for_a_while(what, [this] {
      if (--line_faults_ == 0) net_.set_line(SimNet::Line::Up);
    });
  };
  const auto sandbox = [&]() -> SandboxPtr {
    const auto& all = machine_.sandboxes();
    return all.empty() ? nullptr : std::next(all.begin(), static_cast<std::ptrdiff_t>(world_.pick(all.size())))->second;
  };
  switch (what.kind) {
    case FaultKind::LineCut: line(SimNet::Line::Cut); break;
    case FaultKind::HalfOpen: line(SimNet::Line::HalfOpen); break;
    case FaultKind::Loss:
      net_.options.loss = what.share;
      for_a_while(what, [this] { net_.options.loss = 0; });
      break;
    case FaultKind::SlowLine:
      net_.options.delay = {200ms, 6s};
      for_a_while(what, [this] { net_.options.delay = SimNet::Options{}.delay; });
      break;
    case FaultKind::ServerDown:
      if (server_faults_++ == 0) {
        server_.restart();
        server_.up = false;
      }
      for_a_while(what, [this] {
        if (--server_faults_ > 0) return;
        server_.up = true;
        server_.restart();
      });
      break;
    case FaultKind::ServerRestart: server_.restart(); break;
    case FaultKind::ServerCompact: server_.compact(); break;
    case FaultKind::ServerBackup: server_.take_backup(); break;
    case FaultKind::ServerRestore:
      server_.restore_backup();
      for (Deployed& d : deployed_) world_.after(2s, [this, &d] { reconcile(d); });
      break;
    case FaultKind::Nonsense:
      world_.trace("server talks nonsense");
      server_.nonsense = what.share;
      for_a_while(what, [this] {
        server_.nonsense = 0;
        world_.trace("server talks sense");
      });
      break;
    case FaultKind::AgentKill: kill_agent(); break;
    case FaultKind::KeeperKill: machine_.kill_keeper(); break;
    case FaultKind::BothKill:
      if (world_.pick(2) == 0) machine_.kill_keeper();
      kill_agent();
      machine_.kill_keeper();
      break;
    case FaultKind::SandboxKill:
    case FaultKind::GuestCrash:
      if (const auto victim = sandbox()) {
        world_.trace(std::format("sandbox {} of {} {}", victim->pid, victim->held.assignment->pod_name, what.kind == FaultKind::GuestCrash ? "crashes" : "killed"));
        machine_.end_sandbox(victim, EndReason::Crash, what.kind == FaultKind::GuestCrash ? 134 : 0, what.kind == FaultKind::GuestCrash ? 0 : SIGKILL);
      }
      break;
    case FaultKind::WriteKill: disk_.break_at(1 + world_.random().below(12)); break;
    case FaultKind::WriteCut:
      disk_.break_at(1 + world_.random().below(12));
      world_.after(100ms, [this] { power_cut(); });
      world_.after(100ms + world_.between(what.lasts), [this] { power_on(); });
      break;
    case FaultKind::PowerCut:
      power_cut();
      for_a_while(what, [this] { power_on(); });
      break;
    case FaultKind::DiskFull:
      if (disk_faults_++ == 0) {
        world_.trace("disk full");
        disk_.set_full(true);
      }
      for_a_while(what, [this] {
        if (--disk_faults_ > 0) return;
        world_.trace("disk has room");
        disk_.set_full(false);
      });
      break;
    case FaultKind::DiskSlow:
      disk_.delay = 3s;
      for_a_while(what, [this] { disk_.delay = 4ms; });
      break;
    case FaultKind::DiskDamage:
      if (!machine_.powered()) break;
      if (!node_) break;
      world_.trace("agent stops");
      node_.reset();  // in order: its database is closed, so that what is damaged is more than a log
      if (disk_.damage(world_.random())) {
        world_.trace("disk damaged");
        ++out_.damages;
        truth_.on_damage();
        if (!disk_.full() && world_.pick(2) == 0) disk_.break_at(1 + world_.random().below(60));  // and who starts dies in the middle of it
      }
      start_agent(kSupervisor);
      break;
    case FaultKind::ClockJump: {
      const Duration far = world_.between({1s, 400 * 24h});
      world_.clock.jump(world_.pick(2) == 0 ? far : -far);
      world_.trace(std::format("clock set to {}", to_rfc3339(world_.clock.now())));
      break;
    }
  }
}

void Simulation::heal_all() {
  world_.trace("the faults stop");
  line_faults_ = server_faults_ = disk_faults_ = 0;
  net_.set_line(SimNet::Line::Up);
  net_.options = {};
  server_.nonsense = 0;
  if (!server_.up) {
    server_.up = true;
    server_.restart();
  }
  disk_.set_full(false);
  disk_.delay = 4ms;
  power_on();
  if (!machine_.keeper && !node_) start_agent(kSupervisor);
  for (Deployed& d : deployed_) {
    d.replicas = d.what.replicas;
    if (d.what.service && !server_.find(Resource::Services, {kNamespace, d.what.name})) put_service(d);
    reconcile(d);
  }
  // Pods that had ended for good are replaced, as their controller does it.
  for (int i = 1; i < 5; ++i)
    for (Deployed& d : deployed_) world_.after(i * scenario_.settle / 10, [this, &d] { reconcile(d); });
}

// --- the run ----------------------------------------------------------------------------------------------------------------

void Simulation::expect() {
  const Scenario::Expect& wanted = scenario_.expect;
  const auto share = [&](std::string_view what, const Truth::Tally& t, double least) {
    if (t.share() < least) world_.violation("availability", std::format("{}: {} of {} requests answered, {:.5f} instead of {:.5f}", what, t.answered, t.sent, t.share(), least));
  };
  share("without the control plane", truth_.offline, wanted.offline_share);
  const Truth::Tally all{truth_.online.sent + truth_.offline.sent + truth_.booting.sent, truth_.online.answered + truth_.offline.answered + truth_.booting.answered};
  share("with every boot", all, wanted.counted_share);
  if (wanted.stops_max && truth_.stops() - stops_before_ > *wanted.stops_max)
    world_.violation("expect", std::format("{} running containers were stopped, at most {} are expected", truth_.stops() - stops_before_, *wanted.stops_max));
  if (wanted.relists_max && out_.lists > *wanted.relists_max) world_.violation("expect", std::format("{} lists after the first minute, at most {} are expected", out_.lists, *wanted.relists_max));
}

Outcome Simulation::run() {
  for (const auto& what : scenario_.deployments) {
    Deployed& d = deployed_.emplace_back(Deployed{.what = what, .replicas = what.replicas, .image = 1, .next = 1, .address = std::format("10.43.0.{}", 20 + deployed_.size())});
    if (what.config_map) put_config(d, 1);
    if (what.service) put_service(d);
    reconcile(d);
  }
  start_agent(0s);
  world_.run_until(Instant{} + 1min);
  if (node_) out_.lists -= node_->lists();
  stops_before_ = truth_.stops();
  for (const auto& one : scenario_.changes) change(one);
  for (const auto& one : scenario_.faults) fault(one, true);
  request();
  Instant last = world_.now();
  while (faulty()) {
    world_.run_until(std::min(last + 1s, Instant{} + scenario_.duration));
    if (!machine_.powered()) out_.time_without_power += world_.now() - last;
    else if (net_.line() != SimNet::Line::Up || !server_.up) out_.time_offline += world_.now() - last;
    last = world_.now();
  }
  heal_all();
  world_.run_until(Instant{} + scenario_.duration + scenario_.settle - kQuietBeforeEnd);
  requests_stopped_ = true;
  world_.run_until(Instant{} + scenario_.duration + scenario_.settle);
  if (!node_ || !node_->running()) {
    world_.violation("convergence", "the agent does not run");
  } else {
    truth_.check_convergence(*node_, machine_);
    out_.lists += node_->lists();
    out_.drift += node_->drift();
  }
  expect();
  out_.violations = world_.violations();
  out_.tail = world_.tail();
  out_.online = truth_.online;
  out_.offline = truth_.offline;
  out_.booting = truth_.booting;
  out_.events = world_.events();
  out_.stops = truth_.stops() - stops_before_;
  out_.processes = truth_.starts();
  out_.restores = truth_.restores();
  out_.requests_to_server = net_.counters().requests;
  return out_;
}

}  // namespace skerry::sim
