// SPDX-License-Identifier: Apache-2.0
// Changes made at a node that is cut off, with a disk that fails at any write, lost answers and a server that is changed too.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <format>
#include <map>
#include <optional>
#include <set>

#include "agent/checkpoint.h"
#include "agent/intents_core.h"
#include "base/random.h"
#include "base/text.h"
#include "sql/faulty_vfs.h"

namespace skerry::agent {
namespace {

using Verdict = IntentsCore::Verdict;

// One Deployment with two pods here. What was acknowledged is on the disk first, as Agent::State::change_here() and pump() do it.
class World {
 public:
  World(std::filesystem::path folder, std::uint64_t seed) : folder_(std::move(folder)), random_(seed), vfs_(std::format("intents-{}", seed)) { boot(); }

  void step() {
    now_ += 5s;
    switch (random_.below(8)) {
      case 0: case 1: scale(); break;
      case 2: line_ = !line_; break;
      case 3: if (random_.below(3) == 0) change_at_server(); break;
      case 4: vfs_.fail_at(1 + random_.below(12), sql::FaultyVfs::Fault::Sticky); break;
      case 5: if (random_.below(2) == 0) power_cut(); break;
      default: break;
    }
    if (line_ && core_.empty()) learn();
    poll();
  }
  // No fault any more: all that waits is told.
  void settle() {
    power_cut();
    line_ = lossless_ = true;
    for (int i = 0; i < 200 && !core_.empty(); ++i) {
      now_ += 5s;
      poll();
    }
    EXPECT_TRUE(core_.empty()) << "something waits for ever";
    if (acknowledged_.empty()) return;
    EXPECT_TRUE(server_ == acknowledged_ || reached_ || perhaps_.contains(server_) || (changed_since_ && told_since_))
        << "the server has " << server_ << ", " << acknowledged_ << " was acknowledged; changed there " << changed_since_ << ", told " << told_since_ << '\n' << trace_;
  }

 private:
  std::vector<IntentPod> pods() const {
    std::vector<IntentPod> out = {{.uid = "a", .ready = true, .held = held_.contains("a"), .created = Time{} + 1s}, {.uid = "b", .ready = true, .held = held_.contains("b"), .created = Time{} + 2s}};
    for (const auto& [uid, of] : stand_ins_) out.push_back({.uid = uid, .stand_in = of, .ready = true, .created = Time{} + 9s});
    return out;
  }
  void boot() {
    checkpoint_.emplace(Checkpoint::open(folder_, random_, {.vfs = vfs_.name()}).value());
    const auto loaded = checkpoint_->load().value();
    EXPECT_TRUE(checkpoint_->restored().empty()) << checkpoint_->restored();
    core_ = IntentsCore({});
    core_.set_next(static_cast<IntentId>(loaded.number("next-intent-id", 1)));
    for (const auto& [id, json] : loaded.intents) core_.restore(Intent::restore(id, json).value(), now_);
    held_.clear();
    stand_ins_.clear();
  }
  void power_cut() {
    trace_ += "power cut\n";
    vfs_.crash(&random_);
    checkpoint_.reset();
    vfs_.heal();
    vfs_.restart();
    boot();
  }
  bool write(const std::vector<Change>& batch) {
    if (checkpoint_->write(batch)) return true;
    power_cut();
    return false;
  }
  void acknowledge(const std::string& value) {
    acknowledged_ = value;
    perhaps_.clear();
    changed_since_ = foreign_;
    told_since_ = reached_ = false;
  }
  void scale() {
    const LocalChange change{.namespace_ = "default", .name = "web", .uid = "d-1", .field = LocalChange::Field::Replicas, .value = std::to_string(random_.below(6))};
    if (line_ && core_.waiting(change.uid, change.field) == nullptr) {  // passed on
      server_ = change.value;
      learn();
      acknowledge(change.value);
      reached_ = true;
      return;
    }
    auto intent = core_.plan(change, known_, pods(), Time{}).value();
    std::vector<Change> batch;
    if (core_.drops(intent)) batch.push_back(change::RemoveIntent{intent.id});
    else batch.push_back(change::PutIntent{intent.id, intent.save()});
    batch.push_back(change::PutNumber{"next-intent-id", static_cast<std::int64_t>(std::max(core_.next(), intent.id + 1))});
    trace_ += std::format("scaled here to {}, known {}, server {}\n", change.value, known_, server_);
    if (!write(batch)) {  // an error was answered; it may be on the disk all the same
      perhaps_.insert(change.value);
      return;
    }
    const bool nothing_wanted = core_.drops(intent);  // it is as it was: whatever the server says by then holds, and nobody is told
    core_.accept(std::move(intent));
    acknowledge(change.value);
    told_since_ = nothing_wanted;
  }
  void change_at_server() {
    server_ = std::to_string(10 + random_.below(90));
    changed_since_ = foreign_ = true;
    trace_ += "server changed to " + server_ + "\n";
  }
  void poll() {
    core_.on_line(line_, now_);
    for (int i = 0; i < 20; ++i) {
      const auto acts = core_.poll(now_, {{"d-1", pods()}});
      if (acts.empty()) return;
      for (const Act& one : acts) trace_ += "  " + describe(one) + "\n";
      std::vector<Change> batch;
      for (const Act& one : acts) {
        if (const auto* save = std::get_if<act::Save>(&one)) batch.push_back(change::PutIntent{save->intent.id, save->intent.save()});
        if (const auto* remove = std::get_if<act::Remove>(&one)) batch.push_back(change::RemoveIntent{remove->id});
      }
      if (!batch.empty() && !write(batch)) return;
      for (const Act& one : acts) carry_out(one);
    }
    ADD_FAILURE() << "it never comes to rest";
  }
  void carry_out(const Act& one) {
    if (const auto* hold = std::get_if<act::Hold>(&one)) held_.insert(hold->uid);
    else if (const auto* release = std::get_if<act::Release>(&one)) held_.erase(release->uid);
    else if (const auto* end = std::get_if<act::End>(&one)) stand_ins_.erase(end->uid);
    else if (std::get_if<act::Tell>(&one) != nullptr) told_since_ = true;
    else if (const auto* make = std::get_if<act::Make>(&one)) {
      for (std::int64_t i = 0; i < make->count; ++i) stand_ins_[std::format("s-{}", ++made_)] = make->id;
    } else if (const auto* replay = std::get_if<act::Replay>(&one)) {
      answer(replay->intent);
    }
  }
  // The request or its answer may be lost; the rest is ADR 0036's rule, as Agent::State::send_upstream() has it.
  void answer(const Intent& intent) {
    const auto lost = [this] { return !lossless_ && random_.below(3) == 0; };
    if (lost()) return core_.on_replayed(intent.id, Verdict::Unanswered, "", now_);
    const bool takes = server_ == intent.before || server_ == intent.change.value || intent.sent.contains(server_);
    trace_ += std::format("answer: {} over {}\n", takes ? "takes" : "lost", server_);
    if (takes) server_ = intent.change.value;
    reached_ = reached_ || server_ == acknowledged_;
    if (lost()) return core_.on_replayed(intent.id, Verdict::Unanswered, "", now_);
    core_.on_replayed(intent.id, takes ? Verdict::Held : Verdict::Lost, server_, now_);
    learn();
  }
  void learn() {
    known_ = server_;
    foreign_ = false;
  }

  std::filesystem::path folder_;
  SeededRandom random_;
  sql::FaultyVfs vfs_;
  std::optional<Checkpoint> checkpoint_;
  IntentsCore core_{{}};
  Instant now_{1h};
  bool line_ = false, lossless_ = false;
  std::string server_ = "2", known_ = "2", acknowledged_;
  std::set<std::string> perhaps_;  // answered with an error since, and perhaps on the disk
  std::string trace_;
  bool foreign_ = false;  // somebody else has changed it, and this node does not know yet
  bool changed_since_ = false, told_since_ = false, reached_ = false;  // since it was acknowledged
  std::set<std::string> held_;
  std::map<std::string, IntentId> stand_ins_;
  int made_ = 0;
};

// Goal: no acknowledged change is lost: once the line is back the server has it, or somebody was told that the server's word won.
// Method: random changes here and there, a power cut at any write, lost answers; then no fault any more. Sixty seeds.
TEST(IntentsFaults, NoAcknowledgedChangeIsLost) {
  char name[] = "/tmp/skerry-intents-XXXXXX";
  const std::filesystem::path folder = ::mkdtemp(name);
  for (std::uint64_t seed = 1; seed <= 60 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(std::format("seed {}", seed));
    World world(folder, seed);
    for (int i = 0; i < 80; ++i) world.step();
    world.settle();
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace skerry::agent
