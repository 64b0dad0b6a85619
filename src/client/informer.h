// SPDX-License-Identifier: Apache-2.0
// List and watch of one resource: a cache on the loop, and a callback for each real change. Resumes from the last
// revision after a broken connection; after 410 Gone it lists once and reports only what differs.
//   Informer pods(loop, client, random, {.resource = kPods, .selectors = {.field = "spec.nodeName=edge-1"}},
//                 [this](const ObjectPtr& before, const ObjectPtr& after) { queue(...); });
//   pods.start();  co_await pods.synced().wait();  pods.get("default", "web-0");
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "client/client.h"
#include "client/informer_core.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::client {

class Informer {
 public:
  struct Options {
    ResourcePath resource{};
    std::string namespace_{};  // empty: all
    Selectors selectors{};
    InformerCore::Options core{};
  };
  // Called on the loop, in order, after the cache has the change; must not throw and must not destroy the informer.
  // before null: added; after null: removed.
  using OnChange = std::function<void(const ObjectPtr& before, const ObjectPtr& after)>;

  // Loop, client and random must outlive this.
  Informer(rt::Loop&, Client&, Random&, Options, OnChange = {});
  ~Informer();  // CHECK: stopped, if it was started
  Informer(const Informer&) = delete;
  Informer& operator=(const Informer&) = delete;

  // Takes over what a checkpoint knows, without callbacks, and resumes from there. Only before start().
  void restore(std::vector<ObjectPtr> items, Revision revision) { core_.restore(std::move(items), revision); }
  void reject(const ObjectPtr& wrong, const ObjectPtr& former) { core_.reject(wrong, former); }  // informer_core.h
  void start();
  rt::Task<> stop();
  // The line was lost, or may be: an open watch is given up and opened anew from the last revision, after the back-off's first
  // step. (A watch on a dead connection says nothing.) Whatever else is under way has a timeout of its own.
  void reconnect();
  // What the cache holds has drifted from the server: lists soon, and reports the real differences.
  void relist() {
    core_.list_next();
    reconnect();
  }
  std::uint64_t digest() const { return core_.digest(); }  // of the cache

  // Set after the first list was taken and its callbacks were called; stays set. A restored informer is synced once its
  // watch is open.
  rt::Event& synced() { return synced_; }
  bool connected() const { return connected_; }  // a watch is open
  ObjectPtr get(std::string_view namespace_, std::string_view name) const;  // null: absent
  const Cache& cache() const { return core_.cache(); }
  Revision revision() const { return core_.revision(); }
  Revision resumable() const { return core_.resumable(); }  // InformerCore's
  const Options& options() const { return options_; }

 private:
  rt::Task<> run();
  rt::Task<> list_once();
  rt::Task<> get_once(ObjectPtr known);
  rt::Task<> watch_once(Revision from);
  rt::Task<> follow(Revision from, Duration timeout, std::shared_ptr<void> until_end);
  void note(std::string_view step, const Error&);
  Client& client_;
  Random& random_;
  Options options_;
  OnChange on_change_;
  InformerCore core_;
  rt::Event synced_, ended_;
  std::function<void()> give_up_;  // set while a watch is under way
  Result<> outcome_;               // of the last watch
  bool connected_ = false;
  std::string last_error_;  // logged when it changes, not at every retry
  rt::TaskGroup tasks_;
};

}  // namespace skerry::client
