// SPDX-License-Identifier: Apache-2.0
// The two texts that a PodCore makes: the status that the API server and kubectl read, and the state that the checkpoint keeps.
#include <algorithm>
#include <format>

#include "agent/pod_core.h"
#include "base/text.h"

namespace skerry::agent {

using kube::Json;
using kube::JsonEdit;
using kube::MutJson;

class StatusBuilder {
 public:
  StatusBuilder(PodCore& core, Now now) : core_(core), now_(now) {}

  std::string run() {
    MutJson root = edit_.root();
    root.object("metadata").set("uid", core_.object_->uid());  // a re-created pod of the same name refuses this patch
    MutJson status = root.object("status");
    status.set("phase", phase());
    if (!core_.evicted_.empty()) {
      status.set("reason", "Evicted");
      status.set("message", core_.evicted_);
    }
    conditions(status.array("conditions"));
    status.set("hostIP", core_.options_->host_ip);
    if (!core_.options_->host_ip.empty()) status.array("hostIPs").push_object().set("ip", core_.options_->host_ip);
    if (!core_.address_.empty()) {
      status.set("podIP", core_.address_);
      status.array("podIPs").push_object().set("ip", core_.address_);
    }
    status.set("startTime", to_rfc3339(*core_.start_time_));
    MutJson list = status.array("containerStatuses");
    for (std::size_t i = 0; i < core_.containers_.size(); ++i) container(list.push_object(), i);
    return edit_.dump();
  }

 private:
  using Stage = PodCore::Stage;

  std::string_view phase() const {
    const auto& all = core_.containers_;
    if (!core_.evicted_.empty()) return "Failed";
    const bool ended = std::ranges::all_of(all, [](const auto& c) { return c.stage == Stage::Ended; });
    if (ended) {
      const bool ran = std::ranges::any_of(all, [](const auto& c) { return c.end != nullptr; });
      const bool failed = std::ranges::any_of(all, [](const auto& c) { return c.end && c.end->code != 0; });
      return failed || !ran ? "Failed" : "Succeeded";
    }
    // Running from the first start of all its containers on, whatever becomes of them.
    const bool started = std::ranges::all_of(all, [](const auto& c) { return c.started || c.end || c.last; });
    return started ? "Running" : "Pending";
  }

  void condition(MutJson list, std::string_view type, PodCore::Condition& c, bool value, std::string_view reason, const std::string& message) {
    if (!c.known || c.value != value) {
      c.known = true;
      c.value = value;
      c.since = now_.wall;
    }
    MutJson out = list.push_object();
    out.set("type", type);
    out.set("status", value ? "True" : "False");
    out.set("lastTransitionTime", to_rfc3339(c.since));
    if (!value) {
      out.set("reason", reason);
      out.set("message", message);
      c.explained = true;
    } else if (c.explained) {  // a patch must clear what an earlier one said
      out.set_null("reason");
      out.set_null("message");
    }
  }

  void conditions(MutJson list) {
    std::string unready;
    for (std::size_t i = 0; i < core_.containers_.size(); ++i)
      if (core_.containers_[i].stage != Stage::Serving && core_.containers_[i].stage != Stage::Stopping)
        unready += (unready.empty() ? "" : " ") + core_.plan_.containers[i].name;
    const bool ended = phase() == "Succeeded" || phase() == "Failed";
    const std::string_view reason = ended ? "PodCompleted" : "ContainersNotReady";
    const std::string message = ended ? "" : std::format("containers with unready status: [{}]", unready);
    if (core_.tells_scheduled_ && core_.start_time_) {
      MutJson scheduled = list.push_object();
      scheduled.set("type", "PodScheduled");
      scheduled.set("status", "True");
      scheduled.set("lastTransitionTime", to_rfc3339(*core_.start_time_));
    }
    condition(list, "Initialized", core_.initialized_, true, "", "");
    const bool held = core_.held() && unready.empty();
    condition(list, "Ready", core_.ready_, core_.ready(), core_.plan_.deleting && unready.empty() ? "PodTerminating" : held ? "ScaledDown" : reason,
              core_.plan_.deleting && unready.empty() ? "the pod is being deleted" : held ? core_.held_ : message);
    condition(list, "ContainersReady", core_.containers_ready_, unready.empty(), reason, message);
  }

  void ended(MutJson state, const PodCore::Ended& e, const std::string& id) {
    MutJson out = state.object("terminated");
    out.set("exitCode", e.code);
    if (e.signal != 0) out.set("signal", e.signal);
    out.set("reason", e.reason);
    if (!e.message.empty()) out.set("message", e.message);
    out.set("startedAt", to_rfc3339(e.started));
    out.set("finishedAt", to_rfc3339(e.finished));
    out.set("containerID", id);
  }

  void container(MutJson out, std::size_t i) {
    const auto& c = core_.containers_[i];
    const ContainerPlan& plan = core_.plan_.containers[i];
    const bool running = c.stage == Stage::Serving || c.stage == Stage::Stopping;
    const std::string id = std::format("skerry://{:016x}", c.id.value());
    out.set("name", plan.name);
    MutJson state = out.object("state");
    if (running && c.started) {
      state.object("running").set("startedAt", to_rfc3339(*c.started));
    } else if (c.end) {
      ended(state, *c.end, id);
    } else {
      MutJson waiting = state.object("waiting");
      waiting.set("reason", c.stage == Stage::Ended ? "ContainerCreating" : c.waiting_reason.empty() ? "ContainerCreating" : c.waiting_reason);
      if (!c.waiting_message.empty()) waiting.set("message", c.waiting_message);
    }
    MutJson last = out.object("lastState");
    if (c.last) ended(last, *c.last, id);
    out.set("ready", running);
    out.set("restartCount", static_cast<std::int64_t>(c.restarts));
    out.set("image", plan.image);
    out.set("imageID", c.image ? c.image->image_id : "");
    if (c.started || c.end) out.set("containerID", id);
    out.set("started", running);
  }

  PodCore& core_;
  Now now_;
  JsonEdit edit_;
};

std::string PodCore::build_status(Now now) { return StatusBuilder(*this, now).run(); }

std::string PodCore::status(Now now) const {
  PodCore copy(*this);  // telling it here does not count as having told the API server
  if (!copy.start_time_) copy.start_time_ = now.wall;
  return copy.build_status(now);
}

namespace {

// What of a status others act upon.
std::string summary_of(Json status) {
  std::string out = std::format("{} {}", status["phase"].str(), status["podIP"].str());
  for (Json condition : status["conditions"].items())
    if (condition["type"].str() == "Ready") out += std::format(" {}", condition["status"].str());
  for (Json container : status["containerStatuses"].items())
    out += std::format(" {}:{}:{}", container["name"].str(), container["restartCount"].i64(), container["image"].str());
  return out;
}

}  // namespace

bool PodCore::repeat_if_otherwise(const kube::Object& shown, Now now) {
  if (shown.uid() != object_->uid() || vanished_ || plan_.finished || !start_time_) return false;
  if (delete_sent_) {  // it was taken, and the pod is still there
    delete_sent_ = false;
    return true;
  }
  const std::string text = status(now);
  if (std::hash<std::string>{}(text) != posted_) return false;  // it is told next
  const kube::JsonDoc theirs = shown.parse();
  const auto mine = kube::JsonDoc::parse(text);
  if (!mine || summary_of(theirs.root()["status"]) == summary_of(mine->root()["status"])) return false;
  posted_ = 0;
  return true;
}

std::string PodCore::save() const {
  JsonEdit edit;
  MutJson root = edit.root();
  root.set("address", address_);
  if (start_time_) root.set("start", to_rfc3339_nano(*start_time_));
  if (!evicted_.empty()) root.set("evicted", evicted_);
  if (vanished_) root.set("vanished", true);
  if (released_) root.set("released", true);
  const auto put_ended = [](MutJson out, const Ended& e) {
    out.set("code", e.code);
    out.set("signal", e.signal);
    out.set("reason", e.reason);
    out.set("message", e.message);
    out.set("started", to_rfc3339_nano(e.started));
    out.set("finished", to_rfc3339_nano(e.finished));
  };
  const auto put_condition = [&](const char* name, const Condition& c) {
    if (!c.known) return;
    MutJson out = root.object(name);
    out.set("value", c.value);
    out.set("since", to_rfc3339_nano(c.since));
    if (c.explained) out.set("explained", true);
  };
  put_condition("initialized", initialized_);
  put_condition("ready", ready_);
  put_condition("containersReady", containers_ready_);
  MutJson list = root.array("containers");
  for (const Container& c : containers_) {
    MutJson out = list.push_object();
    out.set("id", std::to_string(c.id.value()));
    // What matters after a restart: ended, or in a crash back-off, or to be run.
    out.set("stage", c.stage == Stage::Ended ? "ended" : c.stage == Stage::CrashBackoff ? "crash-backoff" : "run");
    out.set("restarts", static_cast<std::int64_t>(c.restarts));
    out.set("backoffMs", static_cast<std::int64_t>(c.backoff / 1ms));
    if (c.started) out.set("started", to_rfc3339_nano(*c.started));
    if (c.image) {
      MutJson image = out.object("image");
      image.set("id", c.image->image_id);
      image.set("key", c.image->key);
      image.set("kind", static_cast<std::int64_t>(c.image->kind));
      for (const auto& [name, words] : {std::pair{"env", &c.image->defaults.env}, {"arguments", &c.image->defaults.arguments}}) {
        if (words->empty()) continue;
        MutJson to = image.array(name);
        for (const auto& word : *words) to.push(word);
      }
    }
    if (c.last) put_ended(out.object("last"), *c.last);
    if (c.end) put_ended(out.object("end"), *c.end);
  }
  return edit.dump();
}

Result<PodCore> PodCore::restore(const Options& options, kube::ObjectPtr object, PodPlan plan, Json saved, Now now) {
  const std::string who = std::format("checkpoint of pod {}/{}", object->namespace_(), object->name());
  const auto bad = [&](std::string_view what) { return Fail({Errc::Corrupt, std::format("{}: {}", who, what)}); };
  if (saved["containers"].size() != plan.containers.size()) return bad("its containers are not those of the pod");
  std::vector<KeeperId> ids;
  for (Json c : saved["containers"].items()) {
    const auto id = parse_int<std::uint64_t>(c["id"].str());
    if (!id) return bad("a container has no id");
    ids.push_back(KeeperId(*id));
  }
  PodCore core(options, std::move(object), std::move(plan), std::move(ids));
  core.address_ = saved["address"].str();
  core.address_asked_ = !core.address_.empty();
  core.start_time_ = from_rfc3339(saved["start"].str());
  core.evicted_ = saved["evicted"].str();
  if (saved["vanished"].boolean()) core.on_vanished();
  core.released_ = saved["released"].boolean();
  const auto get_ended = [&](Json j) {
    return Ended{.code = static_cast<int>(j["code"].i64()), .signal = static_cast<int>(j["signal"].i64()), .reason = std::string(j["reason"].str()),
                 .message = std::string(j["message"].str()), .started = from_rfc3339(j["started"].str()).value_or(now.wall),
                 .finished = from_rfc3339(j["finished"].str()).value_or(now.wall)};
  };
  const auto get_condition = [&](const char* name, Condition& c) {
    if (!saved[name]) return;
    c = {.since = from_rfc3339(saved[name]["since"].str()).value_or(now.wall), .value = saved[name]["value"].boolean(), .known = true, .explained = saved[name]["explained"].boolean()};
  };
  get_condition("initialized", core.initialized_);
  get_condition("ready", core.ready_);
  get_condition("containersReady", core.containers_ready_);
  std::size_t i = 0;
  for (Json j : saved["containers"].items()) {
    Container& c = core.containers_[i++];
    c.restarts = static_cast<std::uint32_t>(std::clamp<std::int64_t>(j["restarts"].i64(), 0, 1 << 30));
    c.backoff = std::clamp<Duration>(std::chrono::milliseconds(j["backoffMs"].i64()), Duration{0}, options.backoff_max);
    c.started = from_rfc3339(j["started"].str());
    c.running_since = now.mono;
    if (const Json image = j["image"]) {
      PreparedImage prepared{.image_id = std::string(image["id"].str()), .key = std::string(image["key"].str()),
                             .kind = image["kind"].i64() == 2 ? sandbox::GuestKind::Wagi : sandbox::GuestKind::HttpHandler};
      for (Json word : image["env"].items()) prepared.defaults.env.emplace_back(word.str());
      for (Json word : image["arguments"].items()) prepared.defaults.arguments.emplace_back(word.str());
      c.image = std::make_shared<const PreparedImage>(std::move(prepared));
    }
    if (j["last"]) c.last = std::make_shared<const Ended>(get_ended(j["last"]));
    if (j["end"]) c.end = std::make_shared<const Ended>(get_ended(j["end"]));
    const std::string_view stage = j["stage"].str();
    if (stage == "ended") {
      c.stage = Stage::Ended;
    } else if (stage == "crash-backoff") {
      c.until = now.mono + c.backoff;
      core.wait(c, Stage::CrashBackoff, "CrashLoopBackOff", std::format("back-off {} restarting failed container={}", to_human(c.backoff), core.plan_.containers[i - 1].name));
    }
  }
  return core;
}

}  // namespace skerry::agent
