// SPDX-License-Identifier: Apache-2.0
// The ReplicaSets that control this node's pods, and the Deployments that control those (ADR 0036): got by name when a pod of
// theirs comes or goes, when they were changed from here, and every few hours; kept in the checkpoint, so that they are known offline too. Where
// the API server does not let the node read them, `denied()` says so. Owner: the agent, on its loop.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "client/client.h"
#include "kube/object.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::agent {

class OwnerCache {
 public:
  struct Options {
    // Bytes on the wire are few: one that is known is got again when pods of it come or go, or its time has come.
    Duration fresh_for = std::chrono::hours(6), again = 30s, denied_for = 10min;  // again: after a failure
    Duration late = 1h;                                       // what grows old while the line is away is asked for within so long of its return
    Duration settle = 2s;                                     // pods come in bursts: their owners are asked once
    std::size_t in_flight_max = 2, owners_max = 2000;
  };
  // With what the checkpoint shall keep (null: remove).
  using Stored = std::function<void(std::string_view kind, std::string_view ns, std::string_view name, kube::ObjectPtr)>;

  OwnerCache(rt::Loop&, client::Client&, Clock&, Options, Stored);
  rt::Task<> stop() { return tasks_.stop(); }

  static bool is_owner(std::string_view kind) { return kind == "ReplicaSet" || kind == "Deployment"; }
  void restore(kube::ObjectPtr);     // from the checkpoint, before the first pod
  enum class Came : std::uint8_t { Now, FromCheckpoint };
  void put_pod(const kube::Object&, Came);
  void remove_pod(const std::string& uid);
  // Asks for what is due, unless the server is away; forgets what owns nothing any more.
  enum class Line : std::uint8_t { There, Away };
  void tick(Instant now, Line);
  void refresh(const std::string& uid);  // of an owner: it is asked for again
  void changed(kube::ObjectPtr);  // one was changed from here, and must look like this by now: it is asked for again all the same

  kube::ObjectPtr find(std::string_view kind, std::string_view ns, std::string_view name) const;  // null: not known
  std::vector<kube::ObjectPtr> all() const;
  // The uids of the pods here that a Deployment controls, through any of its ReplicaSets that is known.
  std::vector<std::string> pods_of(const kube::Object& deployment) const;
  // The Deployment that controls this pod; null: none, or not known.
  kube::ObjectPtr deployment_of(const std::string& pod_uid) const;
  bool denied() const { return denied_; }  // the last answer about an owner was a refusal

 private:
  using Key = std::tuple<std::string, std::string, std::string>;  // kind, namespace, name
  struct Owner {
    std::string uid;                // as its pods, or ReplicaSets, name it
    std::size_t pods = 0;           // that name it directly
    kube::ObjectPtr object;
    Key above{};                    // what controls it, and that one's uid
    std::string above_uid{};
    Instant due{}, old_at{};        // old_at: when it is due for its age alone
    bool in_flight = false;
    bool answered = false;          // the server said that it is gone, or not to be read
  };
  static std::pair<Key, std::string> controller_of(const kube::Object&);
  static void set_object(Owner&, kube::ObjectPtr);
  void want(const Key&, const std::string& uid, Instant due);
  void ask(Instant now);
  rt::Task<> fetch(Key);
  void forget_unused();

  client::Client& api_;
  Clock& clock_;
  Options options_;
  Stored stored_;
  std::map<Key, Owner> owners_;
  std::unordered_map<std::string, Key> controllers_;  // of pods, by uid
  std::size_t in_flight_ = 0;
  bool denied_ = false, some_unused_ = false;
  rt::TaskGroup tasks_;
};

}  // namespace skerry::agent
