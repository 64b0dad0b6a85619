// SPDX-License-Identifier: Apache-2.0
#include "agent/intents_core.h"

#include <algorithm>
#include <format>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace skerry::agent {
namespace {

using Field = LocalChange::Field;
using Stage = Intent::Stage;

template <class... Ts>
struct overloaded : Ts... {
  using Ts::operator()...;
};

constexpr std::string_view name_of(Field f) { return f == Field::Replicas ? "replicas" : "restartedAt"; }
std::int64_t number(std::string_view text) { return parse_int<std::int64_t>(text).value_or(0); }
std::string title(const LocalChange& c) { return std::format("{} {}/{}", name_of(c.field), c.namespace_, c.name); }

// How many of the server's pods here are more than what is wanted.
std::size_t surplus_of(const Intent& intent, const std::vector<IntentPod>& servers) {
  const std::int64_t value = number(intent.change.value);
  return value < number(intent.before) && std::cmp_less(value, servers.size()) ? servers.size() - static_cast<std::size_t>(value) : 0;
}
// Pods that are gone, and those that are not too many any more, the oldest first, are held no longer.
void let_go(Intent& intent, const std::vector<IntentPod>& servers, std::size_t surplus) {
  std::erase_if(intent.held, [&](const std::string& uid) { return std::ranges::find(servers, uid, &IntentPod::uid) == servers.end(); });
  for (auto p = servers.rbegin(); p != servers.rend() && intent.held.size() > surplus; ++p) intent.held.erase(p->uid);
}

// Who goes first: stand-ins before the server's pods is the caller's; then not ready, then the youngest.
bool goes_before(const IntentPod& a, const IntentPod& b) {
  if (a.ready != b.ready) return !a.ready;
  if (a.created != b.created) return a.created > b.created;
  return a.uid < b.uid;
}
std::vector<IntentPod> sorted(const std::vector<IntentPod>& pods, auto keep) {
  std::vector<IntentPod> out;
  std::ranges::copy_if(pods, std::back_inserter(out), keep);
  std::ranges::sort(out, goes_before);
  return out;
}

void put_all(kube::MutJson list, const std::set<std::string>& all) {
  for (const std::string& one : all) list.push(one);
}
void get_all(kube::Json list, std::set<std::string>& out) {
  for (const kube::Json one : list.items()) out.emplace(one.str());
}

}  // namespace

std::string describe(const Act& a) {
  return std::visit(overloaded{
                        [](const act::Save& x) {
                          return std::format("save {} {} {}→{}{}{}{}", x.intent.id, title(x.intent.change), x.intent.before, x.intent.change.value,
                                             x.intent.stage == Stage::Settling ? " settling" : "", x.intent.held.empty() ? "" : std::format(" held {}", x.intent.held.size()),
                                             (x.intent.sent.empty() ? std::string() : std::format(" sent {}", x.intent.sent.size())) + (x.intent.todo.empty() ? std::string() : std::format(" todo {}", x.intent.todo.size())));
                        },
                        [](const act::Remove& x) { return std::format("remove {}", x.id); },
                        [](const act::Hold& x) { return "hold " + x.uid; },
                        [](const act::Release& x) { return "release " + x.uid; },
                        [](const act::Make& x) { return std::format("make {} stand-ins of {}", x.count, x.id); },
                        [](const act::End& x) { return "end " + x.uid; },
                        [](const act::Restart& x) { return "restart " + x.uid; },
                        [](const act::Replay& x) { return std::format("replay {} {} {}→{}", x.intent.id, title(x.intent.change), x.intent.before, x.intent.change.value); },
                        [](const act::Tell& x) { return std::format("tell {} {}: {}", x.warning ? "Warning" : "Normal", x.reason, x.message); },
                    },
                    a);
}

// --- on the disk ------------------------------------------------------------------------------------------------------------

std::string Intent::save() const {
  kube::JsonEdit edit;
  kube::MutJson root = edit.root();
  root.set("field", name_of(change.field));
  root.set("namespace", change.namespace_);
  root.set("name", change.name);
  root.set("uid", change.uid);
  root.set("before", before);
  put_all(root.array("sent"), sent);
  root.set("value", change.value);
  root.set("made", to_rfc3339(made));
  root.set("stage", stage == Stage::Waiting ? "waiting" : "settling");
  root.set("standIns", stand_ins);
  put_all(root.array("held"), held);
  put_all(root.array("known"), known);
  put_all(root.array("todo"), todo);
  return edit.dump();
}

Result<Intent> Intent::restore(IntentId id, std::string_view json) {
  TRY(const auto doc, kube::JsonDoc::parse(json));
  const kube::Json j = doc.root();
  Intent out;
  out.id = id;
  out.change = {.namespace_ = std::string(j["namespace"].str()), .name = std::string(j["name"].str()), .uid = std::string(j["uid"].str()),
                .field = j["field"].str() == name_of(Field::Replicas) ? Field::Replicas : Field::RestartedAt, .value = std::string(j["value"].str())};
  out.before = j["before"].str();
  out.made = from_rfc3339(j["made"].str()).value_or(Time{});
  out.stage = j["stage"].str() == "settling" ? Stage::Settling : Stage::Waiting;
  out.stand_ins = std::max<std::int64_t>(j["standIns"].i64(), 0);
  get_all(j["sent"], out.sent);
  get_all(j["held"], out.held);
  get_all(j["known"], out.known);
  get_all(j["todo"], out.todo);
  const bool known_field = j["field"].str() == name_of(out.change.field);
  if (id == 0 || !known_field || out.change.uid.empty() || out.change.name.empty() || (out.change.field == Field::Replicas && !parse_int<std::int64_t>(out.change.value)))
    return Fail({Errc::Corrupt, std::format("intent {} of the checkpoint is not readable", id)});
  return out;
}

void IntentsCore::restore(Intent intent, Instant now) {
  next_ = std::max(next_, intent.id + 1);
  Run run;
  if (intent.stage == Stage::Settling) run.until = now + options_.settle_max;  // nobody waited while we were off
  runs_[intent.id] = std::move(run);
  intents_[intent.id] = std::move(intent);
}

// --- changes ----------------------------------------------------------------------------------------------------------------

const Intent* IntentsCore::find(std::string_view uid, Field field) const {
  for (const auto& [id, intent] : intents_)
    if (intent.change.uid == uid && intent.change.field == field) return &intent;
  return nullptr;
}
const Intent* IntentsCore::waiting(std::string_view uid, Field field) const {
  const Intent* found = find(uid, field);
  return found != nullptr && found->stage == Stage::Waiting ? found : nullptr;
}

Result<Intent> IntentsCore::plan(const LocalChange& change, std::string_view server_value, const std::vector<IntentPod>& pods, Time wall) const {
  if (change.field == Field::Replicas) {
    const auto n = parse_int<std::int64_t>(change.value);
    if (!n || *n < 0 || *n > options_.replicas_max)
      return Fail({Errc::Invalid, std::format("{} is no number of replicas that a node takes by itself: give 0 to {}", change.value, options_.replicas_max)});
  } else if (change.value.empty() || change.value.size() > 256) {
    return Fail({Errc::Invalid, "the restart annotation is a time: use kubectl rollout restart"});
  }
  const Intent* former = find(change.uid, change.field);
  if (former == nullptr && intents_.size() >= options_.intents_max)
    return Fail({Errc::Exhausted, std::format("{} changes wait already for the control plane to come back, which is the limit", intents_.size())});
  Intent out;
  out.id = former != nullptr ? former->id : next_;
  out.change = change;
  out.before = former != nullptr && former->stage == Stage::Waiting ? former->before : std::string(server_value);
  out.made = wall;
  if (former != nullptr && former->stage == Stage::Waiting) out.sent = former->sent;
  if (former != nullptr) out.held = former->held;
  if (change.field == Field::Replicas) out.stand_ins = std::max<std::int64_t>(number(change.value) - number(out.before), 0);
  else
    for (const IntentPod& pod : pods)
      if (!pod.held) out.todo.insert(pod.uid);
  return out;
}

std::int64_t IntentsCore::room_needed(const Intent& intent, const std::vector<IntentPod>& pods) {
  const auto there = std::ranges::count_if(pods, [&](const IntentPod& p) { return p.stand_in == intent.id && !p.ended; });
  return std::max<std::int64_t>(intent.stand_ins - there, 0);
}

void IntentsCore::accept(Intent intent) {
  CHECK(intent.id != 0);
  next_ = std::max(next_, intent.id + 1);
  const IntentId id = intent.id;
  // A replay of the former value may have begun while this one was written down.
  if (const auto former = intents_.find(id); former != intents_.end() && former->second.stage == Intent::Stage::Waiting) intent.sent.insert(former->second.sent.begin(), former->second.sent.end());
  if (drops(intent)) return finish(id);
  Run& run = runs_[id];
  run.until.reset();
  run.make_backoff = Duration{0};
  run.restarting.clear();
  intents_[id] = std::move(intent);
  unsaved_.insert(id);  // an older Save of it, or its removal, may still wait for the disk and come behind the caller's write
}

void IntentsCore::finish(IntentId id) {
  if (intents_.erase(id) > 0) pending_.emplace_back(act::Remove{id});
  runs_.erase(id);
  unsaved_.erase(id);
}

// --- the server -------------------------------------------------------------------------------------------------------------

void IntentsCore::on_line(bool connected, Instant now) {
  if (connected && !connected_) {
    backoff_ = Duration{0};
    replay_at_ = now;
  }
  connected_ = connected;
}

void IntentsCore::on_replayed(IntentId id, Verdict verdict, std::string text, Instant now) {
  if (replaying_ == id) replaying_ = 0;
  const auto it = intents_.find(id);
  if (it == intents_.end()) return;
  Intent& intent = it->second;
  Run& run = runs_[id];
  const std::string sent = std::exchange(run.sent, {});
  const auto tell = [&](bool warning, std::string_view reason, std::string message) {
    pending_.emplace_back(act::Tell{intent.change, warning, std::string(reason), std::move(message)});
  };
  const std::string what = intent.change.field == Field::Replicas ? "spec.replicas" : "the restart annotation";
  const std::string ours = std::format("{} was set from \"{}\" to \"{}\" at this node on {}, while the API server was away", what, intent.before, sent, to_rfc3339(intent.made));
  run.refusals = verdict == Verdict::Refused ? run.refusals + 1 : 0;
  if (verdict == Verdict::Unanswered || (verdict == Verdict::Refused && run.refusals < options_.refusals_believed)) {
    backoff_ = backoff_ == Duration{0} ? options_.backoff_min : std::min(backoff_ * 2, options_.backoff_max);
    replay_at_ = now + backoff_;
    return;
  }
  backoff_ = Duration{0};
  replay_at_ = now;
  switch (verdict) {
    case Verdict::Held:
      intent.sent.clear();
      tell(false, "LocalChangeReplayed", ours + ": the API server has it now");
      if (intent.change.value != sent) {  // changed here again meanwhile: that is to be told still
        intent.before = sent;
        if (intent.change.value == intent.before) return finish(id);
        unsaved_.insert(id);
        return;
      }
      if (intent.change.field == Field::RestartedAt || (intent.stand_ins == 0 && intent.held.empty())) return finish(id);
      intent.stage = Stage::Settling;
      intent.known.clear();
      run.until.reset();
      unsaved_.insert(id);
      return;
    case Verdict::Lost:
      tell(true, "LocalChangeLost", std::format("{}; the API server says \"{}\" by now, and that holds", ours, text));
      break;
    case Verdict::Gone:
      tell(true, "LocalChangeLost", ours + "; the Deployment does not exist any more");
      break;
    case Verdict::Refused:
      tell(true, "LocalChangeRefused", std::format("{}; the API server refuses it, so what it says holds: {}", ours, text));
      break;
    case Verdict::Unanswered: break;
  }
  finish(id);
}

// --- decisions --------------------------------------------------------------------------------------------------------------

// After the server took it. True: nothing is left to wait for.
bool IntentsCore::settle(Intent& intent, Run& run, Instant now, const std::vector<IntentPod>& pods) {
  const auto servers = [](const IntentPod& p) { return p.stand_in == 0; };
  if (!run.until) {
    run.until = now + options_.settle_max;
    for (const IntentPod& p : pods)
      if (servers(p)) intent.known.insert(p.uid);
    unsaved_.insert(intent.id);
  }
  if (now >= *run.until) return true;
  const auto fresh = std::ranges::count_if(pods, [&](const IntentPod& p) { return servers(p) && p.ready && !intent.known.contains(p.uid); });
  const std::int64_t wanted = std::min(intent.stand_ins, std::max<std::int64_t>(number(intent.change.value) - number(intent.before) - fresh, 0));
  if (wanted != intent.stand_ins) unsaved_.insert(intent.id);
  intent.stand_ins = wanted;
  // The server may have deleted one that serves in place of one that is held: then that one serves again, at once.
  const auto all = sorted(pods, servers);
  const auto held_before = intent.held;
  let_go(intent, all, surplus_of(intent, all));
  if (intent.held != held_before) unsaved_.insert(intent.id);
  return intent.stand_ins == 0 && intent.held.empty();
}

void IntentsCore::poll_replicas(Intent& intent, Run& run, Instant now, const std::vector<IntentPod>& pods, std::vector<Act>& out) {
  if (intent.stage == Stage::Settling) {
    if (settle(intent, run, now, pods)) return finish(intent.id);
  } else {
    const auto servers = sorted(pods, [](const IntentPod& p) { return p.stand_in == 0; });
    const std::size_t surplus = surplus_of(intent, servers);
    const auto held_before = intent.held;
    let_go(intent, servers, surplus);
    for (const IntentPod& p : servers)  // those that go first
      if (intent.held.size() < surplus) intent.held.insert(p.uid);
    if (intent.held != held_before) unsaved_.insert(intent.id);
  }
  const auto mine = sorted(pods, [&](const IntentPod& p) { return p.stand_in == intent.id && !p.ended; });
  const auto there = static_cast<std::int64_t>(mine.size());
  run.make_at.reset();
  if (there < intent.stand_ins && intent.stage == Stage::Waiting) {
    if (now - run.made_at >= 2 * options_.make_max) run.make_backoff = Duration{0};
    if (run.make_backoff == Duration{0} || now >= run.made_at + run.make_backoff) {
      run.make_backoff = run.make_backoff == Duration{0} ? options_.make_min : std::min(run.make_backoff * 2, options_.make_max);
      run.made_at = now;
      out.emplace_back(act::Make{intent.id, intent.stand_ins - there});
    } else {
      run.make_at = run.made_at + run.make_backoff;
    }
  }
  for (std::int64_t i = 0; i < there - intent.stand_ins; ++i) out.emplace_back(act::End{mine[static_cast<std::size_t>(i)].uid});
}

void IntentsCore::poll_restart(Intent& intent, Run& run, Instant now, const std::vector<IntentPod>& pods, std::vector<Act>& out) {
  if (!run.restarting.empty()) {
    const auto under_way = std::ranges::find(pods, run.restarting, &IntentPod::uid);
    if (under_way != pods.end() && !under_way->ready && now < run.restart_until) return;
    run.restarting.clear();
  }
  const auto left = sorted(pods, [&](const IntentPod& p) { return intent.todo.contains(p.uid) && !p.held; });
  if (std::erase_if(intent.todo, [&](const std::string& uid) { return std::ranges::find(left, uid, &IntentPod::uid) == left.end(); }) > 0) unsaved_.insert(intent.id);
  if (left.empty()) return;
  // Off the list before it is done: a restart that a crash interrupts is not repeated.
  run.restarting = left.front().uid;
  run.restart_until = now + options_.restart_max;
  intent.todo.erase(run.restarting);
  unsaved_.insert(intent.id);
  out.emplace_back(act::Restart{run.restarting});
}

std::vector<Act> IntentsCore::poll(Instant now, const Pods& pods) {
  static const std::vector<IntentPod> kNone;
  std::vector<Act> acts;
  std::vector<IntentId> ids;
  for (const auto& [id, intent] : intents_) ids.push_back(id);
  for (const IntentId id : ids) {
    Intent& intent = intents_.at(id);
    const auto found = pods.find(intent.change.uid);
    const auto& here = found == pods.end() ? kNone : found->second;
    if (intent.change.field == Field::Replicas) poll_replicas(intent, runs_[id], now, here, acts);
    else poll_restart(intent, runs_[id], now, here, acts);
  }
  std::set<std::string> held;
  for (const auto& [id, intent] : intents_) held.insert(intent.held.begin(), intent.held.end());
  for (const auto& [uid, list] : pods)
    for (const IntentPod& pod : list) {
      if (pod.stand_in != 0 && (pod.ended || !intents_.contains(pod.stand_in))) acts.emplace_back(act::End{pod.uid});
      if (pod.stand_in == 0 && pod.held != held.contains(pod.uid)) {
        if (pod.held) acts.emplace_back(act::Release{pod.uid});
        else acts.emplace_back(act::Hold{pod.uid});
      }
    }
  if (connected_ && replaying_ == 0 && now >= replay_at_) {
    for (auto& [id, intent] : intents_) {
      if (intent.stage != Stage::Waiting) continue;
      replaying_ = id;
      runs_[id].sent = intent.change.value;
      if (intent.sent.insert(intent.change.value).second) unsaved_.insert(id);  // known before it is sent, whatever becomes of us then
      acts.emplace_back(act::Replay{intent});
      break;
    }
  }
  std::vector<Act> out = std::exchange(pending_, {});
  for (const IntentId id : std::exchange(unsaved_, {})) out.emplace_back(act::Save{intents_.at(id)});
  std::ranges::move(acts, std::back_inserter(out));
  return out;
}

std::optional<Instant> IntentsCore::deadline() const {
  std::optional<Instant> first;
  const auto consider = [&](Instant t) {
    if (!first || t < *first) first = t;
  };
  bool waits = false;
  for (const auto& [id, intent] : intents_) {
    waits = waits || intent.stage == Stage::Waiting;
    const auto run = runs_.find(id);
    if (run == runs_.end()) continue;
    if (intent.stage == Stage::Settling && run->second.until) consider(*run->second.until);
    if (run->second.make_at) consider(*run->second.make_at);
    if (!run->second.restarting.empty()) consider(run->second.restart_until);
  }
  if (waits && connected_ && replaying_ == 0) consider(replay_at_);
  return first;
}

}  // namespace skerry::agent
