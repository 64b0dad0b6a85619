// SPDX-License-Identifier: Apache-2.0
#include "agent/node_reporter.h"

#include <algorithm>
#include <utility>

#include "base/backoff.h"
#include "base/log.h"
#include "kube/resources.h"
#include "kube/strategic_merge.h"

namespace skerry::agent {
namespace {
constexpr Duration kNodeAgain = std::chrono::hours(6);  // labels and taints change seldom, and bytes on the wire are few
}  // namespace

NodeReporter::NodeReporter(rt::Loop& loop, client::Client& api, Clock& clock, Random& random, const AgentOptions& options, Images images, Machine read)
    : api_(api), clock_(clock), random_(random), options_(options), images_(std::move(images)), read_(std::move(read)), status_(options),
      changed_(loop), registered_event_(loop), renewal_(loop), tasks_(loop) {
  look_at_machine();
}

void NodeReporter::look_at_machine() {
  machine_ = read_();
  machine_at_ = clock_.now();
}

void NodeReporter::start() {
  tasks_.spawn("node status", run_status());
  tasks_.spawn("node lease", run_lease());
}

rt::Task<> NodeReporter::register_node() {
  auto created = co_await api_.create(client::kNodes, "", status_.node(machine_, images_(), clock_.now()));
  if (created) {
    heard(std::move(*created));
    LOG_INFO("node registered", {"node", options_.node_name});
    co_return Result<>{};
  }
  if (created.error().code != Errc::AlreadyExists && created.error().code != Errc::Conflict) co_return Fail(std::move(created).error());
  CO_TRY(auto node, co_await api_.patch(client::kNodes, "", options_.node_name, client::PatchType::Strategic, status_.metadata_patch()));
  heard(std::move(node));
  CO_TRY_OK(co_await api_.patch_status_quietly(client::kNodes, "", options_.node_name, client::PatchType::Strategic, status_.status_patch(machine_, images_(), clock_.now())));
  LOG_INFO("node taken over", {"node", options_.node_name});
  co_return Result<>{};
}

void NodeReporter::restore(kube::ObjectPtr node) {
  uid_ = node->uid();
  node_ = std::move(node);
}

void NodeReporter::heard(kube::ObjectPtr node) {
  uid_ = node->uid();
  node_ = std::move(node);
  heard_at_ = clock_.instant();
  if (on_node_) on_node_(node_);
}

kube::ObjectPtr NodeReporter::node() {
  const auto ours = kube::JsonDoc::parse(status_.node(machine_, images_(), machine_at_));
  if (!ours) return node_;
  auto edit = node_ ? kube::JsonEdit::copy(node_->parse().root()) : kube::JsonEdit();
  if (!kube::strategic_merge(kube::find_kind("v1", "Node")->message(), edit.root(), ours->root())) return node_;
  auto made = kube::Object::from_json(edit.dump());
  return made ? std::move(*made) : node_;
}

kube::ObjectPtr NodeReporter::lease() const {
  if (renewed_time_ == Time{}) return nullptr;
  auto made = kube::Object::from_json(lease_body(options_.node_name, uid_, machine_annotation(machine_), options_.lease_period, renewed_time_));
  return made ? std::move(*made) : nullptr;
}

rt::Task<> NodeReporter::run_status() {
  Backoff backoff(500ms, 30s);
  for (;;) {
    changed_.reset();
    look_at_machine();
    Result<> done;
    bool asked = !registered_;
    if (!registered_) {
      done = co_await register_node();
      if (done) {
        registered_ = true;
        registered_event_.set();
        said_ = status_.essence(machine_, images_());
        said_at_ = clock_.instant();
      }
    } else if (metadata_due_) {
      metadata_due_ = false;
      auto patched = co_await api_.patch(client::kNodes, "", options_.node_name, client::PatchType::Strategic, status_.metadata_patch());
      if (!patched) {
        metadata_due_ = true;
        done = Fail(std::move(patched).error());
      }
      changed_.set();
    } else if (node_ && clock_.instant() - heard_at_ >= kNodeAgain) {
      heard_at_ = clock_.instant();  // not again at once if it fails
      auto got = co_await api_.get(client::kNodes, "", options_.node_name);
      if (got) heard(std::move(*got));
      else done = Fail(std::move(got).error());
      changed_.set();
    } else {
      std::string essence = status_.essence(machine_, images_());
      if (essence != said_ || clock_.instant() - said_at_ >= options_.status_period_max) {
        asked = true;
        auto patched = co_await api_.patch_status_quietly(client::kNodes, "", options_.node_name, client::PatchType::Strategic,
                                                  status_.status_patch(machine_, images_(), clock_.now()));
        if (patched) {
          said_ = std::move(essence);
          said_at_ = clock_.instant();
        } else {
          done = Fail(std::move(patched).error());
        }
      }
    }
    if (asked) standing_.on_answer(done);
    if (!done) {
      if (done.error().code == Errc::NotFound) registered_ = false;  // somebody deleted the Node: register again
      const Duration pause = backoff.next(random_);
      if (!standing_.refused()) LOG_WARN("node not reported", {"reason", done.error()}, {"again in", pause});
      CO_TRY_OK(co_await rt::sleep_for(pause));
      continue;
    }
    backoff.reset();
    CO_TRY_OK(co_await changed_.wait_for(options_.status_period));
  }
}

rt::Task<> NodeReporter::renew() {
  // The machine is said whenever somebody else may have taken the name over meanwhile, and now and then: it is as long as the rest.
  constexpr Duration kMachineEvery = 1h;
  const std::string machine = machine_annotation(machine_);
  const bool say_machine = !reachable_ || standing_.refused() || clock_.instant() - machine_said_at_ >= kMachineEvery;
  if (lease_known_) {
    auto renewed = co_await api_.patch_quietly(client::kLeases, "kube-node-lease", options_.node_name, client::PatchType::Merge,
                                               lease_renewal(options_.node_name, say_machine ? machine : "", options_.lease_period, clock_.now()), digest_wish());
    if (renewed) take_digests(*renewed);
    if (renewed && say_machine) machine_said_at_ = clock_.instant();
    if (renewed) co_return Result<>{};
    if (renewed.error().code != Errc::NotFound) co_return Fail(std::move(renewed).error());
    lease_known_ = false;
  }
  auto created = co_await api_.create_quietly(client::kLeases, "kube-node-lease", lease_body(options_.node_name, uid_, machine, options_.lease_period, clock_.now()));
  if (!created && created.error().code != Errc::AlreadyExists) co_return Fail(std::move(created).error());
  lease_known_ = true;
  if (!created) {
    CO_TRY_OK(co_await api_.patch_quietly(client::kLeases, "kube-node-lease", options_.node_name, client::PatchType::Merge,
                                          lease_renewal(options_.node_name, machine, options_.lease_period, clock_.now())));
  }
  machine_said_at_ = clock_.instant();
  co_return Result<>{};
}

http::Headers NodeReporter::digest_wish() {
  http::Headers out;
  if (!on_digests_ || clock_.instant() - digest_asked_ < digest_period_ - renewal_period() / 2) return out;
  digest_asked_ = clock_.instant();
  out.set(kube::kDigestHeader, "?");
  return out;
}
void NodeReporter::take_digests(const http::Headers& headers) {
  const std::string_view text = headers.get(kube::kDigestHeader);
  if (text.empty()) return;
  if (const auto digests = kube::parse_digests(text)) on_digests_(*digests);
  else LOG_WARN("digests not understood: nothing is compared", {"text", text.substr(0, 200)});
}

// After a silence the server may show this node as Unknown, and only a status takes that back. A machine that slept has lost time
// by the wall clock alone.
void NodeReporter::on_renewed() {
  const Instant instant = clock_.instant();
  const Time time = clock_.now();
  const Duration patience = 3 * options_.lease_period;
  if (renewed_at_ != Instant{} && (instant - renewed_at_ > patience || time - renewed_time_ > patience)) {
    said_.clear();
    changed_.set();
  }
  renewed_at_ = instant;
  renewed_time_ = time;
}

rt::Task<> NodeReporter::run_lease() {
  CO_TRY_OK(co_await registered_event_.wait());
  Backoff away(1s, 30s);
  for (;;) {
    auto renewed = co_await renew();
    if (renewed) on_renewed();
    standing_.on_answer(renewed);
    if (renewed.has_value() != reachable_) {
      reachable_ = renewed.has_value();
      if (reachable_) LOG_INFO("API server reached", {"node", options_.node_name});
      else if (!standing_.refused()) LOG_WARN("API server away: the node goes on by itself", {"reason", renewed.error()});
    }
    if (renewed) away.reset();
    renewal_.reset();
    if (!renewed) {
      CO_TRY_OK(co_await rt::sleep_for(away.next(random_)));
      continue;
    }
    // Until the next one is due by the shortest period that was in force meanwhile.
    const Instant at = clock_.instant();
    for (Duration left = renewal_period(); left > Duration{0}; left = at + renewal_period() - clock_.instant()) {
      CO_TRY_OK(co_await renewal_.wait_for(left));
      renewal_.reset();
    }
  }
}

}  // namespace skerry::agent
