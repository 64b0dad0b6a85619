// SPDX-License-Identifier: Apache-2.0
// EndpointSlices as this node needs them: the API server's, corrected by what the node knows of its own pods, and slices of its own
// for pods that the server's controller has not told of (ADR 0036). ServiceRules, Names and the loopback API take them like any other.
//
// While the server can be reached its word counts, but for pods that surely do not serve: those are left out at once. While it is away
// nobody but this node can know which of its pods are ready. A pod on its way (after a boot: every one) stays as the server has it
// until another of the slice is ready: a Service whose every endpoint is hidden refuses all connections, and so would its name be
// denied, while a pod that is about to listen is worth a second attempt.
//
// A pure core: no I/O, no clock, no threads. Owner: agent::Agent, on its loop.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kube/object.h"

namespace skerry::agent {

class LocalSlices {
 public:
  struct Pod {
    // NotReady: it failed, and is to start again; Gone: it ended, or is held.
    enum class State : std::uint8_t { OnItsWay, Ready, Leaving, NotReady, Gone };
    kube::ObjectPtr object;
    std::string address{};  // empty: it has none, or gave it back
    State state = State::OnItsWay;
    bool stand_in = false;  // the server does not know it
  };
  using Key = std::pair<std::string, std::string>;  // namespace, name
  struct Change {
    Key key;
    kube::ObjectPtr slice;  // null: it is gone
  };

  // `services`: all that are known now; must outlive this.
  LocalSlices(std::string node, const kube::Objects& services) : node_(std::move(node)), services_(services) {}

  // The server's word about a slice; answers what is to be shown of it.
  kube::ObjectPtr put(const kube::ObjectPtr& slice);
  void remove(const Key&);
  void services_changed() { services_changed_ = true; }
  bool server_spoke() const { return services_changed_ || slices_changed_; }  // since the last update()
  // The node's pods as they are; answers the slices that are to be shown otherwise than before. Cheap while nothing has changed.
  enum class Line : std::uint8_t { There, Away };
  Line line() const { return line_; }
  std::vector<Change> update(const std::vector<Pod>&, Line);

  kube::ObjectPtr shown(const kube::ObjectPtr& slice) const;               // one of the server's
  const std::map<Key, kube::ObjectPtr>& own() const { return own_; }       // "skerry-local-SERVICE"

 private:
  // Of each pod, for good: small, and no version of an object that is over.
  struct Known {
    std::shared_ptr<const kube::Identity> pod;
    std::string address;
    Pod::State state;
    bool stand_in;
    friend bool operator==(const Known& a, const Known& b) { return a.state == b.state && a.stand_in == b.stand_in && a.address == b.address && a.pod->uid == b.pod->uid; }
  };
  using Mark = std::size_t;  // the hash of a uid or an address
  struct Slice {
    kube::ObjectPtr servers, shown;
    std::vector<Mark> pods;  // of this node, sorted
  };
  static std::vector<Known> known_of(const std::vector<Pod>&);
  static std::optional<Pod::State> judged(const Known&, Line);  // nothing: as the server says
  std::optional<Pod::State> state_of(std::string_view uid, std::string_view address) const;
  kube::ObjectPtr corrected(const kube::ObjectPtr&) const;
  bool publishes_not_ready(const kube::Object& slice) const;
  kube::ObjectPtr own_slice(const kube::Object& service, const std::vector<const Pod*>&) const;
  void update_own(const std::vector<Pod>&, std::vector<Change>&);

  std::string node_;
  const kube::Objects& services_;
  std::map<Key, Slice> slices_;  // those with endpoints of this node
  std::vector<Known> known_;     // sorted by uid
  std::vector<std::uint32_t> by_address_;  // of known_: those that have one, sorted by it
  Line line_ = Line::There;
  std::map<Key, kube::ObjectPtr> own_;
  bool services_changed_ = false, slices_changed_ = false;  // at the server, since the last update()
};

}  // namespace skerry::agent
