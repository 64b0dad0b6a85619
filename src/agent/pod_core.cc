// SPDX-License-Identifier: Apache-2.0
#include "agent/pod_core.h"

#include <algorithm>
#include <format>

#include "base/check.h"

namespace skerry::agent {
namespace {
using Type = command::PostEvent::Type;
template <class... Ts>
struct overloaded : Ts... {
  using Ts::operator()...;
};
constexpr std::string_view kServedRuntimes[] = {"wasmedge", "skerry", "wasm"};
}  // namespace

std::string describe(const Command& c) {
  return std::visit(
      overloaded{
          [](const command::PrepareImage& x) { return std::format("prepare-image {} {}", x.container, x.image); },
          [](const command::AllocateAddress&) { return std::string("allocate-address"); },
          [](const command::OpenListener& x) { return std::format("open-listener {} {}:{}", x.container, x.address, x.port); },
          [](const command::Put& x) {
            std::string names;
            for (const auto& [name, value] : x.assignment.env) names += (names.empty() ? "" : ",") + name;
            return std::format("put {} id={} image={} memory={} cpu={} idle-after={} attempt={} env=[{}]", x.container, x.id.value(),
                               x.image_key, x.assignment.memory_bytes_max, x.cpu_millis_max, to_human(x.assignment.idle_after),
                               x.attempt, names);
          },
          [](const command::Relog& x) { return std::format("relog {} id={} attempt={}", x.container, x.id.value(), x.attempt); },
          [](const command::Stop& x) { return std::format("stop {} id={} grace={}", x.container, x.id.value(), to_human(x.grace)); },
          [](const command::CloseListener& x) { return std::format("close-listener {}", x.container); },
          [](const command::Drop& x) { return std::format("drop {} id={}", x.container, x.id.value()); },
          [](const command::Release&) { return std::string("release"); },
          [](const command::PostStatus& x) { return "status " + x.json; },
          [](const command::PostEvent& x) {
            return std::format("event {} {} {}: {}", x.type == Type::Normal ? "Normal" : "Warning", x.container, x.reason, x.message);
          },
          [](const command::Delete& x) { return "delete " + x.uid; },
          [](const command::Forget&) { return std::string("forget"); },
      },
      c);
}

PodCore::PodCore(const Options& options, kube::ObjectPtr object, PodPlan plan, std::vector<KeeperId> ids)
    : options_(&options), object_(std::move(object)), plan_(std::move(plan)), tells_scheduled_(!plan_.scheduled) {
  CHECK(ids.size() == plan_.containers.size());
  containers_.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) containers_[i].id = ids[i];
}

std::string_view PodCore::stage_name(Stage s) {
  constexpr std::string_view kNames[] = {"start",   "preparing",     "image-backoff", "prepared", "config-error",  "opening",
                                         "listen-backoff", "putting", "serving",       "crash-backoff", "stopping", "ended"};
  return kNames[static_cast<std::size_t>(s)];
}

void PodCore::event(Type type, std::size_t container, std::string_view reason, std::string message) {
  events_.push_back(command::PostEvent{type, plan_.containers[container].name, std::string(reason), std::move(message)});
}

void PodCore::wait(Container& c, Stage stage, std::string_view reason, std::string message) {
  c.stage = stage;
  c.waiting_reason = reason;
  c.waiting_message = std::move(message);
}

Duration PodCore::next_retry(Container& c) const {
  c.retry = c.retry == Duration{0} ? options_->backoff_first : std::min(c.retry * 2, options_->backoff_max);
  return c.retry;
}

// --- inputs -------------------------------------------------------------------------------------------------------

void PodCore::on_desired(kube::ObjectPtr object, PodPlan plan) {
  CHECK(object->uid() == object_->uid());
  // Of a bound pod's spec only the image, tolerations, labels, annotations and the deletion may change. A changed image restarts
  // its container; all else takes effect at the next start of the container.
  if (plan.containers.size() == plan_.containers.size()) {
    for (std::size_t i = 0; i < plan.containers.size(); ++i) {
      Container& c = containers_[i];
      if (plan.containers[i].image == plan_.containers[i].image || c.stage == Stage::Ended || c.stage == Stage::Stopping) continue;
      event(Type::Normal, i, "Killing", std::format("Container {} definition changed, will be restarted", plan.containers[i].name));
      c.image.reset();
      c.started.reset();
      if (c.in_keeper) ++c.restarts;
      c.stage = Stage::Start;
    }
  } else {
    plan.containers = plan_.containers;
  }
  if (!plan.refusal || !plan_.refusal || *plan.refusal != *plan_.refusal) refusal_reported_ = false;
  object_ = std::move(object);
  plan_ = std::move(plan);
}

void PodCore::on_vanished() {
  vanished_ = true;
  plan_.deleting = true;
  plan_.grace = Duration{0};
}

// Its container stops, in order, and goes through its start again when it may; step() takes it out of the keeper.
void PodCore::lay_down(Container& c, std::size_t i, Now now) {
  if (c.in_keeper) {
    set_ended(c, {}, now, "Completed");
    ++c.restarts;
    event(Type::Normal, i, "Killing", std::format("Stopping container {}", plan_.containers[i].name));
  }
  c.started.reset();
  c.backoff = Duration{0};
}

void PodCore::hold(std::string message, Now now) {
  if (held() || plan_.deleting) return;
  held_ = std::move(message);
  const bool serves = std::ranges::any_of(containers_, [](const Container& c) { return c.stage == Stage::Serving; });
  hold_at_ = serves ? now.mono + std::min(options_->hold_after, plan_.grace / 2) : now.mono;
}
void PodCore::release() {
  held_.clear();
  for (Container& c : containers_)
    if (c.stage == Stage::Start) wait(c, Stage::Start, "ContainerCreating", "");
}

void PodCore::restart(Now now) {
  if (held() || plan_.deleting) return;
  for (std::size_t i = 0; i < containers_.size(); ++i) {
    Container& c = containers_[i];
    if (c.stage != Stage::Serving) continue;
    lay_down(c, i, now);
    wait(c, Stage::Start, "ContainerCreating", "");
  }
}

void PodCore::on_unrouted(Now now) {
  if (!plan_.deleting) return;
  const Duration longest = std::min(options_->lame_duck, plan_.grace / 2);
  if (!stop_at_) stop_at_ = now.mono + longest;
  stop_at_ = std::min(*stop_at_, now.mono + std::min(options_->on_their_way, longest));
}
bool PodCore::leaving() const {
  return plan_.deleting && std::ranges::any_of(containers_, [](const Container& c) { return c.stage == Stage::Serving; });
}

void PodCore::on_image_pulling(std::size_t i) {
  if (containers_[i].stage == Stage::Preparing) event(Type::Normal, i, "Pulling", std::format("Pulling image \"{}\"", plan_.containers[i].image));
}

void PodCore::on_image_ready(std::size_t i, PreparedImagePtr image, std::string_view event_text, std::string_view warning) {
  Container& c = containers_[i];
  if (c.stage != Stage::Preparing) return;
  if (!warning.empty()) event(Type::Warning, i, "RegistryUnavailable", std::string(warning));
  c.image = std::move(image);
  c.retry = Duration{0};
  wait(c, Stage::Prepared, "ContainerCreating", "");
  if (!event_text.empty()) event(Type::Normal, i, "Pulled", std::string(event_text));
}

void PodCore::on_image_failed(std::size_t i, std::string_view reason, std::string message, Now now) {
  Container& c = containers_[i];
  if (c.stage == Stage::Ended || c.stage == Stage::Stopping) return;
  if (c.waiting_reason != reason || c.waiting_message != message) event(Type::Warning, i, reason == "Unsupported" ? "Unsupported" : "Failed", message);
  c.image.reset();
  wait(c, Stage::ImageBackoff, reason, std::move(message));
  c.until = now.mono + next_retry(c);
}

void PodCore::on_image_maybe_changed() {
  for (Container& c : containers_)
    if (c.stage == Stage::ImageBackoff) c.stage = Stage::Start;
}

void PodCore::on_address(std::string address) {
  address_ = std::move(address);
  address_error_.clear();
}
void PodCore::on_address_failed(std::string message, Now now) {
  if (address_error_ != message) event(Type::Warning, 0, "FailedCreatePodSandBox", message);
  address_error_ = std::move(message);
  address_retry_ = now.mono + options_->backoff_first;
}

void PodCore::on_listening(std::size_t i) {
  containers_[i].listening = true;
  if (containers_[i].stage == Stage::Opening) containers_[i].stage = Stage::Prepared;
}
void PodCore::on_listen_failed(std::size_t i, std::string message, Now now) {
  Container& c = containers_[i];
  if (c.waiting_message != message) event(Type::Warning, i, "FailedCreatePodSandBox", message);
  wait(c, Stage::ListenBackoff, "CreateContainerError", std::move(message));
  c.until = now.mono + next_retry(c);
}

void PodCore::on_placed(std::size_t i, Now now) {
  Container& c = containers_[i];
  if (c.stage != Stage::Putting) return;
  c.stage = Stage::Serving;
  c.in_keeper = true;
  c.retry = Duration{0};
  c.started = now.wall;
  c.running_since = now.mono;
  event(Type::Normal, i, "Started",
        std::format("Container {} listens on {}:{}; it runs when a request comes", plan_.containers[i].name, address_, plan_.containers[i].port));
}
void PodCore::on_place_failed(std::size_t i, std::string message, Now now) {
  Container& c = containers_[i];
  if (c.stage != Stage::Putting && c.stage != Stage::Serving) return;
  event(Type::Warning, i, "Failed", message);
  wait(c, Stage::ListenBackoff, "CreateContainerError", std::move(message));
  c.until = now.mono + next_retry(c);
}

void PodCore::on_adopted(std::size_t i, std::uint32_t awake, Held held) {
  Container& c = containers_[i];
  c.listening = c.in_keeper = true;
  c.awake = awake;
  if (held == Held::Serving && c.stage == Stage::Start) c.stage = Stage::Serving;  // else poll() takes it out
}

void PodCore::on_idle(std::size_t i) { containers_[i].awake = 0; }

void PodCore::set_ended(Container& c, Exit exit, Now now, std::string_view reason) {
  Ended end;
  end.code = exit.signal != 0 ? 128 + exit.signal : exit.code;
  end.signal = exit.signal;
  end.reason = reason;
  end.message = std::move(exit.message);
  end.started = c.started.value_or(now.wall);
  end.finished = now.wall;
  c.last = std::make_shared<const Ended>(std::move(end));
}

void PodCore::on_exited(std::size_t i, Exit exit, Now now) {
  Container& c = containers_[i];
  if (c.awake > 0) --c.awake;
  if (c.stage == Stage::Stopping || c.stage == Stage::Ended) return;
  if (c.stage != Stage::Serving) return;  // an exit of an attempt that is over
  if (exit.code == 0 && exit.signal == 0 && !exit.out_of_memory && !exit.unknown) return;  // it had nothing to do
  // Workers of one container that die together are one failure.
  if (plan_.containers[i].workers > 1 && c.backoff != Duration{0} && now.mono - c.running_since < 1s) return;
  const bool unknown = exit.unknown && !exit.out_of_memory && exit.signal == 0;
  const std::string_view reason = exit.out_of_memory ? "OOMKilled" : unknown ? "ContainerStatusUnknown" : exit.code == 65 ? "StartError" : "Error";
  if (exit.out_of_memory && exit.signal == 0 && exit.code == 0) exit.signal = 9;
  if (unknown) {
    exit.code = 137;
    exit.message = "How the container ended is not known: it outlived the keeper that had started it, this kernel keeps no exit status for the next one, "
                   "and it did not end in order";
  }
  const std::string name = plan_.containers[i].name;
  std::string text = exit.signal != 0 ? std::format("signal {}", exit.signal) : std::format("exit code {}", exit.code);
  if (exit.out_of_memory) text += ", out of memory: raise limits.memory or let the module use less";
  if (!exit.message.empty()) text += ": " + exit.message;
  if (exit.requests_lost > 0) text += std::format("; {} requests were lost", exit.requests_lost);
  set_ended(c, exit, now, reason);
  c.relog = true;
  if (plan_.restart == RestartPolicy::Never) {
    c.end = c.last;
    c.last.reset();
    c.stage = Stage::Ended;
    event(Type::Warning, i, "Failed", std::format("Container {} ended ({}) and its restart policy is Never", name, text));
    return;
  }
  if (now.mono - c.running_since >= options_->backoff_forgotten_after) c.backoff = Duration{0};
  if (c.backoff == Duration{0}) {  // the first time: again at once; the listener stayed open all the while
    c.backoff = options_->backoff_first;
    ++c.restarts;
    c.started = now.wall;
    c.running_since = now.mono;
    event(Type::Warning, i, "Restarted", std::format("Container {} ended ({}) and was made ready again", name, text));
    return;
  }
  c.until = now.mono + c.backoff;
  wait(c, Stage::CrashBackoff, "CrashLoopBackOff",
       std::format("back-off {} restarting failed container={} pod={}_{}({})", to_human(c.backoff), name, object_->name(), object_->namespace_(), object_->uid()));
  event(Type::Warning, i, "BackOff", std::format("Back-off {} restarting failed container {}: {}", to_human(c.backoff), name, text));
  c.backoff = std::min(c.backoff * 2, options_->backoff_max);
}

void PodCore::on_stopped(std::size_t i, Exit exit, Now now) {
  Container& c = containers_[i];
  c.awake = 0;
  if (c.drop_at) c.drop_at = now.mono;
  if (c.stage != Stage::Stopping) return;
  c.drop_at.reset();
  c.in_keeper = true;  // it is still in the keeper's table, stopped: end_pod() drops it
  set_ended(c, exit, now, exit.signal != 0 || exit.code != 0 ? "Error" : "Completed");
  c.end = c.last;
  c.last.reset();
  c.stage = Stage::Ended;
}

void PodCore::evict(std::string message, Now now) {
  if (ended()) return;
  evicted_ = std::move(message);
  event(Type::Warning, 0, "Evicted", evicted_);
  for (Container& c : containers_) {
    set_ended(c, {.code = 137}, now, "Evicted");
    c.end = c.last;
    c.last.reset();
    c.stage = Stage::Ended;
  }
}

// --- decisions ----------------------------------------------------------------------------------------------------

bool PodCore::ready() const {
  return !plan_.deleting && held_.empty() && std::ranges::all_of(containers_, [](const Container& c) { return c.stage == Stage::Serving; });
}
bool PodCore::starting() const {
  return !ended() && !held() && !plan_.refusal && std::ranges::all_of(containers_, [](const Container& c) {
    const bool under_way = c.stage == Stage::Start || c.stage == Stage::Preparing || c.stage == Stage::Prepared || c.stage == Stage::Opening || c.stage == Stage::Putting;
    return c.stage == Stage::Serving || (under_way && (c.waiting_reason.empty() || c.waiting_reason == "ContainerCreating"));
  });
}
bool PodCore::ended() const {
  return vanished_ || plan_.deleting || plan_.finished || !evicted_.empty() ||
         std::ranges::all_of(containers_, [](const Container& c) { return c.stage == Stage::Ended; });
}
std::string_view PodCore::waiting(std::size_t i) const {
  const Container& c = containers_[i];
  if (c.started || c.last || c.end || c.stage == Stage::Ended) return {};
  return c.waiting_reason.empty() ? std::string_view("ContainerCreating") : std::string_view(c.waiting_reason);
}
std::string_view PodCore::image_key(std::size_t i) const {
  return containers_[i].image ? std::string_view(containers_[i].image->key) : std::string_view();
}

std::vector<Command> PodCore::poll(Now now, const References& references) {
  std::vector<Command> out;
  if (forgotten_) return out;
  if (!start_time_) start_time_ = now.wall;
  if (plan_.deleting) {
    end_pod(now, out);
  } else if (plan_.finished) {
    for (std::size_t i = 0; i < containers_.size(); ++i)
      if (containers_[i].in_keeper) {
        out.push_back(command::Drop{i, containers_[i].id});
        containers_[i].in_keeper = false;
        containers_[i].drop_at.reset();
      }
    if (!released_ && !address_.empty()) {
      released_ = true;
      out.push_back(command::Release{});
    }
    return out;  // the server's word on it is the last
  } else if (plan_.refusal) {
    for (Container& c : containers_)
      if (c.stage != Stage::Ended) wait(c, Stage::Start, plan_.refusal->reason, plan_.refusal->message);
    if (!refusal_reported_) event(Type::Warning, 0, plan_.refusal->reason, plan_.refusal->message);
    refusal_reported_ = true;
  } else {
    refused_by_node_.clear();
    runtime_unknown_ = false;
    if (!plan_.runtime_class.empty()) {
      const auto found = references.runtime_class(plan_.runtime_class);
      runtime_unknown_ = found.state == References::State::Unknown;
      if (found.state == References::State::Missing) {
        refused_by_node_ = std::format("RuntimeClass {} does not exist: create it with handler wasmedge", plan_.runtime_class);
      } else if (found.state == References::State::Present) {
        const kube::JsonDoc doc = found.object->parse();
        const std::string_view handler = doc.root()["handler"].str();
        if (std::ranges::find(kServedRuntimes, handler) == std::end(kServedRuntimes))
          refused_by_node_ = std::format("RuntimeClass {} asks for the handler {}, which this node does not have; it has wasmedge",
                                         plan_.runtime_class, handler);
      }
    }
    pull_secret_unknown_ = std::ranges::any_of(plan_.pull_secrets, [&](const std::string& name) {
      return references.secret(object_->namespace_(), name).state == References::State::Unknown;
    });
    for (std::size_t i = 0; i < containers_.size(); ++i) step(i, now, references, out);
    config_retry_ = false;
    const bool all_gone = std::ranges::all_of(containers_, [](const Container& c) { return c.stage == Stage::Ended && !c.in_keeper; });
    if (all_gone && !released_ && !address_.empty()) {
      released_ = true;
      out.push_back(command::Release{});
    }
  }
  for (Command& e : std::exchange(events_, {})) out.push_back(std::move(e));  // their memory too: a node has many pods
  if (!vanished_) {
    std::string status = build_status(now);
    if (const std::size_t hash = std::hash<std::string>{}(status); hash != posted_) {
      posted_ = hash;
      // Before Delete and Forget, which end_pod may have put last.
      auto at = std::ranges::find_if(out, [](const Command& c) {
        return std::holds_alternative<command::Delete>(c) || std::holds_alternative<command::Forget>(c);
      });
      out.insert(at, command::PostStatus{std::move(status)});
    }
  }
  return out;
}

void PodCore::step(std::size_t i, Now now, const References& references, std::vector<Command>& out) {
  Container& c = containers_[i];
  const ContainerPlan& plan = plan_.containers[i];
  const bool answer_on_its_way = c.stage == Stage::Opening || c.stage == Stage::Putting;
  if (held() && now.mono >= hold_at_ && c.stage != Stage::Start && c.stage != Stage::Stopping && c.stage != Stage::Ended && !answer_on_its_way) {
    lay_down(c, i, now);
    wait(c, Stage::Start, "ScaledDown", held_);
  }
  // Out of the keeper while it must not run: nobody wakes it. What is inside its other workers, or in one that a connection has
  // woken since, is finished first, within the grace; an evicted pod has none.
  const bool must_not_run = c.stage == Stage::CrashBackoff || c.stage == Stage::Ended || c.stage == Stage::Start;
  if (c.in_keeper && !c.drop_at && must_not_run && evicted_.empty()) {
    out.push_back(command::Stop{i, c.id, plan_.grace});
    c.drop_at = now.mono + plan_.grace + options_->stop_slack;
  } else if (c.in_keeper && (c.drop_at && evicted_.empty() ? now.mono >= *c.drop_at : must_not_run)) {
    out.push_back(command::Drop{i, c.id});
    c.in_keeper = false;
    c.drop_at.reset();
    c.awake = 0;
  }
  if (c.stage == Stage::Serving && c.relog) {
    c.relog = false;
    out.push_back(command::Relog{i, c.id, c.restarts});
  }
  if (c.stage == Stage::CrashBackoff && now.mono >= c.until) {
    ++c.restarts;
    wait(c, c.image ? Stage::Prepared : Stage::Start, "ContainerCreating", "");
  }
  if ((c.stage == Stage::ImageBackoff) && now.mono >= c.until) c.stage = Stage::Start;
  if (c.stage == Stage::ListenBackoff && now.mono >= c.until) c.stage = Stage::Prepared;
  if (c.stage == Stage::ConfigError && (config_retry_ || now.mono >= c.until)) c.stage = Stage::Prepared;
  if (c.stage == Stage::Start && held()) {
    if (c.waiting_reason != "ScaledDown") wait(c, Stage::Start, "ScaledDown", held_);
    if (c.listening && !c.in_keeper) {
      c.listening = false;
      out.push_back(command::CloseListener{i});
    }
    return;
  }
  if (c.stage == Stage::Start) {
    if (!refused_by_node_.empty()) {
      if (c.waiting_message != refused_by_node_) event(Type::Warning, i, "Unsupported", refused_by_node_);
      wait(c, Stage::Start, "Unsupported", refused_by_node_);
      return;
    }
    if (runtime_unknown_ || (pull_secret_unknown_ && plan.pull != PullPolicy::Never)) {  // the answer is on its way
      wait(c, Stage::Start, "ContainerCreating", "");
      return;
    }
    const bool again = !c.waiting_reason.empty() && c.waiting_reason != "ContainerCreating";
    c.stage = Stage::Preparing;
    if (!again) wait(c, Stage::Preparing, "ContainerCreating", "");
    out.push_back(command::PrepareImage{i, plan.image, plan.pull, plan_.annotations.wagi});
    return;
  }
  if (c.stage == Stage::Prepared && !c.drop_at) open_and_put(i, now, references, out);
}

bool PodCore::open_and_put(std::size_t i, Now now, const References& references, std::vector<Command>& out) {
  Container& c = containers_[i];
  const ContainerPlan& plan = plan_.containers[i];
  if (address_.empty()) {
    if (address_retry_ && now.mono >= *address_retry_) {
      address_retry_.reset();
      address_asked_ = false;
    }
    c.waiting_message = address_error_;
    if (!address_asked_) out.push_back(command::AllocateAddress{});
    address_asked_ = true;
    return false;
  }
  if (!c.listening) {
    c.stage = Stage::Opening;
    out.push_back(command::OpenListener{i, address_, plan.port});
    return false;
  }
  auto environment = resolve_environment(*object_, plan.name, references, {options_->node_name, address_, options_->host_ip}, c.image->defaults);
  if (!environment) {
    const Error& error = environment.error();
    if (error.code == Errc::Unavailable) {
      wait(c, Stage::Prepared, "ContainerCreating", error.what);
      return false;
    }
    const std::string_view reason = error.code == Errc::Unsupported ? "Unsupported" : "CreateContainerConfigError";
    if (c.waiting_message != error.what) event(Type::Warning, i, reason == "Unsupported" ? "Unsupported" : "Failed", "Error: " + error.what);
    wait(c, Stage::ConfigError, reason, error.what);
    c.until = now.mono + options_->backoff_first;
    return false;
  }
  command::Put put{.container = i, .id = c.id, .image_key = c.image->key, .assignment = {}, .cpu_millis_max = plan.cpu_millis_max,
                   .cpu_millis_request = plan.cpu_millis_request, .attempt = c.restarts};
  sandbox::Assignment& a = put.assignment;
  a.pod_uid = object_->uid();
  a.pod_namespace = object_->namespace_();
  a.pod_name = object_->name();
  a.container_name = plan.name;
  a.image_ref = plan.image;
  a.kind = c.image->kind;
  a.isolation = plan_.annotations.isolation;
  a.env = std::move(environment->env);
  a.args = std::move(environment->args);
  a.config = plan_.annotations.config;
  a.server_name = address_;
  a.server_port = plan.port;
  a.workers = plan.workers;
  a.request_deadline = plan_.annotations.request_deadline;
  a.idle_after = plan_.annotations.idle_after;
  a.memory_bytes_max = static_cast<std::uint64_t>(plan.memory_bytes_max);
  c.stage = Stage::Putting;
  c.relog = false;
  out.push_back(std::move(put));
  return true;
}

void PodCore::end_pod(Now now, std::vector<Command>& out) {
  bool all_ended = true;
  // No longer ready, but still listening: connections that a Service sends in the meantime are served, not refused.
  const bool serves = leaving();
  if (!stop_at_) stop_at_ = now.mono + std::min(options_->lame_duck, plan_.grace / 2);
  if (serves && !vanished_ && plan_.grace > Duration{0} && now.mono < *stop_at_) return;
  for (std::size_t i = 0; i < containers_.size(); ++i) {
    Container& c = containers_[i];
    if (c.stage == Stage::Ended) {
      if (c.in_keeper && c.drop_at && now.mono < *c.drop_at) {
        all_ended = false;  // its other workers are being drained
        continue;
      }
      if (c.in_keeper) out.push_back(command::Drop{i, c.id});
      c.in_keeper = false;
      c.drop_at.reset();
      continue;
    }
    const bool held = c.in_keeper || c.stage == Stage::Putting;
    if (c.stage != Stage::Stopping) {
      if (held) {
        c.stage = Stage::Stopping;
        c.drop_at.reset();
        c.until = now.mono + plan_.grace + options_->stop_slack;
        out.push_back(command::Stop{i, c.id, plan_.grace});
        event(Type::Normal, i, "Killing", std::format("Stopping container {}", plan_.containers[i].name));
      } else {
        if (c.started || c.restarts > 0) c.end = c.last ? c.last : std::make_shared<const Ended>(Ended{.reason = "Completed", .started = c.started.value_or(now.wall), .finished = now.wall});
        c.stage = Stage::Ended;
        continue;
      }
    }
    if (now.mono >= c.until || (vanished_ && plan_.grace == Duration{0} && c.until > now.mono + options_->stop_slack)) {
      if (now.mono >= c.until) {  // the keeper does not answer
        out.push_back(command::Drop{i, c.id});
        on_stopped(i, {.code = 137}, now);
        continue;
      }
      c.until = now.mono + options_->stop_slack;  // the object vanished while its containers were drained: kill
      out.push_back(command::Stop{i, c.id, Duration{0}});
    }
    all_ended = false;
  }
  if (!all_ended) return;
  if (!released_) {
    released_ = true;
    out.push_back(command::Release{});
  }
  if (vanished_) {
    forgotten_ = true;
    out.push_back(command::Forget{});
  } else if (!delete_sent_) {
    delete_sent_ = true;
    out.push_back(command::Delete{object_->uid()});
  }
}

std::optional<Instant> PodCore::deadline() const {
  std::optional<Instant> first;
  const auto consider = [&](Instant t) {
    if (!first || t < *first) first = t;
  };
  if (forgotten_) return first;
  for (const Container& c : containers_) {
    if (c.drop_at && !plan_.refusal) consider(*c.drop_at);
    switch (c.stage) {
      case Stage::ImageBackoff:
      case Stage::ConfigError:
      case Stage::ListenBackoff:
      case Stage::CrashBackoff:
        if (!plan_.deleting && !plan_.finished) consider(c.until);
        break;
      case Stage::Stopping: consider(c.until); break;
      default: break;
    }
  }
  // Only where somebody will ask for it: what is held, refused or over does not, and would be due for ever.
  const bool asks = std::ranges::any_of(containers_, [](const Container& c) { return c.stage == Stage::Prepared && !c.drop_at; });
  if (address_retry_ && address_.empty() && !plan_.deleting && !plan_.finished && !plan_.refusal && evicted_.empty() && asks) consider(*address_retry_);
  if (held() && std::ranges::any_of(containers_, [](const Container& c) { return c.stage == Stage::Serving; })) consider(hold_at_);
  if (stop_at_ && std::ranges::any_of(containers_, [](const Container& c) { return c.stage == Stage::Serving; })) consider(*stop_at_);
  return first;
}

}  // namespace skerry::agent
