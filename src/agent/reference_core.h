// SPDX-License-Identifier: Apache-2.0
// What the node knows of the ConfigMaps, Secrets and RuntimeClasses that its pods refer to, and which of them are to be asked for
// now: when a pod that needs them comes, when one is about to start, when the server's digest says that they differ, every hour, and what
// is missing again and again. When the API server cannot be reached, what the checkpoint knew serves.
// A pure core: no I/O, no clock. Owner: agent::ReferenceCache, its shell; the simulation drives it too.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "agent/environment.h"
#include "agent/pod_plan.h"
#include "base/time.h"

namespace skerry::agent {

class ReferenceCore final : public References {
 public:
  struct Options {
    Duration missing_again = 2s, missing_again_max = 1min;  // an object that does not exist is asked for again, ever more seldom
    Duration known_again = 1h;       // one that is known: what the checkpoint keeps for a start without the server is no older
    Duration fresh_for = 60s;        // a known one, when a pod starts
    Duration answer_within = 3s;     // then what is on the disk serves
    Duration differing_again = 5s, differing_again_max = 1h;
    std::size_t in_flight_max = 8;
  };
  enum class Kind : std::uint8_t { ConfigMap, Secret, RuntimeClass };
  using Key = std::tuple<Kind, std::string, std::string>;  // namespace, name
  // What the checkpoint shall keep; object null: remove.
  struct Store {
    std::string_view kind;
    std::string namespace_, name;
    kube::ObjectPtr object;
  };

  explicit ReferenceCore(Options options) : options_(options) {}

  void restore(kube::ObjectPtr);               // from the checkpoint
  void want(const PodPlan&, Instant now);      // a pod came or starts anew: have its objects fresh
  // Asks again for what is missing or was not asked for long. True: what find() answers has changed.
  bool tick(Instant now);
  // What the server has for us, in one number (docs/wire/digest.md). Where it differs all are asked for again, what is present stays so
  // until the answer; where it goes on to differ (one that changes all the time, a pod that the server counts and we do not run), ever
  // more seldom. True: asked.
  bool compare(std::uint64_t servers, Instant now);
  std::uint64_t digest() const;  // of what is known
  // What is to be fetched now; each is under way until its on_answer().
  std::vector<Key> poll(Instant now);
  // What to keep, and whether what find() answers has changed.
  struct Answered {
    std::vector<Store> store{};
    bool changed = false;
  };
  Answered on_answer(const Key&, Result<kube::ObjectPtr>, Instant now);
  // Whether ConfigMaps and Secrets are kept by the checkpoint (edge-config's local_storage): what is to be written or removed for it.
  std::vector<Store> keep_on_disk(bool);
  std::vector<Store> keep_only(const std::vector<const PodPlan*>&);  // forgets what no pod needs
  // All that the checkpoint is to keep, for one that is made anew.
  void for_each_stored(const std::function<void(const kube::ObjectPtr&)>& visit) const {
    for (const auto& [key, e] : entries_)
      if (stored(std::get<Kind>(key)) && e.object) visit(e.object);
  }

  Found config_map(std::string_view ns, std::string_view name) const override { return find(Kind::ConfigMap, ns, name); }
  Found secret(std::string_view ns, std::string_view name) const override { return find(Kind::Secret, ns, name); }
  Found runtime_class(std::string_view name) const override { return find(Kind::RuntimeClass, "", name); }

  // ConfigMaps and RuntimeClasses that are known; never a Secret.
  void for_each_open(const std::function<void(const kube::ObjectPtr&)>& visit) const {
    for (const auto& [key, e] : entries_)
      if (std::get<Kind>(key) != Kind::Secret && e.object) visit(e.object);
  }
  static std::string_view kind_name(Kind);

 private:
  struct Entry {
    State state = State::Unknown;  // what find() answers
    kube::ObjectPtr object{};      // may be set while Unknown: stale
    Instant asked{}, answered{};
    Duration again{};  // after it was missing
    bool in_flight = false, wanted = false, ever = false;
  };
  Found find(Kind, std::string_view ns, std::string_view name) const;
  void want_one(Kind, const std::string& ns, const std::string& name, Instant now);
  Options options_;
  std::map<Key, Entry> entries_;
  bool stored(Kind kind) const { return on_disk_ || kind == Kind::RuntimeClass; }
  std::size_t in_flight_ = 0;
  bool on_disk_ = true;
  Instant compare_at_{};       // differences before are left alone
  Duration compare_pause_{0};
};

}  // namespace skerry::agent
