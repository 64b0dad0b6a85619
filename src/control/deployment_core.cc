// SPDX-License-Identifier: Apache-2.0
#include "control/deployment_core.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <map>

#include "base/check.h"
#include "base/text.h"
#include "kube/selector.h"

namespace skerry::control {
namespace {

using kube::json_quote;
using kube::JsonDoc;
using kube::JsonEdit;
using kube::MutJson;

constexpr std::string_view kHashLabel = "pod-template-hash";
constexpr const char* kRevision = "deployment.kubernetes.io/revision";
constexpr const char* kDesired = "deployment.kubernetes.io/desired-replicas";
constexpr const char* kMaximum = "deployment.kubernetes.io/max-replicas";
constexpr std::string_view kLastApplied = "kubectl.kubernetes.io/last-applied-configuration";

enum class Rounding : std::uint8_t { Up, Down };
std::int64_t int_or_percent(Json value, std::int64_t total, std::string_view otherwise, Rounding rounding) {
  if (value.is_integer()) return std::max<std::int64_t>(0, value.i64());
  std::string_view text = value.str(otherwise);
  if (text.ends_with('%')) text.remove_suffix(1);
  const std::int64_t percent = std::clamp<std::int64_t>(parse_int<std::int64_t>(text).value_or(25), 0, 1'000'000);
  return rounding == Rounding::Up ? (total * percent + 99) / 100 : total * percent / 100;
}

bool same_template(Json a, Json b) {
  JsonEdit left = JsonEdit::copy(a), right = JsonEdit::copy(b);
  for (const MutJson root : {left.root(), right.root()}) {
    root["metadata"]["labels"].remove(kHashLabel);
    if (root["metadata"]["labels"].exists() && root["metadata"]["labels"].size() == 0)
      root["metadata"].remove("labels");
    root["metadata"].remove("creationTimestamp");
  }
  return left.root().equals(right.root());
}

// Everything one step needs, and what it decides.
class Step {
 public:
  explicit Step(const DeploymentInput& input)
      : input_(input),
        deployment_(*input.deployment),
        doc_(deployment_.parse()),
        root_(doc_.root()),
        spec_(root_["spec"]),
        replicas_(spec_["replicas"].i64(1)),
        paused_(spec_["paused"].boolean()),
        recreate_(spec_["strategy"]["type"].str() == "Recreate") {
    const Json rolling = spec_["strategy"]["rollingUpdate"];
    if (!recreate_) {
      max_surge_ = int_or_percent(rolling["maxSurge"], replicas_, "25%", Rounding::Up);
      max_unavailable_ =
          std::min(replicas_, int_or_percent(rolling["maxUnavailable"], replicas_, "25%", Rounding::Down));
      if (max_surge_ == 0 && max_unavailable_ == 0) max_unavailable_ = 1;
    }
  }

  Plan run() {
    const auto selector = kube::LabelSelector::from_object(spec_["selector"]);
    if (!selector || selector->everything()) {
      plan_.notes.push_back({input_.deployment, NoteType::Warning, "SelectingAll",
                             "This deployment is selecting all pods. A non-empty selector is required."});
      return std::move(plan_);
    }
    sort_out(*selector);
    if (deployment_.deleting()) {
      report();
      return std::move(plan_);
    }
    if (paused_) {
      ensure_new(0, Create::No);
      scale();
    } else if (scaling_event()) {
      ensure_new(replicas_ == 0 ? 0 : new_ ? new_size_ : 0, Create::No);
      scale();
    } else if (recreate_) {
      recreate();
    } else {
      roll();
    }
    if (complete()) clean_up();
    report();
    return std::move(plan_);
  }

 private:
  enum class Create : std::uint8_t { No, Yes };

  // Which ReplicaSets are ours, which is the one of the present template, and what each is to have.
  void sort_out(const kube::LabelSelector& selector) {
    std::vector<ReplicaSetPtr> mine;
    for (const auto& set : input_.replica_sets) {
      const bool owned = set->controller && set->controller->uid == deployment_.uid();
      const bool matches = selector.matches(set->object->labels());
      if (owned && matches) {
        mine.push_back(set);
      } else if (!owned && !set->controller && matches && !set->object->deleting() && !deployment_.deleting()) {
        adopt(*set);
        mine.push_back(set);
      }
    }
    std::ranges::sort(mine, [](const auto& a, const auto& b) {
      return std::pair(a->created, std::string_view(a->object->name())) <
             std::pair(b->created, std::string_view(b->object->name()));
    });
    for (const auto& set : mine) {
      const auto set_doc = set->object->parse();
      if (!new_ && same_template(set_doc.root()["spec"]["template"], spec_["template"])) {
        new_ = set;
        new_size_ = set->replicas;
      } else {
        old_.push_back(set);
        size_[set->object->uid()] = set->replicas;
      }
    }
  }

  void adopt(const ReplicaSetView& set) {
    JsonEdit edit;
    MutJson metadata = edit.root().object("metadata");
    metadata.set("uid", set.object->uid());
    MutJson owners = metadata.array("ownerReferences");
    const auto set_doc = set.object->parse();
    for (const Json owner : set_doc.root()["metadata"]["ownerReferences"].items()) owners.push(owner);
    owners.push(JsonDoc::parse(controller_reference("apps/v1", "Deployment", deployment_))->root());
    patch(*set.object, edit.dump());
  }

  void patch(const kube::Object& set, std::string body) {
    plan_.actions.push_back({.verb = Verb::Patch,
                             .resource = client::kReplicaSets,
                             .namespace_ = set.namespace_(),
                             .name = set.name(),
                             .body = std::move(body)});
  }

  std::int64_t old_total() const {
    std::int64_t total = 0;
    for (const auto& set : old_) total += size_.at(set->object->uid());
    return total;
  }
  std::int64_t available_total() const {
    std::int64_t total = new_ ? new_->status_available : 0;
    for (const auto& set : old_) total += set->status_available;
    return total;
  }
  // Annotations that follow a change of size.
  std::string size_annotations() const {
    return std::format(R"("{}":"{}","{}":"{}")", kDesired, replicas_, kMaximum, replicas_ + max_surge_);
  }

  // The size an existing ReplicaSet is to have. Patched once, with an Event, if it differs.
  bool resize(const ReplicaSetView& set, std::int64_t size) {
    std::int64_t& now = &set == new_.get() ? new_size_ : size_.at(set.object->uid());
    const auto set_doc = set.object->parse();
    const Json annotations = set_doc.root()["metadata"]["annotations"];
    const bool resized = now != size;
    const bool annotated = annotations[kDesired].str() == std::to_string(replicas_) &&
                           annotations[kMaximum].str() == std::to_string(replicas_ + max_surge_);
    if (!resized && annotated) return false;
    patch(*set.object, std::format(R"({{"metadata":{{"uid":"{}","annotations":{{{}}}}},"spec":{{"replicas":{}}}}})",
                                   set.object->uid(), size_annotations(), size));
    if (resized) {
      plan_.notes.push_back({input_.deployment, NoteType::Normal, "ScalingReplicaSet",
                             std::format("Scaled {} replica set {} from {} to {}", size > now ? "up" : "down",
                                         set.object->name(), now, size)});
    }
    now = size;
    return resized;
  }

  std::int64_t new_size_for_rolling() const {
    const std::int64_t have = new_ ? new_size_ : 0;
    if (have >= replicas_) return replicas_;
    const std::int64_t room = replicas_ + max_surge_ - have - old_total();
    return room <= 0 ? have : have + std::min(room, replicas_ - have);
  }

  // The ReplicaSet of the present template: its revision, and its creation if it is missing.
  void ensure_new(std::int64_t size, Create create) {
    std::int64_t revision = 1;
    for (const auto& set : old_) revision = std::max(revision, set->revision + 1);
    if (new_) {
      revision_ = std::max(revision, new_->revision);
      follow();
      if (!find_condition(root_, "Progressing"))
        progressing_ = {"True", "FoundNewReplicaSet", std::format("Found new replica set \"{}\"", new_->object->name())};
      return;
    }
    if (create == Create::No) return;
    revision_ = revision;
    const std::string hash = template_hash(spec_["template"], root_["status"]["collisionCount"].i64());
    const std::string name = deployment_.name().substr(0, 240) + "-" + hash;
    JsonEdit edit;
    MutJson set = edit.root();
    set.set("apiVersion", "apps/v1");
    set.set("kind", "ReplicaSet");
    MutJson metadata = set.object("metadata");
    metadata.set("name", name);
    metadata.set("namespace", deployment_.namespace_());
    metadata.set("labels", spec_["template"]["metadata"]["labels"]);
    metadata.object("labels").set(kHashLabel, hash);
    MutJson annotations = metadata.object("annotations");
    for (const auto [key, value] : root_["metadata"]["annotations"].members()) {
      if (inherited(key)) annotations.set(key, value);
    }
    annotations.set(kDesired, std::to_string(replicas_));
    annotations.set(kMaximum, std::to_string(replicas_ + max_surge_));
    annotations.set(kRevision, std::to_string(revision_));
    metadata.array("ownerReferences")
        .push(JsonDoc::parse(controller_reference("apps/v1", "Deployment", deployment_))->root());
    MutJson spec = set.object("spec");
    spec.set("replicas", size);
    if (spec_["minReadySeconds"].i64() != 0) spec.set("minReadySeconds", spec_["minReadySeconds"].i64());
    spec.set("selector", spec_["selector"]);
    spec.object("selector").object("matchLabels").set(kHashLabel, hash);
    spec.set("template", spec_["template"]);
    spec.object("template").object("metadata").object("labels").set(kHashLabel, hash);
    plan_.actions.push_back({.verb = Verb::Create,
                             .resource = client::kReplicaSets,
                             .namespace_ = deployment_.namespace_(),
                             .name = name,
                             .body = edit.dump()});
    if (size > 0) {
      plan_.notes.push_back({input_.deployment, NoteType::Normal, "ScalingReplicaSet",
                             std::format("Scaled up replica set {} from 0 to {}", name, size)});
    }
    progressing_ = {"True", "NewReplicaSetCreated", std::format("Created new replica set \"{}\"", name)};
  }

  // What the ReplicaSet in use takes over from its Deployment without new pods: annotations, the revision, minReadySeconds.
  void follow() {
    const auto set_doc = new_->object->parse();
    const Json set = set_doc.root();
    JsonEdit edit;
    edit.root().object("metadata").set("uid", new_->object->uid());
    bool changed = false;
    const auto annotate = [&](std::string_view key, std::string_view value) {
      if (set["metadata"]["annotations"][key].str() == value && set["metadata"]["annotations"][key].exists()) return;
      edit.root().object("metadata").object("annotations").set(key, value);
      changed = true;
    };
    for (const auto [key, value] : root_["metadata"]["annotations"].members()) {
      if (inherited(key)) annotate(key, value.str());
    }
    if (new_->revision < revision_) annotate(kRevision, std::to_string(revision_));
    if (set["spec"]["minReadySeconds"].i64() != spec_["minReadySeconds"].i64()) {
      edit.root().object("spec").set("minReadySeconds", spec_["minReadySeconds"].i64());
      changed = true;
    }
    if (changed) patch(*new_->object, edit.dump());
  }
  static bool inherited(std::string_view annotation) {
    return annotation != kLastApplied && !annotation.starts_with("deployment.kubernetes.io/") && !annotation.starts_with("deprecated.deployment");
  }

  void roll() {
    const std::int64_t wanted = new_size_for_rolling();
    ensure_new(wanted, Create::Yes);
    if (!new_) return;  // just created: its pods come first
    if (resize(*new_, wanted)) return;
    const std::int64_t old_pods = old_total();
    if (old_pods == 0) return;
    const std::int64_t min_available = replicas_ - max_unavailable_;
    const std::int64_t most = old_pods + new_size_ - min_available - (new_size_ - new_->status_available);
    if (most <= 0) return;
    // Pods that are not available go first: they serve nobody.
    std::int64_t cleaned = 0;
    for (const auto& set : old_) {
      const std::int64_t size = size_.at(set->object->uid());
      if (cleaned >= most || size == 0 || size <= set->status_available) continue;
      const std::int64_t take = std::min(most - cleaned, size - set->status_available);
      targets_[set->object->uid()] = size - take;
      cleaned += take;
    }
    std::int64_t left = available_total() - min_available;
    for (const auto& set : old_) {
      const std::int64_t size =
          targets_.contains(set->object->uid()) ? targets_[set->object->uid()] : size_.at(set->object->uid());
      if (left <= 0 || size == 0) continue;
      const std::int64_t take = std::min(size, left);
      targets_[set->object->uid()] = size - take;
      left -= take;
    }
    for (const auto& set : old_) {
      if (const auto target = targets_.find(set->object->uid()); target != targets_.end()) resize(*set, target->second);
    }
  }

  void recreate() {
    bool scaled = false;
    for (const auto& set : old_) {
      if (size_.at(set->object->uid()) > 0) scaled = resize(*set, 0) || scaled;
    }
    ensure_new(0, Create::No);
    if (scaled) return;
    for (const auto& set : old_) {
      if (input_.running_pods(set->object->uid()) > 0) return;  // the last old pod first
    }
    ensure_new(replicas_, Create::Yes);
    if (new_) resize(*new_, replicas_);
  }

  // spec.replicas was changed: some ReplicaSet in use was sized for another number.
  bool scaling_event() const {
    const auto sized_otherwise = [&](const ReplicaSetPtr& set, std::int64_t size) {
      if (size == 0) return false;
      const auto set_doc = set->object->parse();
      const auto desired = parse_int<std::int64_t>(set_doc.root()["metadata"]["annotations"][kDesired].str());
      return desired && *desired != replicas_;
    };
    if (new_ && sized_otherwise(new_, new_size_)) return true;
    return std::ranges::any_of(old_, [&](const auto& set) { return sized_otherwise(set, size_.at(set->object->uid())); });
  }

  // Changes sizes without going on with a rollout: in proportion, if several ReplicaSets are in use.
  void scale() {
    std::vector<ReplicaSetPtr> used;
    for (const auto& set : old_) {
      if (size_.at(set->object->uid()) > 0) used.push_back(set);
    }
    if (new_ && new_size_ > 0) used.push_back(new_);
    if (used.size() <= 1) {
      const ReplicaSetPtr only = !used.empty() ? used[0] : new_ ? new_ : !old_.empty() ? old_.back() : nullptr;
      if (only && (!used.empty() || new_)) resize(*only, replicas_);
      return;
    }
    if (new_ && new_size_ == replicas_ && new_->status_available == replicas_) {
      for (const auto& set : old_) {
        if (size_.at(set->object->uid()) > 0) resize(*set, 0);
      }
      return;
    }
    if (recreate_) return;
    const std::int64_t allowed = replicas_ > 0 ? replicas_ + max_surge_ : 0;
    std::int64_t to_add = allowed - old_total() - (new_ ? new_size_ : 0);
    const auto size_of = [&](const ReplicaSetPtr& set) { return set == new_ ? new_size_ : size_.at(set->object->uid()); };
    // The largest first; of equals the newer when growing, the older when shrinking.
    std::ranges::stable_sort(used, [&](const auto& a, const auto& b) {
      if (size_of(a) != size_of(b)) return size_of(a) > size_of(b);
      return to_add > 0 ? a->created > b->created : a->created < b->created;
    });
    std::vector<std::int64_t> sizes;
    std::int64_t left = to_add;
    for (const auto& set : used) {
      const std::int64_t size = size_of(set);
      std::int64_t share = 0;
      if (to_add != 0) {
        const auto set_doc = set->object->parse();
        const auto maximum =
            parse_int<std::int64_t>(set_doc.root()["metadata"]["annotations"][kMaximum].str()).value_or(allowed);
        const std::int64_t target =
            maximum > 0
                ? std::llround(static_cast<double>(size) * static_cast<double>(allowed) / static_cast<double>(maximum))
                : size;
        share = to_add > 0 ? std::clamp<std::int64_t>(target - size, 0, left)
                           : std::clamp<std::int64_t>(target - size, left, 0);
      }
      sizes.push_back(std::max<std::int64_t>(0, size + share));
      left -= share;
    }
    if (left != 0 && !sizes.empty()) sizes[0] = std::max<std::int64_t>(0, sizes[0] + left);
    for (std::size_t i = 0; i < used.size(); ++i) resize(*used[i], sizes[i]);
  }

  bool complete() const {
    std::int64_t all = new_ ? new_->status_replicas : 0;
    for (const auto& set : old_) all += set->status_replicas;
    return new_ && new_->status_replicas == replicas_ && new_->status_available == replicas_ && all == replicas_ &&
           new_size_ == replicas_;
  }

  void clean_up() {
    const std::int64_t limit = spec_["revisionHistoryLimit"].i64(10);
    std::vector<ReplicaSetPtr> unused;
    for (const auto& set : old_) {
      if (!set->object->deleting() && set->replicas == 0 && set->status_replicas == 0 && set->observed)
        unused.push_back(set);
    }
    std::ranges::sort(unused, {}, [](const auto& set) { return set->revision; });
    while (static_cast<std::int64_t>(unused.size()) > limit) {
      const auto& set = unused.front();
      plan_.actions.push_back({.verb = Verb::Delete,
                               .resource = client::kReplicaSets,
                               .namespace_ = set->object->namespace_(),
                               .name = set->object->name(),
                               .uid = set->object->uid()});
      unused.erase(unused.begin());
    }
  }

  struct Condition {
    std::string status, reason, message;
  };

  // Writes `condition` into `list`, unless nothing of it changes; true if it wrote.
  bool set_condition(MutJson list, std::string_view type, const Condition& condition, bool touch) const {
    const Json old = find_condition(root_, type);
    const bool same = old["status"].str() == condition.status && old["reason"].str() == condition.reason;
    MutJson entry = list.push_object();
    if (same && !touch) {
      entry.assign(old);
      return false;
    }
    entry.set("type", type);
    entry.set("status", condition.status);
    entry.set("lastUpdateTime", to_rfc3339(input_.now));
    entry.set("lastTransitionTime", old["status"].str() == condition.status && old.exists()
                                        ? std::string(old["lastTransitionTime"].str())
                                        : to_rfc3339(input_.now));
    entry.set("reason", condition.reason);
    entry.set("message", condition.message);
    return true;
  }

  void report() {
    const Json old = root_["status"];
    std::int64_t replicas = new_ ? new_->status_replicas : 0, ready = new_ ? new_->status_ready : 0;
    const std::int64_t updated = replicas, available = available_total();
    for (const auto& set : old_) {
      replicas += set->status_replicas;
      ready += set->status_ready;
    }
    const std::int64_t wanted = new_size_ + old_total();
    const std::int64_t unavailable = std::max<std::int64_t>(0, wanted - available);
    const std::int64_t generation = root_["metadata"]["generation"].i64();

    JsonEdit edit;
    MutJson status = edit.root().object("status");
    bool changed = false;
    const auto number = [&](const char* name, std::int64_t value) {
      changed = changed || old[name].i64() != value;
      status.set(name, value);
    };
    number("observedGeneration", generation);
    number("replicas", replicas);
    number("updatedReplicas", updated);
    number("readyReplicas", ready);
    number("availableReplicas", available);
    number("unavailableReplicas", unavailable);
    MutJson conditions = status.array("conditions");
    changed = available_condition(conditions, available) || changed;
    changed = progressing_condition(conditions, replicas, updated, ready, available) || changed;
    changed = failure_condition(conditions) || changed;
    for (const Json condition : old["conditions"].items()) {
      const auto type = condition["type"].str();
      if (type != "Available" && type != "Progressing" && type != kReplicaFailure) conditions.push(condition);
    }
    if (changed) {
      edit.root().object("metadata").set("uid", deployment_.uid());
      plan_.actions.push_back({.verb = Verb::PatchStatus,
                               .resource = client::kDeployments,
                               .namespace_ = deployment_.namespace_(),
                               .name = deployment_.name(),
                               .body = edit.dump()});
    }
    if (revision_ > 0 && root_["metadata"]["annotations"][kRevision].str() != std::to_string(revision_)) {
      plan_.actions.push_back({.verb = Verb::Patch,
                               .resource = client::kDeployments,
                               .namespace_ = deployment_.namespace_(),
                               .name = deployment_.name(),
                               .body = std::format(R"({{"metadata":{{"uid":"{}","annotations":{{"{}":"{}"}}}}}})",
                                                   deployment_.uid(), kRevision, revision_)});
    }
  }

  // What keeps a ReplicaSet from making its pods is said of the Deployment too, as long as it lasts.
  bool failure_condition(MutJson conditions) const {
    const Json old = find_condition(root_, kReplicaFailure);
    for (const ReplicaSetPtr& set : new_ ? std::vector{new_} : old_) {
      if (!set->object->json()->contains(kReplicaFailure)) continue;
      const auto set_doc = set->object->parse();
      const Json failure = find_condition(set_doc.root(), kReplicaFailure);
      if (!failure) continue;
      return set_condition(conditions, kReplicaFailure,
                           {std::string(failure["status"].str()), std::string(failure["reason"].str()), std::string(failure["message"].str())},
                           old["message"].str() != failure["message"].str());
    }
    return old.exists();
  }

  bool available_condition(MutJson conditions, std::int64_t available) const {
    return available >= replicas_ - max_unavailable_
               ? set_condition(conditions, "Available",
                               {"True", "MinimumReplicasAvailable", "Deployment has minimum availability."}, false)
               : set_condition(
                     conditions, "Available",
                     {"False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."}, false);
  }

  bool progressing_condition(MutJson conditions, std::int64_t replicas, std::int64_t updated, std::int64_t ready,
                             std::int64_t available) {
    const Json old = root_["status"];
    const Json present = find_condition(root_, "Progressing");
    const auto keep = [&] {
      if (present) conditions.push(present);
      return false;
    };
    const std::int64_t deadline = spec_["progressDeadlineSeconds"].i64(600);
    const std::string name = new_ ? std::format("ReplicaSet \"{}\"", new_->object->name())
                                  : std::format("Deployment \"{}\"", deployment_.name());
    if (paused_) {
      if (present["reason"].str() == "DeploymentPaused" || present["reason"].str() == "ProgressDeadlineExceeded")
        return keep();
      return set_condition(conditions, "Progressing", {"Unknown", "DeploymentPaused", "Deployment is paused"}, false);
    }
    if (progressing_) return set_condition(conditions, "Progressing", *progressing_, true);
    if (present["reason"].str() == "DeploymentPaused") {
      return set_condition(conditions, "Progressing", {"Unknown", "DeploymentResumed", "Deployment is resumed"}, false);
    }
    if (updated == replicas_ && replicas == replicas_ && available >= replicas_ && new_) {
      if (present["reason"].str() == "NewReplicaSetAvailable") return keep();
      return set_condition(conditions, "Progressing",
                           {"True", "NewReplicaSetAvailable", name + " has successfully progressed."}, false);
    }
    const bool was_done = replicas == updated && present["reason"].str() == "NewReplicaSetAvailable";
    if (was_done || !present) return keep();
    const bool progressed = updated > old["updatedReplicas"].i64() ||
                            replicas - updated < old["replicas"].i64() - old["updatedReplicas"].i64() ||
                            ready > old["readyReplicas"].i64() || available > old["availableReplicas"].i64();
    if (progressed)
      return set_condition(conditions, "Progressing", {"True", "ReplicaSetUpdated", name + " is progressing."}, true);
    if (present["reason"].str() == "ProgressDeadlineExceeded") return keep();
    const Time since = from_rfc3339(present["lastUpdateTime"].str()).value_or(input_.now);
    const Duration left = since + std::chrono::seconds(deadline) - input_.now;
    if (left <= Duration::zero()) {
      return set_condition(conditions, "Progressing",
                           {"False", "ProgressDeadlineExceeded", name + " has timed out progressing."}, false);
    }
    plan_.again = left;
    return keep();
  }

  const DeploymentInput& input_;
  const kube::Object& deployment_;
  JsonDoc doc_;
  Json root_, spec_;
  std::int64_t replicas_;
  bool paused_, recreate_;
  std::int64_t max_surge_ = 0, max_unavailable_ = 0;
  ReplicaSetPtr new_;
  std::int64_t new_size_ = 0;
  std::vector<ReplicaSetPtr> old_;            // oldest first
  std::map<std::string, std::int64_t> size_;  // of the old ones, as decided so far
  std::map<std::string, std::int64_t> targets_;
  std::int64_t revision_ = 0;  // of the new one; 0: leave it
  std::optional<Condition> progressing_;
  Plan plan_;
};

}  // namespace

std::string template_hash(Json pod_template, std::int64_t collision_count) {
  std::uint32_t hash = 2166136261;
  const auto eat = [&](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619;
  };
  eat(pod_template.dump());
  if (collision_count > 0) eat(std::to_string(collision_count));
  constexpr std::string_view kAlphabet = "bcdfghjklmnpqrstvwxz2456789";  // as Kubernetes: no word can come of it
  std::string text;
  for (const char digit : std::to_string(hash)) text += kAlphabet[static_cast<std::size_t>(digit) % kAlphabet.size()];
  return text;
}

Plan reconcile_deployment(const DeploymentInput& input) { return Step(input).run(); }

}  // namespace skerry::control
